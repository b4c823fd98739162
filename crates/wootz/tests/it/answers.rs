//! What a server says, with the real engine: the same whatever else runs, and as a grammar wants it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::{ask, post, serve};
use crate::wootz;

/// Long enough to fill a block of keys and values, which is what a cache keeps.
const STORY: &str = "Tell me a story about a cat and a dog who went to the park to play with a big red ball. The cat was \
    small and the dog was big. They saw a bird in a tree and a fish in the water, and the sun was very warm. \
    At home their mom made a cake for them, and they were happy. Now tell me what they did on the next day.";

fn chat(address: &str, extra: Value) -> Value {
    let mut request = json!({"model": "wootz-small", "max_tokens": 40, "temperature": 1, "seed": 7,
        "ignore_eos": true,
        "messages": [{"role": "user", "content": STORY}]});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (status, body) = post(address, "/v1/chat/completions", &request);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn text(answer: &Value) -> String {
    answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// A number of `/metrics`.
fn number(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {page}"))
}

/// The deltas of a stream, added up.
fn streamed(address: &str, extra: Value) -> String {
    let mut request = json!({"model": "wootz-small", "max_tokens": 40, "temperature": 1, "seed": 7, "stream": true,
        "ignore_eos": true,
        "messages": [{"role": "user", "content": STORY}]});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (status, body) = post(address, "/v1/chat/completions", &request);
    assert_eq!(status, 200, "{body}");
    let chunks = body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let chunks = chunks.map(|data| serde_json::from_str::<Value>(data).unwrap());
    chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[test]
fn an_answer_is_the_same_alone_and_among_thirty_two() {
    let home = tempfile::tempdir().unwrap();
    let served = serve(wootz(home.path()).args(["serve", "--ctx", "512", "--parallel", "32"]));
    let address = served.address.as_str();
    let first = chat(address, json!({"logprobs": true, "top_logprobs": 2}));
    let alone = text(&first);
    assert!(alone.len() > 40, "{alone}");
    let again = chat(address, json!({"logprobs": true, "top_logprobs": 2}));
    assert_eq!(
        again["choices"][0]["logprobs"], first["choices"][0]["logprobs"],
        "from the cache, to the last bit"
    );
    assert!(again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() >= Some(64), "{again}");
    assert_eq!(text(&chat(address, json!({"speculation": false}))), alone);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for i in 0..31 {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let content = format!("Say {i} things about {} animals.", i * 7 % 13);
                    let message = json!([{"role": "user", "content": content}]);
                    chat(address, json!({"messages": message, "seed": i, "max_tokens": 8 + i}));
                }
            });
        }
        for _ in 0..3 {
            assert_eq!(text(&chat(address, json!({}))), alone, "among thirty-two");
            assert_eq!(streamed(address, json!({})), alone, "as a stream");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // The batches were as large as they were meant to be: the numbers say so, a moment after the last event.
    let begun = Instant::now();
    let page = loop {
        let (_, page) = ask(address, "GET", "/metrics", "");
        let is_idle = number(&page, "wootz_running_requests") == 0.0
            && number(&page, "wootz_kv_blocks_free") + number(&page, "wootz_kv_blocks_cached")
                == number(&page, "wootz_kv_blocks{");
        if is_idle {
            break page;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "something is kept: {page}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let number = |name: &str| number(&page, name);
    let bucket =
        |name: &str, bound: &str| number(&format!("{name}_bucket{{model=\"wootz-small\",le=\"{bound}\"}}"));
    let n_steps = number("wootz_step_sequences_count");
    assert!(bucket("wootz_step_sequences", "16") < n_steps, "no step had more than 16 sequences\n{page}");
    let n_generations = number("wootz_generations_total");
    assert_eq!(number("wootz_time_to_first_token_seconds_count"), n_generations);
    let n_tokens = number("wootz_completion_tokens_total");
    assert_eq!(
        number("wootz_inter_token_seconds_count"),
        n_tokens - n_generations,
        "each but the first of its answer"
    );
    assert!(number("wootz_cached_tokens_total") > 0.0 && number("wootz_prompt_tokens_total") > n_generations);
}

#[test]
fn documents_are_what_their_schema_says() {
    let home = tempfile::tempdir().unwrap();
    let served = serve(wootz(home.path()).args(["serve", "--ctx", "512"]));
    let address = served.address.as_str();
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "legs": {"enum": [2, 4, 8]},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{2,5}$"}, "minItems": 1, "maxItems": 3},
            "owner": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/person"}]},
        },
        "required": ["name", "legs", "tags", "owner"],
        "additionalProperties": false,
        "$defs": {"person": {"type": "object", "properties": {"age": {"type": "integer", "minimum": 1, "maximum": 120}},
            "required": ["age"], "additionalProperties": false}},
    });
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "animal", "strict": true, "schema": schema}});
    for seed in 0..6 {
        let extra = json!({"response_format": format, "seed": seed, "max_tokens": 200, "ignore_eos": false});
        let answer = chat(address, extra.clone());
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        let said = text(&answer);
        let document: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert!(document["name"].as_str().unwrap().chars().count() <= 12, "{said}");
        assert!([2, 4, 8].contains(&document["legs"].as_u64().unwrap()), "{said}");
        let tags = document["tags"].as_array().unwrap();
        let is_tag = |tag: &Value| {
            let tag = tag.as_str().unwrap();
            (2..=5).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_lowercase())
        };
        assert!((1..=3).contains(&tags.len()) && tags.iter().all(is_tag), "{said}");
        let owner = &document["owner"];
        assert!(owner.is_null() || (1..=120).contains(&owner["age"].as_u64().unwrap()), "{said}");
        assert_eq!(streamed(address, extra), said, "deltas add up to the document");
    }
    let choice =
        chat(address, json!({"guided_choice": ["yes", "no"], "max_tokens": 20, "ignore_eos": false}));
    assert!(["yes", "no"].contains(&text(&choice).as_str()), "{choice}");
    let wrong = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "unevaluatedItems": 5}}});
    let request = json!({"model": "wootz-small", "messages": [{"role": "user", "content": "x"}], "response_format": wrong});
    let (status, body) = post(address, "/v1/chat/completions", &request);
    assert!(status == 400 && body.contains("unevaluatedItems"), "{status} {body}");
}
