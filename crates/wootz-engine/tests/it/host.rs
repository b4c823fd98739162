//! Models on the compute thread: what callers see, and what happens when something breaks.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use wootz_engine::{Host, LocalModel};
use wootz_graph::Cpu;
use wootz_kernels::TensorType;
use wootz_model::Words;
use wootz_text::{
    Embed, EmbedKind, Generate, GenerateEvent, GenerateRequest, Message, ModelError, Prompt, Sampling, Score,
    ScoreRequest, collect,
};

use crate::{Setup, engine, noise, prompts, run, sampling, submit, tokens};

fn words() -> Words {
    Words { tokenizer: None, template: None, end_tokens: vec![2] }
}

fn hosted(host: &Host, max_queued: usize) -> LocalModel {
    host.add("tiny", engine(64, 1, TensorType::F32), words(), max_queued)
}

fn request(i: usize) -> GenerateRequest {
    GenerateRequest::new(prompts()[i].clone(), sampling(1, 1))
}

/// Waits for the end of the round: the last event comes before the numbers of its step.
fn settle(host: &Host) {
    host.call(|| ()).unwrap();
}

/// The small model inside the program, as the server loads it.
fn built_in(host: &Host) -> LocalModel {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../wootz/assets/wootz-small.gguf");
    let model = wootz_model::Model::open(path.as_ref()).unwrap();
    let options = wootz_engine::LoadOptions { n_sequences: 4, ..Default::default() };
    let (engine, words) = wootz_engine::load(&model, &Cpu::new(2), &options).unwrap();
    host.add("built-in", engine, words, 64)
}

#[test]
fn answers_from_many_threads_are_those_of_a_lone_engine() {
    let host = Host::start().unwrap();
    let models = [hosted(&host, 100), hosted(&host, 100)];
    std::thread::scope(|scope| {
        for i in 0..20 {
            let model = models[i % 2].clone();
            scope.spawn(move || {
                let answer = collect(&model, request(i % 5)).unwrap();
                let mut alone = engine(512, 1, TensorType::F32);
                let events = submit(&mut alone, &prompts()[i % 5], sampling(1, 1));
                run(&mut alone);
                assert_eq!(answer.choices[0].token_ids(), tokens(&events)[0]);
            });
        }
    });
    settle(&host);
    let stats = models[0].stats();
    assert_eq!((stats.n_queued, stats.counts.n_running), (0, 0));
    assert_eq!(stats.counts.completion_tokens, 400);
    assert_eq!(stats.step_seconds.count(), stats.counts.n_steps);
}

#[test]
fn a_full_queue_is_busy_and_a_dropped_handle_frees_everything() {
    let host = Host::start().unwrap();
    let model = hosted(&host, 3);
    let (gate, closed) = mpsc::channel::<()>();
    // While the thread is held, nothing is taken out of the queue.
    let held = std::thread::scope(|scope| {
        let call = scope.spawn(|| host.call(move || closed.recv().is_ok()));
        std::thread::sleep(Duration::from_millis(20));
        let (sender, events) = mpsc::channel();
        let ask = || {
            let sender = sender.clone();
            model.generate(request(0), Box::new(move |event| drop(sender.send(event))))
        };
        let handles: Vec<_> = (0..3).map(|_| ask().unwrap()).collect();
        assert!(matches!(ask(), Err(ModelError::Busy { queued: 3 })));
        drop(handles);
        gate.send(()).unwrap();
        drop(sender);
        let last: Vec<_> = events.iter().collect();
        assert_eq!(last.len(), 3, "{last:?}");
        assert!(last.iter().all(|event| matches!(event, GenerateEvent::Error(ModelError::Cancelled))));
        call.join().unwrap().unwrap()
    });
    assert!(held);
    collect(&model, request(1)).unwrap();
    settle(&host);
    let counts = model.stats().counts;
    assert_eq!(counts.n_free_blocks + counts.n_cached_blocks, counts.n_blocks);
}

#[test]
fn what_cannot_be_served_is_refused_where_it_is_asked() {
    let host = Host::start().unwrap();
    let model = hosted(&host, 3);
    let refuse = |request: GenerateRequest| model.generate(request, Box::new(|_| {})).unwrap_err();
    let error = refuse(GenerateRequest::new("text", sampling(1, 1)));
    assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
    let error = refuse(GenerateRequest::new(vec![Message::user("hi")], sampling(1, 1)));
    assert!(error.to_string().contains("no chat template"), "{error}");
    let error = refuse(GenerateRequest::new(vec![1; 256], sampling(1, 1)));
    assert!(matches!(error, ModelError::ContextFull { .. }), "{error}");
    let error = refuse(GenerateRequest::new(vec![1], Sampling { top_p: 2.0, ..sampling(1, 1) }));
    assert!(error.to_string().contains("sampling.top_p"), "{error}");
    let late = GenerateRequest { deadline: Some(Instant::now()), ..request(0) };
    assert!(matches!(collect(&model, late), Err(ModelError::TimedOut)));
}

#[test]
fn a_panicking_sink_ends_its_own_request_alone() {
    let host = Host::start().unwrap();
    let model = hosted(&host, 8);
    let broken = model.generate(request(0), Box::new(|_| panic!("a test's panic"))).unwrap();
    for i in 0..3 {
        collect(&model, request(i)).unwrap();
    }
    drop(broken);
    assert!(host.call(|| -> u8 { panic!("a test's panic") }).is_err());
    assert_eq!(host.call(|| 7).unwrap(), 7);
}

#[test]
fn an_unloaded_model_says_so_and_leaves_others_alone() {
    let host = Host::start().unwrap();
    let (gone, stays) = (hosted(&host, 8), hosted(&host, 8));
    gone.unload();
    assert!(matches!(collect(&gone, request(0)), Err(ModelError::Cancelled)));
    assert!(matches!(
        gone.score(&[ScoreRequest::TokenIds { prompt: vec![1], continuation: vec![2] }]),
        Err(ModelError::Cancelled)
    ));
    drop(gone);
    collect(&stays, request(0)).unwrap();
    drop(host);
    assert!(matches!(collect(&stays, request(0)), Err(ModelError::Cancelled)));
}

#[test]
fn scores_are_the_log_probabilities_of_generation() {
    let host = Host::start().unwrap();
    let model = hosted(&host, 4);
    let prompt = prompts()[2].clone();
    for greedy in [true, false] {
        let sampling = Sampling {
            temperature: if greedy { 0.0 } else { 1.0 },
            logprobs: Some(0),
            max_tokens: Some(150),
            ..sampling(3, 1)
        };
        let answer = collect(&model, GenerateRequest::new(prompt.clone(), sampling)).unwrap();
        let continuation = answer.choices[0].token_ids();
        let request = ScoreRequest::TokenIds { prompt: prompt.clone(), continuation };
        // More than fit the queue, all alike.
        for scored in model.score(&vec![request; 9]).unwrap() {
            let expected: Vec<f32> = answer.choices[0].tokens.iter().filter_map(|t| t.logprob).collect();
            assert_eq!(scored.logprobs, expected);
            assert_eq!(scored.is_greedy, greedy);
        }
    }
}

#[test]
fn the_built_in_model_talks_scores_and_embeds() {
    let host = Host::start().unwrap();
    let model = built_in(&host);
    let greedy = Sampling { max_tokens: Some(12), ..Sampling::greedy() };
    let text = "Once upon a time";
    let answer = collect(&model, GenerateRequest::new(text, greedy)).unwrap();
    assert!(!answer.text().is_empty());
    let request = ScoreRequest::Text { prompt: text.into(), continuation: answer.text().into() };
    let scored = model.score(&[request]).unwrap();
    assert!(scored[0].total().is_finite() && scored[0].logprobs.len() <= 13);
    let vectors = model.embed(&[text, "A cat", text], EmbedKind::Plain).unwrap();
    assert_eq!(vectors[0], vectors[2]);
    assert_ne!(vectors[0], vectors[1]);
    assert_eq!(vectors[0].len(), model.dim());
    let length: f32 = vectors[1].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    let prompt = Prompt::from(vec![Message::user("Hello")]);
    match model.words().template {
        Some(_) => assert!(model.tokenize(prompt).unwrap().len() > 1),
        None => assert!(model.tokenize(prompt).is_err()),
    }
}

#[test]
fn a_saved_beginning_is_found_by_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("story.kv");
    let greedy = Sampling { max_tokens: Some(90), ignore_eos: true, ..Sampling::greedy() };
    let text = "Once upon a time there was a little girl who lived in a house by the sea. ".repeat(4);
    let (said, expected) = {
        let host = Host::start().unwrap();
        let model = built_in(&host);
        let prompt = model.tokenize(text.as_str().into()).unwrap();
        assert_eq!(model.save_prefix(prompt.clone(), &path).unwrap(), 0, "nothing was computed");
        assert!(!path.exists());
        let answer = collect(&model, GenerateRequest::new(prompt.clone(), greedy.clone())).unwrap();
        let said = [prompt, answer.choices[0].token_ids()].concat();
        let n_saved = model.save_prefix(said.clone(), &path).unwrap();
        assert!(
            n_saved >= (said.len() - 1) / 64 * 64 - 64 && n_saved.is_multiple_of(64),
            "{n_saved} of {}",
            said.len()
        );
        (said.clone(), collect(&model, GenerateRequest::new(said, greedy.clone())).unwrap())
    };
    let host = Host::start().unwrap();
    let model = built_in(&host);
    let restored = model.restore_prefix(&path).unwrap();
    assert_eq!(restored, said[..restored.len()]);
    let answer = collect(&model, GenerateRequest::new(said, greedy)).unwrap();
    assert_eq!(answer.choices[0].token_ids(), expected.choices[0].token_ids());
    assert_eq!(answer.usage.cached_tokens, restored.len());
    // Another model does not take it.
    let tiny = hosted(&host, 4);
    assert!(tiny.restore_prefix(&path).is_err());
}

#[test]
fn a_storm_of_requests_and_cancellations_leaves_everything_where_it_was() {
    let host = Host::start().unwrap();
    let setup = Setup { n_blocks: 24, chunk: 40, keeps_prefixes: true, guesses: true, ..Setup::default() };
    let model = host.add("tiny", setup.engine(), words(), 40);
    let expected = collect(&model, request(3)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let model = model.clone();
            scope.spawn(move || {
                let mut random = noise(thread + 1).map(|x| ((x + 0.5) * 1000.0) as usize);
                let mut next = |n: usize| random.next().unwrap() % n;
                for _ in 0..40 {
                    let (sender, events) = mpsc::channel();
                    let sampling = sampling(next(9) as u64, 1 + next(3));
                    let mut request = GenerateRequest::new(prompts()[next(5)].clone(), sampling);
                    request.priority = next(3) as i32;
                    request.deadline = (next(5) == 0).then(|| Instant::now() + Duration::from_millis(5));
                    let handle =
                        match model.generate(request, Box::new(move |event| drop(sender.send(event)))) {
                            Ok(handle) => handle,
                            Err(ModelError::Busy { .. }) => continue,
                            Err(error) => panic!("{error}"),
                        };
                    // Some go away at once, some in the middle, some stay.
                    let n_patience = [0, 1, 10, usize::MAX][next(4)];
                    let mut last = None;
                    for event in events.iter().take(n_patience) {
                        last = Some(event);
                    }
                    drop(handle);
                    if n_patience == usize::MAX {
                        let is_end = matches!(
                            last,
                            Some(GenerateEvent::Usage(_) | GenerateEvent::Error(ModelError::TimedOut))
                        );
                        assert!(is_end, "{last:?}");
                    }
                }
            });
        }
    });
    let again = collect(&model, request(3)).unwrap();
    assert_eq!(again.choices[0].token_ids(), expected.choices[0].token_ids());
    settle(&host);
    let stats = model.stats();
    assert_eq!(
        (stats.n_queued, stats.counts.n_running, stats.counts.n_waiting, stats.n_failures),
        (0, 0, 0, 0)
    );
    assert_eq!(stats.counts.n_free_blocks + stats.counts.n_cached_blocks, stats.counts.n_blocks);
}
