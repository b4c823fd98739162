//! Chat templates give the text that `transformers` recorded in `golden/templates.json`.

use std::path::Path;

use serde_json::Value;
use wootz_text::{ChatInput, ChatTemplate, Message, Now, ToolSpec};

use crate::memory::alone;

#[test]
fn all_families_agree_with_transformers() {
    let _alone = alone();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/templates.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    let failures = cases.iter().filter(|case| !agrees(case, &golden["templates"])).count();
    assert_eq!(failures, 0);
}

fn agrees(case: &Value, templates: &Value) -> bool {
    let name = case["name"].as_str().unwrap();
    let template = ChatTemplate::new(templates[name].as_str().unwrap())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let messages: Vec<Message> =
        case["messages"].as_array().unwrap().iter().map(|json| Message::from_json(json).unwrap()).collect();
    let list = |key: &str| case[key].as_array().cloned().unwrap_or_default();
    let tools: Vec<ToolSpec> = list("tools").iter().map(|json| ToolSpec::from_json(json).unwrap()).collect();
    let input = ChatInput {
        messages: &messages,
        tools: &tools,
        documents: &list("documents"),
        add_generation_prompt: case["add_generation_prompt"] == true,
        variables: case["variables"].as_object().unwrap().clone(),
        template: None,
        now: Some(Now { unix_seconds: 1_709_210_096, utc_offset_seconds: 0 }),
    };
    let rendered = template.render(&input);
    if let Some(message) = case["error"].as_str() {
        let error = rendered.map(|rendered| rendered.text).expect_err(name);
        return error.message == message;
    }
    let rendered = rendered.unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = case["text"].as_str().unwrap();
    if rendered.text != expected {
        for (ours, theirs) in
            rendered.text.lines().zip(expected.lines()).filter(|(ours, theirs)| ours != theirs)
        {
            eprintln!("{name}\n  ours   {ours:?}\n  theirs {theirs:?}");
        }
        return false;
    }
    let spans: Vec<[usize; 2]> = rendered.assistant.iter().map(|span| [span.start, span.end]).collect();
    assert_eq!(serde_json::json!(spans), case["assistant"], "{name}");
    true
}
