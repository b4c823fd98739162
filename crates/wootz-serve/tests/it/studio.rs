//! The studio's page, and what it stands on: the prompt as it is sent, and answers that begin with given tokens.

use std::sync::Arc;

use serde_json::{Value, json};
use wootz_serve::{ApiKey, FixedCatalog, ModelCard, ServedModel};
use wootz_testkit::ScriptedModel;
use wootz_text::{ChatTemplate, Prompt, Tokenizer};

use crate::client::Answer;
use crate::rig::{Rig, TEMPLATE};

#[test]
fn the_page_comes_without_a_key_and_again_only_when_it_changed() {
    let keys = vec![ApiKey::new("a-key-of-some-length").unwrap()];
    let rig = Rig::with(ScriptedModel::default(), |options| options.keys = keys);
    assert_eq!(rig.get("/v1/models").status, 401);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/studio.js", "text/javascript; charset=utf-8"),
        ("/studio.css", "text/css; charset=utf-8"),
        ("/studio.svg", "image/svg+xml"),
    ] {
        let page = rig.get(path);
        assert_eq!(page.status, 200, "{path}");
        let header = |name: &str| header(&page, name);
        assert_eq!(header("content-type"), kind);
        assert!(header("content-security-policy").contains("default-src 'none'"), "{}", page.headers);
        assert_eq!(header("x-content-type-options"), "nosniff");
        let tag = header("etag");
        let again = rig.send("GET", path, &[("if-none-match", &tag)], b"");
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        assert_eq!(rig.send("GET", path, &[("if-none-match", "\"other\"")], b"").status, 200);
    }
    assert_eq!(rig.post("/", &json!({})).status, 405);
}

fn header(answer: &Answer, name: &str) -> String {
    let start = format!("{name}: ");
    let line = answer.headers.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name} in {}", answer.headers)).to_owned()
}

/// A token is a byte, so that the scripted model's characters are tokens here as far as ASCII goes; 256 ends an answer.
fn byte_tokenizer() -> Tokenizer {
    let mut next = 256;
    let vocab = (0..=255_u8).map(|byte| {
        let spelled = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        };
        (spelled.to_string(), json!(byte))
    });
    let vocab: serde_json::Map<String, Value> = vocab.collect();
    let end = json!({"id": 256, "content": "<end>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let json = json!({
        "version": "1.0",
        "added_tokens": [end],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    let mut tokenizer = Tokenizer::from_json(json.to_string().into_bytes()).unwrap();
    tokenizer.special_mut().add_eos(256);
    tokenizer
}

/// A server whose only model has bytes as tokens.
fn bytes_rig(replies: &[&str]) -> Rig {
    let scripted = ScriptedModel::new(replies.iter().copied());
    let tokenizer = Arc::new(byte_tokenizer());
    let template = Arc::new(ChatTemplate::new(TEMPLATE).unwrap());
    let (for_tokens, for_text) = (tokenizer.clone(), template.clone());
    let tokenize = move |prompt: Prompt| match prompt {
        Prompt::Chat { messages, .. } => {
            let input = wootz_text::ChatInput { messages: &messages, ..Default::default() };
            Ok(for_tokens.encode(&for_text.render(&input).unwrap().text, false, true))
        }
        Prompt::Text(text) => Ok(for_tokens.encode(&text, true, true)),
        Prompt::TokenIds(ids) => Ok(ids),
    };
    let model = ServedModel {
        card: ModelCard { name: "bytes".into(), max_seq_len: 4096, ..ModelCard::default() },
        generate: Some(Arc::new(scripted.clone())),
        tokenizer: Some(tokenizer),
        template: Some(template),
        tokenize: Some(Arc::new(tokenize)),
        ..ServedModel::default()
    };
    Rig::serving(scripted, FixedCatalog::new([model]), |_| {})
}

#[test]
fn a_prompt_is_shown_as_the_model_reads_it() {
    let rig = bytes_rig(&[]);
    let messages = json!([{"role": "user", "content": "é<end>"}]);
    let applied = rig.post("/apply-template", &json!({"messages": messages, "with_pieces": true})).json();
    assert_eq!(applied["prompt"], "user: é<end>\n");
    assert_eq!((&applied["max_model_len"], &applied["end_token_ids"]), (&json!(4096), &json!([256])));
    let tokens = applied["tokens"].as_array().unwrap();
    assert_eq!(tokens[0], json!({"id": 117, "piece": "u", "special": false}));
    assert_eq!(tokens[6], json!({"id": 0xC3, "piece": [0xC3], "special": false}));
    assert_eq!(tokens[8], json!({"id": 256, "piece": "<end>", "special": true}));
    let plain = rig.post("/apply-template", &json!({"messages": messages})).json();
    assert_eq!((plain.get("tokens"), plain.get("end_token_ids")), (None, None));
    // A model without tokens still has a template.
    let rig = Rig::start(ScriptedModel::default());
    let of =
        |with_pieces: bool| json!({"model": "scripted", "messages": messages, "with_pieces": with_pieces});
    assert_eq!(rig.post("/apply-template", &of(false)).status, 200);
    let refused = rig.post("/apply-template", &of(true));
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("does not tell its tokens"), "{}", refused.body);
}

#[test]
fn an_answer_goes_on_from_given_tokens() {
    let rig = bytes_rig(&["lo!", "lo!"]);
    let request = |stream: bool| {
        let messages = json!([{"role": "user", "content": "x"}]);
        json!({"model": "bytes", "messages": messages, "answer_token_ids": [104, 101, 108], "logprobs": true, "stream": stream})
    };
    let whole = rig.post("/v1/chat/completions", &request(false)).json();
    assert_eq!(whole["choices"][0]["message"]["content"], "hello!");
    let logprobs = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let ids: Vec<&Value> = logprobs.iter().map(|token| &token["id"]).collect();
    assert_eq!(ids, [&json!(108), &json!(111), &json!(33)]);
    let stream = rig.post("/v1/chat/completions", &request(true)).data();
    let said: Vec<&str> =
        stream.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said.concat(), "hello!");
    assert_eq!(said[1], "hel");
    // The model was given the prompt's own tokens and those, and nothing was encoded again.
    for asked in rig.model.requests() {
        let expected: Vec<u32> = "user: x\nhel".bytes().map(u32::from).collect();
        assert_eq!(asked.prompt, Prompt::TokenIds(expected));
    }
}

#[test]
fn a_character_may_go_across_the_place_where_the_model_takes_over() {
    // The scripted model's character U+00A9 is the second byte of é here.
    let rig = bytes_rig(&["\u{a9}!"]);
    let messages = json!([{"role": "user", "content": "x"}]);
    let request = json!({"model": "bytes", "messages": messages, "answer_token_ids": [0xC3]});
    let answer = rig.post("/v1/chat/completions", &request).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "é!");
}

#[test]
fn beginnings_that_cannot_be_are_refused_by_name() {
    let rig = bytes_rig(&[]);
    let check = |change: Value, expected: &str| {
        let messages = json!([{"role": "user", "content": "x"}]);
        let mut request = json!({"model": "bytes", "messages": messages, "answer_token_ids": [104]});
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = rig.post("/v1/chat/completions", &request);
        assert_eq!(refused.status, 400);
        let param = refused.json()["error"]["param"].as_str().unwrap_or_default().to_owned();
        assert!(param.starts_with("answer_token_ids"), "{param}");
        assert!(refused.body.contains(expected), "{}", refused.body);
    };
    check(json!({"answer_token_ids": [104, 257]}), "expected ids below 257, got 257");
    check(json!({"answer_token_ids": [256]}), "expected no token that ends an answer, got 256");
    check(json!({"stop": ["x"]}), "not supported beside `stop`");
    check(json!({"guided_regex": "a+"}), "not supported beside a grammar");
    check(json!({"answer_token_ids": ["a"]}), "answer_token_ids");
}
