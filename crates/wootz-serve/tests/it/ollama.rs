//! Ollama's API.

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;

use crate::rig::Rig;

fn lines(body: &str) -> Vec<Value> {
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_chat_comes_in_lines_unless_said_otherwise() {
    let call = "Sure.<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>";
    let rig = Rig::start(ScriptedModel::new([call, "Hello"]));
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]);
    let mut request =
        json!({"model": "scripted", "messages": [{"role": "user", "content": "x"}], "tools": tools});
    let answer = rig.post("/api/chat", &request);
    assert!(answer.headers.contains("application/x-ndjson"));
    let lines = lines(&answer.body);
    let text: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    let calls: Vec<&Value> = lines.iter().filter_map(|line| line["message"].get("tool_calls")).collect();
    assert_eq!((text.as_str(), calls[0][0]["function"]["arguments"].clone()), ("Sure.", json!({"a": 1})));
    assert!(lines.last().unwrap()["done"] == true && lines.last().unwrap()["eval_count"].as_u64() > Some(0));
    request["stream"] = false.into();
    assert_eq!(rig.post("/api/chat", &request).json()["message"]["content"], "Hello");
}

#[test]
fn options_are_settings_with_ollama_s_defaults() {
    let rig = Rig::start(ScriptedModel::new(["a", "b"]));
    let request = json!({"model": "scripted:latest", "prompt": "x", "stream": false, "options": {"num_predict": 5, "top_k": 3}});
    assert_eq!(rig.post("/api/generate", &request).json()["response"], "a");
    let sampling = &rig.model.requests()[0].sampling;
    assert_eq!((sampling.max_tokens, sampling.top_k, sampling.temperature), (Some(5), Some(3), 0.8));
    assert_eq!((sampling.penalties.repetition, sampling.penalties.last_n), (1.1, Some(64)));
    let check = |extra: Value, said: &str| {
        let mut request = json!({"model": "scripted", "prompt": "x", "stream": false});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = rig.post("/api/generate", &request);
        assert_eq!(answer.status, 400, "{extra}");
        assert!(answer.json()["error"].as_str().unwrap().contains(said), "{extra}: {}", answer.body);
    };
    check(json!({"options": {"colour": 1}}), "`options.colour`");
    check(json!({"options": {"num_predict": -7}}), "`options.num_predict`");
    check(json!({"options": {"mirostat": 9}}), "`options.mirostat`");
    check(json!({"options": {"top_k": -9_000_000_000i64}}), "`top_k`");
    check(json!({"template": "{{ .Prompt }}"}), "`template`");
    check(json!({"format": 5}), "`format`");
}

#[test]
fn models_and_vectors_have_ollama_s_shapes() {
    let rig = Rig::start(ScriptedModel::default());
    assert_eq!(rig.get("/api/tags").json()["models"][1]["model"], "vectors");
    assert!(rig.get("/api/version").json()["version"].is_string());
    let show = rig.post("/api/show", &json!({"model": "scripted"})).json();
    assert_eq!(show["capabilities"], json!(["completion", "tools", "thinking"]));
    let embed =
        rig.post("/api/embed", &json!({"model": "vectors", "input": ["a", "b"], "dimensions": 4})).json();
    assert_eq!(embed["embeddings"][1].as_array().unwrap().len(), 4);
    assert_eq!(rig.post("/api/pull", &json!({"model": "x", "stream": false})).status, 400);
    assert_eq!(
        rig.post("/api/chat", &json!({"model": "none"})).json()["error"].as_str().unwrap().split(';').next(),
        Some("no model `none`")
    );
}
