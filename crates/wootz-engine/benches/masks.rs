//! What a mask costs: schemas as APIs use them, walked by the small model's own answers at temperature 1.
//!
//! Where:  `cargo bench -p wootz-engine --bench masks`.
//! Idea:   answers are made once; then a fresh guide walks each of them and its masks are timed one by one.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wootz_engine::{Engine, LoadOptions, Request, Schedule, load};
use wootz_graph::Cpu;
use wootz_model::Model;
use wootz_text::{Constraint, FinishReason, GenerateEvent, Sampling};

fn main() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wootz/assets/wootz-small.gguf");
    let model = Model::open(&path).expect("the small model lies in the repository");
    let options = LoadOptions { n_sequences: 16, ..LoadOptions::default() };
    let (mut engine, _) = load(&model, &Cpu::new(2), &options).expect("the small model loads");
    let (mut all, mut compiles, mut forced) = (Vec::new(), Vec::new(), (0, 0));
    let mut n_cut = 0;
    for (name, schema) in schemas() {
        let constraint = Constraint::JsonSchema(schema);
        let answers = (0..10).map(|seed| answer(&mut engine, &constraint, seed));
        let answers: Vec<(Vec<u32>, FinishReason)> = answers.collect();
        let start = Instant::now();
        let grammar = engine.grammars().compile(&constraint).expect("it compiled before");
        compiles.push(start.elapsed());
        let mut times = Vec::new();
        for (token_ids, reason) in &answers {
            n_cut += usize::from(*reason == FinishReason::Length);
            let mut guide = grammar.guide();
            for &id in token_ids {
                let is_forced = !guide.clone().forced().is_empty();
                let start = Instant::now();
                guide.mask().expect("the answer was made with it");
                times.push(start.elapsed());
                guide.accept(id).expect("the answer was made with it");
                forced.0 += usize::from(is_forced);
                forced.1 += 1;
            }
        }
        println!(
            "{name:>12}: mean {:>6.1} µs, worst {:>7.1} µs, {} masks",
            mean(&times),
            worst(&times),
            times.len()
        );
        all.extend(times);
    }
    println!(
        "{:>12}: mean {:>6.1} µs, worst {:>7.1} µs, {} masks",
        "all",
        mean(&all),
        worst(&all),
        all.len()
    );
    println!(
        "{} of {} tokens are forced; {n_cut} answers of {} ran into the limit",
        forced.0,
        forced.1,
        10 * schemas().len()
    );
}

fn mean(times: &[Duration]) -> f64 {
    times.iter().map(Duration::as_secs_f64).sum::<f64>() * 1e6 / times.len().max(1) as f64
}

fn worst(times: &[Duration]) -> f64 {
    times.iter().max().map_or(0.0, Duration::as_secs_f64) * 1e6
}

fn answer(engine: &mut Engine, constraint: &Constraint, seed: u64) -> (Vec<u32>, FinishReason) {
    let token_ids = engine.tokenizer().expect("it has one").encode("Once upon a time", true, true);
    let sampling = Sampling {
        constraint: Some(constraint.clone()),
        max_tokens: Some(200),
        seed: Some(seed),
        ..Sampling::default()
    };
    let events: Arc<Mutex<Vec<GenerateEvent>>> = Arc::default();
    let writer = events.clone();
    let sink = Box::new(move |event| writer.lock().expect("one thread").push(event));
    let request = Request { token_ids, sampling, sink, schedule: Schedule::default() };
    engine.submit(request).expect("the request is valid");
    while engine.has_work() {
        engine.step().expect("the model runs");
    }
    let (mut ids, mut ended) = (Vec::new(), FinishReason::Stop);
    for event in events.lock().expect("one thread").iter() {
        match event {
            GenerateEvent::Token(token) => ids.extend(token.id),
            GenerateEvent::Finished { reason, .. } => ended = *reason,
            _ => {}
        }
    }
    (ids, ended)
}

fn schemas() -> Vec<(&'static str, Value)> {
    let text = json!({"type": "string", "maxLength": 40});
    let person = json!({
        "type": "object",
        "properties": {"name": text, "email": {"type": "string", "format": "email"}, "age": {"type": "integer", "minimum": 0, "maximum": 130}},
        "required": ["name", "age"],
        "additionalProperties": false
    });
    let call = json!({
        "type": "object",
        "properties": {
            "tool": {"enum": ["search", "open", "close"]},
            "arguments": {"anyOf": [
                {"type": "object", "properties": {"query": text, "limit": {"type": "integer"}}, "required": ["query"], "additionalProperties": false},
                {"type": "object", "properties": {"path": {"type": "string", "pattern": "^(/[a-z]{1,8}){1,4}$"}}, "required": ["path"], "additionalProperties": false}
            ]}
        },
        "required": ["tool", "arguments"],
        "additionalProperties": false
    });
    let nested = json!({
        "$defs": {"person": person},
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "when": {"type": "string", "format": "date-time"},
            "people": {"type": "array", "items": {"$ref": "#/$defs/person"}, "minItems": 1, "maxItems": 3},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "note": {"anyOf": [text, {"type": "null"}]}
        },
        "required": ["id", "when", "people", "score", "note"],
        "additionalProperties": false
    });
    let free = json!({"type": "object", "maxProperties": 3, "additionalProperties": {"type": ["string", "number", "boolean"]}});
    vec![("person", person), ("call", call), ("nested", nested), ("free", free)]
}
