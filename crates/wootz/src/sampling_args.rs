//! The settings of sampling as arguments.
//!
//! Where:  shared by `run` and `chat`; what they mean stands at `wootz_text::Sampling`.

use clap::Args;
use wootz_text::{
    Beam, Contrastive, Dry, DynamicTemperature, EarlyStopping, Mirostat, MirostatVersion, SamplerKind,
    Sampling, Search, Xtc,
};

/// How tokens are chosen.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// New tokens at most; until the context is full without it
    #[arg(long, short = 'n', value_name = "N")]
    max_tokens: Option<usize>,
    /// No end before this many new tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token
    #[arg(long, short, value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    /// Temperature follows the entropy within ± this
    #[arg(long, value_name = "RANGE")]
    dynatemp_range: Option<f32>,
    /// Exponent of the entropy with --dynatemp-range
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    dynatemp_exponent: f32,
    /// Keep the K likeliest tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Keep the likeliest tokens that reach this probability together
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Keep tokens at least this many times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Locally typical sampling up to this mass
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    typical_p: f32,
    /// Keep logits within this many standard deviations of the largest
    #[arg(long, value_name = "SIGMAS")]
    top_n_sigma: Option<f32>,
    /// Chance of removing the likeliest choices (XTC)
    #[arg(long, value_name = "P")]
    xtc_probability: Option<f32>,
    /// Probability above which XTC removes
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    xtc_threshold: f32,
    /// Penalty on continuing a repetition (DRY), 0.8 is usual
    #[arg(long, value_name = "X")]
    dry_multiplier: Option<f32>,
    /// Base of DRY's growth with the length repeated
    #[arg(long, value_name = "X", default_value_t = 1.75)]
    dry_base: f32,
    /// Repetitions up to this length go unpunished by DRY
    #[arg(long, value_name = "N", default_value_t = 2)]
    dry_allowed_length: usize,
    /// Divides the logits of tokens that occurred; 1 is off
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Subtracted once from tokens that occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Subtracted as often as a token occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Tokens that the penalties look back; all without it
    #[arg(long, value_name = "N")]
    penalty_last_n: Option<usize>,
    /// Mirostat 1 or 2, in place of the samplers that cut off
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2))]
    mirostat: Option<u8>,
    /// Surprise that Mirostat holds, in bits
    #[arg(long, value_name = "TAU", default_value_t = 5.0)]
    mirostat_tau: f32,
    /// Mirostat's rate of learning
    #[arg(long, value_name = "ETA", default_value_t = 0.1)]
    mirostat_eta: f32,
    /// Order of the samplers, comma-separated; one that is left out does not act
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = sampler)]
    samplers: Option<Vec<SamplerKind>>,
    /// Added to the logit of a token, as ID=BIAS; -inf forbids it
    #[arg(long, value_name = "ID=BIAS", value_parser = bias, allow_hyphen_values = true)]
    logit_bias: Vec<(u32, f32)>,
    /// Same seed, same tokens
    #[arg(long)]
    seed: Option<u64>,
    /// Ends the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on through end tokens
    #[arg(long)]
    ignore_eos: bool,
    /// Answers to one prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    n: usize,
    /// Report each token's log-probability and those of the K likeliest
    #[arg(long, value_name = "K")]
    logprobs: Option<usize>,
    /// Beam search with this many beams
    #[arg(long, value_name = "N", conflicts_with = "penalty_alpha")]
    num_beams: Option<usize>,
    /// Above 0 favours long beams, below 0 short ones
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    length_penalty: f32,
    /// When a beam search ends
    #[arg(long, value_name = "WHEN", default_value = "heuristic", value_parser = ["when-full", "heuristic", "never"])]
    early_stopping: String,
    /// Contrastive search with this weight of similarity, over --top-k candidates (4 without it)
    #[arg(long, value_name = "ALPHA")]
    penalty_alpha: Option<f32>,
}

fn sampler(name: &str) -> Result<SamplerKind, String> {
    let known = || Sampling::DEFAULT_ORDER.map(SamplerKind::as_str).join(", ");
    SamplerKind::from_name(name).ok_or_else(|| format!("expected one of {}", known()))
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.split_once('=').and_then(|(id, bias)| Some((id.parse().ok()?, bias.parse().ok()?)));
    parsed.ok_or_else(|| "expected ID=BIAS, like 42=-inf".to_owned())
}

impl SamplingArgs {
    /// The settings, checked.
    pub(crate) fn sampling(&self) -> anyhow::Result<Sampling> {
        let search = match (self.num_beams, self.penalty_alpha) {
            (Some(num_beams), _) => Search::Beam(Beam {
                num_beams,
                length_penalty: self.length_penalty,
                early_stopping: match self.early_stopping.as_str() {
                    "when-full" => EarlyStopping::WhenFull,
                    "never" => EarlyStopping::Never,
                    _ => EarlyStopping::Heuristic,
                },
            }),
            (None, Some(penalty_alpha)) => {
                Search::Contrastive(Contrastive { penalty_alpha, top_k: self.top_k.unwrap_or(4) })
            }
            (None, None) => Search::Sample,
        };
        let mut sampling = Sampling {
            max_tokens: self.max_tokens,
            min_tokens: self.min_tokens,
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            n: self.n,
            seed: self.seed,
            logprobs: self.logprobs,
            logit_bias: self.logit_bias.iter().copied().collect(),
            temperature: self.temperature,
            dynamic_temperature: self
                .dynatemp_range
                .map(|range| DynamicTemperature { range, exponent: self.dynatemp_exponent }),
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            top_n_sigma: self.top_n_sigma,
            xtc: self.xtc_probability.map(|probability| Xtc { probability, threshold: self.xtc_threshold }),
            dry: self.dry_multiplier.map(|multiplier| Dry {
                multiplier,
                base: self.dry_base,
                allowed_length: self.dry_allowed_length,
                ..Dry::default()
            }),
            mirostat: self.mirostat.map(|version| Mirostat {
                version: if version == 1 { MirostatVersion::V1 } else { MirostatVersion::V2 },
                tau: self.mirostat_tau,
                eta: self.mirostat_eta,
            }),
            search,
            ..Sampling::default()
        };
        sampling.penalties.repetition = self.repetition_penalty;
        sampling.penalties.presence = self.presence_penalty;
        sampling.penalties.frequency = self.frequency_penalty;
        sampling.penalties.last_n = self.penalty_last_n;
        if let Some(order) = &self.samplers {
            sampling.order = order.clone();
        }
        sampling.validate()?;
        Ok(sampling)
    }
}
