//! The engine over a tiny random Llama: what a request gets does not depend on how it was run.

mod adapters;
mod constraints;
mod host;
mod scheduling;

use std::sync::{Arc, Mutex};

use wootz_engine::{BLOCK_LEN, Engine, EngineOptions, Request, Runner, RunnerOptions, Schedule};
use wootz_graph::{Cpu, Device, HostTensor, ParamSpec};
use wootz_kernels::{TensorType, cast};
use wootz_model::{Hf, Network, config_from_hf};
use wootz_text::{Beam, Contrastive, FinishReason, GenerateEvent, ModelError, Sampling, Search, Usage};

/// Numbers that look random and are the same everywhere.
fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    })
}

fn network() -> Arc<Network> {
    let json = br#"{"model_type": "llama", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}"#;
    let hf = Hf::parse("config.json", json).unwrap();
    Arc::new(Network::declare(config_from_hf(&hf).unwrap()))
}

fn tensor(spec: &ParamSpec) -> wootz_graph::Result<HostTensor<'static>> {
    let seed = spec.name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
    let numbers: Vec<f32> = noise(seed).take(spec.n_elements()).collect();
    Ok(HostTensor { ty: TensorType::F32, bytes: cast::bytes_of(&numbers).to_vec().into() })
}

fn engine(chunk: usize, n_threads: usize, kv_type: TensorType) -> Engine {
    Setup { chunk, n_threads, kv_type, ..Setup::default() }.engine()
}

/// What may differ between two runs that must give the same tokens.
#[derive(Clone, Copy, Debug)]
struct Setup {
    chunk: usize,
    n_threads: usize,
    kv_type: TensorType,
    n_blocks: usize,
    max_sequences: usize,
    max_context: usize,
    keeps_prefixes: bool,
    guesses: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            chunk: 512,
            n_threads: 1,
            kv_type: TensorType::F32,
            n_blocks: 64,
            max_sequences: 16,
            max_context: 256,
            keeps_prefixes: false,
            guesses: false,
        }
    }
}

impl Setup {
    fn runner(self) -> Runner {
        let network = network();
        let device = Cpu::new(self.n_threads);
        let weights = device.load(&network.params, &tensor).unwrap();
        let options = RunnerOptions {
            n_positions: self.n_blocks * BLOCK_LEN,
            n_slots: self.max_sequences,
            kv_type: self.kv_type,
        };
        let runner = Runner::new(network, &device as &dyn Device, &weights, options).unwrap();
        if self.keeps_prefixes { runner.keep_prefixes() } else { runner }
    }

    fn engine(self) -> Engine {
        let options = EngineOptions {
            max_context: self.max_context,
            max_batch_tokens: self.chunk,
            max_sequences: self.max_sequences,
        };
        let engine = Engine::new(self.runner(), None, &[2], options);
        if self.guesses { engine.with_guessing() } else { engine }
    }
}

type Events = Arc<Mutex<Vec<GenerateEvent>>>;

fn submit(engine: &mut Engine, prompt: &[u32], sampling: Sampling) -> Events {
    submit_at(engine, prompt, sampling, 0)
}

fn submit_at(engine: &mut Engine, prompt: &[u32], sampling: Sampling, priority: i32) -> Events {
    let events = Events::default();
    let writer = events.clone();
    let sink = Box::new(move |event| writer.lock().unwrap().push(event));
    let schedule = Schedule { priority, ..Schedule::default() };
    engine.submit(Request { token_ids: prompt.to_vec(), sampling, sink, schedule, adapter: None }).unwrap();
    events
}

/// Token ids of each choice.
fn tokens(events: &Events) -> Vec<Vec<u32>> {
    let mut choices: Vec<Vec<u32>> = Vec::new();
    for event in events.lock().unwrap().iter() {
        if let GenerateEvent::Token(token) = event {
            choices.resize_with(choices.len().max(token.choice + 1), Vec::new);
            choices[token.choice].extend(token.id);
        }
    }
    choices
}

fn usage(events: &Events) -> Usage {
    match events.lock().unwrap().last() {
        Some(GenerateEvent::Usage(usage)) => *usage,
        other => panic!("expected the usage at the end, got {other:?}"),
    }
}

fn run(engine: &mut Engine) {
    while engine.has_work() {
        engine.step().unwrap();
    }
}

fn sampling(seed: u64, n: usize) -> Sampling {
    Sampling { max_tokens: Some(40), ignore_eos: true, seed: Some(seed), n, ..Sampling::default() }
}

fn prompts() -> Vec<Vec<u32>> {
    (0..5u64)
        .map(|i| noise(i + 3).take(9 + 17 * i as usize).map(|x| ((x + 0.5) * 61.0) as u32).collect())
        .collect()
}

#[test]
fn tokens_do_not_depend_on_chunks_threads_or_neighbours() {
    for kv_type in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        let alone: Vec<_> = prompts()
            .iter()
            .map(|prompt| {
                let mut engine = engine(512, 1, kv_type);
                let events = submit(&mut engine, prompt, sampling(1, 1));
                run(&mut engine);
                tokens(&events)
            })
            .collect();
        for (chunk, n_threads) in [(6, 1), (7, 2), (64, 2), (512, 2)] {
            let mut engine = engine(chunk, n_threads, kv_type);
            let all: Vec<_> = prompts().iter().map(|p| submit(&mut engine, p, sampling(1, 1))).collect();
            run(&mut engine);
            let together: Vec<_> = all.iter().map(tokens).collect();
            assert_eq!(together, alone, "chunk {chunk}, {n_threads} threads, {kv_type}");
        }
    }
}

#[test]
fn several_answers_are_those_of_several_requests_and_free_everything() {
    let mut engine = engine(512, 1, TensorType::F32);
    let free = engine.runner().n_free_positions();
    let prompt = &prompts()[3];
    let three = submit(&mut engine, prompt, sampling(9, 3));
    run(&mut engine);
    let one = submit(&mut engine, prompt, sampling(9, 1));
    run(&mut engine);
    assert_eq!(tokens(&three)[0], tokens(&one)[0]);
    assert_ne!(tokens(&three)[0], tokens(&three)[1], "choices draw for themselves");
    assert_eq!(engine.runner().n_free_positions(), free);
}

#[test]
fn searches_without_a_choice_are_greedy() {
    let greedy = Sampling { max_tokens: Some(40), ignore_eos: true, ..Sampling::greedy() };
    let beam = Search::Beam(Beam { num_beams: 1, ..Beam::default() });
    let contrastive = Search::Contrastive(Contrastive { penalty_alpha: 0.0, top_k: 4 });
    for prompt in prompts() {
        let mut engine = engine(7, 1, TensorType::F32);
        let free = engine.runner().n_free_positions();
        let expected = submit(&mut engine, &prompt, greedy.clone());
        let others: Vec<_> = [beam, contrastive]
            .into_iter()
            .map(|search| submit(&mut engine, &prompt, Sampling { search, ..greedy.clone() }))
            .collect();
        run(&mut engine);
        for events in others {
            assert_eq!(tokens(&events), tokens(&expected));
        }
        assert_eq!(engine.runner().n_free_positions(), free);
    }
}

#[test]
fn a_wider_beam_finds_a_likelier_answer() {
    let mut engine = engine(64, 1, TensorType::F32);
    let mut total = |num_beams: usize| {
        let search = Search::Beam(Beam { num_beams, ..Beam::default() });
        let sampling = Sampling {
            search,
            max_tokens: Some(12),
            ignore_eos: true,
            logprobs: Some(0),
            ..Sampling::default()
        };
        let events = submit(&mut engine, &prompts()[2], sampling);
        run(&mut engine);
        let events = events.lock().unwrap();
        events
            .iter()
            .filter_map(|event| match event {
                GenerateEvent::Token(token) => token.logprob,
                _ => None,
            })
            .sum::<f32>()
    };
    assert!(total(8) > total(1));
}

#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let mut engine = engine(64, 1, TensorType::F32);
    let refuse = |engine: &mut Engine, prompt: Vec<u32>, sampling: Sampling| {
        let sink = Box::new(|_| {});
        engine
            .submit(Request {
                token_ids: prompt,
                sampling,
                sink,
                schedule: Schedule::default(),
                adapter: None,
            })
            .unwrap_err()
    };
    let error = refuse(&mut engine, vec![1; 300], Sampling::default());
    assert!(matches!(error, ModelError::ContextFull { prompt_tokens: 300, max_tokens: 256 }), "{error}");
    let error = refuse(&mut engine, vec![], Sampling::default());
    assert!(error.to_string().contains("at least one token"), "{error}");
    let error = refuse(&mut engine, vec![61], Sampling::default());
    assert!(error.to_string().contains("61"), "{error}");
    let error = refuse(&mut engine, vec![1], Sampling { n: 17, ..Sampling::default() });
    assert!(error.to_string().contains("at most 16"), "{error}");
}

#[test]
fn an_answer_ends_with_the_context_and_says_so() {
    let mut engine = engine(512, 1, TensorType::F32);
    let sampling = Sampling { max_tokens: None, ..sampling(4, 1) };
    let events = submit(&mut engine, &[5; 250], sampling);
    run(&mut engine);
    assert_eq!(tokens(&events)[0].len(), 6);
    let events = events.lock().unwrap();
    let reason = events.iter().find_map(|event| match event {
        GenerateEvent::Finished { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(reason, Some(FinishReason::Length));
    assert!(matches!(events.last(), Some(GenerateEvent::Usage(usage)) if usage.completion_tokens == 6));
}
