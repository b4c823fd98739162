//! Building a tokenizer from bytes and using it.
//!
//! Where:  part of the targets on tokenizers.

use wootz_text::{StreamDecoder, Tokenizer, TokenizerError};

use crate::memory::bounded;

const TEXTS: [&str; 4] = ["Hello  world's\n\t12345", "Zażółć 你好 e\u{301}🦀\u{200d}", "<s>▁a</s>  x", "\u{0}\u{ffff}"];

pub fn tokenizer(bytes: &[u8], read: fn(Vec<u8>) -> Result<Tokenizer, TokenizerError>) {
    let Ok(tokenizer) = bounded(bytes.len(), || read(bytes.to_vec())) else { return };
    for text in TEXTS {
        let ids = tokenizer.encode(text, true, true);
        let at_once = tokenizer.decode(&ids, false);
        let mut decoder = StreamDecoder::new(false);
        let streamed: String = ids.iter().map(|&id| decoder.push(&tokenizer, id)).collect();
        let _ = (at_once, streamed, decoder.flush(&tokenizer), tokenizer.encode(text, false, false));
    }
    for id in 0..tokenizer.vocab_size().min(300) as u32 {
        let _ = (tokenizer.token_text(id), tokenizer.token_bytes(id));
    }
    let _ = tokenizer.to_vocab(tokenizer.vocab_size());
}
