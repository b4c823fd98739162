//! Anthropic's messages.

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;
use wootz_text::{Prompt, Role};

use crate::client::Answer;
use crate::rig::Rig;

const CALL: &str =
    "<think>Hm.</think>Sure.<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>";

fn ask(rig: &Rig, extra: Value) -> Answer {
    let mut request =
        json!({"model": "scripted", "max_tokens": 200, "messages": [{"role": "user", "content": "Hi"}]});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    rig.post("/v1/messages", &request)
}

fn tools() -> Value {
    json!([{"name": "add", "input_schema": {"type": "object"}}])
}

#[test]
fn an_answer_is_blocks() {
    let rig = Rig::start(ScriptedModel::new([CALL]));
    let json = ask(&rig, json!({"tools": tools(), "system": "Be brief."})).json();
    let kinds: Vec<&str> =
        json["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use"]);
    assert_eq!((&json["content"][2]["input"], &json["stop_reason"]), (&json!({"a": 1}), &json!("tool_use")));
    let Prompt::Chat { messages, .. } = rig.model.requests().remove(0).prompt else { panic!() };
    assert_eq!(messages[0].role, Role::System);
}

#[test]
fn events_open_and_close_blocks() {
    let rig = Rig::start(ScriptedModel::new([CALL]));
    let events = ask(&rig, json!({"tools": tools(), "stream": true})).data();
    let names: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| **name == "content_block_start").count(), 3);
    assert_eq!(names.iter().filter(|name| **name == "content_block_stop").count(), 3);
    let arguments: String =
        events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(arguments, "{\"a\": 1}");
    assert_eq!(events[names.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn results_of_tools_become_messages() {
    let rig = Rig::start(ScriptedModel::new(["Two."]));
    let messages = json!([
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "2"}]},
            {"type": "text", "text": "So?"}]},
    ]);
    assert_eq!(ask(&rig, json!({"messages": messages, "tools": tools()})).status, 200);
    let Prompt::Chat { messages, .. } = rig.model.requests().remove(0).prompt else { panic!() };
    let roles: Vec<&str> = messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "user"]);
    assert_eq!((messages[2].name.as_deref(), messages[2].text().as_str()), (Some("add"), "2"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rig = Rig::start(ScriptedModel::default());
    let check = |extra: Value, said: &str| {
        let answer = ask(&rig, extra.clone());
        assert_eq!((answer.status, &answer.json()["type"]), (400, &json!("error")), "{extra}");
        assert!(
            answer.json()["error"]["message"].as_str().unwrap().contains(said),
            "{extra}: {}",
            answer.body
        );
    };
    check(json!({"colour": 1}), "`colour`");
    check(json!({"max_tokens": 0}), "`max_tokens`");
    check(json!({"max_tokens": -5}), "`max_tokens`");
    check(json!({"temperature": 9}), "`temperature`");
    let calls = json!([{"type": "tool_use", "id": "t", "name": "add", "input": {}}]);
    check(json!({"messages": [{"role": "assistant", "content": calls}]}), "`messages`");
    check(
        json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}),
        "`messages[0].content[0].type`",
    );
    check(json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "`tools[0].type`");
    check(json!({"tools": tools(), "tool_choice": {"type": "tool", "name": "x"}}), "`tool_choice`");
    check(json!({"thinking": {"type": "deep"}}), "`thinking.type`");
}

#[test]
fn the_beginning_of_an_answer_is_continued() {
    let rig = Rig::start(ScriptedModel::new([" and more"]));
    let messages = json!([{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It"}]);
    let json = ask(&rig, json!({"messages": messages})).json();
    assert_eq!(json["content"][0]["text"], " and more", "{json}");
    let Prompt::Chat { continues, .. } = rig.model.requests().remove(0).prompt else { panic!() };
    assert!(continues);
}
