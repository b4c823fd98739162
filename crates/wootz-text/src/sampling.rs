//! Every setting that decides how tokens are chosen and when a generation ends.
//!
//! Where:  part of a [`GenerateRequest`](crate::GenerateRequest); executed by `wootz-engine`, translated by `wootz-remote`.
//! Idea:   the default leaves the model's own distribution untouched; each sampler is off unless asked for.
//! Source: each field names the paper or program that its meaning comes from.
//! Elsewhere: the samplers themselves (`wootz-engine`).

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::Value;

use crate::{Form, SamplingError, TokenId};

/// How tokens are chosen and when a generation ends.
///
/// `Sampling::default()` samples from the model's own distribution (temperature 1, nothing cut off) until an end token or
/// the context's end; [`Sampling::greedy`] takes the likeliest token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Most new tokens, at least 1. `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// No end token and no stop string counts before this many new tokens. Default 0.
    pub min_tokens: usize,
    /// Strings that end the generation; the text ends before them. Default none, at most [`Sampling::MAX_STOPS`].
    pub stop: Vec<String>,
    /// Treat end tokens as ordinary ones. Default false.
    pub ignore_eos: bool,
    /// Spell special tokens out in the text, end tokens excepted, as whoever looks for tool calls needs. Default false.
    pub keep_special: bool,
    /// Answers to one prompt, 1 to [`Sampling::MAX_N`]. Default 1. With beam search: beams returned.
    pub n: usize,
    /// Same seed, same tokens. `None`: the model chooses one.
    pub seed: Option<u64>,
    /// `Some(k)`: report each token's log-probability and those of the `k` likeliest (`k` may be 0). Default `None`.
    /// They are of the model's own distribution, before any sampler.
    pub logprobs: Option<usize>,
    /// Added to the logits of single tokens before everything else; negative infinity forbids a token. Default none.
    pub logit_bias: BTreeMap<TokenId, f32>,

    /// Logits are divided by it. 0 takes the likeliest token. Default 1.
    pub temperature: f32,
    /// Temperature that follows the distribution's entropy; replaces the fixed one. Default off.
    pub dynamic_temperature: Option<DynamicTemperature>,
    /// Keep the `k` likeliest tokens, at least 1. Default off.
    pub top_k: Option<usize>,
    /// Keep the fewest likeliest tokens whose probabilities reach this sum, in (0, 1]. Default 1: keep all.
    /// Holtzman et al. 2020, nucleus sampling.
    pub top_p: f32,
    /// Keep tokens at least this many times as likely as the likeliest, in \[0, 1\]. Default 0: keep all. Nguyen et al. 2024.
    pub min_p: f32,
    /// Keep tokens whose surprise is nearest to the expected one up to this mass, in (0, 1]. Default 1: keep all.
    /// Meister et al. 2023, locally typical sampling.
    pub typical_p: f32,
    /// Keep logits within this many standard deviations of the largest, above 0. Default off. Tang et al. 2024, top-nσ.
    pub top_n_sigma: Option<f32>,
    /// Sometimes remove the likeliest choices. Default off.
    pub xtc: Option<Xtc>,
    /// Penalise continuing a repetition. Default off.
    pub dry: Option<Dry>,
    /// Penalties on tokens that occurred already. Default off.
    pub penalties: Penalties,
    /// Hold the surprise at a target; replaces all truncation samplers. Default off.
    pub mirostat: Option<Mirostat>,
    /// The order in which samplers act. Default [`Sampling::DEFAULT_ORDER`]. A sampler that is left out does not act.
    pub order: Vec<SamplerKind>,
    /// Sample token by token, or search. Default [`Search::Sample`].
    pub search: Search,
    /// What the answer must look like. Default `None`: anything.
    pub constraint: Option<Constraint>,
    /// What happens when prompt and answer do not fit the context. Default [`ContextFull::Error`].
    pub context_full: ContextFull,
    /// Whether guesses at what comes next may be run along, which changes speed and never a token. Default true.
    pub guesses: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: None,
            min_tokens: 0,
            stop: Vec::new(),
            ignore_eos: false,
            keep_special: false,
            n: 1,
            seed: None,
            logprobs: None,
            logit_bias: BTreeMap::new(),
            temperature: 1.0,
            dynamic_temperature: None,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: None,
            xtc: None,
            dry: None,
            penalties: Penalties::default(),
            mirostat: None,
            order: Self::DEFAULT_ORDER.to_vec(),
            search: Search::Sample,
            constraint: None,
            context_full: ContextFull::Error,
            guesses: true,
        }
    }
}

impl Sampling {
    /// llama.cpp's order: penalties first, temperature last.
    pub const DEFAULT_ORDER: [SamplerKind; 9] = [
        SamplerKind::Penalties,
        SamplerKind::Dry,
        SamplerKind::TopNSigma,
        SamplerKind::TopK,
        SamplerKind::TypicalP,
        SamplerKind::TopP,
        SamplerKind::MinP,
        SamplerKind::Xtc,
        SamplerKind::Temperature,
    ];
    /// Most answers to one prompt, and most beams.
    pub const MAX_N: usize = 128;
    /// Most alternatives reported per token.
    pub const MAX_LOGPROBS: usize = 100;
    /// Most stop strings.
    pub const MAX_STOPS: usize = 64;
    /// Longest stop string or sequence breaker.
    pub const MAX_STOP_BYTES: usize = 1024;
    /// Most entries of `logit_bias`.
    pub const MAX_LOGIT_BIAS: usize = 4096;
    /// Longest grammar, and longest list of choices.
    pub const MAX_CONSTRAINT_BYTES: usize = 1 << 20;

    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether the likeliest token is taken without chance, so that the seed does not matter.
    pub fn is_greedy(&self) -> bool {
        self.search == Search::Sample
            && self.temperature == 0.0
            && self.dynamic_temperature.is_none()
            && self.mirostat.is_none()
    }

    /// Checks every field's range and the combinations that contradict each other.
    ///
    /// # Errors
    /// The first field outside its range, by name.
    pub fn validate(&self) -> Result<(), SamplingError> {
        self.validate_ends()?;
        self.validate_cuts()?;
        self.penalties.validate()?;
        if let Some(dynamic) = &self.dynamic_temperature {
            dynamic.validate(self.temperature)?;
        }
        if let Some(xtc) = &self.xtc {
            check(
                "xtc.probability",
                "a number from 0 to 1",
                xtc.probability,
                (0.0..=1.0).contains(&xtc.probability),
            )?;
            check(
                "xtc.threshold",
                "a number from 0 to 1",
                xtc.threshold,
                (0.0..=1.0).contains(&xtc.threshold),
            )?;
        }
        if let Some(dry) = &self.dry {
            dry.validate()?;
        }
        if let Some(mirostat) = &self.mirostat {
            check("mirostat.tau", "a finite number above 0", mirostat.tau, is_positive(mirostat.tau))?;
            check("mirostat.eta", "a finite number above 0", mirostat.eta, is_positive(mirostat.eta))?;
        }
        if self.context_full == ContextFull::Shift {
            let field = "context_full";
            check(field, "`max_tokens` beside `shift`", "none", self.max_tokens.is_some())?;
            check(field, "token by token", "a search beside `shift`", self.search == Search::Sample)?;
        }
        if let Some(constraint) = &self.constraint {
            constraint.validate(self)?;
        }
        self.search.validate(self)
    }

    fn validate_ends(&self) -> Result<(), SamplingError> {
        if let Some(max_tokens) = self.max_tokens {
            check("max_tokens", "at least 1", max_tokens, max_tokens >= 1)?;
            check("min_tokens", "at most `max_tokens`", self.min_tokens, self.min_tokens <= max_tokens)?;
        }
        check("stop", "at most 64 strings", self.stop.len(), self.stop.len() <= Self::MAX_STOPS)?;
        for stop in &self.stop {
            check("stop", "strings of 1 to 1024 bytes", stop.len(), fits_stop(stop))?;
        }
        check("n", "1 to 128", self.n, (1..=Self::MAX_N).contains(&self.n))?;
        let logprobs = self.logprobs.unwrap_or(0);
        check("logprobs", "at most 100", logprobs, logprobs <= Self::MAX_LOGPROBS)?;
        let n_biases = self.logit_bias.len();
        check("logit_bias", "at most 4096 tokens", n_biases, n_biases <= Self::MAX_LOGIT_BIAS)?;
        for &bias in self.logit_bias.values() {
            check("logit_bias", "finite numbers or negative infinity", bias, bias < f32::INFINITY)?;
        }
        Ok(())
    }

    fn validate_cuts(&self) -> Result<(), SamplingError> {
        let t = self.temperature;
        check("temperature", "a finite number, 0 or above", t, t.is_finite() && t >= 0.0)?;
        if let Some(top_k) = self.top_k {
            check("top_k", "at least 1", top_k, top_k >= 1)?;
        }
        check("top_p", "a number above 0 and at most 1", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0)?;
        check("min_p", "a number from 0 to 1", self.min_p, (0.0..=1.0).contains(&self.min_p))?;
        let p = self.typical_p;
        check("typical_p", "a number above 0 and at most 1", p, p > 0.0 && p <= 1.0)?;
        if let Some(sigmas) = self.top_n_sigma {
            check("top_n_sigma", "a finite number above 0", sigmas, is_positive(sigmas))?;
        }
        for (i, kind) in self.order.iter().enumerate() {
            check("order", "each sampler at most once", kind.as_str(), !self.order[..i].contains(kind))?;
        }
        Ok(())
    }
}

/// What an answer must look like. The model's end token is allowed exactly where the answer is complete.
///
/// When the tokens that are left are just enough to complete a document, what closes it comes before anything else: a
/// document that is wound up in time is worth more than one that breaks off.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// A JSON document of this schema.
    JsonSchema(Value),
    /// A text that this regular expression matches as a whole.
    Regex(String),
    /// A grammar in Lark's notation, from its rule `start`.
    Lark(String),
    /// A grammar in llama.cpp's notation, from its rule `root`.
    Gbnf(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A reply whose calls follow schemas. Where its text is free, it is not wound up.
    Form(Form),
}

impl Constraint {
    fn validate(&self, sampling: &Sampling) -> Result<(), SamplingError> {
        const FIELD: &str = "constraint";
        let n_bytes = match self {
            Self::JsonSchema(schema) => {
                let is_schema = schema.is_object() || schema.is_boolean();
                check(FIELD, "a schema: an object or a boolean", schema, is_schema)?;
                schema.to_string().len()
            }
            Self::Regex(text) | Self::Lark(text) | Self::Gbnf(text) => {
                check(FIELD, "a text that is not empty", "an empty one", !text.is_empty())?;
                text.len()
            }
            Self::Choice(texts) => {
                check(FIELD, "at least one choice", "none", !texts.is_empty())?;
                texts.iter().map(String::len).sum()
            }
            Self::Form(form) => form.n_bytes(),
        };
        check(FIELD, "at most 1 MiB", n_bytes, n_bytes <= Sampling::MAX_CONSTRAINT_BYTES)?;
        check(FIELD, "`ignore_eos` false beside it", "true", !sampling.ignore_eos)?;
        check(FIELD, "token by token", "a search beside it", sampling.search == Search::Sample)
    }
}

/// What happens when prompt and answer do not fit the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ContextFull {
    /// A prompt that leaves no room is refused; an answer that reaches the end finishes with `length`.
    #[default]
    Error,
    /// The prompt loses tokens at its beginning, a start token kept, until `max_tokens` (without them a quarter of the
    /// context, and never more than half of it) fit behind it.
    TruncateLeft,
    /// As `TruncateLeft`; and when an answer reaches the end, the older half of what was said is forgotten and it goes on.
    Shift,
}

/// Temperature between `temperature - range` and `temperature + range`, by the normalised entropy to the power `exponent`.
/// As in llama.cpp (`dynatemp`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicTemperature {
    /// Half the width, at most [`Sampling::temperature`].
    pub range: f32,
    /// Above 0; 1 is linear in the entropy.
    pub exponent: f32,
}

impl DynamicTemperature {
    fn validate(&self, temperature: f32) -> Result<(), SamplingError> {
        let is_inside = self.range >= 0.0 && self.range <= temperature;
        check("dynamic_temperature.range", "a number from 0 to `temperature`", self.range, is_inside)?;
        let exponent = self.exponent;
        check("dynamic_temperature.exponent", "a finite number above 0", exponent, is_positive(exponent))
    }
}

/// Exclude top choices: with `probability`, remove all tokens above `threshold` but the least likely of them.
/// p-e-w 2024, text-generation-webui.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xtc {
    /// Chance that it acts on a token, in \[0, 1\].
    pub probability: f32,
    /// In \[0, 1\]; above 0.5 it never acts.
    pub threshold: f32,
}

impl Default for Xtc {
    fn default() -> Self {
        Self { probability: 0.5, threshold: 0.1 }
    }
}

/// Don't repeat yourself: a token that would continue a repeated sequence of length `l` loses
/// `multiplier · base^(l - allowed_length)`. p-e-w 2024, text-generation-webui.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// Scale, 0 or above. Default 0.8.
    pub multiplier: f32,
    /// At least 1. Default 1.75.
    pub base: f32,
    /// Repetitions up to this length go unpunished. Default 2.
    pub allowed_length: usize,
    /// Tokens looked back; `None`: the whole context. Default `None`.
    pub penalty_last_n: Option<usize>,
    /// A repetition does not reach over these. Default newline, colon, quote, asterisk.
    pub sequence_breakers: Vec<String>,
}

impl Default for Dry {
    fn default() -> Self {
        Self {
            multiplier: 0.8,
            base: 1.75,
            allowed_length: 2,
            penalty_last_n: None,
            sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
        }
    }
}

impl Dry {
    fn validate(&self) -> Result<(), SamplingError> {
        let multiplier = self.multiplier;
        let is_scale = multiplier.is_finite() && multiplier >= 0.0;
        check("dry.multiplier", "a finite number, 0 or above", multiplier, is_scale)?;
        let is_base = self.base.is_finite() && self.base >= 1.0;
        check("dry.base", "a finite number, 1 or above", self.base, is_base)?;
        let n_breakers = self.sequence_breakers.len();
        check("dry.sequence_breakers", "at most 64 strings", n_breakers, n_breakers <= Sampling::MAX_STOPS)?;
        for breaker in &self.sequence_breakers {
            check("dry.sequence_breakers", "strings of 1 to 1024 bytes", breaker.len(), fits_stop(breaker))?;
        }
        Ok(())
    }
}

/// Penalties on tokens that occurred already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalties {
    /// Positive logits are divided by it, negative ones multiplied; above 0, 1 is off. Keskar et al. 2019, CTRL.
    pub repetition: f32,
    /// Subtracted once from a token that occurred. 0 is off. OpenAI API.
    pub presence: f32,
    /// Subtracted as often as a token occurred. 0 is off. OpenAI API.
    pub frequency: f32,
    /// Tokens looked back, prompt included; `None`: the whole context. Default `None`.
    pub last_n: Option<usize>,
}

impl Default for Penalties {
    fn default() -> Self {
        Self { repetition: 1.0, presence: 0.0, frequency: 0.0, last_n: None }
    }
}

impl Penalties {
    /// Whether nothing would change.
    pub fn is_off(&self) -> bool {
        let changes_nothing = self.repetition == 1.0 && self.presence == 0.0 && self.frequency == 0.0;
        changes_nothing || self.last_n == Some(0)
    }

    fn validate(&self) -> Result<(), SamplingError> {
        let repetition = self.repetition;
        check("penalties.repetition", "a finite number above 0", repetition, is_positive(repetition))?;
        check("penalties.presence", "a finite number", self.presence, self.presence.is_finite())?;
        check("penalties.frequency", "a finite number", self.frequency, self.frequency.is_finite())
    }
}

/// Feedback that holds the surprise of chosen tokens at a target. Basu et al. 2021.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirostat {
    /// Which of the paper's algorithms.
    pub version: MirostatVersion,
    /// Target surprise in bits. Default 5.
    pub tau: f32,
    /// Learning rate. Default 0.1.
    pub eta: f32,
}

impl Default for Mirostat {
    fn default() -> Self {
        Self { version: MirostatVersion::V2, tau: 5.0, eta: 0.1 }
    }
}

/// Which Mirostat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirostatVersion {
    /// Estimates Zipf's exponent, then cuts at a `k`.
    V1,
    /// Cuts directly at a surprise.
    V2,
}

/// A step of the sampling chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// [`Sampling::penalties`].
    Penalties,
    /// [`Sampling::dry`].
    Dry,
    /// [`Sampling::top_n_sigma`].
    TopNSigma,
    /// [`Sampling::top_k`].
    TopK,
    /// [`Sampling::typical_p`].
    TypicalP,
    /// [`Sampling::top_p`].
    TopP,
    /// [`Sampling::min_p`].
    MinP,
    /// [`Sampling::xtc`].
    Xtc,
    /// [`Sampling::temperature`] or [`Sampling::dynamic_temperature`].
    Temperature,
}

impl SamplerKind {
    /// The name used in settings (`top_k`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Penalties => "penalties",
            Self::Dry => "dry",
            Self::TopNSigma => "top_n_sigma",
            Self::TopK => "top_k",
            Self::TypicalP => "typical_p",
            Self::TopP => "top_p",
            Self::MinP => "min_p",
            Self::Xtc => "xtc",
            Self::Temperature => "temperature",
        }
    }

    /// The sampler of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Sampling::DEFAULT_ORDER.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Token by token, or a search over several continuations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Search {
    /// Each token is drawn from the sampled distribution.
    #[default]
    Sample,
    /// Beam search.
    Beam(Beam),
    /// Contrastive search.
    Contrastive(Contrastive),
}

impl Search {
    fn validate(&self, sampling: &Sampling) -> Result<(), SamplingError> {
        match self {
            Self::Sample => Ok(()),
            Self::Beam(beam) => {
                let is_width = (1..=Sampling::MAX_N).contains(&beam.num_beams);
                check("search.num_beams", "1 to 128", beam.num_beams, is_width)?;
                check("n", "at most `search.num_beams`", sampling.n, sampling.n <= beam.num_beams)?;
                let penalty = beam.length_penalty;
                check("search.length_penalty", "a finite number", penalty, penalty.is_finite())
            }
            Self::Contrastive(contrastive) => {
                let alpha = contrastive.penalty_alpha;
                check("search.penalty_alpha", "a number from 0 to 1", alpha, (0.0..=1.0).contains(&alpha))?;
                check(
                    "search.top_k",
                    "1 to 128",
                    contrastive.top_k,
                    (1..=Sampling::MAX_N).contains(&contrastive.top_k),
                )?;
                check("n", "1 with contrastive search", sampling.n, sampling.n == 1)
            }
        }
    }
}

/// Beam search, with Hugging Face's scoring: sum of log-probabilities / length^`length_penalty`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beam {
    /// Beams kept, 1 to [`Sampling::MAX_N`].
    pub num_beams: usize,
    /// Above 0 favours long, below 0 short answers. Default 1.
    pub length_penalty: f32,
    /// When to stop. Default [`EarlyStopping::Heuristic`].
    pub early_stopping: EarlyStopping,
}

impl Default for Beam {
    fn default() -> Self {
        Self { num_beams: 4, length_penalty: 1.0, early_stopping: EarlyStopping::Heuristic }
    }
}

/// When a beam search with enough finished beams ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyStopping {
    /// As soon as `num_beams` are finished (Hugging Face: `true`).
    WhenFull,
    /// When a better one is unlikely, by the present length (`false`).
    Heuristic,
    /// Only when a better one is impossible (`"never"`).
    Never,
}

/// Contrastive search: of the `top_k` likeliest tokens the one with the largest
/// `(1 - penalty_alpha) · probability - penalty_alpha · similarity to what was said`. Su et al. 2022, eq. 5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrastive {
    /// Weight of the similarity, in \[0, 1\]. Default 0.6.
    pub penalty_alpha: f32,
    /// Candidates per token, 1 to [`Sampling::MAX_N`]. Default 4.
    pub top_k: usize,
}

impl Default for Contrastive {
    fn default() -> Self {
        Self { penalty_alpha: 0.6, top_k: 4 }
    }
}

fn check(
    field: &'static str,
    expected: &'static str,
    got: impl Display,
    holds: bool,
) -> Result<(), SamplingError> {
    if holds { Ok(()) } else { Err(SamplingError { field, expected, got: got.to_string() }) }
}

fn is_positive(x: f32) -> bool {
    x.is_finite() && x > 0.0
}

fn fits_stop(stop: &str) -> bool {
    (1..=Sampling::MAX_STOP_BYTES).contains(&stop.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_change_nothing() {
        let sampling = Sampling::default();
        assert_eq!(sampling.validate(), Ok(()));
        assert!(sampling.penalties.is_off() && !sampling.is_greedy());
        assert!(Sampling::greedy().is_greedy());
    }

    #[test]
    fn every_bad_setting_is_named() {
        let check = |field: &str, change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            let error = sampling.validate().expect_err(field);
            assert_eq!(error.field, field, "{error}");
        };
        check("max_tokens", |s| s.max_tokens = Some(0));
        check("min_tokens", |s| (s.max_tokens, s.min_tokens) = (Some(2), 3));
        check("stop", |s| s.stop = vec![String::new()]);
        check("n", |s| s.n = 0);
        check("logprobs", |s| s.logprobs = Some(101));
        check("logit_bias", |s| s.logit_bias = BTreeMap::from([(1, f32::NAN)]));
        check("temperature", |s| s.temperature = -1.0);
        check("top_k", |s| s.top_k = Some(0));
        check("top_p", |s| s.top_p = f32::NAN);
        check("min_p", |s| s.min_p = 1.5);
        check("typical_p", |s| s.typical_p = 0.0);
        check("top_n_sigma", |s| s.top_n_sigma = Some(f32::INFINITY));
        check("order", |s| s.order = vec![SamplerKind::TopK, SamplerKind::TopK]);
        check("dynamic_temperature.range", |s| {
            s.dynamic_temperature = Some(DynamicTemperature { range: 2.0, exponent: 1.0 })
        });
        check("xtc.probability", |s| s.xtc = Some(Xtc { probability: 2.0, threshold: 0.1 }));
        check("dry.base", |s| s.dry = Some(Dry { base: 0.5, ..Dry::default() }));
        check("penalties.repetition", |s| s.penalties.repetition = 0.0);
        check("mirostat.tau", |s| s.mirostat = Some(Mirostat { tau: 0.0, ..Mirostat::default() }));
        check("search.num_beams", |s| s.search = Search::Beam(Beam { num_beams: 0, ..Beam::default() }));
        check("n", |s| (s.n, s.search) = (5, Search::Beam(Beam::default())));
        check("constraint", |s| s.constraint = Some(Constraint::Regex(String::new())));
        check("constraint", |s| s.constraint = Some(Constraint::Choice(Vec::new())));
        check("constraint", |s| s.constraint = Some(Constraint::JsonSchema(Value::Null)));
        check("constraint", |s| (s.ignore_eos, s.constraint) = (true, Some(Constraint::Regex("a".into()))));
        check("context_full", |s| s.context_full = ContextFull::Shift);
        check("search.penalty_alpha", |s| {
            s.search = Search::Contrastive(Contrastive { penalty_alpha: 2.0, top_k: 4 })
        });
    }

    #[test]
    fn sampler_names_go_both_ways() {
        for kind in Sampling::DEFAULT_ORDER {
            assert_eq!(SamplerKind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(SamplerKind::from_name("magic"), None);
    }
}
