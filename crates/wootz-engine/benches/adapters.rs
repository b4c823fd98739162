//! What adapters cost: eight streams without, with one, and with four different ones, in turn over the same engine.
//!
//! Where:  `cargo bench -p wootz-engine --bench adapters -- MODEL.gguf [RANK] [TOKENS]`; random weights do
//!         (`wootz bench --random llama-1b --save MODEL.gguf`).
//! Idea:   adapters of random numbers at every linear layer of the blocks, stored in bf16, as trainers write them.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use wootz_engine::{AdapterId, Engine, LoadOptions, Request, Schedule, load};
use wootz_graph::{Addition, Cpu, HostTensor, ParamKind, Site};
use wootz_kernels::TensorType;
use wootz_model::{Model, Network};
use wootz_text::{GenerateEvent, Sampling};

const N_STREAMS: usize = 8;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let Some(path) = args.next() else {
        println!("usage: cargo bench -p wootz-engine --bench adapters -- MODEL.gguf [RANK] [TOKENS]");
        return;
    };
    let mut number = |default: usize| args.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rank, n_tokens) = (number(16), number(48));
    let model = Model::open(path.as_ref()).expect("a model");
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let options = LoadOptions {
        n_sequences: N_STREAMS,
        max_context: Some(1024),
        keeps_prefixes: false,
        guesses: false,
        ..LoadOptions::default()
    };
    let mut engine = load(&model, &Cpu::new(n_threads), &options).expect("a decoder").0;
    let adapters: Vec<AdapterId> = (0..4)
        .map(|seed| engine.load_adapter(&adapter(&model.network, rank, seed)).expect("it fits"))
        .collect();
    let cases: [(&str, Vec<Option<AdapterId>>); 4] = [
        ("none", vec![None]),
        ("one for all", vec![Some(adapters[0])]),
        ("one and none by turns", vec![Some(adapters[0]), None]),
        ("four, two streams each", adapters.iter().map(|id| Some(*id)).collect()),
    ];
    println!(
        "rank {rank}, {N_STREAMS} streams of {n_tokens} tokens, {n_threads} threads; best of 3 by turns"
    );
    let mut best = [[f64::INFINITY; 2]; 4];
    for _ in 0..3 {
        for (best, (_, whose)) in best.iter_mut().zip(&cases) {
            let seconds = run(&mut engine, whose, n_tokens);
            best.iter_mut().zip(seconds).for_each(|(best, seconds)| *best = best.min(seconds));
        }
    }
    for (seconds, (name, _)) in best.iter().zip(&cases) {
        let slower = |i: usize| 100.0 * (seconds[i] / best[0][i] - 1.0);
        println!(
            "{name:>22}: prompts of 8 × 64 {:7.1} ms ({:+5.1} %), a step {:6.2} ms ({:+5.1} %)",
            1e3 * seconds[0],
            slower(0),
            1e3 * seconds[1],
            slower(1)
        );
    }
}

/// A product at every linear layer of the blocks.
fn adapter(network: &Network, rank: usize, seed: u64) -> Vec<Addition> {
    let mut state = seed + 1;
    let mut matrix = |n: usize| {
        let mut bytes = Vec::with_capacity(2 * n);
        for _ in 0..n {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // A bf16 between ±2⁻⁸ and ±2⁻⁷.
            let bits = 0x3b80 | (state >> 57) as u16 | ((state >> 48) as u16 & 0x8000);
            bytes.extend_from_slice(&bits.to_le_bytes());
        }
        HostTensor { ty: TensorType::BF16, bytes: bytes.into() }
    };
    let layers = network
        .params
        .iter()
        .filter(|(_, spec)| spec.kind == ParamKind::Matrix && spec.name.starts_with("layers."));
    layers
        .map(|(param, spec)| {
            let [n, k] = [spec.shape[0], spec.shape[1]];
            let (a, b, site) = (matrix(rank * k), matrix(n * rank), Site::Linear(param));
            Addition { site, shape: [n, k], rank, scale: 1.0, a, b, gain: None, shift: None }
        })
        .collect()
}

/// Seconds of the step that takes all prompts, and of a step after it.
fn run(engine: &mut Engine, whose: &[Option<AdapterId>], n_tokens: usize) -> [f64; 2] {
    let vocab_size = engine.door().vocab_size as u32;
    let n_events: Arc<Mutex<usize>> = Arc::default();
    for stream in 0..N_STREAMS {
        let token_ids = (0..64).map(|i| (i * 7919 + stream as u32 * 104_729 + 11) % vocab_size).collect();
        let n_events = n_events.clone();
        let sink = Box::new(move |event| {
            *n_events.lock().expect("one thread") += usize::from(matches!(event, GenerateEvent::Token(_)));
        });
        let sampling = Sampling { max_tokens: Some(n_tokens), ignore_eos: true, ..Sampling::greedy() };
        let adapter = whose[stream % whose.len()];
        let request = Request { token_ids, sampling, sink, schedule: Schedule::default(), adapter };
        engine.submit(request).expect("the request is valid");
    }
    let start = Instant::now();
    engine.step().expect("the model runs");
    let prompts = start.elapsed().as_secs_f64();
    let start = Instant::now();
    while engine.has_work() {
        engine.step().expect("the model runs");
    }
    let steps = start.elapsed().as_secs_f64() / (n_tokens - 1) as f64;
    assert_eq!(*n_events.lock().expect("one thread"), N_STREAMS * n_tokens);
    [prompts, steps]
}
