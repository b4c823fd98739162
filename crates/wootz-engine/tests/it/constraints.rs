//! Constraints over the small model inside the program: whatever is finished is valid, and how it was run does not show.

use serde_json::{Value, json};
use wootz_engine::{Engine, LoadOptions, Request, Schedule, load};
use wootz_graph::Cpu;
use wootz_model::Model;
use wootz_text::{Constraint, FinishReason, Form, Free, GenerateEvent, ModelError, Sampling};

use crate::{Events, run, tokens, usage};

fn engine(guesses: bool, n_positions: usize) -> Engine {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../wootz/assets/wootz-small.gguf");
    let model = Model::open(path.as_ref()).unwrap();
    let options = LoadOptions {
        n_sequences: 16,
        max_context: Some(256),
        n_positions: Some(n_positions),
        guesses,
        ..LoadOptions::default()
    };
    load(&model, &Cpu::new(2), &options).unwrap().0
}

fn prompt(engine: &Engine) -> Vec<u32> {
    // Nearly a block, so that answers need a second one.
    let mut token_ids =
        engine.tokenizer().unwrap().encode(&"Once upon a time there was. ".repeat(10), true, true);
    token_ids.truncate(57);
    token_ids
}

fn submit(engine: &mut Engine, sampling: Sampling) -> Events {
    let events = Events::default();
    let writer = events.clone();
    let sink = Box::new(move |event| writer.lock().unwrap().push(event));
    let token_ids = prompt(engine);
    engine
        .submit(Request { token_ids, sampling, sink, schedule: Schedule::default(), adapter: None })
        .unwrap();
    events
}

fn constrained(constraint: Constraint, seed: u64) -> Sampling {
    Sampling { constraint: Some(constraint), max_tokens: Some(120), seed: Some(seed), ..Sampling::default() }
}

/// The text, and why it ended.
fn answer(events: &Events) -> (String, FinishReason) {
    let (mut text, mut reason) = (String::new(), None);
    for event in events.lock().unwrap().iter() {
        match event {
            GenerateEvent::Token(token) => text.push_str(&token.text),
            GenerateEvent::Finished { reason: ended, .. } => reason = Some(*ended),
            GenerateEvent::Usage(_) => {}
            GenerateEvent::Error(error) => panic!("{error:?}"),
        }
    }
    (text, reason.unwrap())
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "kind": {"enum": ["cat", "dog", "bird"]},
            "age": {"type": "integer", "minimum": 0, "maximum": 99},
            "friends": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2}
        },
        "required": ["name", "kind", "age", "friends"],
        "additionalProperties": false
    })
}

fn constraints() -> Vec<Constraint> {
    vec![
        Constraint::JsonSchema(schema()),
        Constraint::Regex("[A-Z][a-z]{2,10} (went|ran) home\\.".into()),
        Constraint::Choice(vec!["a cat".into(), "a dog".into(), "a cat and a dog".into()]),
        Constraint::Gbnf("root ::= item (\", \" item){1,3}\nitem ::= [a-z]{3,8}".into()),
        Constraint::Lark("start: \"(\" (start | /[a-z]{1,5}/) \")\"".into()),
        after_a_word(),
    ]
}

/// Free text; but once she or a dog comes, it must be told who, and that is the end.
fn after_a_word() -> Constraint {
    let who = Form::Json(json!({"enum": ["Ada", "Bo"]}));
    let told = Form::All(vec![Form::Literal(": ".into()), who]);
    let until = [" she", " dog"].map(|word| (word.to_owned(), told.clone())).into();
    Constraint::Form(Form::Text { free: Free::Answer, until })
}

#[test]
fn free_text_goes_on_to_the_last_token_unless_a_mark_comes() {
    let mut engine = engine(true, 8192);
    let all: Vec<Events> =
        (0..24).map(|seed| submit(&mut engine, constrained(after_a_word(), seed))).collect();
    run(&mut engine);
    let (mut n_marked, mut n_cut) = (0, 0);
    for events in all {
        let (text, reason) = answer(&events);
        let marked =
            [" she", " dog"].iter().filter_map(|word| text.split_once(word)).min_by_key(|(a, _)| a.len());
        match marked {
            Some((_, told)) => {
                assert!([": \"Ada\"", ": \"Bo\""].contains(&told), "{text}");
                assert_eq!(reason, FinishReason::Stop);
                n_marked += 1;
            }
            None if reason == FinishReason::Length => {
                assert_eq!(tokens(&events)[0].len(), 120, "it is not wound up: {text}");
                n_cut += 1;
            }
            None => {}
        }
    }
    assert!(n_marked > 2 && n_cut > 2, "{n_marked} marked, {n_cut} cut");
}

#[test]
fn finished_answers_are_valid() {
    let mut engine = engine(true, 4096);
    let all: Vec<Events> = (0..20)
        .map(|seed| submit(&mut engine, constrained(Constraint::JsonSchema(schema()), seed)))
        .collect();
    run(&mut engine);
    let mut n_finished = 0;
    for events in all {
        let (text, reason) = answer(&events);
        if reason != FinishReason::Stop {
            continue;
        }
        n_finished += 1;
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(value["name"].as_str().unwrap().chars().count() <= 12, "{text}");
        assert!(["cat", "dog", "bird"].contains(&value["kind"].as_str().unwrap()), "{text}");
        assert!(value["age"].as_u64().unwrap() <= 99, "{text}");
        assert!(value["friends"].as_array().unwrap().len() <= 2, "{text}");
        assert_eq!(value.as_object().unwrap().len(), 4, "{text}");
    }
    assert!(n_finished >= 18, "{n_finished} of 20");
}

#[test]
fn answers_are_the_same_alone_together_guessed_preempted_and_without_jumps() {
    let all: Vec<Sampling> = constraints()
        .into_iter()
        .flat_map(|constraint| (0..3).map(move |seed| constrained(constraint.clone(), seed)))
        .collect();
    let alone: Vec<_> = all
        .iter()
        .map(|sampling| {
            let mut engine = engine(false, 4096);
            let events = submit(&mut engine, sampling.clone());
            run(&mut engine);
            tokens(&events)
        })
        .collect();
    let mut n_preemptions = 0;
    for (guesses, n_positions) in [(false, 4096), (true, 4096), (true, 512)] {
        let mut engine = engine(guesses, n_positions);
        let together: Vec<_> = all.iter().map(|sampling| submit(&mut engine, sampling.clone())).collect();
        run(&mut engine);
        assert_eq!(together.iter().map(tokens).collect::<Vec<_>>(), alone, "{guesses}, {n_positions}");
        n_preemptions += engine.counts().n_preemptions;
    }
    assert!(n_preemptions > 0);
    // Who asks for log-probabilities gets every token's, and so every token is drawn.
    let mut engine = engine(false, 4096);
    let drawn: Vec<_> = all
        .iter()
        .map(|sampling| submit(&mut engine, Sampling { logprobs: Some(0), ..sampling.clone() }))
        .collect();
    run(&mut engine);
    for (events, expected) in drawn.iter().zip(&alone) {
        assert_eq!(&tokens(events), expected);
        let events = events.lock().unwrap();
        let has_logprob = |event: &GenerateEvent| match event {
            GenerateEvent::Token(token) => token.id.is_none() || token.logprob.is_some(),
            _ => true,
        };
        assert!(events.iter().all(has_logprob));
    }
}

#[test]
fn a_document_is_wound_up_when_the_tokens_run_out() {
    let open = json!({
        "type": "object",
        "properties": {
            "story": {"type": "string"},
            "people": {"type": "array", "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                "required": ["name", "age"],
                "additionalProperties": false
            }},
            "mood": {"enum": ["good", "bad"]}
        },
        "required": ["story", "people", "mood"],
        "additionalProperties": {"type": "string"}
    });
    let mut engine = engine(true, 4096);
    let mut all = Vec::new();
    for seed in 0..20 {
        for max_tokens in [60, 120] {
            let constraint = Constraint::JsonSchema(open.clone());
            all.push(submit(
                &mut engine,
                Sampling { max_tokens: Some(max_tokens), ..constrained(constraint, seed) },
            ));
        }
    }
    run(&mut engine);
    let mut n_cut = 0;
    for events in all {
        let (text, reason) = answer(&events);
        match reason {
            FinishReason::Stop => drop(serde_json::from_str::<Value>(&text).unwrap()),
            _ => n_cut += 1,
        }
    }
    assert!(n_cut <= 1, "{n_cut} of 40");
}

#[test]
fn forced_tokens_take_no_steps_of_their_own() {
    let fixed = json!({
        "type": "object",
        "properties": {"a_rather_long_name_of_a_field": {"type": "boolean"}, "another_rather_long_name": {"type": "boolean"}},
        "required": ["a_rather_long_name_of_a_field", "another_rather_long_name"],
        "additionalProperties": false
    });
    let mut engine = engine(false, 4096);
    let events = submit(&mut engine, constrained(Constraint::JsonSchema(fixed), 1));
    run(&mut engine);
    let (n_tokens, n_steps) = (usage(&events).completion_tokens, engine.counts().n_steps as usize);
    assert!(n_steps <= 6 && n_tokens > 3 * n_steps, "{n_tokens} tokens in {n_steps} steps");
}

#[test]
fn several_answers_follow_their_constraint_each_for_itself() {
    let mut engine = engine(true, 4096);
    let sampling = Sampling { n: 4, ..constrained(Constraint::JsonSchema(schema()), 3) };
    let several = submit(&mut engine, sampling.clone());
    run(&mut engine);
    let one = submit(&mut engine, Sampling { n: 1, ..sampling });
    run(&mut engine);
    let (several, one) = (tokens(&several), tokens(&one));
    assert_eq!(several[0], one[0]);
    assert_ne!(several[0], several[1]);
}

#[test]
fn what_cannot_be_compiled_is_refused_by_name() {
    let mut engine = engine(false, 4096);
    let mut refuse = |sampling: Sampling, expected: &str| {
        let (token_ids, sink) = (vec![1, 2, 3], Box::new(|_| {}));
        let request = Request { token_ids, sampling, sink, schedule: Schedule::default(), adapter: None };
        match engine.submit(request).unwrap_err() {
            ModelError::InvalidRequest { field, message } => {
                assert_eq!(field, "sampling.constraint");
                assert!(message.contains(expected), "{message}");
            }
            other => panic!("{other}"),
        }
    };
    refuse(constrained(Constraint::JsonSchema(json!({"uniqueItems": true})), 1), "uniqueItems");
    refuse(constrained(Constraint::Regex("(".into()), 1), "regex");
    let beam = wootz_text::Search::Beam(wootz_text::Beam::default());
    refuse(Sampling { search: beam, ..constrained(Constraint::Regex("a".into()), 1) }, "search");
}
