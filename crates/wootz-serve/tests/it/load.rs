//! Rude clients, and numbers that nobody means.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;

use crate::client::head;
use crate::rig::Rig;

fn send(rig: &Rig, body: &Value) -> std::net::TcpStream {
    let text = body.to_string();
    let mut stream = rig.connect();
    let _ = stream.write_all(&head("POST", "/v1/completions", &[], text.len()));
    let _ = stream.write_all(text.as_bytes());
    stream
}

#[test]
fn a_client_that_reads_slowly_holds_up_nobody() {
    let rig = Rig::start(ScriptedModel::default());
    let long = "x".repeat(200_000);
    let request = json!({"model": "scripted", "prompt": long, "max_tokens": 200_000, "stream": true});
    let slow: Vec<_> = (0..4).map(|_| send(&rig, &request)).collect();
    for mut stream in &slow {
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(rig.post("/v1/completions", &json!({"model": "scripted", "prompt": "x"})).status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let rig = Rig::with(ScriptedModel::default(), |options| {
        options.limits.stalled_time = Duration::from_millis(200);
        options.limits.generations = 1;
    });
    let request =
        json!({"model": "scripted", "prompt": "x".repeat(200_000), "max_tokens": 200_000, "stream": true});
    let stalled = send(&rig, &request);
    let begun = Instant::now();
    while rig.post("/v1/completions", &json!({"model": "scripted", "prompt": "x"})).status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(15), "its place is still taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(stalled);
}

#[test]
fn absurd_numbers_are_refused_in_every_numeric_field() {
    let rig = Rig::start(ScriptedModel::default());
    let absurd = ["1e30", "-1e30", "1e999", "18446744073709551616", "-9223372036854775809", "1.5e-400x"];
    let fields: &[(&str, &str, &[&str])] = &[
        (
            "/v1/chat/completions",
            r#""model": "scripted", "messages": [{"role": "user", "content": "x"}]"#,
            &[
                "max_tokens",
                "max_completion_tokens",
                "min_tokens",
                "n",
                "seed",
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "typical_p",
                "presence_penalty",
                "frequency_penalty",
                "repetition_penalty",
                "top_logprobs",
            ],
        ),
        (
            "/v1/completions",
            r#""model": "scripted", "prompt": "x""#,
            &["max_tokens", "n", "best_of", "logprobs", "seed", "temperature", "top_p", "top_k"],
        ),
        ("/v1/embeddings", r#""model": "vectors", "input": "x""#, &["dimensions"]),
        (
            "/v1/responses",
            r#""model": "scripted", "input": "x""#,
            &["max_output_tokens", "temperature", "top_p"],
        ),
        ("/v1/rerank", r#""model": "ranker", "query": "x", "documents": ["x"]"#, &["top_n"]),
        (
            "/v1/messages",
            r#""model": "scripted", "messages": [{"role": "user", "content": "x"}]"#,
            &["max_tokens", "temperature", "top_p", "top_k"],
        ),
        ("/api/embed", r#""model": "vectors", "input": "x""#, &["dimensions"]),
    ];
    for (path, rest, names) in fields {
        for name in *names {
            for number in absurd {
                let body = format!("{{{rest}, \"{name}\": {number}}}");
                let status = rig.send("POST", path, &[], body.as_bytes()).status;
                assert!((400..500).contains(&status), "{path} {name} {number}: {status}");
            }
        }
    }
}
