//! Adapters in one batch: who has which decides what is said, and nothing else does.

use wootz_engine::{
    AdapterId, BLOCK_LEN, Engine, EngineOptions, Host, Request, Runner, RunnerOptions, Schedule,
};
use wootz_graph::{Addition, Cpu, Device, HostTensor, ParamKind, ParamSpec, Site};
use wootz_kernels::{TensorType, cast};
use wootz_model::{Model, Words};
use wootz_text::{Beam, GenerateRequest, Sampling, Score, ScoreRequest, Search, collect};

use crate::{Events, Setup, network, noise, prompts, run, sampling, submit, tensor, tokens, usage};

/// Products at some layers and a shift of the stream, strong enough to change what is said.
fn adapter(seed: u64, weights: &[&str], rank: usize) -> Vec<Addition> {
    let network = network();
    let mut numbers = noise(seed);
    let mut matrix = |n: usize| {
        let numbers: Vec<f32> = numbers.by_ref().take(n).collect();
        HostTensor { ty: TensorType::F32, bytes: cast::bytes_of(&numbers).to_vec().into() }
    };
    let named =
        network.params.iter().filter(|(_, spec)| weights.iter().any(|name| spec.name.ends_with(name)));
    let mut additions: Vec<Addition> = named
        .map(|(param, spec)| {
            let [n, k] = [spec.shape[0], spec.shape[1]];
            let (a, b) = (matrix(rank * k), matrix(n * rank));
            let site = Site::Linear(param);
            Addition { site, shape: [n, k], rank, scale: 1.5, a, b, gain: None, shift: None }
        })
        .collect();
    assert!(!additions.is_empty());
    additions.push(Addition::shift(Site::Residual(0), noise(seed + 1).take(32).collect()));
    additions
}

fn adapters() -> [Vec<Addition>; 2] {
    [adapter(5, &[".wq", ".wv", ".w_down"], 4), adapter(9, &[".wk", ".wo", ".w_gate", "head"], 7)]
}

fn load(engine: &mut Engine) -> Vec<Option<AdapterId>> {
    let ids = adapters().map(|additions| Some(engine.load_adapter(&additions).unwrap()));
    [&[None], &ids[..]].concat()
}

fn submit_with(
    engine: &mut Engine,
    prompt: &[u32],
    sampling: Sampling,
    adapter: Option<AdapterId>,
) -> Events {
    let events = Events::default();
    let writer = events.clone();
    let sink = Box::new(move |event| writer.lock().unwrap().push(event));
    let schedule = Schedule::default();
    engine.submit(Request { token_ids: prompt.to_vec(), sampling, sink, schedule, adapter }).unwrap();
    events
}

/// Prompts and settings, each to be asked of the model alone and with both adapters.
fn requests() -> Vec<(Vec<u32>, Sampling)> {
    let long = prompts().concat();
    let greedy = Sampling { max_tokens: Some(40), ignore_eos: true, ..Sampling::greedy() };
    let beam = Search::Beam(Beam { num_beams: 2, ..Beam::default() });
    vec![
        (long[..140].to_vec(), greedy.clone()),
        (prompts()[3].clone(), sampling(3, 2)),
        (long[..130].to_vec(), Sampling { search: beam, max_tokens: Some(20), ..greedy }),
    ]
}

#[test]
fn tokens_follow_from_request_and_adapter_alone() {
    let alone: Vec<Vec<Vec<u32>>> = (0..3)
        .flat_map(|whose| {
            requests().into_iter().map(move |(prompt, sampling)| {
                let mut engine = Setup::default().engine();
                // The model alone has not even heard of adapters.
                let adapter = if whose == 0 { None } else { load(&mut engine)[whose] };
                let events = submit_with(&mut engine, &prompt, sampling, adapter);
                run(&mut engine);
                tokens(&events)
            })
        })
        .collect();
    assert!(alone[0] != alone[3] && alone[3] != alone[6], "adapters change what is said");
    let (mut n_preemptions, mut n_guessed) = (0, 0);
    for (keeps_prefixes, guesses) in [(false, false), (false, true), (true, false), (true, true)] {
        for (n_blocks, chunk, n_threads) in [(64, 512, 1), (64, 7, 2), (17, 33, 1)] {
            let setup = Setup { n_blocks, chunk, n_threads, keeps_prefixes, guesses, ..Setup::default() };
            let mut engine = setup.engine();
            let ids = load(&mut engine);
            for round in 0..2 {
                let all: Vec<Events> = (0..3)
                    .flat_map(|whose| requests().into_iter().map(move |request| (whose, request)))
                    .map(|(whose, (prompt, sampling))| {
                        submit_with(&mut engine, &prompt, sampling, ids[whose])
                    })
                    .collect();
                run(&mut engine);
                let together: Vec<_> = all.iter().map(tokens).collect();
                assert_eq!(together, alone, "{setup:?}, round {round}");
                let counts = engine.counts();
                assert_eq!(counts.n_free_blocks + counts.n_cached_blocks, counts.n_blocks);
            }
            n_preemptions += engine.counts().n_preemptions;
            n_guessed += engine.counts().guessed_tokens;
            for id in ids.into_iter().flatten() {
                engine.unload_adapter(id).unwrap();
            }
        }
    }
    assert!(n_preemptions > 5 && n_guessed > 5, "{n_preemptions} {n_guessed}");
}

#[test]
fn beginnings_are_shared_under_the_same_adapter_only() {
    let prompt: Vec<u32> = prompts().concat();
    let mut engine = Setup { keeps_prefixes: true, ..Setup::default() }.engine();
    let ids = load(&mut engine);
    let all = (prompt.len() - 1) / BLOCK_LEN * BLOCK_LEN;
    let ask = |engine: &mut Engine, adapter, cached: usize| {
        let events = submit_with(engine, &prompt, sampling(1, 1), adapter);
        run(engine);
        assert_eq!(usage(&events).cached_tokens, cached);
        tokens(&events)
    };
    let first = ids.clone().into_iter().map(|id| ask(&mut engine, id, 0)).collect::<Vec<_>>();
    let again = ids.clone().into_iter().map(|id| ask(&mut engine, id, all)).collect::<Vec<_>>();
    assert_eq!(first, again);
    // Another adapter in the place of one that is gone finds nothing of it.
    engine.unload_adapter(ids[1].unwrap()).unwrap();
    let error = engine.unload_adapter(ids[1].unwrap()).unwrap_err();
    assert!(error.to_string().contains("not loaded any more"), "{error}");
    let new = engine.load_adapter(&adapter(77, &[".wq", ".wv", ".w_down"], 4)).unwrap();
    let other = ask(&mut engine, Some(new), 0);
    assert!(!first.contains(&other));
    assert_eq!(ask(&mut engine, ids[2], all), first[2]);
}

#[test]
fn an_adapter_in_use_stays_and_the_bank_has_an_end() {
    let mut engine = Setup::default().engine();
    let ids = load(&mut engine);
    let prompt = &prompts()[2];
    let events = submit_with(&mut engine, prompt, sampling(1, 1), ids[1]);
    let error = engine.unload_adapter(ids[1].unwrap()).unwrap_err().to_string();
    assert!(error.contains("in use by 1"), "it waits: {error}");
    engine.step().unwrap();
    let expected = adapters();
    // Others come and go meanwhile, with other sites.
    let others: Vec<AdapterId> = (0..62).map(|_| engine.load_adapter(&expected[1]).unwrap()).collect();
    let error = engine.load_adapter(&expected[1]).unwrap_err().to_string();
    assert!(error.contains("all 64 slots"), "{error}");
    engine.step().unwrap();
    others.into_iter().for_each(|id| engine.unload_adapter(id).unwrap());
    run(&mut engine);
    let mut alone = Setup::default().engine();
    let ids_alone = load(&mut alone);
    let same = submit_with(&mut alone, prompt, sampling(1, 1), ids_alone[1]);
    run(&mut alone);
    assert_eq!(tokens(&events), tokens(&same));
    engine.unload_adapter(ids[1].unwrap()).unwrap();
    // A request for what is gone is refused by name.
    let request = Request {
        token_ids: prompt.clone(),
        sampling: sampling(1, 1),
        sink: Box::new(|_| {}),
        schedule: Schedule::default(),
        adapter: ids[1],
    };
    assert!(engine.submit(request).unwrap_err().to_string().contains("adapter"));
    // After a step that failed nobody uses anything.
    submit_with(&mut engine, prompt, sampling(1, 1), ids[2]);
    engine.step().unwrap();
    engine.abort(&wootz_text::ModelError::Cancelled);
    engine.unload_adapter(ids[2].unwrap()).unwrap();
}

fn quantized(spec: &ParamSpec, ty: TensorType) -> wootz_graph::Result<HostTensor<'static>> {
    let plain = tensor(spec)?;
    if spec.kind == ParamKind::Vector {
        return Ok(plain);
    }
    let mut numbers = vec![0.0; spec.n_elements()];
    wootz_kernels::dequantize(plain.ty, &plain.bytes, &mut numbers);
    let mut bytes = vec![0; ty.row_bytes(spec.shape[1]).unwrap() * spec.shape[0]];
    wootz_kernels::quantize(ty, &numbers, &mut bytes).unwrap();
    Ok(HostTensor { ty, bytes: bytes.into() })
}

#[test]
fn quantized_models_take_adapters() {
    // Widths of whole blocks.
    let json = br#"{"model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}"#;
    let hf = wootz_model::Hf::parse("config.json", json).unwrap();
    let network =
        std::sync::Arc::new(wootz_model::Network::declare(wootz_model::config_from_hf(&hf).unwrap()));
    let device = Cpu::new(1);
    for ty in [TensorType::Q4_0, TensorType::Q8_0, TensorType::BF16] {
        let weights = device.load(&network.params, &|spec| quantized(spec, ty)).unwrap();
        let engine = |max_batch_tokens| {
            let options = RunnerOptions { n_positions: 2048, n_slots: 8, kv_type: TensorType::F16 };
            let runner = Runner::new(network.clone(), &device as &dyn Device, &weights, options).unwrap();
            let options = EngineOptions { max_context: 256, max_batch_tokens, max_sequences: 8 };
            Engine::new(runner, None, &[2], options)
        };
        let wq = network.params.find("layers.1.wq").unwrap();
        let additions: Vec<Addition> =
            adapter(3, &["layers.1.wq"], 4).into_iter().filter(|one| one.site == Site::Linear(wq)).collect();
        let mut said = Vec::new();
        for chunk in [64, 5] {
            let mut engine = engine(chunk);
            let id = engine.load_adapter(&additions).unwrap();
            let all = [None, Some(id), None, Some(id)]
                .map(|adapter| submit_with(&mut engine, &prompts()[2], sampling(1, 1), adapter));
            run(&mut engine);
            let all = all.map(|events| tokens(&events));
            assert!(all[0] == all[2] && all[1] == all[3], "{ty}");
            said.push(all);
        }
        assert_eq!(said[0], said[1], "{ty}");
        let mut plain = engine(64);
        let events = submit(&mut plain, &prompts()[2], sampling(1, 1));
        run(&mut plain);
        assert_eq!(tokens(&events), said[0][0], "{ty}");
    }
}

#[test]
fn handles_load_share_and_unload_adapters_while_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let host = Host::start().unwrap();
    let words = Words { tokenizer: None, template: None, end_tokens: vec![2] };
    let setup = Setup { keeps_prefixes: true, ..Setup::default() };
    let engine = setup.engine().with_identity(wootz_engine::Identity([3; 16]));
    let base = host.add("tiny", engine, words, 100);
    let [one, two] = adapters().map(|additions| base.with_adapter(additions).unwrap());
    let prompt = prompts().concat();
    let request = || GenerateRequest::new(prompt.clone(), sampling(1, 1));
    let expected = [&base, &one, &two].map(|model| collect(model, request()).unwrap().choices[0].token_ids());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            for (model, expected) in [&base, &one, &two].into_iter().zip(&expected) {
                scope.spawn(move || {
                    assert_eq!(&collect(model, request()).unwrap().choices[0].token_ids(), expected);
                });
            }
        }
        // Many come and go beside them.
        for seed in 0..20 {
            let passing = base.with_adapter(adapter(seed, &[".w_up"], 1 + seed as usize % 3)).unwrap();
            drop(passing);
        }
    });
    // Scores differ as answers do.
    let scored =
        [ScoreRequest::TokenIds { prompt: prompt[..9].to_vec(), continuation: prompt[9..20].to_vec() }];
    let [a, b] = [&base, &one].map(|model| model.score(&scored).unwrap()[0].logprobs.clone());
    assert_ne!(a, b);
    // A saved beginning belongs to model and adapter.
    assert!(one.save_prefix(prompt.clone(), &path).unwrap() >= BLOCK_LEN);
    assert!(base.restore_prefix(&path).is_err() && two.restore_prefix(&path).is_err());
    let again = base.with_adapter(adapters()[0].clone()).unwrap();
    assert!(!again.restore_prefix(&path).unwrap().is_empty(), "the same adapter, loaded once more");
    assert_eq!(collect(&again, request()).unwrap().choices[0].token_ids(), expected[1]);
    // A bad one is refused, and nothing else happens.
    let mut bad = adapters()[0].clone();
    bad[0].rank += 1;
    assert!(base.with_adapter(bad).is_err());
    // The handle may be gone before its answer is there.
    let (sender, answers) = std::sync::mpsc::channel();
    let sink = Box::new(move |event| drop(sender.send(event)));
    let handle = wootz_text::Generate::generate(&one, request(), sink).unwrap();
    handle.detach();
    drop((one, again));
    let n_tokens =
        answers.iter().filter(|event| matches!(event, wootz_text::GenerateEvent::Token(_))).count();
    assert_eq!(n_tokens, 40);
    drop(two);
    let _ = collect(&base, request()).unwrap();
}

#[test]
fn a_golden_adapter_speaks_through_the_engine() {
    let golden = format!("{}/../../golden", env!("CARGO_MANIFEST_DIR"));
    for case in ["llama_dora", "phi3", "gpt2_dora"] {
        let folder = format!("{golden}/adapters/{case}");
        let text = std::fs::read(format!("{folder}/golden.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let model =
            Model::open(format!("{golden}/models/{}", json["model"].as_str().unwrap()).as_ref()).unwrap();
        let device = Cpu::with(wootz_kernels::Isa::detect(), 1, wootz_kernels::Precision::Exact);
        let (mut engine, _) = wootz_engine::load(&model, &device, &Default::default()).unwrap();
        let additions = wootz_model::AdapterFile::open(folder.as_ref()).unwrap().over(&model, 1.0).unwrap();
        let id = engine.load_adapter(&additions).unwrap();
        let ids = |value: &serde_json::Value| {
            value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<u32>>()
        };
        for (prompt, row) in
            json["input_ids"].as_array().unwrap().iter().zip(json["rows"].as_array().unwrap())
        {
            let greedy = Sampling { max_tokens: Some(16), ignore_eos: true, ..Sampling::greedy() };
            let events = submit_with(&mut engine, &ids(prompt), greedy, Some(id));
            run(&mut engine);
            assert_eq!(tokens(&events)[0], ids(&row["greedy"]), "{case}");
        }
    }
}
