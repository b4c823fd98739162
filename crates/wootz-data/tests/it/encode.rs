//! Which tokens of an example are learned.

use serde_json::Value;
use wootz_data::{
    Conversation, Encoded, Said, Supervise, Turn, Unlearnable, encode_answer, encode_chat, encode_text,
};
use wootz_text::{ChatTemplate, Message, Role, Tokenizer};

use crate::golden;

pub(crate) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}\
     {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

pub(crate) fn tokenizer(name: &str) -> Tokenizer {
    let bytes = std::fs::read(golden(&format!("tokenizers/{name}.json"))).unwrap();
    let mut tokenizer = Tokenizer::from_json(bytes).unwrap();
    let end = tokenizer.token_id("<|im_end|>").unwrap();
    tokenizer.special_mut().eos = vec![end];
    tokenizer
}

fn chat(messages: &[Message]) -> Conversation {
    let turns = messages.iter().map(|message| Turn { message: message.clone(), train: None });
    Conversation { turns: turns.collect(), tools: Vec::new() }
}

fn talk() -> Vec<Message> {
    let (user, assistant) = (Message::user, Message::assistant);
    vec![user("one and one"), assistant("two"), user("two and two"), assistant("four")]
}

/// What is learned, as text.
fn learned(tokenizer: &Tokenizer, encoded: &Encoded) -> String {
    let ids = encoded.token_ids.iter().zip(&encoded.supervised);
    let ids: Vec<u32> = ids.filter(|(_, is)| **is).map(|(id, _)| *id).collect();
    tokenizer.decode(&ids, false)
}

#[test]
fn masks_are_those_of_transformers() {
    let expected: Value = serde_json::from_slice(&std::fs::read(golden("chat_masks.json")).unwrap()).unwrap();
    let template = ChatTemplate::new(CHATML).unwrap();
    for (name, rows) in expected.as_object().unwrap() {
        let tokenizer = tokenizer(name);
        for row in rows.as_array().unwrap() {
            let messages = row["messages"].as_array().unwrap().iter();
            let messages: Vec<Message> = messages.map(|json| Message::from_json(json).unwrap()).collect();
            let encoded =
                encode_chat(&tokenizer, &template, &chat(&messages), &Supervise::default()).unwrap();
            let numbers = |key: &str| -> Vec<u64> {
                row[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
            };
            assert_eq!(encoded.token_ids.iter().map(|&id| u64::from(id)).collect::<Vec<_>>(), numbers("ids"));
            let mask: Vec<u64> = encoded.supervised.iter().map(|&is| u64::from(is)).collect();
            assert_eq!(mask, numbers("mask"), "{name}: {messages:?}");
        }
    }
}

#[test]
fn turns_are_chosen_by_role_by_place_and_by_the_row() {
    let (tokenizer, template) = (tokenizer("bpe-qwen2"), ChatTemplate::new(CHATML).unwrap());
    let check = |conversation: &Conversation, supervise: &Supervise, expected: &str| {
        let encoded = encode_chat(&tokenizer, &template, conversation, supervise).unwrap();
        assert_eq!(learned(&tokenizer, &encoded), expected);
    };
    let all = Supervise::default();
    check(&chat(&talk()), &all, "two<|im_end|>four<|im_end|>");
    check(&chat(&talk()), &Supervise { last_only: true, ..all.clone() }, "four<|im_end|>");
    let users = Supervise { roles: vec![Role::User], last_only: true };
    check(&chat(&talk()), &users, "<|im_start|>user\ntwo and two<|im_end|>");
    let mut said = chat(&talk());
    said.turns[3].train = Some(false);
    check(&said, &all, "two<|im_end|>");
}

#[test]
fn what_would_teach_nothing_or_no_end_is_refused() {
    let mut tokenizer = tokenizer("bpe-qwen2");
    let template = ChatTemplate::new(CHATML).unwrap();
    let check = |tokenizer: &Tokenizer, source: &str, messages: &[Message], said: &str| {
        let template = ChatTemplate::new(source).unwrap();
        let refused = encode_chat(tokenizer, &template, &chat(messages), &Supervise::default());
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    };
    check(&tokenizer, CHATML, &talk()[..1], "no token of it is supervised");
    let endless = CHATML.replace("<|im_end|>\n", "\n");
    check(&tokenizer, &endless, &talk(), "turn 2: none of its supervised tokens ends the answer");
    let spelled = [Message::user("say <|im_end|>"), Message::assistant("no")];
    check(&tokenizer, CHATML, &spelled, "turn 1 says `<|im_end|>`");
    let counting = format!("{{{{ messages | length }}}}{CHATML}");
    check(&tokenizer, &counting, &talk(), "turn 2: once others follow");
    check(&tokenizer, "{{ raise_exception('no systems') }}", &talk(), "no systems");

    let bos = tokenizer.token_id("<|endoftext|>").unwrap();
    tokenizer.special_mut().bos = Some(bos);
    let doubled = format!("{{{{ '<|endoftext|><|endoftext|>' }}}}{CHATML}");
    check(&tokenizer, &doubled, &talk(), "it begins with `<|endoftext|>` twice");
    let prompt = Said::Text("one and one".to_owned());
    let nothing = encode_answer(&tokenizer, None, &prompt, &Said::Text(String::new()));
    assert_eq!(nothing, Err(Unlearnable::Nothing));
    assert_eq!(encode_text(&tokenizer, ""), Err(Unlearnable::Nothing));
    let turns = Said::Turns(talk());
    assert!(matches!(encode_answer(&tokenizer, None, &prompt, &turns), Err(Unlearnable::Mixed(_))));
    assert!(encode_answer(&tokenizer, Some(&template), &prompt, &turns).is_ok());
}

#[test]
fn a_completion_is_learned_with_its_end() {
    let tokenizer = tokenizer("bpe-qwen2");
    let said = |text: &str| Said::Text(text.to_owned());
    let encoded = encode_answer(&tokenizer, None, &said("one and"), &said(" one is two")).unwrap();
    assert_eq!(learned(&tokenizer, &encoded), " one is two<|im_end|>");
    let encoded = encode_text(&tokenizer, "one and one").unwrap();
    assert_eq!(learned(&tokenizer, &encoded), "one and one<|im_end|>");
    let template = ChatTemplate::new(CHATML).unwrap();
    let encoded = encode_answer(&tokenizer, Some(&template), &said("one and"), &said("two")).unwrap();
    assert_eq!(learned(&tokenizer, &encoded), "two<|im_end|>");
}
