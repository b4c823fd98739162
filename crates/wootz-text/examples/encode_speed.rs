//! How fast a tokenizer encodes a text on one thread: `encode_speed TOKENIZER_JSON TEXT_FILE`.
//!
//! Where:  by hand, beside other programs on the same file; the median of seven runs in MB/s.

use std::time::Instant;

use wootz_text::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, tokenizer, text] = args.as_slice() else {
        return Err("usage: encode_speed TOKENIZER_JSON TEXT_FILE".into());
    };
    let start = Instant::now();
    let tokenizer = Tokenizer::from_json(std::fs::read(tokenizer)?)?;
    println!("load {:?}", start.elapsed());
    let text = std::fs::read_to_string(text)?;
    let lines: Vec<&str> = text.split_inclusive("\n\n").collect();
    let mut rates = Vec::new();
    let mut n_tokens = 0;
    for _ in 0..7 {
        let start = Instant::now();
        n_tokens = lines.iter().map(|line| tokenizer.encode(line, false, false).len()).sum();
        rates.push(text.len() as f64 / 1e6 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{} bytes, {n_tokens} tokens, {:.1} MB/s ({:.1} to {:.1})",
        text.len(),
        rates[3],
        rates[0],
        rates[6]
    );
    Ok(())
}
