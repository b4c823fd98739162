//! What must hold for any settings and any logits.
//!
//! Idea:   thousands of settings are rolled from fixed seeds, extreme values often; frequencies are held to their distribution.

use std::sync::Arc;

use wootz_text::{
    Dry, DynamicTemperature, Mirostat, MirostatVersion, Penalties, SamplerKind, Sampling, TokenId, Xtc,
};

use super::rng::Rng;
use super::{Candidates, Drawn, SampleError, Sampler, SamplerVocab, TokenMask};

fn vocab(size: usize) -> SamplerVocab {
    let token_bytes =
        |id: TokenId, bytes: &mut Vec<u8>| bytes.extend([b'a' + (id % 26) as u8, b"\n: "[id as usize % 3]]);
    SamplerVocab { size, end_tokens: Arc::from([0, 1]), token_bytes: Some(Arc::new(token_bytes)) }
}

/// Numbers that decide between settings.
struct Dice(Rng, usize);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(Rng::new(seed, 99), 0)
    }

    fn below(&mut self, n: usize) -> usize {
        self.1 += 1;
        self.0.seek(self.1);
        (self.0.uniform() * n as f64) as usize
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Valid settings, extreme ones often.
    fn sampling(&mut self, vocab_size: usize) -> Sampling {
        let temperature = self.of(&[0.0, 1e-45, 1e-30, 0.3, 1.0, 1.0, 2.0, f32::MAX]);
        let mut order = Sampling::DEFAULT_ORDER.to_vec();
        for i in (1..order.len()).rev() {
            order.swap(i, self.below(i + 1));
        }
        order.truncate(self.of(&[0, 3, 9, 9, 9]));
        let versions = [MirostatVersion::V1, MirostatVersion::V2];
        let range = temperature * self.of(&[0.0, 0.5, 1.0]);
        let dynamic = DynamicTemperature { range, exponent: self.of(&[1e-6, 1.0, 3.0, 1e30]) };
        let penalties = Penalties {
            repetition: self.of(&[1.0, 1e-38, 0.5, 1.3, f32::MAX]),
            presence: self.of(&[0.0, -2.0, 0.7, f32::MAX]),
            frequency: self.of(&[0.0, 0.1, f32::MIN]),
            last_n: self.of(&[None, Some(0), Some(1), Some(5)]),
        };
        let dry = Dry {
            multiplier: self.of(&[0.0, 0.8, f32::MAX]),
            base: self.of(&[1.0, 1.75, f32::MAX]),
            allowed_length: self.of(&[0, 1, 2, usize::MAX]),
            penalty_last_n: self.of(&[None, Some(0), Some(1), Some(4)]),
            ..Dry::default()
        };
        let mirostat = Mirostat {
            version: self.of(&versions),
            tau: self.of(&[1e-30, 3.0, 5.0, f32::MAX]),
            eta: self.of(&[1e-30, 0.1, f32::MAX]),
        };
        let xtc = Xtc { probability: self.of(&[0.0, 0.5, 1.0]), threshold: self.of(&[0.0, 0.1, 0.5, 1.0]) };
        let mut bias = || {
            (self.below(vocab_size) as TokenId, self.of(&[f32::MIN, -1.0, 5.0, f32::MAX, f32::NEG_INFINITY]))
        };
        let logit_bias = [bias(), bias()].into();
        let sampling = Sampling {
            min_tokens: self.of(&[0, 3]),
            ignore_eos: self.of(&[false, true]),
            logprobs: self.of(&[None, Some(0), Some(5), Some(100)]),
            logit_bias,
            temperature,
            dynamic_temperature: self.of(&[None, Some(dynamic)]),
            top_k: self.of(&[None, Some(1), Some(3), Some(usize::MAX)]),
            top_p: self.of(&[1.0, 1e-30, 0.5, 0.999_999_9]),
            min_p: self.of(&[0.0, 1e-40, 0.1, 1.0]),
            typical_p: self.of(&[1.0, 1e-30, 0.5, 0.999_999_9]),
            top_n_sigma: self.of(&[None, Some(1e-30), Some(1.0), Some(f32::MAX)]),
            xtc: self.of(&[None, Some(xtc)]),
            dry: Some(dry),
            penalties,
            mirostat: self.of(&[None, None, Some(mirostat)]),
            order,
            ..Sampling::default()
        };
        assert_eq!(sampling.validate(), Ok(()));
        sampling
    }

    fn logits(&mut self, n: usize) -> Vec<f32> {
        let scale = self.of(&[0.0, 1e-30, 1.0, 5.0, 100.0, 1e30, 1e38]);
        let mut logits: Vec<f32> =
            (0..n).map(|_| (self.below(2001) as f32 - 1000.0) / 333.0 * scale).collect();
        for _ in 0..self.of(&[0, 0, 1, n / 2]) {
            let i = self.below(n);
            logits[i] = self.of(&[f32::NEG_INFINITY, f32::MIN, f32::MAX, -0.0]);
        }
        logits
    }
}

fn sampler(sampling: &Sampling, size: usize, seed: u64) -> Sampler {
    Sampler::new(sampling, &vocab(size), seed, 0).unwrap()
}

/// Samples `n` tokens from the same logits.
fn run(sampling: &Sampling, logits: &[f32], seed: u64, n: usize) -> Vec<TokenId> {
    let mut sampler = sampler(sampling, logits.len(), seed);
    let mut candidates = Candidates::new();
    (0..n)
        .map(|_| {
            let id = sampler.sample(logits, None, &mut candidates).unwrap().id;
            sampler.accept(id);
            id
        })
        .collect()
}

fn random_logits(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, 1);
    (0..n)
        .map(|i| {
            rng.seek(i);
            (rng.uniform() * 8.0) as f32
        })
        .collect()
}

#[test]
fn no_settings_panic_and_only_possible_tokens_are_drawn() {
    let mut candidates = Candidates::new();
    let mut n_refused = 0;
    for seed in 0..4000 {
        let mut dice = Dice::new(seed);
        let size = dice.of(&[1, 2, 3, 40, 700]);
        let sampling = dice.sampling(size);
        let mut sampler = sampler(&sampling, size, seed);
        let prompt: Vec<TokenId> = (0..dice.below(30)).map(|_| dice.below(size.min(4)) as TokenId).collect();
        sampler.accept_prompt(&prompt);
        let words: Vec<u32> = (0..size.div_ceil(32)).map(|_| dice.of(&[0, 5, u32::MAX])).collect();
        let mask = dice.of(&[None, None, Some(TokenMask::new(&words))]);
        let mut n_new = 0;
        for _ in 0..6 {
            let logits = dice.logits(size);
            match sampler.sample(&logits, mask, &mut candidates) {
                Ok(drawn) => {
                    check_drawn(&drawn, &logits, mask, &sampling, n_new);
                    sampler.accept(drawn.id);
                    n_new += 1;
                }
                Err(SampleError::NothingAllowed { .. }) => {
                    n_refused += 1;
                    let forbidden = |id: TokenId| is_forbidden(id, &logits, mask, &sampling, n_new);
                    assert!((0..size as TokenId).all(forbidden), "seed {seed}: a token was allowed");
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }
    assert!(n_refused > 100, "refusals are tested too: {n_refused}");
}

fn is_forbidden(
    id: TokenId,
    logits: &[f32],
    mask: Option<TokenMask>,
    sampling: &Sampling,
    n_new: usize,
) -> bool {
    let is_early_end = id < 2 && !sampling.ignore_eos && n_new < sampling.min_tokens;
    logits[id as usize] == f32::NEG_INFINITY
        || mask.is_some_and(|mask| !mask.allows(id))
        || sampling.logit_bias.get(&id) == Some(&f32::NEG_INFINITY)
        || is_early_end
}

fn check_drawn(drawn: &Drawn, logits: &[f32], mask: Option<TokenMask>, sampling: &Sampling, n_new: usize) {
    assert!(!is_forbidden(drawn.id, logits, mask, sampling, n_new), "{drawn:?} {sampling:?}");
    assert!(drawn.drawn_logprob <= 0.0 && drawn.drawn_logprob.is_finite(), "{drawn:?} {sampling:?}");
    assert_eq!(drawn.logprob.is_some(), sampling.logprobs.is_some());
    assert!(drawn.top.len() <= sampling.logprobs.unwrap_or(0));
    assert!(drawn.top.is_sorted_by(|a, b| a.1 >= b.1));
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_seed_others() {
    let logits = random_logits(500, 2);
    let sampling = Sampling { top_p: 0.95, xtc: Some(Xtc::default()), ..Sampling::default() };
    assert_eq!(run(&sampling, &logits, 7, 50), run(&sampling, &logits, 7, 50));
    assert_ne!(run(&sampling, &logits, 7, 50), run(&sampling, &logits, 8, 50));
}

#[test]
fn seeded_answers_are_pinned() {
    // Whole numbers, so that nothing but our own arithmetic decides. A change here changes every seeded answer.
    let logits: Vec<f32> = (0..1000).map(|i| (i * 7919 % 1000) as f32 / 64.0).collect();
    let sampling = Sampling {
        temperature: 3.0,
        top_p: 0.9,
        min_p: 0.01,
        dry: Some(Dry::default()),
        ..Sampling::default()
    };
    assert_eq!(run(&sampling, &logits, 7, 8), [63, 582, 247, 853, 1, 260, 508, 605]);
    let mirostat = Some(Mirostat { version: MirostatVersion::V1, ..Mirostat::default() });
    assert_eq!(
        run(&Sampling { mirostat, typical_p: 0.9, ..Sampling::default() }, &logits, 7, 8),
        [75, 605, 284, 963, 321, 321, 321, 321]
    );
}

#[test]
fn a_clone_goes_on_as_the_original_would() {
    let logits = random_logits(300, 3);
    let mirostat = Some(Mirostat::default());
    let sampling = Sampling { mirostat, dry: Some(Dry::default()), ..Sampling::default() };
    let mut original = sampler(&sampling, 300, 1);
    let mut candidates = Candidates::new();
    let mut go_on = |sampler: &mut Sampler| -> Vec<TokenId> {
        (0..20)
            .map(|_| {
                let id = sampler.sample(&logits, None, &mut candidates).unwrap().id;
                sampler.accept(id);
                id
            })
            .collect()
    };
    go_on(&mut original);
    let mut clone = original.clone();
    assert_eq!(go_on(&mut original), go_on(&mut clone));
}

#[test]
fn settings_that_leave_one_token_are_greedy() {
    for seed in 0..20 {
        let logits = random_logits(400, seed);
        let greedy = run(&Sampling::greedy(), &logits, seed, 5);
        let check = |sampling: Sampling| assert_eq!(run(&sampling, &logits, seed, 5), greedy, "{sampling:?}");
        check(Sampling { top_k: Some(1), ..Sampling::default() });
        check(Sampling { top_p: 1e-9, ..Sampling::default() });
        check(Sampling { min_p: 1.0, ..Sampling::default() });
        check(Sampling { temperature: 1e-6, ..Sampling::default() });
        check(Sampling { temperature: 1e-44, ..Sampling::default() });
        check(Sampling { top_n_sigma: Some(1e-9), ..Sampling::default() });
        check(Sampling { temperature: 0.0, mirostat: Some(Mirostat::default()), ..Sampling::default() });
        // Greedy means the likeliest token, whatever is cut off.
        check(Sampling {
            typical_p: 0.01,
            xtc: Some(Xtc { probability: 1.0, threshold: 0.0 }),
            ..Sampling::greedy()
        });
    }
}

#[test]
fn plain_greedy_agrees_with_the_chain_and_ties_go_to_the_lower_id() {
    let everything = vec![u32::MAX; 40];
    let mut candidates = Candidates::new();
    for seed in 0..200 {
        let logits: Vec<f32> = random_logits(1200, seed).iter().map(|x| (x * 2.0).round()).collect();
        let mut sampler = sampler(&Sampling::greedy(), 1200, 0);
        let plain = sampler.sample(&logits, None, &mut candidates).unwrap().id;
        let chained = sampler.sample(&logits, Some(TokenMask::new(&everything)), &mut candidates).unwrap().id;
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(plain as usize, logits.iter().position(|&x| x == max).unwrap());
        assert_eq!(plain, chained);
    }
}

#[test]
fn end_tokens_wait_for_min_tokens_unless_they_are_ordinary() {
    let logits = [9.0, 1.0, 5.0, 4.0];
    let check = |min_tokens, ignore_eos, want: [TokenId; 3]| {
        let sampling = Sampling { min_tokens, ignore_eos, ..Sampling::greedy() };
        assert_eq!(run(&sampling, &logits, 0, 3), want);
    };
    check(0, false, [0, 0, 0]);
    check(2, false, [2, 2, 0]);
    check(2, true, [0, 0, 0]);
}

#[test]
fn bad_logits_and_biases_are_errors() {
    let mut candidates = Candidates::new();
    for sampling in [Sampling::greedy(), Sampling::default()] {
        let mut sampler = sampler(&sampling, 3, 0);
        let mut error = |logits: &[f32]| sampler.sample(logits, None, &mut candidates).unwrap_err();
        assert_eq!(error(&[0.0, 1.0]), SampleError::LogitCount { expected: 3, got: 2 });
        assert!(matches!(error(&[0.0, f32::NAN, 1.0]), SampleError::BadLogit { id: 1, .. }));
        assert!(matches!(error(&[0.0, 1.0, f32::INFINITY]), SampleError::BadLogit { id: 2, .. }));
        assert_eq!(error(&[f32::NEG_INFINITY; 3]), SampleError::NothingAllowed { vocab_size: 3 });
    }
    let sampling = Sampling { logit_bias: [(3, 1.0)].into(), ..Sampling::default() };
    let refused = Sampler::new(&sampling, &vocab(3), 0, 0).unwrap_err();
    assert_eq!(refused, SampleError::UnknownToken { id: 3, vocab_size: 3 });
}

#[test]
fn log_probabilities_are_the_models_own() {
    let logits = [1.0, 3.0, 2.0, f32::NEG_INFINITY];
    let sampling = Sampling {
        logprobs: Some(9),
        temperature: 0.1,
        top_k: Some(2),
        logit_bias: [(1, f32::NEG_INFINITY)].into(),
        ..Sampling::default()
    };
    let drawn = sampler(&sampling, 4, 0).sample(&logits, None, &mut Candidates::new()).unwrap();
    let total: f32 = [1.0_f32, 3.0, 2.0].map(f32::exp).iter().sum();
    let close = |got: f32, want: f32| assert!((got - want).abs() < 1e-5, "{got}, not {want}");
    assert_eq!((drawn.id, drawn.top.iter().map(|t| t.0).collect::<Vec<_>>()), (2, vec![1, 2, 0]));
    close(drawn.logprob.unwrap(), 2.0 - total.ln());
    close(drawn.top[0].1, 3.0 - total.ln());
    close(drawn.drawn_logprob, -(1.0 + (-10.0_f32).exp()).ln());
}

#[test]
fn frequencies_follow_the_distribution() {
    let logits: Vec<f32> = (0..12).map(|i| -0.3 * i as f32).collect();
    for (temperature, top_k, n_left) in [(1.0, None, 12), (0.7, None, 12), (1.5, Some(5), 5)] {
        let sampling = Sampling { temperature, top_k, ..Sampling::default() };
        let n = 20_000;
        let mut counts = [0_u32; 12];
        run(&sampling, &logits, 42, n).iter().for_each(|&id| counts[id as usize] += 1);
        let masses: Vec<f64> = logits[..n_left].iter().map(|&x| f64::from(x / temperature).exp()).collect();
        let total: f64 = masses.iter().sum();
        let chi_square: f64 = masses
            .iter()
            .zip(counts)
            .map(|(mass, count)| {
                let want = mass / total * n as f64;
                (f64::from(count) - want).powi(2) / want
            })
            .sum();
        assert!(counts[n_left..].iter().all(|&count| count == 0));
        // One in a thousand would be above: 31.3 for 11 degrees of freedom, 18.5 for 4. The seed is fixed.
        assert!(chi_square < if n_left == 12 { 31.3 } else { 18.5 }, "{temperature}: {chi_square}");
    }
}

#[test]
fn xtc_acts_as_often_as_it_should() {
    let logits = [2.0, 1.9, 0.0, -1.0];
    let n = 20_000;
    let xtc = Some(Xtc { probability: 0.3, threshold: 0.2 });
    let sampling = Sampling { xtc, order: vec![SamplerKind::Xtc], ..Sampling::default() };
    let n_first = run(&sampling, &logits, 5, n).iter().filter(|&&id| id == 0).count() as f64;
    let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    let p = 0.7 * 2.0_f64.exp() / total;
    let z = (n_first - p * n as f64) / (n as f64 * p * (1.0 - p)).sqrt();
    assert!(z.abs() < 3.3, "{z}");
}

#[test]
fn mirostat_reaches_its_target() {
    // Zipf's law over 2000 tokens: an entropy of about 8 bits.
    let logits: Vec<f32> = (1..=2000).map(|rank| -(rank as f32).ln()).collect();
    let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    for version in [MirostatVersion::V1, MirostatVersion::V2] {
        let mirostat = Some(Mirostat { version, tau: 4.0, eta: 0.1 });
        let ids = run(&Sampling { mirostat, ..Sampling::default() }, &logits, 11, 4000);
        let surprise = |id: &TokenId| (total.ln() - f64::from(logits[*id as usize])) / std::f64::consts::LN_2;
        let mean = ids[1000..].iter().map(surprise).sum::<f64>() / 3000.0;
        assert!((mean - 4.0).abs() < 0.1, "{version:?}: {mean}");
    }
}

#[test]
fn one_memory_serves_vocabularies_of_any_size() {
    let mut candidates = Candidates::new();
    for size in [500, 3, 5000, 1] {
        let logits = random_logits(size, 4);
        let drawn = sampler(&Sampling::default(), size, 1).sample(&logits, None, &mut candidates).unwrap();
        assert_eq!([drawn.id], run(&Sampling::default(), &logits, 1, 1)[..]);
    }
}
