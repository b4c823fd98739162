//! A tokenizer as the plain vocabulary that a GGUF carries.
//!
//! Where:  `wootz-model` writes it under `tokenizer.ggml.*`; [`ggml`](super::ggml) is the way back.
//! Idea:   GGUF knows four kinds of vocabulary and names pre-tokenizers; what none of them says is refused by name.
//! Source: ggml's `docs/gguf.md`; scores of merged tokens as llama.cpp's converter makes them.

use serde_json::Value;

use super::ggml::PRES;
use super::json::GPT2_REGEX;
use super::normalizer::Normalizer;
use super::{Source, Tokenizer, TokenizerError, sentencepiece};
use crate::{TokenId, TokenType, Vocab, VocabKind};

impl Tokenizer {
    /// The vocabulary with exactly `n_tokens` entries, as many as the model's embedding has rows; holes are filled up.
    ///
    /// # Errors
    /// Parts that GGUF cannot say, by field: an unknown pre-tokenizer, a WordLevel model, a SentencePiece file.
    pub fn to_vocab(&self, n_tokens: usize) -> Result<Vocab, TokenizerError> {
        let bytes = match self.source() {
            Some(Source::Json(bytes)) => bytes,
            Some(Source::SentencePiece(bytes)) => {
                let mut vocab = sentencepiece::describe(bytes)?;
                self.fill(&mut vocab, n_tokens)?;
                return Ok(vocab);
            }
            None => return Err(TokenizerError::field("tokenizer", "expected a file to write it from")),
        };
        let json: Value = serde_json::from_slice(bytes).map_err(TokenizerError::Json)?;
        let mut vocab = match json["model"]["type"].as_str() {
            Some("WordPiece") => self.word_piece(&json),
            Some("Unigram") => self.unigram(&json),
            Some("WordLevel") => {
                return Err(TokenizerError::field("model.type", "GGUF has no name for `WordLevel`"));
            }
            _ if json["model"]["byte_fallback"] == true => self.scored_bpe(&json),
            _ => self.byte_level_bpe(&json)?,
        };
        self.fill(&mut vocab, n_tokens)?;
        Ok(vocab)
    }

    fn spell_all(&self, n: usize) -> Vec<String> {
        (0..n)
            .map(|id| self.token_text(id as TokenId).map_or_else(|| format!("[PAD{id}]"), str::to_owned))
            .collect()
    }

    fn byte_level_bpe(&self, json: &Value) -> Result<Vocab, TokenizerError> {
        if adds_prefix_space(&json["pre_tokenizer"]) {
            let message = "GGUF has no name for `add_prefix_space` of a byte-level vocabulary";
            return Err(TokenizerError::field("pre_tokenizer", message));
        }
        let expressions = expressions(&json["pre_tokenizer"]);
        let ignores_merges = json["model"]["ignore_merges"] == true;
        let fits = |pre: &&super::ggml::Pre| {
            pre.expressions == expressions && pre.ignores_merges() == ignores_merges && pre.spells_bytes()
        };
        let named = if expressions == [GPT2_REGEX] && !ignores_merges {
            Some("gpt-2")
        } else {
            PRES.iter().find(fits).map(|pre| pre.names[0])
        };
        let pre = named.ok_or_else(|| {
            let got = expressions.join("`, `");
            TokenizerError::field("pre_tokenizer", format!("GGUF has no name for the expressions `{got}`"))
        })?;
        let merge = |merge: &Value| match merge {
            Value::String(line) => line.clone(),
            pair => format!("{} {}", pair[0].as_str().unwrap_or(""), pair[1].as_str().unwrap_or("")),
        };
        let merges = json["model"]["merges"].as_array().into_iter().flatten().map(merge).collect();
        Ok(Vocab { kind: VocabKind::Bpe, pre: Some(pre.to_owned()), merges, ..Vocab::default() })
    }

    /// Merges by score: the earlier a merge, the higher its result's.
    fn scored_bpe(&self, json: &Value) -> Vocab {
        let n = self.parts.tokens.n_ids();
        let mut scores = vec![-1e10; n];
        for (rank, merge) in json["model"]["merges"].as_array().into_iter().flatten().enumerate() {
            let text = match merge {
                Value::String(line) => line.replacen(' ', "", 1),
                pair => format!("{}{}", pair[0].as_str().unwrap_or(""), pair[1].as_str().unwrap_or("")),
            };
            if let Some(score) = self.token_id(&text).and_then(|id| scores.get_mut(id as usize)) {
                *score = f32::max(*score, -(rank as f32));
            }
        }
        // Whether a space comes before every text is what a text tells.
        let first = self.encode("x", false, false).first().and_then(|&id| self.token_text(id));
        let add_space_prefix = Some(first.is_some_and(|token| token.starts_with('\u{2581}')));
        Vocab { kind: VocabKind::SentencePiece, scores, add_space_prefix, ..Vocab::default() }
    }

    fn unigram(&self, json: &Value) -> Vocab {
        let pieces = json["model"]["vocab"].as_array().into_iter().flatten();
        let scores = pieces.map(|piece| piece[1].as_f64().unwrap_or(0.0) as f32).collect();
        Vocab {
            kind: VocabKind::Unigram,
            scores,
            unk: json["model"]["unk_id"].as_u64().map(|id| id as TokenId),
            add_space_prefix: Some(true),
            remove_extra_whitespaces: Some(true),
            precompiled_charsmap: charsmap(self.parts.normalizer.as_ref()),
            ..Vocab::default()
        }
    }

    /// Words begin with `▁`, what follows them loses its `##`.
    fn word_piece(&self, json: &Value) -> Vocab {
        let prefix = json["model"]["continuing_subword_prefix"].as_str().unwrap_or("##");
        let spell = |(id, text): (usize, String)| match text.strip_prefix(prefix) {
            Some(rest) => rest.to_owned(),
            None if self.is_special(id as TokenId) || text.starts_with("[PAD") => text,
            None => format!("\u{2581}{text}"),
        };
        let tokens = self.spell_all(self.vocab_size()).into_iter().enumerate().map(spell).collect();
        Vocab { kind: VocabKind::WordPiece, tokens, ..Vocab::default() }
    }

    /// Spellings, types and roles, and as many entries as the model has.
    fn fill(&self, vocab: &mut Vocab, n_tokens: usize) -> Result<(), TokenizerError> {
        if self.vocab_size() > n_tokens {
            let message = format!("expected at most {n_tokens} tokens, got {}", self.vocab_size());
            return Err(TokenizerError::field("model.vocab", message));
        }
        if vocab.tokens.is_empty() {
            vocab.tokens = self.spell_all(self.vocab_size());
        }
        let holes = vocab.tokens.len()..n_tokens;
        vocab.tokens.extend(holes.map(|id| format!("[PAD{id}]")));
        if !vocab.scores.is_empty() {
            vocab.scores.resize(n_tokens, -1e10);
        }
        if vocab.types.is_empty() {
            vocab.types = (0..n_tokens as TokenId).map(|id| self.type_of(id, vocab)).collect();
        }
        vocab.types.resize(n_tokens, TokenType::Unused);
        let roles = self.special();
        let mut ends = roles.eos.iter().copied();
        (vocab.bos, vocab.eos, vocab.eot) = (roles.bos, ends.next(), ends.next());
        (vocab.pad, vocab.cls, vocab.sep, vocab.mask) = (roles.pad, roles.cls, roles.sep, roles.mask);
        vocab.unk = vocab.unk.or(roles.unk);
        let around = self.encode("", true, false);
        vocab.add_bos = Some(roles.bos.or(roles.cls).is_some_and(|bos| around.first() == Some(&bos)));
        vocab.add_eos =
            Some(around.len() > 1 && roles.eos.iter().chain(&roles.sep).any(|id| around.last() == Some(id)));
        Ok(())
    }

    fn type_of(&self, id: TokenId, vocab: &Vocab) -> TokenType {
        let is_byte = |text: &str| text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        match self.token_text(id) {
            None => TokenType::Unused,
            _ if self.is_special(id) => TokenType::Control,
            _ if self.parts.added.get(id).is_some() => TokenType::UserDefined,
            _ if vocab.unk == Some(id) => TokenType::Unknown,
            Some(text) if vocab.kind == VocabKind::SentencePiece && is_byte(text) => TokenType::Byte,
            Some(_) => TokenType::Normal,
        }
    }
}

/// SentencePiece's normalization table, wherever it stands.
fn charsmap(normalizer: Option<&Normalizer>) -> Vec<u8> {
    match normalizer {
        Some(Normalizer::Charsmap(map)) => map.to_bytes(),
        Some(Normalizer::Sequence(steps)) => {
            let mut maps = steps.iter().map(|step| charsmap(Some(step)));
            maps.find(|map| !map.is_empty()).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// The expressions that cut a text before byte-level BPE, in order.
fn expressions(pre_tokenizer: &Value) -> Vec<&str> {
    match pre_tokenizer["type"].as_str() {
        Some("Sequence") => {
            pre_tokenizer["pretokenizers"].as_array().into_iter().flatten().flat_map(expressions).collect()
        }
        Some("Split") => pre_tokenizer["pattern"]["Regex"].as_str().into_iter().collect(),
        Some("Digits") if pre_tokenizer["individual_digits"] == true => vec![r"\p{N}"],
        Some("ByteLevel") if pre_tokenizer["use_regex"] != false => vec![GPT2_REGEX],
        _ => Vec::new(),
    }
}

fn adds_prefix_space(pre_tokenizer: &Value) -> bool {
    let mut parts = pre_tokenizer["pretokenizers"].as_array().into_iter().flatten();
    pre_tokenizer["add_prefix_space"] == true || parts.any(adds_prefix_space)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_gguf_cannot_say_is_refused_by_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers");
        for (name, said) in
            [("bpe-gpt2", "add_prefix_space"), ("bpe-prefix", "expressions"), ("wordlevel", "WordLevel")]
        {
            let json = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
            let tokenizer = Tokenizer::from_json(json).unwrap();
            let error = tokenizer.to_vocab(tokenizer.vocab_size()).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }

    #[test]
    fn a_vocabulary_written_and_read_again_gives_the_same_ids() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers");
        let texts: Vec<String> =
            serde_json::from_slice(&std::fs::read(folder.join("texts.json")).unwrap()).unwrap();
        for name in ["bpe-llama3", "bpe-o200k"] {
            let json = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
            // Added tokens with rules of their own (single words, stripped spaces) are more than GGUF can say.
            let mut json: Value = serde_json::from_slice(&json).unwrap();
            json["added_tokens"] = Value::Array(Vec::new());
            let tokenizer = Tokenizer::from_json(json.to_string().into_bytes()).unwrap();
            let vocab = tokenizer.to_vocab(tokenizer.vocab_size() + 3).unwrap();
            let again = Tokenizer::from_vocab(&vocab).unwrap();
            for text in &texts {
                let expected = tokenizer.encode(text, false, false);
                assert_eq!(again.encode(text, false, false), expected, "{name}: {text:?}");
            }
        }
    }
}
