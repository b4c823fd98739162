//! OpenAI's chat completions.

use serde_json::{Value, json};
use wootz_testkit::{ScriptedModel, ScriptedReply};
use wootz_text::{Constraint, ModelError, Prompt, Role};

use crate::rig::Rig;

const PATH: &str = "/v1/chat/completions";

fn ask(extra: Value) -> Value {
    let mut request = json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    request
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}])
}

#[test]
fn an_answer_comes_whole() {
    let rig = Rig::start(ScriptedModel::new(["Hello!"]));
    let answer = rig.post(PATH, &ask(json!({"temperature": 0, "seed": 5, "user": "me", "stop": null})));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(
        json["choices"][0]["message"],
        json!({"role": "assistant", "content": "Hello!", "refusal": null})
    );
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    assert_eq!(json["usage"]["total_tokens"], 8);
    let request = rig.model.requests().remove(0);
    assert_eq!((request.sampling.temperature, request.sampling.seed), (0.0, Some(5)));
    let Prompt::Chat { messages, .. } = request.prompt else { panic!("not a conversation") };
    assert_eq!((messages[0].role.clone(), messages[0].text().as_str()), (Role::User, "Hi"));
}

#[test]
fn a_stream_adds_up_to_the_answer() {
    let rig = Rig::start(ScriptedModel::new(["Héllo ∑!", "Second"]));
    let request = ask(json!({"stream": true, "n": 2, "stream_options": {"include_usage": true}}));
    let answer = rig.post(PATH, &request);
    assert!(answer.headers.contains("content-type: text/event-stream"), "{}", answer.headers);
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
    let mut texts = [String::new(), String::new()];
    let mut ends = 0;
    for chunk in answer.data() {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        for choice in chunk["choices"].as_array().unwrap() {
            texts[choice["index"].as_u64().unwrap() as usize] +=
                choice["delta"]["content"].as_str().unwrap_or("");
            ends += usize::from(choice["finish_reason"] == "stop");
        }
    }
    assert_eq!((texts.map(String::from), ends), (["Héllo ∑!".into(), "Second".into()], 2));
    assert_eq!(answer.data().last().unwrap()["usage"]["completion_tokens"], 14);
}

#[test]
fn tool_calls_come_whole_and_in_pieces() {
    let said = "<think>hm</think>\nSure.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": \"x\"}}\n</tool_call>\n<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>";
    let rig = Rig::start(ScriptedModel::new([said, said]));
    let whole = rig.post(PATH, &ask(json!({"tools": tools()}))).json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Sure."), &json!("hm")));
    assert_eq!(
        message["tool_calls"][0]["function"],
        json!({"name": "add", "arguments": "{\"a\": 1, \"b\": \"x\"}"})
    );
    assert!(message["tool_calls"][1]["id"].as_str().unwrap().starts_with("call_"));

    let answer = rig.post(PATH, &ask(json!({"tools": tools(), "stream": true})));
    let (mut text, mut thoughts, mut calls) = (String::new(), String::new(), Vec::<(String, String)>::new());
    for chunk in answer.data() {
        let delta = &chunk["choices"][0]["delta"];
        text += delta["content"].as_str().unwrap_or("");
        thoughts += delta["reasoning_content"].as_str().unwrap_or("");
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                calls.push((call["function"]["name"].as_str().unwrap().into(), String::new()));
            }
            calls[index].1 += call["function"]["arguments"].as_str().unwrap();
        }
    }
    assert_eq!((text.as_str(), thoughts.as_str()), ("Sure.", "hm"));
    assert_eq!(calls, [("add".into(), "{\"a\": 1, \"b\": \"x\"}".into()), ("add".into(), "{}".to_owned())]);
}

#[test]
fn a_call_that_must_happen_is_a_grammar() {
    let said = "{\"name\": \"add\", \"parameters\": {\"a\": 1}}";
    let rig = Rig::start(ScriptedModel::new([said, said]));
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "add"}})] {
        let json = rig.post(PATH, &ask(json!({"tools": tools(), "tool_choice": choice}))).json();
        assert_eq!(json["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"a\": 1}");
        assert_eq!(json["choices"][0]["message"]["content"], Value::Null);
    }
    for request in rig.model.requests() {
        assert!(matches!(request.sampling.constraint, Some(Constraint::Form(_))));
    }
    let none = rig.post(PATH, &ask(json!({"tools": tools(), "tool_choice": "none"})));
    assert_eq!(none.status, 200);
    let Prompt::Chat { tools, .. } = rig.model.requests().pop().unwrap().prompt else { panic!() };
    assert!(tools.is_empty());
}

#[test]
fn what_is_promised_of_calls_that_may_happen_is_a_grammar() {
    let said = "Sure.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
    let rig = Rig::start(ScriptedModel::new([said, said, said, said]));
    let mut strict = tools();
    strict[0]["function"]["strict"] = true.into();
    let schema = json!({"type": "object"});
    let document = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let check = |extra: Value, is_held: bool| {
        let answer = rig.post(PATH, &ask(extra.clone()));
        assert_eq!(answer.status, 200, "{extra}: {}", answer.body);
        let message = &answer.json()["choices"][0]["message"];
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"a\": 1}", "{extra}");
        assert_eq!(message["content"], "Sure.");
        let request = rig.model.requests().pop().unwrap();
        let is_form = matches!(request.sampling.constraint, Some(Constraint::Form(_)));
        assert_eq!(is_form, is_held, "{extra}");
        assert!(request.sampling.keep_special);
    };
    check(json!({"tools": tools()}), false);
    check(json!({"tools": strict}), true);
    check(json!({"tools": tools(), "parallel_tool_calls": false}), true);
    check(json!({"tools": tools(), "response_format": document}), true);
}

#[test]
fn a_response_format_is_a_grammar() {
    let rig = Rig::start(ScriptedModel::new(["{}", "{}"]));
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    assert_eq!(rig.post(PATH, &ask(json!({"response_format": format}))).status, 200);
    assert_eq!(rig.post(PATH, &ask(json!({"response_format": {"type": "json_object"}}))).status, 200);
    let requests = rig.model.requests();
    assert_eq!(requests[0].sampling.constraint, Some(Constraint::JsonSchema(schema)));
    assert_eq!(requests[1].sampling.constraint, Some(Constraint::JsonSchema(json!({"type": "object"}))));
}

#[test]
fn log_probabilities_stand_beside_tokens() {
    let rig = Rig::start(ScriptedModel::new(["ab", "ab"]));
    let json = rig.post(PATH, &ask(json!({"logprobs": true, "top_logprobs": 2}))).json();
    let content = &json["choices"][0]["logprobs"]["content"];
    assert_eq!(content[1]["token"], "b");
    assert_eq!(content[1]["bytes"], json!([98]));
    assert!((content[1]["logprob"].as_f64().unwrap() + 0.2).abs() < 1e-6);
    let chunks = rig.post(PATH, &ask(json!({"logprobs": true, "stream": true}))).data();
    let n = chunks.iter().filter(|chunk| chunk["choices"][0]["logprobs"].is_object()).count();
    assert_eq!(n, 2);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rig = Rig::start(ScriptedModel::default());
    let check = |extra: Value, param: &str| {
        let answer = rig.post(PATH, &ask(extra.clone()));
        assert_eq!(answer.status, 400, "{extra}: {}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!(error["param"], param, "{extra}: {error}");
        assert!(error["message"].as_str().unwrap().contains(param), "{extra}: {error}");
    };
    check(json!({"colour": 1}), "colour");
    check(json!({"store": true}), "store");
    check(json!({"modalities": ["text", "audio"]}), "modalities");
    check(json!({"temperature": -1}), "temperature");
    check(json!({"temperature": "hot"}), "temperature");
    check(json!({"top_p": 0}), "top_p");
    check(json!({"n": 0}), "n");
    check(json!({"n": 1e30}), "n");
    check(json!({"max_tokens": -1}), "max_tokens");
    check(json!({"max_tokens": 0}), "max_tokens");
    check(json!({"max_tokens": 1.5}), "max_tokens");
    check(json!({"seed": 1e30}), "seed");
    check(json!({"presence_penalty": 3}), "presence_penalty");
    check(json!({"logit_bias": {"x": 1}}), "logit_bias");
    check(json!({"logit_bias": {"1": 1000}}), "logit_bias");
    check(json!({"top_logprobs": 3}), "top_logprobs");
    check(json!({"logprobs": true, "top_logprobs": 1000}), "logprobs");
    check(json!({"stop": [""]}), "stop");
    check(json!({"messages": []}), "messages");
    check(json!({"messages": [{"role": "wizard", "content": "x"}]}), "messages[0].role");
    check(json!({"messages": [{"role": "user"}]}), "messages[0].content");
    check(json!({"messages": [{"role": "user", "content": "x", "mood": 1}]}), "messages[0].mood");
    check(
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}),
        "messages[0].content[0].type",
    );
    check(json!({"tools": [{"type": "web_search"}]}), "tools[0].type");
    check(
        json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "nope"}}}),
        "tool_choice",
    );
    check(json!({"tools": tools(), "guided_regex": "a"}), "tools");
    check(json!({"response_format": {"type": "xml"}}), "response_format.type");
    check(json!({"stream_options": {"chunks": 1}}), "stream_options.chunks");
    check(json!({"guided_regex": "a", "guided_choice": ["b"]}), "response_format");
    assert!(rig.model.requests().is_empty());
    let unknown = rig.post(PATH, &json!({"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}));
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
    let silent = rig.post(PATH, &json!({"model": "vectors", "messages": [{"role": "user", "content": "x"}]}));
    assert_eq!(silent.status, 400);
}

#[test]
fn a_model_s_failure_is_told() {
    let failure =
        |text: &str| ScriptedReply::Failure { text: text.into(), error: ModelError::failed("lost") };
    let full = ScriptedReply::Refusal(ModelError::ContextFull { prompt_tokens: 9000, max_tokens: 4096 });
    let busy = ScriptedReply::Refusal(ModelError::Busy { queued: 3 });
    let rig = Rig::start(ScriptedModel::new([failure("ab"), failure("ab"), full, busy]));
    assert_eq!(rig.post(PATH, &ask(json!({}))).status, 500);
    let stream = rig.post(PATH, &ask(json!({"stream": true})));
    assert!(stream.data().last().unwrap()["error"]["message"].as_str().unwrap().contains("lost"));
    let full = rig.post(PATH, &ask(json!({})));
    assert_eq!((full.status, &full.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    let busy = rig.post(PATH, &ask(json!({"stream": true})));
    assert_eq!(busy.status, 429);
    assert!(busy.headers.contains("retry-after: 1"));
}

#[test]
fn an_answer_can_be_begun_by_the_client() {
    let rig = Rig::start(ScriptedModel::new([" and more", "anew"]));
    let ask = |extra: Value| {
        let mut request = json!({"model": "scripted", "messages": [
            {"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It"}]});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        rig.post("/v1/chat/completions", &request)
    };
    let answer = ask(json!({"continue_final_message": true, "add_generation_prompt": false})).json();
    assert_eq!(answer["choices"][0]["message"]["content"], " and more", "{answer}");
    assert_eq!(ask(json!({})).status, 200);
    let continues = |index: usize| match &rig.model.requests()[index].prompt {
        Prompt::Chat { continues, .. } => *continues,
        other => panic!("{other:?}"),
    };
    assert!(continues(0) && !continues(1));
    let both = ask(json!({"continue_final_message": true, "add_generation_prompt": true}));
    assert!(both.status == 400 && both.body.contains("add_generation_prompt"), "{}", both.body);
    let user = json!([{"role": "user", "content": "x"}]);
    let wrong = ask(json!({"continue_final_message": true, "messages": user}));
    assert!(wrong.status == 400 && wrong.body.contains("continue_final_message"), "{}", wrong.body);
}
