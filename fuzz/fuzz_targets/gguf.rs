//! Fuzzing GGUF files.
#![no_main]

mod open;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| open::open(bytes));
