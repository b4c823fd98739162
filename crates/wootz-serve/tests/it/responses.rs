//! OpenAI's responses.

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;
use wootz_text::Prompt;

use crate::rig::Rig;

const PATH: &str = "/v1/responses";
const CALL: &str =
    "<think>Hm.</think>Sure.<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>";

fn tools() -> Value {
    json!([{"type": "function", "name": "add", "parameters": {"type": "object"}}])
}

#[test]
fn a_stream_s_items_are_those_of_the_whole_answer() {
    let rig = Rig::start(ScriptedModel::new([CALL, CALL]));
    let mut request = json!({"model": "scripted", "input": "x", "tools": tools()});
    let whole = rig.post(PATH, &request).json();
    let kinds: Vec<&str> =
        whole["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    assert_eq!(whole["output"][2]["arguments"], "{\"a\": 1}");
    request["stream"] = true.into();
    let events = rig.post(PATH, &request).data();
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], i);
    }
    let last = &events.last().unwrap()["response"];
    let bare = |response: &Value| {
        let strip = |item: &Value| {
            let mut item = item.clone();
            for key in ["id", "call_id"] {
                item.as_object_mut().unwrap().remove(key);
            }
            item
        };
        response["output"].as_array().unwrap().iter().map(strip).collect::<Vec<_>>()
    };
    assert_eq!(bare(last), bare(&whole));
    assert_eq!((&last["status"], &last["usage"]), (&json!("completed"), &whole["usage"]));
}

#[test]
fn items_become_a_conversation() {
    let rig = Rig::start(ScriptedModel::new(["Two.", "cut"]));
    let input = json!([
        {"role": "user", "content": [{"type": "input_text", "text": "1 + 1?"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sure."}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{\"a\": 1}"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ]);
    assert_eq!(rig.post(PATH, &json!({"model": "scripted", "input": input})).status, 200);
    let Prompt::Chat { messages, .. } = rig.model.requests().remove(0).prompt else { panic!() };
    assert_eq!(messages.len(), 3);
    assert_eq!((messages[1].reasoning.as_deref(), messages[1].text().as_str()), (Some("Hm."), "Sure."));
    assert_eq!((messages[1].tool_calls.len(), messages[2].name.as_deref()), (1, Some("add")));

    let cut = rig.post(PATH, &json!({"model": "scripted", "input": "x", "max_output_tokens": 2})).json();
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rig = Rig::start(ScriptedModel::default());
    let check = |extra: Value, param: &str| {
        let mut request = json!({"model": "scripted", "input": "x"});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = rig.post(PATH, &request);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{extra}");
    };
    check(json!({"store": true}), "store");
    check(json!({"previous_response_id": "resp_1"}), "previous_response_id");
    check(json!({"max_output_tokens": 0}), "max_tokens");
    check(json!({"input": []}), "input");
    check(json!({"input": [{"type": "computer_call"}]}), "input[0].type");
    check(
        json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
        "input[0].content[0].type",
    );
    check(json!({"tools": [{"type": "web_search"}]}), "tools[0].type");
    check(json!({"tool_choice": "maybe"}), "tool_choice");
    check(json!({"colour": 1}), "colour");
}
