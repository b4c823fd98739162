//! Every queue, body and time has a bound.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use wootz_testkit::ScriptedModel;

use crate::client::{head, read_answer};
use crate::rig::Rig;

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn bodies_and_heads_are_bounded() {
    let rig = Rig::with(ScriptedModel::default(), |options| options.limits.body_bytes = 1 << 16);
    let large = vec![b' '; 1 << 20];
    assert_eq!(rig.send("POST", "/v1/completions", &[], &large).status, 413);
    // Announced and never sent.
    let mut stream = rig.connect();
    stream.write_all(&head("POST", "/v1/completions", &[], 100 << 20)).unwrap();
    assert_eq!(read_answer(&mut stream).status, 413);
    // Unannounced, in chunks.
    let mut stream = rig.connect();
    stream
        .write_all(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    for _ in 0..32 {
        let _ = stream.write_all(&[b"1000\r\n", vec![b' '; 4096].as_slice(), b"\r\n"].concat());
    }
    assert_eq!(read_answer(&mut stream).status, 413);
    let giant = "x".repeat(64 << 10);
    let status = rig.send("GET", "/v1/models", &[("x-giant", &giant)], b"").status;
    assert!((400..500).contains(&status), "{status}");
    let many: Vec<(String, String)> = (0..500).map(|i| (format!("x-{i}"), "1".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let status = rig.send("GET", "/v1/models", &many, b"").status;
    assert!((400..500).contains(&status), "{status}");
}

#[test]
fn broken_json_is_an_error_that_says_where() {
    let rig = Rig::start(ScriptedModel::default());
    for body in ["", "{", "[]", "null", "{\"model\": }", "{\"a\": \"\u{1}\"}", "{\"model\": 1e999}"] {
        let answer = rig.send("POST", "/v1/chat/completions", &[], body.as_bytes());
        assert_eq!(answer.status, 400, "{body}");
    }
    let deep = format!("{{\"model\": {}", "[".repeat(100_000));
    assert_eq!(rig.send("POST", "/v1/chat/completions", &[], deep.as_bytes()).status, 400);
    assert_eq!(rig.send("POST", "/v1/chat/completions", &[], b"{\"model\": \"\xff\"}").status, 400);
}

#[test]
fn a_full_queue_says_come_again() {
    let model = ScriptedModel::new(["slow answer"; 3]).with_pause(Duration::from_millis(50));
    let rig = Rig::with(model, |options| options.limits.generations = 1);
    let body = json!({"model": "scripted", "prompt": "x"});
    let mut first = rig.connect();
    let text = body.to_string();
    first.write_all(&head("POST", "/v1/completions", &[], text.len())).unwrap();
    first.write_all(text.as_bytes()).unwrap();
    wait_until("the first one runs", || rig.model.requests().len() == 1);
    let refused = rig.post("/v1/completions", &body);
    assert_eq!(refused.status, 429);
    assert!(refused.headers.contains("retry-after: "), "{}", refused.headers);
    assert_eq!(read_answer(&mut first).status, 200);
    assert_eq!(rig.post("/v1/completions", &body).status, 200);
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    for is_stream in [true, false] {
        let model = ScriptedModel::new([&*"x".repeat(100_000)]).with_pause(Duration::from_millis(5));
        let rig = Rig::with(model, |options| options.limits.generations = 1);
        let request = json!({"model": "scripted", "prompt": "x", "max_tokens": 100_000, "stream": is_stream});
        let text = request.to_string();
        let mut client = rig.connect();
        client.write_all(&head("POST", "/v1/completions", &[], text.len())).unwrap();
        client.write_all(text.as_bytes()).unwrap();
        wait_until("it runs", || rig.model.requests().len() == 1);
        if is_stream {
            client.read_exact(&mut [0; 64]).unwrap();
        }
        let probe = json!({"model": "scripted", "prompt": "x", "max_tokens": 1});
        assert_eq!(rig.post("/v1/completions", &probe).status, 429);
        drop(client);
        wait_until("its place is free again", || rig.post("/v1/completions", &probe).status == 200);
    }
}

#[test]
fn a_generation_that_takes_too_long_is_ended() {
    let model = ScriptedModel::new([&*"x".repeat(1000)]).with_pause(Duration::from_millis(20));
    let rig = Rig::with(model, |options| options.limits.generation_time = Duration::from_millis(200));
    let answer =
        rig.post("/v1/completions", &json!({"model": "scripted", "prompt": "x", "max_tokens": 1000}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (408, &json!("timeout")));
}

#[test]
fn slow_heads_and_bodies_are_cut_off() {
    let rig = Rig::with(ScriptedModel::default(), |options| {
        options.limits.head_time = Duration::from_millis(200);
        options.limits.body_time = Duration::from_millis(200);
    });
    let mut stream = rig.connect();
    stream.write_all(b"POST /v1/comp").unwrap();
    let status = read_answer(&mut stream).status;
    assert!(status == 0 || status == 408, "{status}");
    let mut stream = rig.connect();
    stream.write_all(&head("POST", "/v1/completions", &[], 10)).unwrap();
    stream.write_all(b"{").unwrap();
    assert_eq!(read_answer(&mut stream).status, 408);
}
