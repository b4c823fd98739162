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

/// What each address needs beside the field that is tried; `None`: it takes no body of JSON fields of its own.
fn least(request: &str) -> Option<(&'static str, Value)> {
    let message = json!([{"role": "user", "content": "x"}]);
    let (path, body) = match request {
        "POST /v1/chat/completions" => {
            ("/v1/chat/completions", json!({"model": "scripted", "messages": message}))
        }
        "POST /v1/responses" => ("/v1/responses", json!({"model": "scripted", "input": "x"})),
        "POST /v1/completions" => ("/v1/completions", json!({"model": "scripted", "prompt": "x"})),
        "POST /v1/embeddings" => ("/v1/embeddings", json!({"model": "vectors", "input": "x"})),
        "POST /v1/batches" => (
            "/v1/batches",
            json!({"input_file_id": "file-0", "endpoint": "/v1/completions", "completion_window": "24h"}),
        ),
        "POST /v1/rerank" => ("/v1/rerank", json!({"model": "ranker", "query": "x", "documents": ["x"]})),
        "POST /v1/score" => ("/v1/score", json!({"model": "scripted", "text_1": "x", "text_2": "y"})),
        "POST /apply-template" => ("/apply-template", json!({"model": "scripted", "messages": message})),
        "POST /v1/tokenize" => ("/v1/tokenize", json!({"model": "scripted", "prompt": "x"})),
        "POST /v1/detokenize" => ("/v1/detokenize", json!({"model": "scripted", "tokens": [1]})),
        "POST /v1/messages" => {
            ("/v1/messages", json!({"model": "scripted", "max_tokens": 5, "messages": message}))
        }
        "POST /v1/messages/count_tokens" => {
            ("/v1/messages/count_tokens", json!({"model": "scripted", "messages": message}))
        }
        "POST /api/chat" => ("/api/chat", json!({"model": "scripted", "messages": message, "stream": false})),
        "POST /api/generate" => {
            ("/api/generate", json!({"model": "scripted", "prompt": "x", "stream": false}))
        }
        "POST /api/embed" => ("/api/embed", json!({"model": "vectors", "input": "x"})),
        "POST /api/embeddings" => ("/api/embeddings", json!({"model": "vectors", "prompt": "x"})),
        "POST /api/show" => ("/api/show", json!({"model": "scripted"})),
        "POST /v1/load_lora_adapter" => {
            ("/v1/load_lora_adapter", json!({"lora_name": "mine", "lora_path": "/nowhere"}))
        }
        "POST /v1/unload_lora_adapter" => ("/v1/unload_lora_adapter", json!({"lora_name": "mine"})),
        "POST /api/pull" => ("/api/pull", json!({"model": "scripted", "stream": false})),
        _ => return None,
    };
    Some((path, body))
}

/// Every request of the documentation with its honoured fields.
fn documented() -> Vec<(String, Vec<String>)> {
    let text = wootz_serve::field_tables();
    let sections = text.split("\n## ").skip(1).map(|section| {
        let (title, rest) = section.split_once('\n').unwrap();
        let honoured = rest.lines().find_map(|line| line.strip_prefix("Honoured: ")).unwrap_or("");
        let names = honoured.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (title.to_owned(), names)
    });
    sections.collect()
}

/// Every honoured field of every address, with numbers that nobody means. A field that is no number refuses them by type.
#[test]
fn absurd_numbers_are_refused_in_every_field() {
    let rig = Rig::start(ScriptedModel::default());
    let absurd =
        ["1e30", "-1e30", "1e999", "18446744073709551616", "-9223372036854775809", "1.5e-400x", "-7.25"];
    // Where such a number means something: a schema is judged by the model's grammar, which a scripted model has not,
    // and times and penalties may be negative.
    let takes = |field: &str, number: &str| match field {
        "guided_json" => !number.contains("1e999") && !number.contains('x'),
        "keep_alive" => number.starts_with('-'),
        _ => false,
    };
    let mut n_tried = 0;
    for (request, fields) in documented() {
        let (path, body, inside) = match (least(&request), request.starts_with("`options`")) {
            (Some((path, body)), _) => (path, body, false),
            (None, true) => {
                ("/api/generate", json!({"model": "scripted", "prompt": "x", "stream": false}), true)
            }
            (None, false) => panic!("{request}: what does it need at least?"),
        };
        for field in &fields {
            for number in absurd {
                let mut body = body.clone();
                let rest = body.as_object_mut().unwrap();
                rest.remove(field);
                let tried = match inside {
                    true => format!("\"options\": {{\"{field}\": {number}}}"),
                    false => format!("\"{field}\": {number}"),
                };
                let rest = body.to_string();
                let text =
                    format!("{}{}{tried}}}", &rest[..rest.len() - 1], if rest == "{}" { "" } else { ", " });
                let status = rig.send("POST", path, &[], text.as_bytes()).status;
                assert!(
                    (400..500).contains(&status) || takes(field, number),
                    "{request} {field} {number}: {status}"
                );
                n_tried += 1;
            }
        }
    }
    assert!(n_tried > 1000, "{n_tried}");
}

/// Bodies that are no JSON, of every address that takes one.
#[test]
fn what_is_no_json_is_refused_everywhere() {
    let rig = Rig::start(ScriptedModel::default());
    let deep = format!("{{\"model\": {}", "[".repeat(20_000));
    for (request, _) in documented() {
        let Some((path, whole)) = least(&request) else { continue };
        let whole = whole.to_string();
        let bodies = [
            "",
            "{",
            "[]",
            "null",
            "\"x\"",
            "{\"model\": \"\u{1}\"}",
            deep.as_str(),
            &whole[..whole.len() - 1],
        ];
        for body in bodies {
            let answer = rig.send("POST", path, &[], body.as_bytes());
            assert_eq!(answer.status, 400, "{path}: {}", body.chars().take(40).collect::<String>());
            assert!(answer.body.contains("error"), "{path}: {}", answer.body);
        }
        assert_eq!(rig.send("POST", path, &[], b"{\"model\": \"\xff\"}").status, 400, "{path}");
        let announced = head("POST", path, &[], 100 << 20);
        let mut stream = rig.connect();
        stream.write_all(&announced).unwrap();
        assert_eq!(crate::client::read_answer(&mut stream).status, 413, "{path}");
    }
}

/// Sound bodies with pieces of them changed: an error or a request, never a panic. Longer in `fuzz/`.
#[test]
fn whatever_a_body_says_reading_it_ends() {
    const PIECES: &[&str] = &[
        "null",
        "[]",
        "{}",
        "[[[",
        "\"\"",
        "-1",
        "1e308",
        "9007199254740993",
        "true",
        "\"stream\":",
        "\"tools\":",
        "\"messages\":",
        "\"content\":",
        "[{\"type\":\"text\",\"text\":\"x\"}]",
        "\"role\":\"assistant\"",
        "\"tool_calls\":[{\"function\":{}}]",
        ",",
        ":",
        "}",
        "]",
        "\u{0}",
        "\u{fffd}",
        "\\ud800",
        "\"response_format\":{\"type\":\"json_schema\"}",
        "\"stop\":[\"\"]",
        "\"options\":{\"num_predict\":-9}",
    ];
    let mut state = 7_u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let bodies: Vec<(&str, Vec<u8>)> = documented()
        .iter()
        .filter_map(|(request, _)| least(request))
        .map(|(path, body)| (path, body.to_string().into_bytes()))
        .collect();
    let mut n_sound = 0;
    for round in 0..20_000 {
        let (path, body) = &bodies[round % bodies.len()];
        let mut body = body.clone();
        for _ in 0..below(4) {
            let at = below(body.len() + 1);
            match below(3) {
                0 => drop(body.splice(at..at, PIECES[below(PIECES.len())].bytes())),
                1 => body.truncate(at.max(1)),
                _ if at < body.len() => body[at] = below(256) as u8,
                _ => {}
            }
        }
        n_sound += usize::from(wootz_serve::read_body(path, &body).expect("it takes a body").is_ok());
    }
    assert!(n_sound > 1000, "{n_sound}");
}
