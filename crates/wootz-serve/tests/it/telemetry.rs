//! Spans, as a collector receives them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use wootz_serve::TelemetryOptions;
use wootz_testkit::ScriptedModel;

use crate::rig::Rig;

/// Takes exports and hands their heads and bodies on.
fn collector() -> (SocketAddr, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let (head, body) = loop {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).unwrap();
                bytes.extend_from_slice(&piece[..n]);
                let text = String::from_utf8_lossy(&bytes);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    break (head.to_owned(), serde_json::from_str(body).unwrap());
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").unwrap();
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    (address, received)
}

fn rig(model: ScriptedModel, collector: SocketAddr, interval: Duration) -> Rig {
    Rig::with(model, |options| {
        options.telemetry = Some(TelemetryOptions {
            endpoint: format!("http://{collector}/v1/traces"),
            headers: vec![("x-tenant".into(), "ours".into())],
            resource: vec![("service.name".into(), "test".into())],
            interval,
        });
    })
}

/// An attribute's value.
fn said(span: &Value, key: &str) -> Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    found.map_or(Value::Null, |attribute| attribute["value"].clone())
}

#[test]
fn a_generation_is_a_span_of_the_caller_s_trace() {
    let (address, received) = collector();
    let rig = rig(ScriptedModel::new(["abc"]), address, Duration::from_millis(10));
    let body = json!({"model": "scripted", "prompt": "xy", "max_tokens": 9, "seed": 5, "stop": ["#"], "temperature": 0.5});
    let parent = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    assert_eq!(rig.send("POST", "/v1/completions", &parent, body.to_string().as_bytes()).status, 200);
    let (head, body) = received.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(head.starts_with("POST /v1/traces ") && head.contains("x-tenant: ours"), "{head}");
    let scope = &body["resourceSpans"][0];
    assert_eq!(scope["resource"]["attributes"][0]["value"]["stringValue"], "test");
    let span = &scope["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["name"], &span["kind"]), (&json!("text_completion scripted"), &json!(2)));
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
    let check = |key: &str, value: Value| assert_eq!(said(span, key), value, "{key}");
    check("gen_ai.operation.name", json!({"stringValue": "text_completion"}));
    check("gen_ai.request.model", json!({"stringValue": "scripted"}));
    check("gen_ai.request.max_tokens", json!({"intValue": "9"}));
    check("gen_ai.request.seed", json!({"intValue": "5"}));
    check("gen_ai.request.temperature", json!({"doubleValue": 0.5}));
    check("gen_ai.request.stop_sequences", json!({"arrayValue": {"values": [{"stringValue": "#"}]}}));
    check("gen_ai.usage.input_tokens", json!({"intValue": "2"}));
    check("gen_ai.usage.output_tokens", json!({"intValue": "3"}));
    check("gen_ai.response.finish_reasons", json!({"arrayValue": {"values": [{"stringValue": "stop"}]}}));
    check("http.route", json!({"stringValue": "/v1/completions"}));
    let time = |key: &str| span[key].as_str().unwrap().parse::<u128>().unwrap();
    assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    assert_eq!(span["status"], json!({}));
}

#[test]
fn texts_that_are_read_are_spans_too() {
    let (address, received) = collector();
    let rig = rig(ScriptedModel::default(), address, Duration::from_millis(10));
    let texts = json!(["red fox", "blue"]);
    for (path, body, name) in [
        ("/v1/embeddings", json!({"model": "vectors", "input": texts}), "embeddings vectors"),
        ("/api/embed", json!({"model": "vectors", "input": texts}), "embeddings vectors"),
        ("/v1/rerank", json!({"model": "ranker", "query": "red", "documents": texts}), "rerank ranker"),
        ("/v1/score", json!({"model": "ranker", "text_1": "red", "text_2": texts}), "score ranker"),
    ] {
        let answer = rig.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let (_, body) = received.recv_timeout(Duration::from_secs(20)).unwrap();
        let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["name"], name);
        assert_eq!(said(span, "http.route"), json!({"stringValue": path}));
        assert!(said(span, "gen_ai.usage.input_tokens")["intValue"].is_string(), "{span}");
        assert_eq!(said(span, "gen_ai.request.temperature"), Value::Null);
    }
}

#[test]
fn what_is_left_is_sent_when_the_server_stops() {
    let (address, received) = collector();
    let rig = rig(ScriptedModel::default(), address, Duration::from_secs(3600));
    let message = json!([{"role": "user", "content": "x"}]);
    for _ in 0..3 {
        rig.post("/v1/chat/completions", &json!({"model": "scripted", "messages": message}));
    }
    drop(rig);
    let (_, body) = received.recv_timeout(Duration::from_secs(20)).unwrap();
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span["name"] == "chat scripted" && span.get("parentSpanId").is_none()));
}

#[test]
fn a_collector_that_is_away_costs_nobody_anything() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = rig(ScriptedModel::default(), gone, Duration::from_millis(1));
    for _ in 0..5 {
        assert_eq!(rig.post("/v1/completions", &json!({"model": "scripted", "prompt": "x"})).status, 200);
    }
}
