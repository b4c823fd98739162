//! Encodes and decodes JSON strings, one a line, for comparison with other programs.
//!
//! Where:  run by `golden/check_tokenizers.py`; reads stdin, writes one JSON object a line to stdout.

use std::io::{BufRead, Write};

use wootz_text::{StreamDecoder, TokenId, TokenType, Tokenizer, Vocab, VocabKind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: encode_lines TOKENIZER_FILE < LINES")?;
    let bytes = std::fs::read(&path)?;
    let tokenizer = if path.ends_with(".model") {
        Tokenizer::from_sentencepiece(bytes)?
    } else if path.ends_with(".vocab.json") {
        Tokenizer::from_vocab(&vocab(&serde_json::from_slice(&bytes)?)?)?
    } else {
        Tokenizer::from_json(bytes)?
    };
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

/// A GGUF's `tokenizer.ggml.*` keys as one JSON object.
fn vocab(keys: &serde_json::Value) -> Result<Vocab, Box<dyn std::error::Error>> {
    let key = |name: &str| &keys[&format!("tokenizer.ggml.{name}")];
    let id = |name: &str| key(name).as_u64().map(|id| id as TokenId);
    let flag = |name: &str| key(name).as_bool();
    let list = |name: &str| key(name).as_array().cloned().unwrap_or_default();
    let texts = |name: &str| list(name).iter().filter_map(|text| text.as_str().map(String::from)).collect();
    let types: Option<Vec<TokenType>> =
        list("token_type").iter().map(|kind| TokenType::from_ggml(kind.as_i64()?)).collect();
    Ok(Vocab {
        kind: key("model").as_str().and_then(VocabKind::from_ggml).ok_or("unknown tokenizer.ggml.model")?,
        pre: key("pre").as_str().map(String::from),
        tokens: texts("tokens"),
        scores: list("scores").iter().filter_map(|score| score.as_f64()).map(|score| score as f32).collect(),
        types: types.ok_or("unknown token type")?,
        merges: texts("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unk: id("unknown_token_id"),
        sep: id("seperator_token_id"),
        pad: id("padding_token_id"),
        cls: id("cls_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        remove_extra_whitespaces: flag("remove_extra_whitespaces"),
        precompiled_charsmap: list("precompiled_charsmap")
            .iter()
            .filter_map(|b| b.as_u64())
            .map(|b| b as u8)
            .collect(),
        ..Vocab::default()
    })
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new(false);
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
    text.push_str(&decoder.flush(tokenizer));
    text
}
