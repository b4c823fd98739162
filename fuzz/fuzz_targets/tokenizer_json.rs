//! Fuzzing `tokenizer.json`: whatever was read encodes and decodes.
#![no_main]

mod memory;
mod tokenizer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tokenizer::tokenizer(bytes, wootz_text::Tokenizer::from_json));
