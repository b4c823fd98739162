//! Structured answers at temperature 1: how many schemas compile, whether answers are valid and complete, what masks cost.
//!
//! Where:  `cargo bench -p wootz-engine --bench masks -- [DOCUMENTS.jsonl]`; `golden/check_documents.py` reads the file.
//! Idea:   300 schemas are put together from what APIs use, nested in each other by a fixed seed; the small model answers
//!         each with three seeds. Then a fresh guide walks each answer and its masks are timed one by one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use wootz_engine::{Engine, LoadOptions, Request, Schedule, load};
use wootz_graph::Cpu;
use wootz_model::Model;
use wootz_text::{Constraint, FinishReason, GenerateEvent, ModelError, Sampling};

const N_SCHEMAS: usize = 300;
const N_SEEDS: u64 = 3;
const MAX_TOKENS: usize = 512;

type Events = Arc<Mutex<Vec<GenerateEvent>>>;

fn main() {
    let out = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wootz/assets/wootz-small.gguf");
    let model = Model::open(&path).expect("the small model lies in the repository");
    let options = LoadOptions { n_sequences: 16, max_context: Some(1024), ..LoadOptions::default() };
    let (mut engine, _) = load(&model, &Cpu::new(2), &options).expect("the small model loads");
    let mut rng = Rng(7);
    let schemas: Vec<Value> = (0..N_SCHEMAS).map(|_| object(&mut rng, 0)).collect();

    let (mut refused, mut asked) = (BTreeMap::<String, usize>::new(), Vec::new());
    let mut compile_times = Vec::new();
    for schema in &schemas {
        let start = Instant::now();
        let compiled = engine.grammars().compile(&Constraint::JsonSchema(schema.clone()));
        compile_times.push(start.elapsed());
        match compiled {
            Ok(_) => asked.extend((0..N_SEEDS).map(|seed| (schema, seed))),
            Err(error) => *refused.entry(error.to_string()).or_default() += 1,
        }
    }
    let start = Instant::now();
    let answers: Vec<(Vec<u32>, FinishReason)> = answer_all(&mut engine, &asked);
    let seconds = start.elapsed().as_secs_f64();

    let n_refused: usize = refused.values().sum();
    println!("{} of {N_SCHEMAS} schemas compile, mean {:.0} µs", N_SCHEMAS - n_refused, mean(&compile_times));
    refused.iter().for_each(|(why, n)| println!("  {n:>3} × {why}"));
    let n_cut = answers.iter().filter(|(_, reason)| *reason == FinishReason::Length).count();
    let n_tokens: usize = answers.iter().map(|(ids, _)| ids.len()).sum();
    println!(
        "{} answers, {n_tokens} tokens in {seconds:.1} s; {n_cut} ran into the limit of {MAX_TOKENS} ({:.1} %)",
        answers.len(),
        100.0 * n_cut as f64 / answers.len() as f64
    );
    let (times, n_forced) = time_masks(&engine, &asked, &answers);
    println!(
        "masks: mean {:.1} µs, worst {:.0} µs, {} masks; {n_forced} tokens were forced",
        mean(&times),
        times.iter().max().map_or(0.0, |time| time.as_secs_f64() * 1e6),
        times.len()
    );
    if let Some(out) = out {
        let tokenizer = engine.tokenizer().expect("it has one");
        let mut file = std::fs::File::create(out).expect("the file can be written");
        for ((schema, seed), (ids, reason)) in asked.iter().zip(&answers) {
            let text = tokenizer.decode(ids, true);
            let line =
                json!({"schema": schema, "seed": seed, "text": text, "finish_reason": reason.as_str()});
            writeln!(file, "{line}").expect("the disk has room");
        }
    }
}

fn mean(times: &[Duration]) -> f64 {
    times.iter().map(Duration::as_secs_f64).sum::<f64>() * 1e6 / times.len().max(1) as f64
}

fn time_masks(
    engine: &Engine,
    asked: &[(&Value, u64)],
    answers: &[(Vec<u32>, FinishReason)],
) -> (Vec<Duration>, usize) {
    let (mut times, mut n_forced) = (Vec::new(), 0);
    for ((schema, _), (token_ids, _)) in asked.iter().zip(answers) {
        let grammar = engine.grammars().compile(&Constraint::JsonSchema((*schema).clone()));
        let mut guide = grammar.expect("it compiled before").guide();
        for &id in token_ids {
            n_forced += usize::from(!guide.clone().forced().is_empty());
            let start = Instant::now();
            guide.mask().expect("the answer was made with it");
            times.push(start.elapsed());
            guide.accept(id).expect("the answer was made with it");
        }
    }
    (times, n_forced)
}

fn answer_all(engine: &mut Engine, asked: &[(&Value, u64)]) -> Vec<(Vec<u32>, FinishReason)> {
    let prompt = engine.tokenizer().expect("it has one").encode("Once upon a time", true, true);
    let submit = |(schema, seed): &(&Value, u64)| -> Events {
        let sampling = Sampling {
            constraint: Some(Constraint::JsonSchema((*schema).clone())),
            max_tokens: Some(MAX_TOKENS),
            seed: Some(*seed),
            ..Sampling::default()
        };
        let events = Events::default();
        let writer = events.clone();
        let sink = Box::new(move |event| writer.lock().expect("one thread").push(event));
        let request = Request {
            token_ids: prompt.clone(),
            sampling,
            sink,
            schedule: Schedule::default(),
            adapter: None,
        };
        let submitted: Result<(), ModelError> = engine.submit(request);
        submitted.expect("the schema compiled before");
        events
    };
    let all: Vec<Events> = asked.iter().map(submit).collect();
    while engine.has_work() {
        engine.step().expect("the model runs");
    }
    all.iter().map(read).collect()
}

fn read(events: &Events) -> (Vec<u32>, FinishReason) {
    let (mut ids, mut ended) = (Vec::new(), FinishReason::Stop);
    for event in events.lock().expect("one thread").iter() {
        match event {
            GenerateEvent::Token(token) => ids.extend(token.id),
            GenerateEvent::Finished { reason, .. } => ended = *reason,
            GenerateEvent::Usage(_) => {}
            GenerateEvent::Error(error) => panic!("{error:?}"),
        }
    }
    (ids, ended)
}

/// Numbers that look random and are the same everywhere.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

const NAMES: [&str; 14] = [
    "id",
    "name",
    "email",
    "created_at",
    "tags",
    "price",
    "address",
    "status",
    "items",
    "user",
    "score",
    "notes",
    "parent",
    "options",
];

/// An object with a few fields of all kinds.
fn object(rng: &mut Rng, depth: usize) -> Value {
    let n_fields = 2 + rng.below(4);
    let first = rng.below(NAMES.len());
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for i in 0..n_fields {
        let name = NAMES[(first + i * 3) % NAMES.len()];
        properties.insert(name.to_owned(), field(rng, depth));
        if rng.below(4) > 0 && !required.contains(&name) {
            required.push(name);
        }
    }
    let mut schema = json!({"type": "object", "properties": properties, "required": required});
    match rng.below(6) {
        0 => schema["additionalProperties"] = json!({"type": "string", "maxLength": 10}),
        1 if depth == 0 => schema["description"] = "what a tool takes".into(),
        _ => schema["additionalProperties"] = false.into(),
    }
    if depth == 0 {
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
        schema["$defs"] = json!({
            "money": {"type": "object", "properties": {"amount": {"type": "number", "minimum": 0}, "currency": {"enum": ["EUR", "USD"]}}, "required": ["amount", "currency"], "additionalProperties": false},
            "tree": {"type": "object", "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}}, "required": ["value"], "additionalProperties": false},
        });
    }
    schema
}

fn field(rng: &mut Rng, depth: usize) -> Value {
    let most = if depth < 2 { 36 } else { 27 };
    match rng.below(most) {
        0 => json!({"type": "string"}),
        1 => json!({"type": "string", "maxLength": 20}),
        2 => json!({"type": "string", "minLength": 3, "maxLength": 12, "description": "a short text"}),
        3 => json!({"type": "string", "pattern": "^[A-Z]{2,3}-[0-9]{4}$"}),
        4 => json!({"type": "string", "pattern": "^(/[a-z]+)+$"}),
        5 => json!({"type": "string", "format": "date-time"}),
        6 => json!({"type": "string", "format": "email"}),
        7 => json!({"type": "string", "format": "uuid"}),
        8 => json!({"type": "string", "format": "date"}),
        9 => json!({"type": "string", "format": "ipv4"}),
        10 => json!({"type": "integer"}),
        11 => json!({"type": "integer", "minimum": 1, "maximum": 100}),
        12 => json!({"type": "integer", "exclusiveMinimum": 0}),
        13 => json!({"type": "number", "minimum": -1.5, "maximum": 1.5}),
        14 => json!({"type": "number"}),
        15 => json!({"type": "integer", "multipleOf": 5}),
        16 => json!({"type": "boolean", "default": true}),
        17 => json!({"type": ["string", "null"], "maxLength": 15}),
        18 => json!({"enum": ["low", "middle", "high", 1, null]}),
        19 => json!({"const": "fixed"}),
        20 => json!({"anyOf": [{"type": "string", "maxLength": 8}, {"type": "integer"}, {"type": "null"}]}),
        21 => json!({"oneOf": [{"type": "string", "maxLength": 8}, {"type": "boolean"}]}),
        22 => json!({"$ref": "#/$defs/money"}),
        23 => json!({"$ref": "#/$defs/tree"}),
        24 => json!({"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 30}]}),
        25 => {
            json!({"type": "array", "items": {"type": "string", "maxLength": 10}, "minItems": 1, "maxItems": 4})
        }
        26 if rng.below(4) == 0 => {
            json!({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": true})
        }
        26 => json!({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": false}),
        27 => json!({"type": "array", "items": {"type": "number"}}),
        28 => {
            json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string", "maxLength": 6}], "items": false, "minItems": 2})
        }
        29 => json!({"type": "array", "items": object(rng, depth + 1), "maxItems": 2}),
        30 => json!({"anyOf": [object(rng, depth + 1), {"type": "null"}]}),
        31 => json!({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3}),
        32 => {
            json!({"type": "object", "patternProperties": {"^x_[a-z]{1,4}$": {"type": "boolean"}}, "additionalProperties": false})
        }
        _ => object(rng, depth + 1),
    }
}
