//! How long choosing one token takes, by settings, for a vocabulary of 128,256 tokens (Llama 3).
//!
//! Where:  `cargo bench -p wootz-engine --bench sampler`.
//! Idea:   the floor is one pass over the logits; each line prints its time beside it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wootz_engine::{Candidates, Sampler, SamplerVocab};
use wootz_text::{Dry, Mirostat, MirostatVersion, Penalties, Sampling, TokenId, Xtc};

const V: usize = 128_256;

fn main() {
    let (sharp, flat) = (logits(2.0, true), logits(0.01, false));
    let floor = median(|| {
        black_box(black_box(&sharp).iter().fold(0_u32, |bits, logit| bits | logit.to_bits()));
    });
    println!(
        "{V} tokens; one pass over the logits: {:.3} ms ({:.1} GB/s)",
        ms(floor.0),
        V as f64 * 4e-9 / floor.0.as_secs_f64()
    );
    println!("{:44} {:>9} {:>9} {:>9}", "settings", "median ms", "worst ms", "× floor");
    let report = |name: &str, sampling: Sampling, logits: &[f32]| {
        let (median, worst) = time(&sampling, logits);
        let times_floor = median.as_secs_f64() / floor.0.as_secs_f64();
        println!("{name:44} {:9.3} {:9.3} {times_floor:9.1}", ms(median), ms(worst));
    };
    let default = Sampling::default;
    let usual = || Sampling { temperature: 0.8, top_k: Some(40), top_p: 0.95, min_p: 0.05, ..default() };
    let penalties = Penalties { repetition: 1.1, ..Penalties::default() };
    report("greedy", Sampling::greedy(), &sharp);
    report("greedy, 5 log-probabilities", Sampling { logprobs: Some(5), ..Sampling::greedy() }, &sharp);
    report("greedy, repetition 1.1", Sampling { penalties, ..Sampling::greedy() }, &sharp);
    report("the model's own distribution", default(), &sharp);
    report("top-k 40, top-p .95, min-p .05, temp. 0.8", usual(), &sharp);
    report(
        "the same, repetition 1.1 and DRY",
        Sampling { penalties, dry: Some(Dry::default()), ..usual() },
        &sharp,
    );
    report("top-p 0.9", Sampling { top_p: 0.9, ..default() }, &sharp);
    report("min-p 0.05, XTC", Sampling { min_p: 0.05, xtc: Some(Xtc::default()), ..default() }, &sharp);
    report("top-nσ 1", Sampling { top_n_sigma: Some(1.0), ..default() }, &sharp);
    report("typical 0.95", Sampling { typical_p: 0.95, ..default() }, &sharp);
    for version in [MirostatVersion::V1, MirostatVersion::V2] {
        let mirostat = Some(Mirostat { version, ..Mirostat::default() });
        report(&format!("mirostat {version:?}"), Sampling { mirostat, ..default() }, &sharp);
    }
    report("top-p 0.9 of nearly equal logits", Sampling { top_p: 0.9, ..default() }, &flat);
    report("typical 0.95 of nearly equal logits", Sampling { typical_p: 0.95, ..default() }, &flat);
}

/// Median and worst of one token after a prompt of 4096.
fn time(sampling: &Sampling, logits: &[f32]) -> (Duration, Duration) {
    let token_bytes = |id: TokenId, bytes: &mut Vec<u8>| bytes.extend(id.to_string().bytes());
    let vocab = SamplerVocab { size: V, end_tokens: Arc::from([]), token_bytes: Some(Arc::new(token_bytes)) };
    let mut sampler = Sampler::new(sampling, &vocab, 1, 0).expect("there are no biases");
    let prompt: Vec<TokenId> = (0..4096).map(|i| (i * i % 2047) as TokenId).collect();
    sampler.accept_prompt(&prompt);
    let mut candidates = Candidates::new();
    median(|| {
        let drawn = sampler.sample(black_box(logits), None, &mut candidates).expect("finite logits");
        sampler.accept(black_box(drawn).id);
    })
}

fn median(mut f: impl FnMut()) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..220)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed()
        })
        .skip(20)
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

/// Sums of uniform numbers; with `peaks`, a few likely tokens as a trained model has them.
fn logits(scale: f32, peaks: bool) -> Vec<f32> {
    let mut state = 1_u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let mut logits: Vec<f32> =
        (0..V).map(|_| (0..6).map(|_| uniform() - 0.5).sum::<f32>() * 1.4 * scale).collect();
    for i in 0..if peaks { 60 } else { 0 } {
        logits[i * 2003 % V] = 18.0 - 0.2 * i as f32;
    }
    logits
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
