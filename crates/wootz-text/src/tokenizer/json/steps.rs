//! Normalizer, pre-tokenizer, post-processor and decoder of a `tokenizer.json`.
//!
//! Where:  [`read`](super::read).
//! Idea:   one object, one step; a field that a step does not know is an error that names it.
//! Source: Hugging Face `tokenizers` 0.23, the components' own serialization.

use serde_json::Value;

use super::GPT2_REGEX;
use crate::TokenId;
use crate::tokenizer::TokenizerError;
use crate::tokenizer::charsmap::Charsmap;
use crate::tokenizer::decoder::Decoder;
use crate::tokenizer::fields::{Fields, unexpected};
use crate::tokenizer::normalizer::{BertRules, Normalizer};
use crate::tokenizer::pattern::{Behavior, Pattern};
use crate::tokenizer::post_processor::{PostProcessor, Slot};
use crate::tokenizer::pre_tokenizer::{PreTokenizer, Prepend};
use crate::tokenizer::scripts::Scripts;
use crate::tokenizer::table::shorten;

/// Places of a post-processor's template, and ids of one of its special tokens.
const MAX_SLOTS: usize = 256;
const MAX_IDS: usize = 1 << 12;

fn each<T>(
    path: &str,
    values: Vec<Value>,
    read: fn(&str, Value) -> Result<T, TokenizerError>,
) -> Result<Vec<T>, TokenizerError> {
    values.into_iter().enumerate().map(|(i, value)| read(&format!("{path}[{i}]"), value)).collect()
}

// Normalizers.

pub(super) fn normalizer(path: &str, value: Value) -> Result<Normalizer, TokenizerError> {
    let mut fields = Fields::new(path, value)?;
    let kind = fields.string("type")?;
    let step = match kind.as_str() {
        "NFC" => Normalizer::Nfc,
        "NFD" => Normalizer::Nfd,
        "NFKC" => Normalizer::Nfkc,
        "NFKD" => Normalizer::Nfkd,
        "Lowercase" => Normalizer::Lowercase,
        "StripAccents" => Normalizer::StripAccents,
        "Nmt" => Normalizer::Nmt,
        "ByteLevel" => Normalizer::ByteLevel,
        "Strip" => Normalizer::Strip { left: fields.bool("strip_left")?, right: fields.bool("strip_right")? },
        "Replace" => {
            Normalizer::Replace { pattern: pattern(&mut fields)?, content: fields.string("content")? }
        }
        "Prepend" => Normalizer::Prepend(fields.string("prepend")?),
        "BertNormalizer" | "Bert" => {
            let lowercase = fields.bool("lowercase")?;
            Normalizer::Bert(BertRules {
                clean_text: fields.bool("clean_text")?,
                handle_chinese_chars: fields.bool("handle_chinese_chars")?,
                strip_accents: fields.optional_bool("strip_accents")?.unwrap_or(lowercase),
                lowercase,
            })
        }
        "Precompiled" => {
            let text = fields.optional_string("precompiled_charsmap")?.unwrap_or_default();
            let map = base64(&text).and_then(|bytes| Charsmap::parse(&bytes));
            Normalizer::Charsmap(
                map.map_err(|message| TokenizerError::field(fields.path("precompiled_charsmap"), message))?,
            )
        }
        "Sequence" => {
            let steps = fields.array("normalizers")?;
            Normalizer::Sequence(each(&fields.path("normalizers"), steps, normalizer)?)
        }
        other => return Err(fields.wrong("type", "a normalizer", other)),
    };
    fields.finish()?;
    Ok(step)
}

fn pattern(fields: &mut Fields) -> Result<Pattern, TokenizerError> {
    let path = fields.path("pattern");
    let value = fields.take("pattern").ok_or_else(|| TokenizerError::field(&path, "missing"))?;
    let mut kinds = Fields::new(&path, value)?;
    if let Some(text) = kinds.optional_string("String")? {
        kinds.finish()?;
        return Pattern::literal(&text, &path);
    }
    let expression = kinds.string("Regex")?;
    kinds.finish()?;
    Pattern::regex(&expression, &path)
}

// Pre-tokenizers.

pub(super) fn pre_tokenizer(path: &str, value: Value) -> Result<PreTokenizer, TokenizerError> {
    let mut fields = Fields::new(path, value)?;
    let kind = fields.string("type")?;
    let behavior = |fields: &mut Fields| match fields.optional_string("behavior")? {
        None => Ok(Behavior::Isolated),
        Some(name) => {
            Behavior::from_name(&name).ok_or_else(|| fields.wrong("behavior", "a behaviour", &name))
        }
    };
    let step = match kind.as_str() {
        "ByteLevel" => {
            let uses_regex = fields.optional_bool("use_regex")?.unwrap_or(true);
            fields.take("trim_offsets"); // offsets are not given out
            PreTokenizer::ByteLevel {
                add_prefix_space: fields.bool("add_prefix_space")?,
                regex: uses_regex.then(|| Pattern::regex(GPT2_REGEX, path)).transpose()?,
                spell: true,
            }
        }
        "Metaspace" => {
            let (replacement, prepend) = metaspace(&mut fields)?;
            let split = fields.optional_bool("split")?.unwrap_or(true);
            PreTokenizer::Metaspace { replacement, prepend, split }
        }
        "Whitespace" => PreTokenizer::Whitespace(Pattern::plain_regex(r"\w+|[^\w\s]+", path)?),
        "WhitespaceSplit" => PreTokenizer::WhitespaceSplit,
        "BertPreTokenizer" => PreTokenizer::Bert,
        "UnicodeScripts" => PreTokenizer::UnicodeScripts(Scripts::get()),
        "Punctuation" => PreTokenizer::Punctuation(behavior(&mut fields)?),
        "Digits" => PreTokenizer::Digits { individual: fields.bool("individual_digits")? },
        "CharDelimiterSplit" => PreTokenizer::CharDelimiter(fields.char("delimiter")?),
        "FixedLength" => {
            let length = fields.number("length", 1 << 20)? as usize;
            if length == 0 {
                return Err(fields.wrong("length", "at least 1", "0"));
            }
            PreTokenizer::FixedLength(length)
        }
        "Split" => PreTokenizer::Split {
            pattern: pattern(&mut fields)?,
            behavior: behavior(&mut fields)?,
            invert: fields.bool("invert")?,
        },
        "Sequence" => {
            let steps = fields.array("pretokenizers")?;
            PreTokenizer::Sequence(each(&fields.path("pretokenizers"), steps, pre_tokenizer)?)
        }
        other => return Err(fields.wrong("type", "a pre-tokenizer", other)),
    };
    fields.finish()?;
    Ok(step)
}

fn metaspace(fields: &mut Fields) -> Result<(char, Prepend), TokenizerError> {
    let replacement = fields.char("replacement")?;
    fields.take("str_rep"); // what older files repeat
    let adds = fields.optional_bool("add_prefix_space")?;
    let prepend = match fields.optional_string("prepend_scheme")?.as_deref() {
        // COMPAT: older files say it by `add_prefix_space` alone.
        None if adds == Some(false) => Prepend::Never,
        None | Some("always") => Prepend::Always,
        Some("first") => Prepend::First,
        Some("never") => Prepend::Never,
        Some(other) => return Err(fields.wrong("prepend_scheme", "`always`, `first` or `never`", other)),
    };
    if adds == Some(false) && prepend != Prepend::Never {
        return Err(fields.wrong("add_prefix_space", "what `prepend_scheme` says", "false"));
    }
    Ok((replacement, prepend))
}

/// Whether the last thing a pre-tokenizer does is to spell bytes in GPT-2's alphabet.
pub(super) fn spells_bytes_last(step: &mut PreTokenizer) -> bool {
    match step {
        PreTokenizer::ByteLevel { spell, .. } => *spell,
        PreTokenizer::Sequence(steps) => {
            let (last, before) = match steps.split_last_mut() {
                Some(split) => split,
                None => return false,
            };
            spells_bytes_last(last) && !before.iter_mut().any(spells_bytes_somewhere)
        }
        _ => false,
    }
}

fn spells_bytes_somewhere(step: &mut PreTokenizer) -> bool {
    match step {
        PreTokenizer::ByteLevel { spell, .. } => *spell,
        PreTokenizer::Sequence(steps) => steps.iter_mut().any(spells_bytes_somewhere),
        _ => false,
    }
}

pub(super) fn keep_bytes(step: &mut PreTokenizer) {
    match step {
        PreTokenizer::ByteLevel { spell, .. } => *spell = false,
        PreTokenizer::Sequence(steps) => steps.iter_mut().for_each(keep_bytes),
        _ => {}
    }
}

// Post-processors.

pub(super) fn post_processor(path: &str, value: Value) -> Result<PostProcessor, TokenizerError> {
    let mut fields = Fields::new(path, value)?;
    let kind = fields.string("type")?;
    let processor = match kind.as_str() {
        "ByteLevel" => {
            fields.ignore(&["add_prefix_space", "trim_offsets", "use_regex"]); // offsets are not given out
            PostProcessor::default()
        }
        "BertProcessing" => PostProcessor::bert(named_id(&mut fields, "cls")?, named_id(&mut fields, "sep")?),
        "RobertaProcessing" => {
            fields.ignore(&["trim_offsets", "add_prefix_space"]);
            PostProcessor::roberta(named_id(&mut fields, "cls")?, named_id(&mut fields, "sep")?)
        }
        "TemplateProcessing" => template(&mut fields)?,
        "Sequence" => {
            let steps = fields.array("processors")?;
            let steps = each(&fields.path("processors"), steps, post_processor)?;
            let mut adding = steps.into_iter().filter(|step| *step != PostProcessor::default());
            let first = adding.next().unwrap_or_default();
            if adding.next().is_some() {
                return Err(fields.wrong("processors", "at most one step that adds tokens", "several"));
            }
            first
        }
        other => return Err(fields.wrong("type", "a post-processor", other)),
    };
    fields.finish()?;
    Ok(processor)
}

/// `["[CLS]", 101]`
fn named_id(fields: &mut Fields, key: &str) -> Result<TokenId, TokenizerError> {
    let path = fields.path(key);
    match fields.array(key)?.as_slice() {
        [Value::String(_), id] => token_id(&path, id),
        _ => Err(TokenizerError::field(path, "expected a token and its id")),
    }
}

fn token_id(path: &str, value: &Value) -> Result<TokenId, TokenizerError> {
    let id = value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    id.ok_or_else(|| unexpected(path, "a token id", value))
}

fn template(fields: &mut Fields) -> Result<PostProcessor, TokenizerError> {
    let path = fields.path("special_tokens");
    let mut specials: Vec<(String, Vec<TokenId>)> = Vec::new();
    match fields.take("special_tokens") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, value) in map {
                let path = format!("{path}.{}", shorten(&name));
                let mut special = Fields::new(&path, value)?;
                special.take("id");
                special.take("tokens");
                let ids = special.array("ids")?;
                if ids.len() > MAX_IDS {
                    let message = format!("expected at most {MAX_IDS} ids, got {}", ids.len());
                    return Err(TokenizerError::field(path, message));
                }
                let ids = ids.iter().map(|id| token_id(&path, id)).collect::<Result<_, _>>()?;
                special.finish()?;
                specials.push((name, ids));
            }
        }
        Some(other) => return Err(unexpected(&path, "an object", &other)),
    }
    let mut slots = |key: &str| {
        let path = fields.path(key);
        let values = fields.array(key)?;
        if values.len() > MAX_SLOTS {
            let message = format!("expected at most {MAX_SLOTS} places, got {}", values.len());
            return Err(TokenizerError::field(path, message));
        }
        let read = |(i, value)| slot(&format!("{path}[{i}]"), value, &specials);
        values.into_iter().enumerate().map(read).collect::<Result<Vec<Slot>, TokenizerError>>()
    };
    Ok(PostProcessor { single: slots("single")?, pair: slots("pair")? })
}

fn slot(path: &str, value: Value, specials: &[(String, Vec<TokenId>)]) -> Result<Slot, TokenizerError> {
    let mut outer = Fields::new(path, value)?;
    if let Some(value) = outer.take("SpecialToken") {
        let mut fields = Fields::new(path, value)?;
        let name = fields.string("id")?;
        let type_id = fields.number("type_id", u64::from(u32::MAX))? as u32;
        let ids = specials.iter().find(|special| special.0 == name).map(|special| special.1.clone());
        return match ids {
            Some(ids) => Ok(Slot::Tokens { ids, type_id }),
            None => Err(fields.wrong("id", "one of `special_tokens`", &name)),
        };
    }
    let value = outer.take("Sequence").unwrap_or(Value::Null);
    let mut fields = Fields::new(path, value)?;
    let type_id = fields.number("type_id", u64::from(u32::MAX))? as u32;
    match fields.string("id")?.as_str() {
        "A" => Ok(Slot::First { type_id }),
        "B" => Ok(Slot::Second { type_id }),
        other => Err(fields.wrong("id", "`A` or `B`", other)),
    }
}

// Decoders.

pub(super) fn decoder(path: &str, value: Value) -> Result<Decoder, TokenizerError> {
    let mut fields = Fields::new(path, value)?;
    let kind = fields.string("type")?;
    let step = match kind.as_str() {
        "ByteLevel" => {
            fields.ignore(&["add_prefix_space", "trim_offsets", "use_regex"]); // only for encoding
            Decoder::ByteLevel
        }
        "Metaspace" => {
            fields.take("split"); // only for encoding
            let (replacement, prepend) = metaspace(&mut fields)?;
            Decoder::Metaspace { replacement, drops_first: prepend != Prepend::Never }
        }
        "WordPiece" => {
            Decoder::WordPiece { prefix: fields.string("prefix")?, cleanup: fields.bool("cleanup")? }
        }
        "ByteFallback" => Decoder::ByteFallback,
        "Fuse" => Decoder::Fuse,
        "Strip" => Decoder::Strip {
            content: fields.char("content")?,
            start: fields.number("start", u64::from(u32::MAX))? as usize,
            stop: fields.number("stop", u64::from(u32::MAX))? as usize,
        },
        "Replace" => Decoder::Replace { pattern: pattern(&mut fields)?, content: fields.string("content")? },
        "BPEDecoder" => Decoder::Bpe { suffix: fields.string("suffix")? },
        "CTC" => Decoder::Ctc {
            pad_token: fields.string("pad_token")?,
            word_delimiter: fields.string("word_delimiter_token")?,
            cleanup: fields.bool("cleanup")?,
        },
        "Sequence" => {
            let steps = fields.array("decoders")?;
            Decoder::Sequence(each(&fields.path("decoders"), steps, decoder)?)
        }
        other => return Err(fields.wrong("type", "a decoder", other)),
    };
    fields.finish()?;
    Ok(step)
}

/// Standard base64 with padding.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=').bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut n_bits) = (0_u32, 0);
    for c in digits {
        let value =
            digit(c).ok_or_else(|| format!("expected base64, got the character `{}`", c.escape_ascii()))?;
        bits = bits << 6 | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("aGVsbG8="), Ok(b"hello".to_vec()));
        assert!(base64("a*").is_err());
    }
}
