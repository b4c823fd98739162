//! OpenAI's completions.

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;

use crate::rig::Rig;

const PATH: &str = "/v1/completions";

fn ask(extra: Value) -> Value {
    let mut request = json!({"model": "scripted", "prompt": "abc"});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    request
}

#[test]
fn texts_are_continued() {
    let rig = Rig::start(ScriptedModel::new(["one", "two", "three", "four"]));
    let json = rig.post(PATH, &ask(json!({"prompt": ["a", "b"], "n": 2}))).json();
    let texts: Vec<&str> =
        json["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
    assert_eq!(json["choices"][3]["index"], 3);
    assert_eq!(json["usage"]["prompt_tokens"], 2);
    assert_eq!(rig.model.requests()[0].sampling.max_tokens, Some(16));
}

#[test]
fn a_prompt_is_echoed_in_front() {
    let rig = Rig::start(ScriptedModel::new(["def", "def"]));
    assert_eq!(rig.post(PATH, &ask(json!({"echo": true}))).json()["choices"][0]["text"], "abcdef");
    let stream = rig.post(PATH, &ask(json!({"echo": true, "stream": true})));
    let text: String =
        stream.data().iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(text, "abcdef");
}

#[test]
fn log_probabilities_are_lists_side_by_side() {
    let rig = Rig::start(ScriptedModel::new(["ab"]));
    let json = rig.post(PATH, &ask(json!({"logprobs": 1, "stop": "x"}))).json();
    let logprobs = &json["choices"][0]["logprobs"];
    assert_eq!((&logprobs["tokens"], &logprobs["text_offset"]), (&json!(["a", "b"]), &json!([0, 1])));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rig = Rig::start(ScriptedModel::default());
    let check = |extra: Value, param: &str| {
        let answer = rig.post(PATH, &ask(extra.clone()));
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{extra}");
    };
    check(json!({"best_of": 3}), "best_of");
    check(json!({"suffix": "x"}), "suffix");
    check(json!({"prompt": []}), "prompt");
    check(json!({"prompt": {"text": "x"}}), "prompt");
    check(json!({"prompt": [-1]}), "prompt");
    check(json!({"max_tokens": 0}), "max_tokens");
    check(json!({"messages": []}), "messages");
    check(json!({"logprobs": 1000}), "logprobs");
}
