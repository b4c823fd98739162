//! `options`: Ollama's settings of sampling.

use serde::Deserialize;
use wootz_text::{Mirostat, MirostatVersion, Penalties, Sampling};

use crate::api_error::{ApiError, ApiResult};
use crate::fields::{FieldTable, WireRequest, refused};
use crate::openai::wire::sampling::{in_range, top_k};

/// The object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    num_predict: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    seed: Option<i64>,
    stop: Option<Vec<String>>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    mirostat: Option<u8>,
    mirostat_tau: Option<f32>,
    mirostat_eta: Option<f32>,
}

impl WireRequest for Options {
    const FIELDS: FieldTable = FieldTable {
        request: "`options` of Ollama's requests",
        honoured: &[
            "num_predict",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "seed",
            "stop",
            "repeat_penalty",
            "repeat_last_n",
            "presence_penalty",
            "frequency_penalty",
            "mirostat",
            "mirostat_tau",
            "mirostat_eta",
        ],
        no_effect: &[
            "num_ctx",
            "num_batch",
            "num_gpu",
            "main_gpu",
            "num_thread",
            "numa",
            "low_vram",
            "f16_kv",
            "use_mmap",
            "use_mlock",
            "vocab_only",
            "embedding_only",
            "logits_all",
        ],
        refused: &[
            refused("num_keep", &["0", "-1"], "a conversation that does not fit is refused, never cut"),
            refused("tfs_z", &["1", "1.0"], "tail-free sampling is not supported"),
            refused("penalize_newline", &["true"], "line breaks are penalised like other tokens"),
        ],
    };
}

/// Ollama's own defaults, which differ from the model's plain distribution.
const TEMPERATURE: f32 = 0.8;
const TOP_K: i64 = 40;
const TOP_P: f32 = 0.9;
const REPEAT_PENALTY: f32 = 1.1;
const REPEAT_LAST_N: i64 = 64;

impl Options {
    pub(super) fn validate(self) -> ApiResult<Sampling> {
        let max_tokens = match self.num_predict {
            None | Some(-1 | -2) => None,
            Some(n) => Some(usize::try_from(n).map_err(|_| {
                ApiError::invalid(
                    "options.num_predict",
                    format!("expected at least 1, or -1 for no end, got {n}"),
                )
            })?),
        };
        let last_n = match self.repeat_last_n.unwrap_or(REPEAT_LAST_N) {
            -1 => None,
            n => Some(usize::try_from(n).map_err(|_| {
                ApiError::invalid(
                    "options.repeat_last_n",
                    format!("expected 0, -1 or a number of tokens, got {n}"),
                )
            })?),
        };
        let version = match self.mirostat {
            None | Some(0) => None,
            Some(1) => Some(MirostatVersion::V1),
            Some(2) => Some(MirostatVersion::V2),
            Some(n) => {
                return Err(ApiError::invalid("options.mirostat", format!("expected 0, 1 or 2, got {n}")));
            }
        };
        let tau = in_range("options.mirostat_tau", self.mirostat_tau, 0.0..=100.0)?.unwrap_or(5.0);
        let eta = in_range("options.mirostat_eta", self.mirostat_eta, 0.0..=1.0)?.unwrap_or(0.1);
        let penalty = |field, value| in_range(field, value, -2.0..=2.0).map(|value| value.unwrap_or(0.0));
        let sampling = Sampling {
            max_tokens,
            temperature: in_range("options.temperature", self.temperature, 0.0..=100.0)?
                .unwrap_or(TEMPERATURE),
            top_k: top_k(Some(self.top_k.unwrap_or(TOP_K)))?,
            top_p: self.top_p.unwrap_or(TOP_P),
            min_p: self.min_p.unwrap_or(0.0),
            typical_p: self.typical_p.unwrap_or(1.0),
            seed: self.seed.map(i64::cast_unsigned),
            stop: self.stop.unwrap_or_default(),
            penalties: Penalties {
                repetition: in_range("options.repeat_penalty", self.repeat_penalty, 0.0..=100.0)?
                    .unwrap_or(REPEAT_PENALTY),
                presence: penalty("options.presence_penalty", self.presence_penalty)?,
                frequency: penalty("options.frequency_penalty", self.frequency_penalty)?,
                last_n,
            },
            mirostat: version.map(|version| Mirostat { version, tau, eta }),
            ..Sampling::default()
        };
        sampling.validate()?;
        Ok(sampling)
    }
}
