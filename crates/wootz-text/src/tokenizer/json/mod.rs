//! `tokenizer.json`, as Hugging Face's `tokenizers` writes it.
//!
//! Where:  [`Tokenizer::from_json`](super::Tokenizer::from_json).
//! Idea:   the file is taken apart and bounded here. The big lists ([`models`], [`added`]) are read straight into tables; the
//!         small objects ([`steps`]) go through [`Fields`](super::fields::Fields), which refuses what it does not know.
//! Source: Hugging Face `tokenizers` 0.23, `tokenizer/serialization.rs` and the components' own.

mod added;
mod models;
mod steps;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use super::decoder::Decoder;
use super::normalizer::Normalizer;
use super::pattern::cost;
use super::pre_tokenizer::PreTokenizer;
use super::table::shorten;
use super::{Parts, TokenizerError};

/// Largest of the small objects, and the values in it: one takes up to 200 bytes.
const MAX_SMALL_BYTES: usize = 4 << 20;
const MAX_SMALL_VALUES: usize = 1 << 16;
/// What compiling the expressions of one of them may cost, see [`cost`]: 600 bytes each, measured.
const MAX_REGEX_COST: u64 = 30_000;
/// How many bytes normalizer, pre-tokenizer or decoder may make of one.
const MAX_GROWTH: u64 = 1 << 12;
/// GPT-2's expression, which `ByteLevel` brings along.
pub(crate) const GPT2_REGEX: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Reads the parts of a tokenizer.
pub(crate) fn read(bytes: &[u8]) -> Result<Parts, TokenizerError> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| TokenizerError::Json(serde_json::Error::custom(error)))?;
    let file: File = serde_json::from_str(text).map_err(TokenizerError::Json)?;
    if let Some(version) = file.version.filter(|version| version != "1.0") {
        return Err(TokenizerError::field("version", format!("expected `1.0`, got `{}`", shorten(&version))));
    }
    let normalizer = small("normalizer", file.normalizer)?
        .map(|value| steps::normalizer("normalizer", value))
        .transpose()?;
    let mut pre_tokenizer = small("pre_tokenizer", file.pre_tokenizer)?
        .map(|value| steps::pre_tokenizer("pre_tokenizer", value))
        .transpose()?;
    let post_processor = small("post_processor", file.post_processor)?
        .map(|value| steps::post_processor("post_processor", value))
        .transpose()?
        .unwrap_or_default();
    let decoder =
        small("decoder", file.decoder)?.map(|value| steps::decoder("decoder", value)).transpose()?;
    check_growth("normalizer", normalizer.as_ref().map(Normalizer::growth))?;
    check_growth("pre_tokenizer", pre_tokenizer.as_ref().map(PreTokenizer::growth))?;
    check_growth("decoder", decoder.as_ref().map(Decoder::growth))?;
    let bytes_as_symbols = pre_tokenizer.as_mut().is_some_and(steps::spells_bytes_last);
    let (tokens, model, keeps_bytes) = models::model(file.model, bytes_as_symbols)?;
    if keeps_bytes && let Some(pre_tokenizer) = &mut pre_tokenizer {
        steps::keep_bytes(pre_tokenizer);
    }
    let mut added = added::added_tokens(file.added_tokens, &tokens)?;
    added
        .build(|text| normalizer.as_ref().map_or_else(|| text.to_owned(), |step| step.apply_to(text)))
        .map_err(|message| TokenizerError::field("added_tokens", message))?;
    Ok(Parts { tokens, added, normalizer, pre_tokenizer, model, post_processor, decoder })
}

/// The file itself. `truncation` and `padding` have no effect here: they belong to batches, not to a text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(rename = "truncation")]
    _truncation: Option<IgnoredAny>,
    #[serde(rename = "padding")]
    _padding: Option<IgnoredAny>,
    #[serde(borrow)]
    added_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    decoder: Option<&'a RawValue>,
    #[serde(borrow)]
    model: &'a RawValue,
}

fn small(path: &str, raw: Option<&RawValue>) -> Result<Option<Value>, TokenizerError> {
    let Some(raw) = raw else { return Ok(None) };
    if raw.get().len() > MAX_SMALL_BYTES {
        let message = format!("expected at most {MAX_SMALL_BYTES} bytes, got {}", raw.get().len());
        return Err(TokenizerError::field(path, message));
    }
    let n_values = raw.get().bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if n_values > MAX_SMALL_VALUES {
        let message = format!("expected at most {MAX_SMALL_VALUES} values, got about {n_values}");
        return Err(TokenizerError::field(path, message));
    }
    let value: Value = serde_json::from_str(raw.get()).map_err(TokenizerError::Json)?;
    let regex_cost = regex_cost(&value);
    if regex_cost > MAX_REGEX_COST {
        let message =
            format!("expected regular expressions that cost at most {MAX_REGEX_COST}, got {regex_cost}");
        return Err(TokenizerError::field(path, message));
    }
    Ok(Some(value).filter(|value| !value.is_null()))
}

/// What compiling all regular expressions in a value may cost.
fn regex_cost(value: &Value) -> u64 {
    match value {
        Value::Array(values) => values.iter().map(regex_cost).fold(0, u64::saturating_add),
        Value::Object(map) => {
            let regex = map.get("Regex").and_then(Value::as_str).map_or(0, |regex| 50 + cost(regex));
            map.values().map(regex_cost).fold(regex, u64::saturating_add)
        }
        _ => 0,
    }
}

fn check_growth(path: &str, growth: Option<u64>) -> Result<(), TokenizerError> {
    match growth.filter(|&growth| growth > MAX_GROWTH) {
        Some(growth) => {
            let message =
                format!("expected steps that make at most {MAX_GROWTH} bytes of one, got about {growth}");
            Err(TokenizerError::field(path, message))
        }
        None => Ok(()),
    }
}
