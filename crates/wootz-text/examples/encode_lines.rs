//! Encodes and decodes JSON strings, one a line, for comparison with other programs.
//!
//! Where:  run by `golden/check_tokenizers.py`; reads stdin, writes one JSON object a line to stdout.

use std::io::{BufRead, Write};

use wootz_text::{StreamDecoder, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: encode_lines TOKENIZER_FILE < LINES")?;
    let bytes = std::fs::read(&path)?;
    let tokenizer = Tokenizer::from_json(bytes)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let value: serde_json::Value = serde_json::from_str(&line?)?;
        if let Some(text) = value.as_str() {
            let ids = tokenizer.encode(text, true, true);
            let plain = tokenizer.encode(text, false, false);
            let answer = serde_json::json!({
                "text": tokenizer.decode(&ids, false), "skipped": tokenizer.decode(&ids, true),
                "streamed": stream(&tokenizer, &ids), "ids": ids, "plain": plain,
            });
            writeln!(out, "{answer}")?;
        } else {
            let ids: Vec<u32> = serde_json::from_value(value)?;
            let answer = serde_json::json!({
                "text": tokenizer.decode(&ids, false), "skipped": tokenizer.decode(&ids, true),
                "streamed": stream(&tokenizer, &ids),
            });
            writeln!(out, "{answer}")?;
        }
    }
    Ok(())
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new(false);
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
    text.push_str(&decoder.flush(tokenizer));
    text
}
