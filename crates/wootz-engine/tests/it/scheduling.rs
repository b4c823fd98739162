//! Too little room, shared beginnings, priorities, full contexts: who waits changes, what is said does not.

use std::sync::{Arc, Mutex};

use wootz_engine::{
    BLOCK_LEN, DraftModel, Engine, LoadOptions, ReadRequest, Reading, Schedule, VectorPooling, load,
    load_draft,
};
use wootz_graph::Cpu;
use wootz_model::Model;
use wootz_text::{
    Beam, ContextFull, Contrastive, Dry, FinishReason, GenerateEvent, ModelError, Penalties, Sampling,
    Scored, Search,
};

use crate::{Events, Setup, noise, prompts, run, sampling, submit, submit_at, tokens, usage};

/// Requests of every kind, on prompts of which some begin alike.
fn requests() -> Vec<(Vec<u32>, Sampling)> {
    let all = prompts();
    let penalties = Penalties { repetition: 1.2, frequency: 0.3, ..Penalties::default() };
    let beam = Search::Beam(Beam { num_beams: 2, ..Beam::default() });
    let contrastive = Search::Contrastive(Contrastive { penalty_alpha: 0.5, top_k: 2 });
    let long: Vec<u32> = all.concat();
    let branched: Vec<u32> = [&long[..140], &[7, 8, 9]].concat();
    let greedy = Sampling { max_tokens: Some(60), ignore_eos: true, ..Sampling::greedy() };
    vec![
        (long.clone(), sampling(1, 1)),
        (branched.clone(), Sampling { penalties, dry: Some(Dry::default()), ..sampling(2, 1) }),
        (all[3].clone(), Sampling { max_tokens: Some(70), ..sampling(3, 3) }),
        (long[..130].to_vec(), greedy.clone()),
        (branched, Sampling { search: beam, max_tokens: Some(20), ..greedy.clone() }),
        (all[4].clone(), Sampling { search: contrastive, max_tokens: Some(30), ..greedy }),
        (long, Sampling { mirostat: Some(Default::default()), ..sampling(4, 2) }),
    ]
}

fn run_all(engine: &mut Engine) -> Vec<Events> {
    let events = requests().into_iter().map(|(prompt, sampling)| submit(engine, &prompt, sampling)).collect();
    run(engine);
    events
}

/// A free place for every block, or kept for later.
fn assert_nothing_is_held(engine: &Engine) {
    let counts = engine.counts();
    assert_eq!(counts.n_free_blocks + counts.n_cached_blocks, counts.n_blocks);
}

#[test]
fn tokens_are_the_same_with_too_few_blocks_and_with_the_cache_on() {
    let alone: Vec<_> = requests()
        .into_iter()
        .map(|(prompt, sampling)| {
            let mut engine = Setup::default().engine();
            let events = submit(&mut engine, &prompt, sampling);
            run(&mut engine);
            tokens(&events)
        })
        .collect();
    let (mut n_preemptions, mut n_guessed) = (0, 0);
    for (keeps_prefixes, guesses) in [(false, false), (false, true), (true, false), (true, true)] {
        for (n_blocks, chunk) in [(64, 512), (64, 7), (24, 512), (20, 33), (17, 512), (17, 20)] {
            let setup = Setup { n_blocks, chunk, keeps_prefixes, guesses, ..Setup::default() };
            let mut engine = setup.engine();
            for round in 0..2 {
                let events = run_all(&mut engine);
                let together: Vec<_> = events.iter().map(tokens).collect();
                assert_eq!(together, alone, "{setup:?}, round {round}");
                assert_nothing_is_held(&engine);
            }
            n_preemptions += engine.counts().n_preemptions;
            assert!(guesses || engine.counts().guessed_tokens == 0);
            n_guessed += engine.counts().guessed_tokens;
        }
    }
    assert!(n_preemptions > 20, "{n_preemptions}");
    assert!(n_guessed > 20, "{n_guessed}");
}

#[test]
fn a_known_beginning_is_not_computed_again_and_the_answer_says_so() {
    let prompt: Vec<u32> = prompts().concat(); // 215 tokens
    let mut engine = Setup { keeps_prefixes: true, ..Setup::default() }.engine();
    let first = submit(&mut engine, &prompt, sampling(1, 1));
    run(&mut engine);
    assert_eq!(usage(&first).cached_tokens, 0);
    let again = submit(&mut engine, &prompt, sampling(1, 1));
    run(&mut engine);
    assert_eq!(usage(&again).cached_tokens, (prompt.len() - 1) / BLOCK_LEN * BLOCK_LEN);
    assert_eq!(tokens(&again), tokens(&first));
    // The next turn of a conversation finds the answer of the one before, too.
    let turn: Vec<u32> = [prompt.clone(), tokens(&first)[0].clone()].concat();
    let next = submit(&mut engine, &turn, Sampling { max_tokens: Some(1), ..sampling(1, 1) });
    run(&mut engine);
    assert_eq!(usage(&next).cached_tokens, (turn.len() - 1) / BLOCK_LEN * BLOCK_LEN);
    // One token differs in the first block: nothing of it can be used.
    let other: Vec<u32> = [&[prompt[0] ^ 1], &prompt[1..]].concat();
    let events = submit(&mut engine, &other, sampling(1, 1));
    run(&mut engine);
    assert_eq!(usage(&events).cached_tokens, 0);
    assert_eq!(engine.counts().cached_tokens, 192 + (turn.len() as u64 - 1) / 64 * 64);
}

#[test]
fn of_those_who_come_together_one_computes_the_common_beginning() {
    let common: Vec<u32> = prompts().concat();
    let mut engine = Setup { keeps_prefixes: true, chunk: 256, ..Setup::default() }.engine();
    let all: Vec<_> =
        (0..8).map(|i| submit(&mut engine, &[common.as_slice(), &[i]].concat(), sampling(1, 1))).collect();
    run(&mut engine);
    let cached: usize = all.iter().map(|events| usage(events).cached_tokens).sum();
    assert_eq!(cached, 7 * (common.len() / BLOCK_LEN * BLOCK_LEN));
}

#[test]
fn higher_priorities_go_first_and_the_others_lose_nothing() {
    let prompt = &prompts()[3];
    let mut alone = Setup::default().engine();
    let expected = submit(&mut alone, prompt, sampling(5, 1));
    run(&mut alone);
    let mut engine = Setup { max_sequences: 1, ..Setup::default() }.engine();
    let low = submit_at(&mut engine, prompt, sampling(5, 1), -1);
    for _ in 0..10 {
        engine.step().unwrap();
    }
    let high = submit_at(&mut engine, prompt, sampling(5, 1), 2);
    let middle = submit_at(&mut engine, prompt, sampling(5, 1), 1);
    let is_done = |events: &Events| matches!(events.lock().unwrap().last(), Some(GenerateEvent::Usage(_)));
    while !is_done(&high) {
        engine.step().unwrap();
    }
    assert!(!is_done(&middle) && !is_done(&low));
    while !is_done(&middle) {
        engine.step().unwrap();
    }
    assert!(!is_done(&low));
    run(&mut engine);
    for events in [low, middle, high] {
        assert_eq!(tokens(&events), tokens(&expected));
    }
}

#[test]
fn readings_survive_preemption_and_the_cache() {
    let prompt: Vec<u32> = prompts().concat();
    let read = |engine: &mut Engine| {
        let scores: Arc<Mutex<Vec<Scored>>> = Arc::default();
        let vectors: Arc<Mutex<Vec<Vec<f32>>>> = Arc::default();
        for from in [1, 100, 214] {
            let scores = scores.clone();
            let reply =
                Box::new(move |scored: Result<_, ModelError>| scores.lock().unwrap().push(scored.unwrap()));
            let reading = Reading::Logprobs { from, reply };
            let request = ReadRequest {
                token_ids: prompt.clone(),
                reading,
                schedule: Schedule::default(),
                adapter: None,
            };
            engine.read(request).unwrap();
        }
        for pooling in [VectorPooling::Last, VectorPooling::Mean] {
            let vectors = vectors.clone();
            let reply =
                Box::new(move |vector: Result<_, ModelError>| vectors.lock().unwrap().push(vector.unwrap()));
            let reading = Reading::Vector { pooling, reply };
            let request = ReadRequest {
                token_ids: prompt.clone(),
                reading,
                schedule: Schedule::default(),
                adapter: None,
            };
            engine.read(request).unwrap();
            // One after the other: answers come in the order of completion.
            run(engine);
        }
        let mut scores = scores.lock().unwrap().clone();
        scores.sort_by_key(|scored| scored.logprobs.len());
        (scores, vectors.lock().unwrap().clone())
    };
    let expected = read(&mut Setup::default().engine());
    assert_eq!(expected.0[2].logprobs.len(), prompt.len() - 1);
    assert_eq!(expected.0[2].logprobs[99..], expected.0[1].logprobs);
    for setup in [
        Setup { keeps_prefixes: true, ..Setup::default() },
        Setup { n_blocks: 5, ..Setup::default() },
        Setup { n_blocks: 6, keeps_prefixes: true, chunk: 17, ..Setup::default() },
    ] {
        let mut engine = setup.engine();
        submit(&mut engine, &prompt, sampling(1, 1));
        assert_eq!(read(&mut engine), expected, "{setup:?}");
        assert_eq!(read(&mut engine), expected, "{setup:?}, again");
        assert_nothing_is_held(&engine);
    }
}

#[test]
fn a_prompt_that_is_too_long_loses_its_beginning_if_asked_to() {
    let prompt: Vec<u32> = noise(1).take(400).map(|x| ((x + 0.5) * 61.0) as u32).collect();
    let mut engine = Setup::default().engine();
    let truncated = Sampling { context_full: ContextFull::TruncateLeft, ..sampling(1, 1) };
    let events = submit(&mut engine, &prompt, truncated);
    let expected = submit(&mut engine, &prompt[400 - (256 - 40)..], sampling(1, 1));
    run(&mut engine);
    assert_eq!(tokens(&events), tokens(&expected));
    assert_eq!(usage(&events).dropped_tokens, 400 - (256 - 40));
    assert_eq!(usage(&expected).dropped_tokens, 0);
}

#[test]
fn an_answer_that_outgrows_the_context_forgets_its_older_half_and_goes_on() {
    let greedy = Sampling { ignore_eos: true, ..Sampling::greedy() };
    for setup in
        [Setup::default(), Setup { keeps_prefixes: true, n_blocks: 5, chunk: 50, ..Setup::default() }]
    {
        let mut engine = setup.engine();
        let prompt = prompts()[4].clone(); // 77 tokens
        let shifted = Sampling { max_tokens: Some(400), context_full: ContextFull::Shift, ..greedy.clone() };
        let events = submit(&mut engine, &prompt, shifted);
        run(&mut engine);
        let answer = tokens(&events)[0].clone();
        assert_eq!(answer.len(), 400);
        let finished = events
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, GenerateEvent::Finished { reason: FinishReason::Length, .. }));
        assert!(finished);
        // The same by hand, in a larger context: each time 257 tokens are there, the older 128 go.
        let mut engine = Setup { max_context: 300, ..Setup::default() }.engine();
        let mut said = prompt.clone();
        let (mut by_hand, mut n_dropped) = (Vec::new(), 0);
        while by_hand.len() < 400 {
            let n = (257 - said.len()).min(400 - by_hand.len());
            let events = submit(&mut engine, &said, Sampling { max_tokens: Some(n), ..greedy.clone() });
            run(&mut engine);
            by_hand.extend_from_slice(&tokens(&events)[0]);
            said.extend_from_slice(&tokens(&events)[0]);
            if said.len() > 256 {
                said.drain(..128);
                n_dropped += 128;
            }
        }
        assert_eq!(answer, by_hand);
        assert_eq!(usage(&events).dropped_tokens, n_dropped);
    }
}

#[test]
fn every_kind_of_state_survives_preemption_and_the_cache() {
    for name in ["llama", "gemma3_text", "deepseek_v3", "mixtral", "mamba", "mamba2", "phi3"] {
        let folder = format!("{}/../../golden/models/{name}", env!("CARGO_MANIFEST_DIR"));
        let model = Model::open(folder.as_ref()).unwrap();
        let vocab_size = model.network.config.vocab_size;
        let prompt: Vec<u32> = noise(3).take(90).map(|x| ((x + 0.5) * vocab_size as f32) as u32).collect();
        let answers = |n_positions: usize, keeps_prefixes: bool, together: bool| {
            let options = LoadOptions {
                max_context: Some(128),
                n_sequences: 2,
                n_positions: Some(n_positions),
                max_batch_tokens: 40,
                kv_type: None,
                keeps_prefixes,
                guesses: keeps_prefixes,
            };
            let (mut engine, _) = load(&model, &Cpu::new(1), &options).unwrap();
            let mut all = Vec::new();
            for i in 0..4 {
                let sampling = Sampling { max_tokens: Some(30), ..sampling(i as u64, 1) };
                all.push(submit_at(&mut engine, &prompt[..prompt.len() - 9 * (i % 2)], sampling, i as i32));
                match together {
                    true => (0..7).for_each(|_| engine.step().unwrap()),
                    false => run(&mut engine),
                }
            }
            run(&mut engine);
            assert_nothing_is_held(&engine);
            (all.iter().map(tokens).collect::<Vec<_>>(), engine.counts().n_preemptions)
        };
        let (expected, _) = answers(1024, false, false);
        for (n_positions, keeps_prefixes) in [(256, false), (256, true), (1024, true)] {
            let (together, n_preemptions) = answers(n_positions, keeps_prefixes, true);
            assert_eq!(together, expected, "{name}, {n_positions} positions, cache {keeps_prefixes}");
            assert!(n_preemptions > 0, "{name}");
        }
    }
}

#[test]
fn one_of_thirty_two_gets_what_it_gets_alone() {
    const N: usize = 32;
    for name in ["llama", "mixtral", "mamba", "mamba2"] {
        let folder = format!("{}/../../golden/models/{name}", env!("CARGO_MANIFEST_DIR"));
        let model = Model::open(folder.as_ref()).unwrap();
        let vocab_size = model.network.config.vocab_size as f32;
        let request = |i: usize| {
            // Pairs begin alike, and half of all answers repeat themselves.
            let prompt = noise(i as u64 / 2).take(30 + i).map(|x| ((x + 0.5) * vocab_size) as u32).collect();
            let temperature = if i.is_multiple_of(2) { 0.0 } else { 1.0 };
            (prompt, Sampling { max_tokens: Some(24), temperature, ..sampling(i as u64, 1) })
        };
        let answers = |n_at_once: usize, n_threads: usize, with_all: bool| {
            let options = LoadOptions {
                max_context: Some(128),
                n_sequences: N,
                n_positions: None,
                max_batch_tokens: 256,
                kv_type: None,
                keeps_prefixes: with_all,
                guesses: with_all,
            };
            let (mut engine, _) = load(&model, &Cpu::new(n_threads), &options).unwrap();
            let mut all: Vec<Events> = Vec::new();
            for first in (0..N).step_by(n_at_once) {
                for i in first..first + n_at_once {
                    let (prompt, sampling): (Vec<u32>, _) = request(i);
                    all.push(submit(&mut engine, &prompt, sampling));
                }
                run(&mut engine);
            }
            assert_nothing_is_held(&engine);
            all.iter().map(tokens).collect::<Vec<_>>()
        };
        let alone = answers(1, 1, false);
        assert!(alone.iter().all(|choices| choices[0].len() == 24));
        for (n_at_once, n_threads, with_all) in [(N, 1, false), (N, 2, true), (1, 2, true)] {
            let other = answers(n_at_once, n_threads, with_all);
            assert_eq!(
                other, alone,
                "{name}: {n_at_once} at once, {n_threads} threads, cache and guesses {with_all}"
            );
        }
    }
}

#[test]
fn what_repeats_itself_takes_fewer_steps_and_says_the_same() {
    // Greedy answers of a small random model run into a circle.
    let greedy = Sampling { max_tokens: Some(150), ignore_eos: true, ..Sampling::greedy() };
    let answer = |guesses: bool| {
        let mut engine = Setup { guesses, ..Setup::default() }.engine();
        let events = submit(&mut engine, &prompts()[1], greedy.clone());
        run(&mut engine);
        (tokens(&events), usage(&events), engine.counts().n_steps)
    };
    let ((plain, nothing, n_plain), (guessed, usage, n_guessed)) = (answer(false), answer(true));
    assert_eq!(plain, guessed);
    assert_eq!(nothing.guessed_tokens, 0);
    assert!(usage.right_tokens > 60 && usage.right_tokens <= usage.guessed_tokens, "{usage:?}");
    assert!(n_guessed * 3 < n_plain * 2, "{n_guessed} steps instead of {n_plain}");
}

#[test]
fn a_draft_model_changes_nothing_but_the_number_of_steps() {
    let alone: Vec<_> = requests()
        .into_iter()
        .map(|(prompt, sampling)| {
            let mut engine = Setup::default().engine();
            let events = submit(&mut engine, &prompt, sampling);
            run(&mut engine);
            (tokens(&events), engine.counts().n_steps)
        })
        .collect();
    // The model itself guesses best, but costs as much: it must be left alone after a while.
    let with_draft = |setup: Setup| setup.engine().with_draft(setup.runner()).unwrap();
    for setup in
        [Setup::default(), Setup { n_blocks: 20, keeps_prefixes: true, chunk: 30, ..Setup::default() }]
    {
        let mut engine = with_draft(setup);
        let together: Vec<_> = run_all(&mut engine).iter().map(tokens).collect();
        assert_eq!(together, alone.iter().map(|(tokens, _)| tokens.clone()).collect::<Vec<_>>(), "{setup:?}");
        assert_nothing_is_held(&engine);
    }
    for ((prompt, sampling), (tokens_alone, _)) in requests().into_iter().zip(&alone) {
        let mut engine = with_draft(Setup::default());
        let events = submit(&mut engine, &prompt, sampling);
        run(&mut engine);
        assert_eq!(&tokens(&events), tokens_alone);
    }
}

#[test]
fn first_layers_guess_for_the_whole_model() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../wootz/assets/wootz-small.gguf");
    let model = Model::open(path.as_ref()).unwrap();
    let options = LoadOptions { n_sequences: 4, guesses: false, ..LoadOptions::default() };
    let n_layers = model.network.config.layers.len();
    let answer_with = |guesses: bool, n_first: Option<usize>, temperature: f32| {
        let options = LoadOptions { guesses, ..options };
        let (mut engine, words) = load(&model, &Cpu::new(1), &options).unwrap();
        if let Some(n_first) = n_first {
            let draft = DraftModel::FirstLayers(n_first);
            engine = load_draft(engine, &model, draft, &Cpu::new(1), &options).unwrap();
        }
        let prompt = words.tokenizer.unwrap().encode("Once upon a time", true, true);
        let all: Vec<_> = (0..2)
            .map(|seed| {
                let sampling = Sampling { temperature, max_tokens: Some(60), ..sampling(seed, 1) };
                submit(&mut engine, &prompt, sampling)
            })
            .collect();
        run(&mut engine);
        (all.iter().map(tokens).collect::<Vec<_>>(), usage(&all[0]).guessed_tokens)
    };
    let answer = |n_first, temperature| answer_with(false, n_first, temperature);
    let looked_back = |temperature| answer_with(true, None, temperature).1;
    for temperature in [0.0, 1.0] {
        let (expected, _) = answer(None, temperature);
        let by_looking_back = looked_back(temperature);
        for n_first in 1..n_layers {
            let (tokens, n_guessed) = answer(Some(n_first), temperature);
            assert_eq!(tokens, expected, "{n_first} layers, temperature {temperature}");
            assert!(n_guessed > by_looking_back, "{n_first} layers: {n_guessed}");
        }
    }
    let (engine, _) = load(&model, &Cpu::new(1), &options).unwrap();
    assert!(load_draft(engine, &model, DraftModel::FirstLayers(n_layers), &Cpu::new(1), &options).is_err());
}
