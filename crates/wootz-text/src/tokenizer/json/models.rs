//! Vocabulary and model of a `tokenizer.json`.
//!
//! Where:  [`read`](super::read).
//! Idea:   lists of hundreds of thousands are read straight into tables, their sizes bounded on the way.
//! Source: Hugging Face `tokenizers` 0.23, `models/*/serialization.rs`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::TokenId;
use crate::tokenizer::bpe::{Bpe, CharSymbols, Symbols};
use crate::tokenizer::model::Model;
use crate::tokenizer::pairs::{MAX_MERGES, Merge, Pairs};
use crate::tokenizer::table::{MAX_TOKENS, Tokens, shorten};
use crate::tokenizer::unigram::{Piece, Unigram};
use crate::tokenizer::wordpiece::{WordLevel, WordPiece};
use crate::tokenizer::{TokenizerError, byte_symbols, byte_tokens};

/// Longest prefix or suffix of parts of words, and longest word that is cut into parts.
const MAX_AFFIX_BYTES: usize = 256;
const MAX_WORD_CHARS: u32 = 1 << 12;

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
pub(super) fn model(raw: &RawValue, bytes_as_symbols: bool) -> Result<(Tokens, Model, bool), TokenizerError> {
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
        Symbols::Bytes(byte_symbols(&tokens))
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
