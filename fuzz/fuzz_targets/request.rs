//! Fuzzing bodies of requests: every address reads any bytes to an error or to a request, within bounded memory.
#![no_main]

mod memory;

/// Every address that takes a body of fields.
const PATHS: &[&str] = &[
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/batches",
    "/v1/rerank",
    "/v1/score",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/apply-template",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/api/pull",
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The first byte says which address; the same body then goes to it alone, so that coverage tells them apart.
    let Some((&first, body)) = data.split_first() else { return };
    let path = PATHS[usize::from(first) % PATHS.len()];
    memory::bounded(body.len(), || {
        let _ = wootz_serve::read_body(path, body).expect("it takes a body");
    });
});
