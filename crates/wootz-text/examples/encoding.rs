//! How fast a tokenizer loads, encodes and decodes on one thread: `encoding FILE TOKENIZER_JSON [PASSES]`.
//!
//! Where:  by hand and by `golden/text/encoding_speed.py`, which runs other programs on the same texts in turn.
//! Idea:   the file is cut at line ends into texts of about 4 KiB, a page each; every pass encodes all of them. Printed are
//!         the median of the passes and their range.

use std::time::Instant;

use wootz_text::{TokenId, Tokenizer};

/// Shortest text.
const TEXT_BYTES: usize = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (file, tokenizer, passes) = match args.as_slice() {
        [_, file, tokenizer] => (file, tokenizer, 9),
        [_, file, tokenizer, passes] => (file, tokenizer, passes.parse::<usize>()?.max(1)),
        _ => return Err("usage: encoding FILE TOKENIZER_JSON [PASSES]".into()),
    };
    let bytes = std::fs::read(tokenizer)?;
    let start = Instant::now();
    let tokenizer = Tokenizer::from_json(bytes)?;
    println!("load {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let text = std::fs::read_to_string(file)?;
    let texts = cut(&text);
    let mut ids: Vec<Vec<TokenId>> = Vec::new();
    let encode = rates(text.len(), passes, || {
        ids = texts.iter().map(|text| tokenizer.encode(text, false, false)).collect();
    });
    let n_tokens: usize = ids.iter().map(Vec::len).sum();
    println!("encode {encode} MB/s, {} texts, {} bytes, {n_tokens} tokens", texts.len(), text.len());
    let decode = rates(text.len(), passes, || {
        ids.iter().for_each(|ids| drop(std::hint::black_box(tokenizer.decode(ids, false))));
    });
    println!("decode {decode} MB/s");
    Ok(())
}

/// Texts that end where a line ends.
fn cut(text: &str) -> Vec<&str> {
    let mut texts = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.bytes().skip(TEXT_BYTES).position(|byte| byte == b'\n') {
        let (text, after) = rest.split_at(TEXT_BYTES + end + 1);
        texts.push(text);
        rest = after;
    }
    texts.push(rest);
    texts
}

/// Megabytes a second: median, least, most.
fn rates(n_bytes: usize, passes: usize, mut pass: impl FnMut()) -> String {
    let mut rates: Vec<f64> = (0..passes)
        .map(|_| {
            let start = Instant::now();
            pass();
            n_bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1} to {:.1})", rates[passes / 2], rates[0], rates[passes - 1])
}
