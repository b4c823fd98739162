//! Which special token plays which role, and a model's folder as a whole.
//!
//! Where:  [`Tokenizer::special`](super::Tokenizer::special); read from the files beside `tokenizer.json`.
//! Idea:   roles are ids. What a file names and the vocabulary lacks is passed over; end tokens are a list, because a chat
//!         model ends a turn with one token and a text with another.
//! Source: `transformers`: `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json`, `config.json`.

use std::path::Path;

use serde_json::Value;

use super::post_processor::PostProcessor;
use super::{Parts, Source, Tokenizer, TokenizerError};
use crate::TokenId;

/// The roles of special tokens; `None` where a vocabulary has no such token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<TokenId>,
    /// All tokens at which generation ends; the tokenizer's own is first.
    pub eos: Vec<TokenId>,
    /// Fills up batches.
    pub pad: Option<TokenId>,
    /// Stands for what cannot be encoded.
    pub unk: Option<TokenId>,
    /// Begins a text for a classifier.
    pub cls: Option<TokenId>,
    /// Separates two texts.
    pub sep: Option<TokenId>,
    /// Stands for a word to be guessed.
    pub mask: Option<TokenId>,
}

impl SpecialTokens {
    /// Adds an end token, once.
    pub fn add_eos(&mut self, id: TokenId) {
        if !self.eos.contains(&id) {
            self.eos.push(id);
        }
    }

    /// What the vocabulary alone tells: BERT's bracketed names.
    pub(crate) fn guess(&mut self, parts: &Parts) {
        let id_of = |text: &str| parts.added.id_of(text).or_else(|| parts.tokens.id_of(text));
        self.unk = id_of("[UNK]").or_else(|| id_of("<unk>"));
        self.cls = id_of("[CLS]");
        self.sep = id_of("[SEP]");
        self.mask = id_of("[MASK]").or_else(|| id_of("<mask>"));
        self.pad = id_of("[PAD]").or_else(|| id_of("<pad>"));
    }

    pub(crate) fn read_config(
        &mut self,
        bytes: &[u8],
        id_of: impl Fn(&str) -> Option<TokenId>,
    ) -> Result<(), TokenizerError> {
        let config: Value = serde_json::from_slice(bytes).map_err(TokenizerError::Json)?;
        let role = |key: &str| match config.get(key)? {
            Value::String(token) => id_of(token),
            Value::Object(token) => id_of(token.get("content")?.as_str()?),
            _ => None,
        };
        let roles: [(&str, &mut Option<TokenId>); 6] = [
            ("bos_token", &mut self.bos),
            ("pad_token", &mut self.pad),
            ("unk_token", &mut self.unk),
            ("cls_token", &mut self.cls),
            ("sep_token", &mut self.sep),
            ("mask_token", &mut self.mask),
        ];
        for (key, place) in roles {
            *place = role(key).or(*place);
        }
        if let Some(eos) = role("eos_token") {
            self.eos.retain(|&id| id != eos);
            self.eos.insert(0, eos);
        }
        Ok(())
    }

    /// `eos_token_id` and its kin in a model's own configuration; `n_ids` bounds them.
    fn read_ids(&mut self, bytes: &[u8], n_ids: usize) -> Result<(), TokenizerError> {
        let config: Value = serde_json::from_slice(bytes).map_err(TokenizerError::Json)?;
        let id = |value: &Value| value.as_u64().filter(|&id| id < n_ids as u64).map(|id| id as TokenId);
        match config.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).for_each(|id| self.add_eos(id)),
            Some(value) => id(value).into_iter().for_each(|id| self.add_eos(id)),
            None => {}
        }
        let of = |key: &str| config.get(key).and_then(id);
        self.bos = self.bos.or(of("bos_token_id"));
        self.pad = self.pad.or(of("pad_token_id"));
        Ok(())
    }
}

/// What `transformers` puts around a text that SentencePiece encodes: by `add_bos_token` and `add_eos_token`, or else by the
/// class of the tokenizer.
fn around_sentencepiece(bytes: &[u8], special: &SpecialTokens) -> PostProcessor {
    let config: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or("");
    let is_any = |names: &[&str]| names.iter().any(|name| class.starts_with(name));
    let flag = |key: &str, default: bool| config.get(key).and_then(Value::as_bool).unwrap_or(default);
    let adds_bos = flag("add_bos_token", is_any(&["Llama", "CodeLlama", "Gemma"]));
    let adds_eos = flag("add_eos_token", is_any(&["T5", "MT5", "Pegasus", "Marian"]));
    let before = special.bos.into_iter().filter(|_| adds_bos).collect();
    let after = special.eos.first().copied().into_iter().filter(|_| adds_eos).collect();
    PostProcessor::around(before, after)
}

/// Files larger than this are not read: they are no tokenizer.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub(crate) fn read_dir(dir: &Path) -> Result<Tokenizer, TokenizerError> {
    let named = |name: &str, error: TokenizerError| TokenizerError::InFile {
        path: dir.join(name),
        source: Box::new(error),
    };
    let mut tokenizer = if let Some(bytes) = read_file(&dir.join("tokenizer.json"))? {
        Tokenizer::from_json(bytes).map_err(|error| named("tokenizer.json", error))?
    } else if let Some(bytes) = read_file(&dir.join("tokenizer.model"))? {
        Tokenizer::from_sentencepiece(bytes).map_err(|error| named("tokenizer.model", error))?
    } else {
        return Err(TokenizerError::NoTokenizer { path: dir.to_owned() });
    };
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        if let Some(bytes) = read_file(&dir.join(name))? {
            tokenizer.read_config(&bytes).map_err(|error| named(name, error))?;
            if matches!(tokenizer.source, Some(Source::SentencePiece(_))) {
                tokenizer.parts.post_processor = around_sentencepiece(&bytes, &tokenizer.special);
            }
        }
    }
    let n_ids = tokenizer.vocab_size();
    for name in ["generation_config.json", "config.json"] {
        if let Some(bytes) = read_file(&dir.join(name))? {
            tokenizer.special.read_ids(&bytes, n_ids).map_err(|error| named(name, error))?;
        }
    }
    Ok(tokenizer)
}

/// The file's contents; `None` if there is no such file.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let io = |source| TokenizerError::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => Err(io(std::io::Error::other(format!(
            "expected at most {MAX_FILE_BYTES} bytes, got {}",
            metadata.len()
        )))),
        Ok(_) => std::fs::read(path).map(Some).map_err(io),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_come_as_strings_objects_and_ids() {
        let mut special = SpecialTokens::default();
        let id_of = |token: &str| {
            ["<s>", "</s>", "<e>"].iter().position(|&known| known == token).map(|id| id as TokenId)
        };
        let config =
            br#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null, "unk_token": "?"}"#;
        special.read_config(config, id_of).unwrap();
        special.read_ids(br#"{"eos_token_id": [1, 2, 99], "pad_token_id": 2}"#, 3).unwrap();
        assert_eq!((special.bos, special.pad, special.unk), (Some(0), Some(2), None));
        assert_eq!(special.eos, [1, 2]);
    }
}
