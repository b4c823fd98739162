//! The settings that OpenAI's requests share, with those that other servers added.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Value, json};
use wootz_text::{Constraint, ContextFull, Penalties, Sampling};

use crate::api_error::{ApiError, ApiResult};

/// One text or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// What happens when the context is full.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireContextFull {
    Error,
    TruncateLeft,
    Shift,
}

impl From<WireContextFull> for ContextFull {
    fn from(wire: WireContextFull) -> Self {
        match wire {
            WireContextFull::Error => Self::Error,
            WireContextFull::TruncateLeft => Self::TruncateLeft,
            WireContextFull::Shift => Self::Shift,
        }
    }
}

/// `response_format`
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ResponseFormat {
    Text {},
    JsonObject {},
    JsonSchema { json_schema: JsonSchema },
}

/// `response_format.json_schema`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonSchema {
    #[serde(rename = "name")]
    _name: String,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    schema: Option<Value>,
    /// The schema holds whether or not this is set.
    #[serde(default, rename = "strict")]
    _strict: Option<bool>,
}

impl ResponseFormat {
    pub(crate) fn constraint(self) -> Option<Constraint> {
        match self {
            Self::Text {} => None,
            Self::JsonObject {} => Some(any_object()),
            Self::JsonSchema { json_schema } => {
                Some(json_schema.schema.map_or_else(any_object, Constraint::JsonSchema))
            }
        }
    }
}

/// Any JSON object.
pub(crate) fn any_object() -> Constraint {
    Constraint::JsonSchema(json!({"type": "object"}))
}

/// Grammars under the names that vLLM and llama.cpp gave them.
#[derive(Debug, Default)]
pub(crate) struct Guides {
    pub json: Option<Value>,
    pub regex: Option<String>,
    pub choice: Option<Vec<String>>,
    pub lark: Option<String>,
    pub gbnf: Option<String>,
}

impl Guides {
    /// The one that is given, beside `format`.
    pub(crate) fn constraint(self, format: Option<ResponseFormat>) -> ApiResult<Option<Constraint>> {
        let given = [
            format.and_then(ResponseFormat::constraint),
            self.json.map(Constraint::JsonSchema),
            self.regex.map(Constraint::Regex),
            self.choice.map(Constraint::Choice),
            self.lark.map(Constraint::Lark),
            self.gbnf.map(Constraint::Gbnf),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (_, Some(_)) => Err(ApiError::invalid(
                "response_format",
                "expected one of `response_format`, `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar`, `grammar`",
            )),
            (one, None) => Ok(one),
        }
    }
}

/// Settings of sampling under OpenAI's names; the last few are those of vLLM and llama.cpp.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub max_tokens: Option<usize>,
    pub min_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub n: Option<usize>,
    pub stop: Option<OneOrMany>,
    pub seed: Option<i64>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Option<BTreeMap<String, f32>>,
    pub logprobs: Option<usize>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub ignore_eos: Option<bool>,
    pub context_full: Option<WireContextFull>,
    pub constraint: Option<Constraint>,
    pub speculation: Option<bool>,
}

impl Settings {
    /// Domain settings, checked.
    pub(crate) fn validate(self) -> ApiResult<Sampling> {
        let defaults = Sampling::default();
        let penalty = |field, value| in_range(field, value, -2.0..=2.0).map(|value| value.unwrap_or(0.0));
        let sampling = Sampling {
            max_tokens: self.max_tokens,
            min_tokens: self.min_tokens.unwrap_or(0),
            stop: self.stop.map_or_else(Vec::new, OneOrMany::into_vec),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            n: self.n.unwrap_or(1),
            // Any integer is a seed; negative ones are other seeds.
            seed: self.seed.map(i64::cast_unsigned),
            logprobs: self.logprobs,
            logit_bias: biases(self.logit_bias.unwrap_or_default())?,
            temperature: in_range("temperature", self.temperature, 0.0..=100.0)?
                .unwrap_or(defaults.temperature),
            top_k: top_k(self.top_k)?,
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            typical_p: self.typical_p.unwrap_or(defaults.typical_p),
            penalties: Penalties {
                repetition: in_range("repetition_penalty", self.repetition_penalty, 0.0..=100.0)?
                    .unwrap_or(1.0),
                presence: penalty("presence_penalty", self.presence_penalty)?,
                frequency: penalty("frequency_penalty", self.frequency_penalty)?,
                last_n: None,
            },
            context_full: self.context_full.map(Into::into).unwrap_or_default(),
            constraint: self.constraint,
            guesses: self.speculation.unwrap_or(true),
            ..defaults
        };
        sampling.validate()?;
        Ok(sampling)
    }
}

/// A number in a range, if there is one.
pub(crate) fn in_range(
    field: &str,
    value: Option<f32>,
    range: RangeInclusive<f32>,
) -> ApiResult<Option<f32>> {
    match value {
        Some(value) if !range.contains(&value) => Err(ApiError::invalid(
            field,
            format!("expected a number from {} to {}, got {value}", range.start(), range.end()),
        )),
        value => Ok(value),
    }
}

/// vLLM's and llama.cpp's clients say -1 or 0 for "off".
pub(crate) fn top_k(top_k: Option<i64>) -> ApiResult<Option<usize>> {
    match top_k {
        None | Some(-1 | 0) => Ok(None),
        Some(k) => usize::try_from(k).map(Some).map_err(|_| {
            ApiError::invalid("top_k", format!("expected at least 1, or -1 for all tokens, got {k}"))
        }),
    }
}

fn biases(biases: BTreeMap<String, f32>) -> ApiResult<BTreeMap<u32, f32>> {
    let one = |(token, bias): (String, f32)| match token.parse() {
        Ok(token) if (-100.0..=100.0).contains(&bias) => Ok((token, bias)),
        Ok(_) => Err(ApiError::invalid(
            "logit_bias",
            format!("expected -100 to 100 for token {token}, got {bias}"),
        )),
        Err(_) => {
            let token: String = token.chars().take(50).collect();
            Err(ApiError::invalid("logit_bias", format!("expected token ids as keys, got \"{token}\"")))
        }
    };
    biases.into_iter().map(one).collect()
}
