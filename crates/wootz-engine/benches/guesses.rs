//! What guessing gains: an answer that repeats itself and one that does not, by number of streams.
//!
//! Where:  `cargo bench -p wootz-engine --bench guesses -- MODEL.gguf [TOKENS]`; a model of real size, random weights do
//!         (`wootz bench --random llama-1b --save MODEL.gguf`).
//! Idea:   greedy answers of random weights run into circles, which is copying; at temperature 1 nothing repeats. With and
//!         without guesses run in turn over the same requests, and must say the same.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use wootz_engine::{Engine, LoadOptions, Request, Schedule, load};
use wootz_graph::Cpu;
use wootz_model::Model;
use wootz_text::{GenerateEvent, Sampling, Usage};

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let Some(path) = args.next() else {
        println!("usage: cargo bench -p wootz-engine --bench guesses -- MODEL.gguf [TOKENS]");
        return;
    };
    let n_tokens: usize = args.next().and_then(|text| text.parse().ok()).unwrap_or(128);
    let model = Model::open(path.as_ref()).expect("a model");
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let options = LoadOptions {
        n_sequences: 8,
        max_context: Some(1024),
        keeps_prefixes: false,
        ..LoadOptions::default()
    };
    let engine = |guesses: bool| {
        let options = LoadOptions { guesses, ..options };
        load(&model, &Cpu::new(n_threads), &options).expect("a decoder").0
    };
    let (mut plain, mut guessing) = (engine(false), engine(true));
    println!("{n_tokens} tokens a stream, {n_threads} threads; tok/s without → with guesses");
    for n_streams in [1, 2, 4, 8] {
        for (task, temperature) in [("copies", 0.0), ("does not copy", 1.0)] {
            let (mut before, mut after) = (f64::INFINITY, f64::INFINITY);
            let mut usage = Usage::default();
            for _ in 0..2 {
                let (seconds, tokens, _) = run(&mut plain, n_streams, n_tokens, temperature);
                before = before.min(seconds);
                let (seconds, same, counted) = run(&mut guessing, n_streams, n_tokens, temperature);
                after = after.min(seconds);
                usage = counted;
                assert_eq!(tokens, same, "guessing changes nothing");
            }
            let per_s = |seconds: f64| (n_streams * n_tokens) as f64 / seconds;
            println!(
                "{n_streams} streams, {task:>13}: {:6.1} → {:6.1}, {:4.2}×; {} of {} guessed tokens were right ({:.2})",
                per_s(before),
                per_s(after),
                before / after,
                usage.right_tokens,
                usage.guessed_tokens,
                usage.right_tokens as f64 / f64::max(1.0, usage.guessed_tokens as f64),
            );
        }
    }
}

/// Seconds, tokens, and what was guessed.
fn run(
    engine: &mut Engine,
    n_streams: usize,
    n_tokens: usize,
    temperature: f32,
) -> (f64, Vec<Vec<u32>>, Usage) {
    let vocab_size = engine.door().vocab_size as u32;
    let mut all = Vec::new();
    for stream in 0..n_streams as u32 {
        let token_ids = (0..32).map(|i| (i * 7919 + stream * 104_729 + 11) % vocab_size).collect();
        let events: Arc<Mutex<Vec<GenerateEvent>>> = Arc::default();
        let writer = events.clone();
        let sink = Box::new(move |event| writer.lock().expect("one thread").push(event));
        let sampling = Sampling {
            temperature,
            max_tokens: Some(n_tokens),
            ignore_eos: true,
            seed: Some(u64::from(stream)),
            ..Sampling::default()
        };
        let request = Request { token_ids, sampling, sink, schedule: Schedule::default(), adapter: None };
        engine.submit(request).expect("the request is valid");
        all.push(events);
    }
    let start = Instant::now();
    while engine.has_work() {
        engine.step().expect("the model runs");
    }
    let seconds = start.elapsed().as_secs_f64();
    let (mut tokens, mut total) = (Vec::new(), Usage::default());
    for events in all {
        let mut ids = Vec::new();
        for event in events.lock().expect("one thread").iter() {
            match event {
                GenerateEvent::Token(token) => ids.extend(token.id),
                GenerateEvent::Usage(usage) => {
                    total.guessed_tokens += usage.guessed_tokens;
                    total.right_tokens += usage.right_tokens;
                }
                _ => {}
            }
        }
        tokens.push(ids);
    }
    (seconds, tokens, total)
}
