//! `tokenizer.json`, as Hugging Face's `tokenizers` writes it.
//!
//! Where:  [`Tokenizer::from_json`](super::Tokenizer::from_json).
//! Idea:   the big lists (vocabulary, merges) are read straight into tables; the small objects go through
//!         [`Fields`], which refuses what it does not know.
//! Source: Hugging Face `tokenizers` 0.23, `tokenizer/serialization.rs` and the components' own.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::added::{AddedToken, AddedTokens, MAX_ADDED};
use super::bpe::{Bpe, CharSymbols, Symbols};
use super::charsmap::Charsmap;
use super::decoder::Decoder;
use super::fields::{Fields, unexpected};
use super::model::Model;
use super::normalizer::{BertRules, Normalizer};
use super::pairs::{MAX_MERGES, Merge, Pairs};
use super::pattern::{Behavior, Pattern, cost};
use super::post_processor::{PostProcessor, Slot};
use super::pre_tokenizer::{PreTokenizer, Prepend};
use super::scripts::Scripts;
use super::table::{MAX_TOKENS, Tokens, shorten};
use super::unigram::{Piece, Unigram};
use super::wordpiece::{WordLevel, WordPiece};
use super::{Parts, TokenizerError, byte_tokens};
use crate::TokenId;

/// Largest of the small objects, and the values in it: one takes up to 200 bytes.
const MAX_SMALL_BYTES: usize = 4 << 20;
const MAX_SMALL_VALUES: usize = 1 << 16;
/// What compiling the expressions of one of them may cost, see [`cost`]: 600 bytes each, measured.
const MAX_REGEX_COST: u64 = 30_000;
/// How many bytes normalizer, pre-tokenizer or decoder may make of one.
const MAX_GROWTH: u64 = 1 << 12;
/// Places of a post-processor's template, and ids of one of its special tokens.
const MAX_SLOTS: usize = 256;
const MAX_IDS: usize = 1 << 12;
/// Longest prefix or suffix of parts of words, and longest word that is cut into parts.
const MAX_AFFIX_BYTES: usize = 256;
const MAX_WORD_CHARS: u32 = 1 << 12;
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
    let normalizer =
        small("normalizer", file.normalizer)?.map(|value| normalizer("normalizer", value)).transpose()?;
    let mut pre_tokenizer = small("pre_tokenizer", file.pre_tokenizer)?
        .map(|value| pre_tokenizer_of("pre_tokenizer", value))
        .transpose()?;
    let post_processor = small("post_processor", file.post_processor)?
        .map(|value| post_processor("post_processor", value))
        .transpose()?
        .unwrap_or_default();
    let decoder = small("decoder", file.decoder)?.map(|value| decoder("decoder", value)).transpose()?;
    check_growth("normalizer", normalizer.as_ref().map(Normalizer::growth))?;
    check_growth("pre_tokenizer", pre_tokenizer.as_ref().map(PreTokenizer::growth))?;
    check_growth("decoder", decoder.as_ref().map(Decoder::growth))?;
    let bytes_as_symbols = pre_tokenizer.as_mut().is_some_and(spells_bytes_last);
    let (tokens, model, keeps_bytes) = model(file.model, bytes_as_symbols)?;
    if keeps_bytes && let Some(pre_tokenizer) = &mut pre_tokenizer {
        keep_bytes(pre_tokenizer);
    }
    let mut added = added_tokens(file.added_tokens, &tokens)?;
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

fn each<T>(
    path: &str,
    values: Vec<Value>,
    read: fn(&str, Value) -> Result<T, TokenizerError>,
) -> Result<Vec<T>, TokenizerError> {
    values.into_iter().enumerate().map(|(i, value)| read(&format!("{path}[{i}]"), value)).collect()
}

// Normalizers.

fn normalizer(path: &str, value: Value) -> Result<Normalizer, TokenizerError> {
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

fn pre_tokenizer_of(path: &str, value: Value) -> Result<PreTokenizer, TokenizerError> {
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
            PreTokenizer::Sequence(each(&fields.path("pretokenizers"), steps, pre_tokenizer_of)?)
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
fn spells_bytes_last(step: &mut PreTokenizer) -> bool {
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

fn keep_bytes(step: &mut PreTokenizer) {
    match step {
        PreTokenizer::ByteLevel { spell, .. } => *spell = false,
        PreTokenizer::Sequence(steps) => steps.iter_mut().for_each(keep_bytes),
        _ => {}
    }
}

// Post-processors.

fn post_processor(path: &str, value: Value) -> Result<PostProcessor, TokenizerError> {
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

fn decoder(path: &str, value: Value) -> Result<Decoder, TokenizerError> {
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

// Added tokens.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedTokenFile {
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>, // COMPAT: Hugging Face numbers them itself, see below
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// Those with a text; their number is bounded while they are read.
struct AddedTokenFiles(Vec<AddedTokenFile>);

impl<'de> Deserialize<'de> for AddedTokenFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = AddedTokenFiles;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of added tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AddedTokenFiles, A::Error> {
                let mut files = Vec::new();
                while let Some(file) = seq.next_element::<AddedTokenFile>()? {
                    if files.len() == MAX_ADDED {
                        return Err(A::Error::custom(format!("expected at most {MAX_ADDED} added tokens")));
                    }
                    if !file.content.is_empty() {
                        files.push(file);
                    }
                }
                Ok(AddedTokenFiles(files))
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

/// A token that the model knows keeps the model's id; others are numbered from the vocabulary's size on.
fn added_tokens(raw: Option<&RawValue>, tokens: &Tokens) -> Result<AddedTokens, TokenizerError> {
    let mut added = AddedTokens::default();
    let Some(raw) = raw else { return Ok(added) };
    let files: Option<AddedTokenFiles> = serde_json::from_str(raw.get()).map_err(TokenizerError::Json)?;
    let mut next_id = tokens.len() as TokenId;
    for file in files.into_iter().flat_map(|files| files.0) {
        let known = added.id_of(&file.content).or_else(|| tokens.id_of(&file.content));
        let id = known.unwrap_or_else(|| {
            next_id += 1;
            next_id - 1
        });
        let AddedTokenFile { content, single_word, lstrip, rstrip, normalized, special, .. } = file;
        added.insert(id, AddedToken { content, single_word, lstrip, rstrip, normalized, special });
    }
    Ok(added)
}

// Models.

/// Only the fields that tell models apart.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    name: Option<Cow<'a, str>>,
    merges: Option<IgnoredAny>,
    unk_id: Option<IgnoredAny>,
    max_input_chars_per_word: Option<IgnoredAny>,
}

/// The vocabulary, the model, and whether it takes bytes instead of their spelling.
fn model(raw: &RawValue, bytes_as_symbols: bool) -> Result<(Tokens, Model, bool), TokenizerError> {
    let kind: Kind = serde_json::from_str(raw.get()).map_err(TokenizerError::Json)?;
    let guessed = match (&kind.merges, &kind.unk_id, &kind.max_input_chars_per_word) {
        (Some(_), _, _) => "BPE",
        (_, Some(_), _) => "Unigram",
        (_, _, Some(_)) => "WordPiece",
        _ => "WordLevel",
    };
    match kind.name.as_deref().unwrap_or(guessed) {
        "BPE" => bpe(parse(raw)?, bytes_as_symbols),
        "Unigram" => unigram(parse(raw)?),
        "WordPiece" => word_piece(parse(raw)?),
        "WordLevel" => Ok(word_level(parse(raw)?)),
        other => {
            let message =
                format!("expected `BPE`, `Unigram`, `WordPiece` or `WordLevel`, got `{}`", shorten(other));
            Err(TokenizerError::field("model.type", message))
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, TokenizerError> {
    serde_json::from_str(raw.get()).map_err(TokenizerError::Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BpeFile<'a> {
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    vocab: VocabFile,
    #[serde(borrow)]
    merges: &'a RawValue,
}

fn bpe(file: BpeFile, bytes_as_symbols: bool) -> Result<(Tokens, Model, bool), TokenizerError> {
    if let Some(dropout) = file.dropout.filter(|&dropout| dropout != 0.0) {
        let message = format!("expected none (encoding must not depend on chance), got {dropout}");
        return Err(TokenizerError::field("model.dropout", message));
    }
    let tokens = file.vocab.0;
    let prefix = affix("continuing_subword_prefix", file.continuing_subword_prefix)?;
    let suffix = affix("end_of_word_suffix", file.end_of_word_suffix)?;
    let unk = file.unk_token.as_deref().and_then(|unk| tokens.id_of(unk));
    let falls_back = file.byte_fallback.unwrap_or(false);
    let merges = merges(file.merges, &tokens, prefix.as_deref().unwrap_or(""))?;
    let takes_bytes =
        bytes_as_symbols && prefix.is_none() && suffix.is_none() && unk.is_none() && !falls_back;
    let symbols = if takes_bytes {
        Symbols::Bytes(super::byte_symbols(&tokens))
    } else {
        Symbols::Chars(Box::new(CharSymbols {
            prefix,
            suffix,
            bytes: falls_back.then(|| byte_tokens(&tokens)),
            unk,
            fuse_unk: file.fuse_unk.unwrap_or(false),
            ..CharSymbols::default()
        }))
    };
    let mut bpe = Bpe::new(symbols, merges);
    bpe.learn_words(&tokens, file.ignore_merges.unwrap_or(false));
    Ok((tokens, Model::Bpe(bpe), takes_bytes))
}

/// What is put before or after parts of words.
fn affix(field: &str, text: Option<String>) -> Result<Option<String>, TokenizerError> {
    match text {
        Some(text) if text.len() > MAX_AFFIX_BYTES => {
            let message = format!("expected at most {MAX_AFFIX_BYTES} bytes, got {}", text.len());
            Err(TokenizerError::field(format!("model.{field}"), message))
        }
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnigramFile {
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    unk_id: Option<u64>,
    byte_fallback: Option<bool>,
    vocab: ScoredVocabFile,
}

fn unigram(file: UnigramFile) -> Result<(Tokens, Model, bool), TokenizerError> {
    let (tokens, scores) = (file.vocab.tokens, file.vocab.scores);
    let unk = match file.unk_id {
        Some(id) if id >= scores.len() as u64 => {
            let message = format!("expected an id below {}, got {id}", scores.len());
            return Err(TokenizerError::field("model.unk_id", message));
        }
        unk => unk.map(|id| id as TokenId),
    };
    let min_score = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let bytes = file.byte_fallback.unwrap_or(false).then(|| byte_tokens(&tokens));
    let pieces = tokens.iter().map(|(id, text)| Piece { text, score: scores[id as usize], id });
    let model = Unigram::new(pieces, min_score, unk, bytes);
    let model = model.map_err(|message| TokenizerError::field("model.vocab", message))?;
    Ok((tokens, Model::Unigram(model), false))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordPieceFile {
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    max_input_chars_per_word: Option<u32>,
    vocab: VocabFile,
}

fn word_piece(file: WordPieceFile) -> Result<(Tokens, Model, bool), TokenizerError> {
    let tokens = file.vocab.0;
    if let Some(max) = file.max_input_chars_per_word.filter(|&max| max > MAX_WORD_CHARS) {
        let message = format!("expected at most {MAX_WORD_CHARS}, got {max}");
        return Err(TokenizerError::field("model.max_input_chars_per_word", message));
    }
    let prefix = file.continuing_subword_prefix.unwrap_or_else(|| "##".into());
    let model = WordPiece {
        prefix: affix("continuing_subword_prefix", Some(prefix))?.unwrap_or_default(),
        unk: tokens.id_of(file.unk_token.as_deref().unwrap_or("[UNK]")),
        max_word_chars: file.max_input_chars_per_word.map_or(100, |max| max as usize),
        max_token_bytes: tokens.iter().map(|(_, text)| text.len()).max().unwrap_or(0),
    };
    Ok((tokens, Model::WordPiece(model), false))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordLevelFile {
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    unk_token: Option<String>,
    vocab: VocabFile,
}

fn word_level(file: WordLevelFile) -> (Tokens, Model, bool) {
    let tokens = file.vocab.0;
    let unk = tokens.id_of(file.unk_token.as_deref().unwrap_or("<unk>"));
    (tokens, Model::WordLevel(WordLevel { unk }), false)
}

// The big lists.

/// `{"token": id, …}`
struct VocabFile(Tokens);

impl<'de> Deserialize<'de> for VocabFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = VocabFile;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabFile, A::Error> {
                let mut tokens = Tokens::default();
                while let Some(token) = map.next_key::<Text>()? {
                    tokens.push(&token.0, map.next_value()?).map_err(A::Error::custom)?;
                }
                tokens.finish().map_err(A::Error::custom)?;
                Ok(VocabFile(tokens))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// `[["token", score], …]`; COMPAT: a later token of the same text takes its place in the model, the earlier keeps its id.
struct ScoredVocabFile {
    tokens: Tokens,
    scores: Vec<f64>,
}

impl<'de> Deserialize<'de> for ScoredVocabFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = ScoredVocabFile;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of pairs of token and score")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ScoredVocabFile, A::Error> {
                let mut file = ScoredVocabFile { tokens: Tokens::default(), scores: Vec::new() };
                while let Some((token, score)) = seq.next_element::<(Text, f64)>()? {
                    if file.scores.len() == MAX_TOKENS {
                        return Err(A::Error::custom(format!("expected at most {MAX_TOKENS} tokens")));
                    }
                    file.tokens.push_over(&token.0, file.scores.len() as TokenId);
                    file.scores.push(score);
                }
                file.tokens.finish().map_err(A::Error::custom)?;
                Ok(file)
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

/// `[["a", "b"], …]` or, in older files, `["a b", …]`: all three tokens of a merge must be in the vocabulary.
fn merges(raw: &RawValue, tokens: &Tokens, prefix: &str) -> Result<Pairs, TokenizerError> {
    // Every merge has at least two quotes, or four.
    let n_quotes = raw.get().bytes().filter(|&byte| byte == b'"').count();
    let is_nested = raw.get()[1..].trim_start().starts_with('[');
    let n_merges = n_quotes / if is_nested { 4 } else { 2 };
    let mut list = MergeList {
        tokens,
        prefix,
        pairs: Pairs::with_capacity(n_merges.min(MAX_MERGES)),
        joined: String::new(),
        rank: 0,
        error: None,
    };
    let read = raw.deserialize_seq(&mut list);
    match list.error {
        Some(error) => Err(error),
        None => read.map(|()| list.pairs).map_err(TokenizerError::Json),
    }
}

/// The merges so far.
struct MergeList<'t> {
    tokens: &'t Tokens,
    /// Begins right halves, and is left out where two halves are joined.
    prefix: &'t str,
    pairs: Pairs,
    joined: String,
    rank: u32,
    /// Why reading ended early.
    error: Option<TokenizerError>,
}

impl MergeList<'_> {
    /// One more merge; `Err` ends the reading.
    fn push(&mut self, left: &str, right: &str) -> Result<(), &'static str> {
        self.joined.clear();
        self.joined.push_str(left);
        self.joined.push_str(right.get(self.prefix.len()..).unwrap_or(""));
        let id_of = |token: &str| self.tokens.id_of(token).ok_or_else(|| token.to_owned());
        let ids = id_of(left).and_then(|left| Ok((left, id_of(right)?, id_of(&self.joined)?)));
        let message = match ids {
            _ if self.rank as usize == MAX_MERGES => format!("expected at most {MAX_MERGES} merges"),
            Ok((left, right, id)) => {
                self.pairs.insert(left, right, Merge { rank: self.rank, id });
                self.rank += 1;
                return Ok(());
            }
            Err(token) => format!("expected tokens of the vocabulary, got `{}`", shorten(&token)),
        };
        self.error = Some(TokenizerError::field(format!("model.merges[{}]", self.rank), message));
        Err("a merge that is wrong")
    }
}

impl<'de> Visitor<'de> for &mut MergeList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(OneMerge(self))?.is_some() {}
        Ok(())
    }
}

struct OneMerge<'a, 't>(&'a mut MergeList<'t>);

impl<'de> DeserializeSeed<'de> for OneMerge<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneMerge<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a merge: two tokens, or a string of two tokens with a space between")
    }

    fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<(), E> {
        if line.starts_with("#version") {
            return Ok(());
        }
        let (left, right) =
            line.split_once(' ').filter(|(_, right)| !right.contains(' ')).ok_or_else(|| {
                E::custom(format!("expected two tokens with a space between, got `{}`", shorten(line)))
            })?;
        self.0.push(left, right).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut half = || seq.next_element::<Text>()?.ok_or_else(|| A::Error::custom("expected two tokens"));
        let (left, right) = (half()?, half()?);
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("expected two tokens, got more"));
        }
        self.0.push(&left.0, &right.0).map_err(A::Error::custom)
    }
}

/// A string that is borrowed from the file where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

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
