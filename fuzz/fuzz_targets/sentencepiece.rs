//! Fuzzing SentencePiece's `tokenizer.model`.
#![no_main]

mod memory;
mod tokenizer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tokenizer::tokenizer(bytes, wootz_text::Tokenizer::from_sentencepiece));
