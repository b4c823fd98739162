//! Samplers and searches against transformers, llama.cpp and plain numpy versions of the published definitions.
//!
//! Idea:   each case of `golden/samplers/golden.json` names a row of logits, settings, and what its witnesses agreed on.
//! Source: `golden/samplers/make.py`, which names the tools and versions.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use wootz_text::{
    Beam, Contrastive, Dry, DynamicTemperature, EarlyStopping, Mirostat, MirostatVersion, Penalties,
    SamplerKind, Sampling, Search, TokenId, Xtc,
};

use super::mirostat::MirostatCut;
use super::rng::Rng;
use super::step::Step;
use super::{BeamSearch, Candidates, ContrastiveSearch, Sampler, SamplerVocab};

static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../../../golden/samplers/golden.json");
    serde_json::from_str(text).expect("golden.json is JSON")
});

#[test]
fn cuts_keep_what_their_witnesses_keep() {
    let n_checked = for_each("cuts", |case| {
        let candidates = adjusted(case, sampling(case), &vocab(0, &[]));
        assert_eq!(candidates.ids(), ids(&case["kept"]), "{case}");
    });
    assert_eq!(n_checked, 186);
}

#[test]
fn chains_end_with_the_probabilities_of_transformers() {
    let n_checked = for_each("chains", |case| {
        let order = case["order"].as_array().unwrap().iter().map(|name| kind(name.as_str().unwrap()));
        let sampling = Sampling { order: order.collect(), ..sampling(case) };
        let candidates = adjusted(case, sampling, &vocab(0, &[]));
        let softmax = candidates.softmax();
        let got = candidates.ids().iter().zip(candidates.logits());
        let got: BTreeMap<TokenId, f64> = got.map(|(&id, &x)| (id, softmax.probability(x))).collect();
        let want = numbers_by_id(&case["probabilities"]);
        assert!(got.keys().eq(want.keys()), "{case}");
        for (id, p) in want {
            assert!((got[&id] - p).abs() < 2e-6, "{id}: {}, not {p}: {case}", got[&id]); // theirs are of f32 logits
        }
    });
    assert_eq!(n_checked, 24);
}

#[test]
fn dynamic_temperature_is_that_of_llama_cpp() {
    for_each("temperature", |case| {
        let candidates = adjusted(case, sampling(case), &vocab(0, &[]));
        let divisor = case["divisor"].as_f64().unwrap();
        for (got, logit) in candidates.logits().iter().zip(row(case)) {
            let want = f64::from(logit) / divisor;
            assert!((f64::from(*got) - want).abs() <= 1e-5 * want.abs(), "{got}, not {want}: {case}");
        }
    });
}

#[test]
fn penalties_change_the_logits_that_their_witnesses_change() {
    let n_checked = for_each("penalties", |case| check_changes(case, &[]));
    assert_eq!(n_checked, 30);
}

#[test]
fn dry_changes_the_logits_that_its_witnesses_change() {
    let texts: Vec<&str> =
        GOLDEN["dry_texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let n_checked = for_each("dry", |case| check_changes(case, &texts));
    assert_eq!(n_checked, 37);
}

#[test]
fn mirostat_cuts_and_learns_as_published() {
    for_each("mirostat", |case| {
        let version = if case["version"] == 1 { MirostatVersion::V1 } else { MirostatVersion::V2 };
        let settings = Mirostat { version, tau: number(&case["tau"]), eta: number(&case["eta"]) };
        let mut cut = MirostatCut::new(settings, row(&case["steps"][0]).len());
        let mut candidates = Candidates::new();
        for step in case["steps"].as_array().unwrap() {
            let logits = row(step);
            candidates.refill(&logits, None).unwrap();
            cut.apply(&mut candidates, &mut Rng::new(0, 0));
            assert_eq!(candidates.ids(), ids(&step["kept"]), "{case}");
            cut.drew(logits[step["drawn"].as_u64().unwrap() as usize]);
            let want = step["mu"].as_f64().unwrap();
            assert!((cut.mu - want).abs() < 1e-4, "mu = {}, not {want}", cut.mu);
        }
    });
}

#[test]
fn beam_search_finds_what_transformers_finds() {
    let mut n_checked = 0;
    for_each("beams", |tables| {
        let table = matrix(&tables["table"]);
        for case in tables["searches"].as_array().unwrap() {
            check_beams(case, &table);
            n_checked += 1;
        }
    });
    assert_eq!(n_checked, 216);
}

#[test]
fn contrastive_search_takes_the_tokens_of_the_formula() {
    let n_checked = for_each("contrastive", |case| {
        let table = matrix(&case["table"]);
        let hidden: Vec<Vec<Vec<f32>>> = case["hidden"].as_array().unwrap().iter().map(matrix).collect();
        let top_k = case["top_k"].as_u64().unwrap() as usize;
        let settings = Contrastive { penalty_alpha: number(&case["penalty_alpha"]), top_k };
        let sampling = Sampling { search: Search::Contrastive(settings), ..Sampling::default() };
        let vocab = SamplerVocab { size: table.len(), end_tokens: Arc::from([]), token_bytes: None };
        let mut search = ContrastiveSearch::new(settings, &sampling, &vocab, hidden[0][0].len()).unwrap();
        let prompt = ids(&case["prompt"]);
        let mut last = 0;
        for &id in &prompt {
            search.accept_prompt(&[id], &hidden[last][id as usize]);
            last = id as usize;
        }
        for want in ids(&case["token_ids"]) {
            let candidates = search.candidates(&table[last], None, &mut Candidates::new()).unwrap();
            let states: Vec<f32> =
                candidates.iter().flat_map(|&(id, _)| hidden[last][id as usize].clone()).collect();
            let (id, _) = candidates[search.choose(&candidates, &states)];
            assert_eq!(id, want, "{}", case["token_ids"]);
            search.accept(id, &hidden[last][id as usize]);
            last = id as usize;
        }
    });
    assert_eq!(n_checked, 5);
}

fn check_beams(case: &Value, table: &[Vec<f32>]) {
    let count = |name: &str| case[name].as_u64().unwrap() as usize;
    let early_stopping = match case["early_stopping"].as_str().unwrap() {
        "when_full" => EarlyStopping::WhenFull,
        "heuristic" => EarlyStopping::Heuristic,
        _ => EarlyStopping::Never,
    };
    let num_beams = count("num_beams");
    let beam = Beam { num_beams, length_penalty: number(&case["length_penalty"]), early_stopping };
    let sampling = Sampling {
        n: count("n"),
        min_tokens: count("min_tokens"),
        penalties: Penalties { repetition: number(&case["repetition"]), ..Penalties::default() },
        search: Search::Beam(beam),
        ..Sampling::default()
    };
    sampling.validate().unwrap();
    let end_tokens: Arc<[TokenId]> = ids(&case["end_tokens"]).into();
    let vocab = SamplerVocab { size: table.len(), end_tokens, token_bytes: None };
    let prompt = ids(&case["prompt"]);
    let mut search = BeamSearch::new(beam, &sampling, &vocab, &prompt, count("max_tokens")).unwrap();
    let mut candidates = Candidates::new();
    while !search.is_done() {
        let row = |beam: usize| -> Vec<f32> {
            let token_ids = [&prompt, search.token_ids(beam)].concat();
            let sharpness = (8 + (token_ids.len() - 1) % 5) as f32 / 8.0;
            table[token_ids[token_ids.len() - 1] as usize].iter().map(|x| x * sharpness).collect()
        };
        let rows: Vec<Vec<f32>> = (0..search.n_running()).map(row).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let before: Vec<Vec<TokenId>> =
            (0..search.n_running()).map(|b| search.token_ids(b).to_vec()).collect();
        let continuations = search.step(&rows, |_| false, &mut candidates).unwrap();
        assert_eq!(continuations.len(), search.n_running());
        for (beam, continuation) in continuations.iter().enumerate() {
            let (token, parents) = search.token_ids(beam).split_last().unwrap();
            assert_eq!((*token, parents), (continuation.token, before[continuation.parent].as_slice()));
        }
    }
    let hypotheses = search.into_hypotheses();
    let wanted = case["hypotheses"].as_array().unwrap();
    assert_eq!(hypotheses.len(), wanted.len(), "{case}");
    for (got, want) in hypotheses.iter().zip(wanted) {
        assert_eq!(got.token_ids, ids(&want["token_ids"]), "{case}");
        let score = want["score"].as_f64().unwrap();
        assert!((got.score - score).abs() <= 2e-4, "{}, not {score}: {case}", got.score); // theirs are sums of f32
    }
}

/// The chain's candidates for a case's row, settings and history.
fn adjusted(case: &Value, sampling: Sampling, vocab: &SamplerVocab) -> Candidates {
    sampling.validate().unwrap();
    let mut sampler = Sampler::new(&sampling, vocab, 0, 0).unwrap();
    sampler.accept_prompt(&case.get("history").map(ids).unwrap_or_default());
    let mut candidates = Candidates::new();
    sampler.adjust(&row(case), None, &mut candidates).unwrap();
    candidates
}

/// Exactly the logits that the case lists are changed, and to these numbers.
fn check_changes(case: &Value, texts: &[&str]) {
    let logits = row(case);
    let candidates = adjusted(case, sampling(case), &vocab(logits.len(), texts));
    let changes = numbers_by_id(&case["logits"]);
    for (id, (&got, &logit)) in candidates.logits().iter().zip(&logits).enumerate() {
        let want = changes.get(&(id as TokenId)).copied().unwrap_or(f64::from(logit));
        let error = (f64::from(got) - want).abs();
        assert!(error <= 1e-6 * want.abs().max(1.0), "token {id}: {got}, not {want}: {case}");
    }
}

/// A case's settings over the defaults; every key must be known.
fn sampling(case: &Value) -> Sampling {
    let mut s = Sampling::default();
    for (key, value) in case["settings"].as_object().unwrap() {
        match key.as_str() {
            "temperature" => s.temperature = number(value),
            "top_k" => s.top_k = Some(value.as_u64().unwrap() as usize),
            "top_p" => s.top_p = number(value),
            "min_p" => s.min_p = number(value),
            "typical_p" => s.typical_p = number(value),
            "top_n_sigma" => s.top_n_sigma = Some(number(value)),
            "xtc" => {
                let (probability, threshold) = (number(&value["probability"]), number(&value["threshold"]));
                s.xtc = Some(Xtc { probability, threshold });
            }
            "dynamic_temperature" => {
                let (range, exponent) = (number(&value["range"]), number(&value["exponent"]));
                s.dynamic_temperature = Some(DynamicTemperature { range, exponent });
            }
            "penalties" => {
                s.penalties = Penalties {
                    repetition: number(&value["repetition"]),
                    presence: number(&value["presence"]),
                    frequency: number(&value["frequency"]),
                    last_n: value["last_n"].as_u64().map(|n| n as usize),
                }
            }
            "dry" => s.dry = Some(dry(value)),
            _ => panic!("unknown setting {key}"),
        }
    }
    s
}

fn dry(value: &Value) -> Dry {
    let breakers = value["sequence_breakers"].as_array().unwrap();
    Dry {
        multiplier: number(&value["multiplier"]),
        base: number(&value["base"]),
        allowed_length: value["allowed_length"].as_u64().unwrap() as usize,
        penalty_last_n: value["penalty_last_n"].as_u64().map(|n| n as usize),
        sequence_breakers: breakers.iter().map(|breaker| breaker.as_str().unwrap().to_owned()).collect(),
    }
}

/// `size` 0: that of the rows.
fn vocab(size: usize, texts: &[&str]) -> SamplerVocab {
    let size = if size > 0 { size } else { GOLDEN["rows"][0].as_array().unwrap().len() };
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    let token_bytes = move |id: TokenId, bytes: &mut Vec<u8>| {
        bytes.extend_from_slice(texts.get(id as usize).map_or("", String::as_str).as_bytes());
    };
    SamplerVocab { size, end_tokens: Arc::from([]), token_bytes: Some(Arc::new(token_bytes)) }
}

fn for_each(name: &str, mut check: impl FnMut(&Value)) -> usize {
    let cases = GOLDEN[name].as_array().unwrap();
    assert!(!cases.is_empty());
    cases.iter().for_each(&mut check);
    cases.len()
}

fn row(case: &Value) -> Vec<f32> {
    GOLDEN["rows"][case["row"].as_u64().unwrap() as usize].as_array().unwrap().iter().map(number).collect()
}

fn number(value: &Value) -> f32 {
    value.as_f64().expect("a number") as f32
}

fn ids(value: &Value) -> Vec<TokenId> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as TokenId).collect()
}

fn numbers_by_id(value: &Value) -> BTreeMap<TokenId, f64> {
    value.as_object().unwrap().iter().map(|(id, x)| (id.parse().unwrap(), x.as_f64().unwrap())).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f32>> {
    value.as_array().unwrap().iter().map(|row| row.as_array().unwrap().iter().map(number).collect()).collect()
}

fn kind(name: &str) -> SamplerKind {
    SamplerKind::from_name(name).expect("a sampler")
}
