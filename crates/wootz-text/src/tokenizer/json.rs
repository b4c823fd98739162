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

use super::added::{AddedToken, AddedTokens};
use super::bpe::{Bpe, CharSymbols, Merge, Symbols, pair};
use super::charsmap::Charsmap;
use super::decoder::Decoder;
use super::fields::{Fields, unexpected};
use super::hash::FastMap;
use super::model::Model;
use super::normalizer::{BertRules, Normalizer};
use super::pattern::{Behavior, Pattern};
use super::post_processor::{PostProcessor, Slot};
use super::pre_tokenizer::{PreTokenizer, Prepend};
use super::scripts::Scripts;
use super::table::{Table, Tokens, shorten};
use super::unigram::{Piece, Unigram};
use super::wordpiece::{WordLevel, WordPiece};
use super::{Parts, TokenizerError, byte_tokens};
use crate::TokenId;

/// Largest of the small objects: a value in memory takes up to 32 times its text.
const MAX_SMALL_BYTES: usize = 4 << 20;
/// Text of all added tokens together: the automaton takes some fifty bytes for each of theirs.
const MAX_ADDED_BYTES: usize = 1 << 20;
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
    let value: Value = serde_json::from_str(raw.get()).map_err(TokenizerError::Json)?;
    Ok(Some(value).filter(|value| !value.is_null()))
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
        "UnicodeScripts" => PreTokenizer::UnicodeScripts(Scripts::new()),
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

/// A token that the model knows keeps the model's id; others are numbered from the vocabulary's size on.
fn added_tokens(raw: Option<&RawValue>, tokens: &Tokens) -> Result<AddedTokens, TokenizerError> {
    let mut added = AddedTokens::default();
    let Some(raw) = raw else { return Ok(added) };
    let files: Option<Vec<AddedTokenFile>> = serde_json::from_str(raw.get()).map_err(TokenizerError::Json)?;
    let mut next_id = tokens.len() as TokenId;
    let mut n_bytes = 0;
    for file in files.into_iter().flatten() {
        n_bytes += file.content.len();
        if n_bytes > MAX_ADDED_BYTES {
            let message = format!("expected at most {MAX_ADDED_BYTES} bytes of text in all");
            return Err(TokenizerError::field("added_tokens", message));
        }
        if file.content.is_empty() {
            continue;
        }
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
        "WordPiece" => Ok(word_piece(parse(raw)?)),
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
struct BpeFile {
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
    merges: MergesFile,
}

fn bpe(file: BpeFile, bytes_as_symbols: bool) -> Result<(Tokens, Model, bool), TokenizerError> {
    if let Some(dropout) = file.dropout.filter(|&dropout| dropout != 0.0) {
        let message = format!("expected none (encoding must not depend on chance), got {dropout}");
        return Err(TokenizerError::field("model.dropout", message));
    }
    let tokens = file.vocab.0;
    let prefix = file.continuing_subword_prefix.filter(|prefix| !prefix.is_empty());
    let suffix = file.end_of_word_suffix.filter(|suffix| !suffix.is_empty());
    let unk = file.unk_token.as_deref().and_then(|unk| tokens.id_of(unk));
    let falls_back = file.byte_fallback.unwrap_or(false);
    let merges = file.merges.resolve(&tokens, prefix.as_deref().unwrap_or(""))?;
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
    bpe.learn_whole(&tokens, file.ignore_merges.unwrap_or(false));
    Ok((tokens, Model::Bpe(bpe), takes_bytes))
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

fn word_piece(file: WordPieceFile) -> (Tokens, Model, bool) {
    let tokens = file.vocab.0;
    let model = WordPiece {
        prefix: file.continuing_subword_prefix.unwrap_or_else(|| "##".into()),
        unk: tokens.id_of(file.unk_token.as_deref().unwrap_or("[UNK]")),
        max_word_chars: file.max_input_chars_per_word.map_or(100, |max| max as usize),
        max_token_bytes: tokens.iter().map(|(_, text)| text.len()).max().unwrap_or(0),
    };
    (tokens, Model::WordPiece(model), false)
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
                while let Some(token) = map.next_key::<Cow<str>>()? {
                    tokens.push(&token, map.next_value()?).map_err(A::Error::custom)?;
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
                while let Some((token, score)) = seq.next_element::<(Cow<str>, f64)>()? {
                    file.tokens.push_over(&token, file.scores.len() as TokenId);
                    file.scores.push(score);
                }
                file.tokens.finish().map_err(A::Error::custom)?;
                Ok(file)
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

/// `[["a", "b"], …]` or, in older files, `["a b", …]`: all halves in one table.
struct MergesFile {
    halves: Table,
    pairs: Vec<(u32, u32)>,
}

impl MergesFile {
    fn intern(&mut self, half: &str) -> u32 {
        let known = self.halves.get(half.as_bytes());
        known.or_else(|| self.halves.insert(half.as_bytes())).unwrap_or(0)
    }

    /// Ranks and results by pair; all three tokens of a merge must be in the vocabulary.
    fn resolve(self, tokens: &Tokens, prefix: &str) -> Result<FastMap<u64, Merge>, TokenizerError> {
        let text =
            |half: u32| std::str::from_utf8(self.halves.key(half)).expect("halves are read from strings");
        let mut merges = FastMap::default();
        merges.reserve(self.pairs.len());
        let mut joined = String::new();
        for (rank, &(left, right)) in self.pairs.iter().enumerate() {
            let (left, right) = (text(left), text(right));
            let id_of = |token: &str| {
                let message = || format!("expected tokens of the vocabulary, got `{}`", shorten(token));
                tokens
                    .id_of(token)
                    .ok_or_else(|| TokenizerError::field(format!("model.merges[{rank}]"), message()))
            };
            let pair = pair(id_of(left)?, id_of(right)?);
            joined.clear();
            joined.push_str(left);
            joined.push_str(right.get(prefix.len()..).unwrap_or(""));
            merges.insert(pair, Merge { rank: rank as u32, id: id_of(&joined)? });
        }
        Ok(merges)
    }
}

impl<'de> Deserialize<'de> for MergesFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = MergesFile;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MergesFile, A::Error> {
                let mut file = MergesFile { halves: Table::default(), pairs: Vec::new() };
                while seq.next_element_seed(OneMerge(&mut file))?.is_some() {}
                Ok(file)
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

struct OneMerge<'a>(&'a mut MergesFile);

impl<'de> DeserializeSeed<'de> for OneMerge<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneMerge<'_> {
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
        let pair = (self.0.intern(left), self.0.intern(right));
        self.0.pairs.push(pair);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut half =
            || seq.next_element::<Cow<str>>()?.ok_or_else(|| A::Error::custom("expected two tokens"));
        let left = self.0.intern(&half()?);
        let right = self.0.intern(&half()?);
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("expected two tokens, got more"));
        }
        self.0.pairs.push((left, right));
        Ok(())
    }
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
