//! A tokenizer's vocabulary as a trie over bytes.
//!
//! Where:  made once for a model, when its first constraint is compiled.
//! Idea:   special tokens stand apart, behind a byte that no text has, so that text rules never allow them.
//! Source: `toktrie`'s convention of the byte 0xff.

use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenizerEnv};
use wootz_text::{TokenId, Tokenizer};

use crate::{GrammarError, Result};

/// A tokenizer as `llguidance` sees it.
pub(crate) struct GrammarVocab {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
    is_canonical: bool,
}

impl GrammarVocab {
    /// `vocab_size` is the model's, which may be more than the tokenizer knows; the rest is never allowed.
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, vocab_size: usize, end_tokens: &[TokenId]) -> Result<Self> {
        let Some(&eos) = end_tokens.first() else {
            return Err(GrammarError::Vocab("it has no end token".to_owned()));
        };
        let size =
            u32::try_from(vocab_size).map_err(|_| GrammarError::Vocab("too many tokens".to_owned()))?;
        let bytes = |id: TokenId| match tokenizer.is_special(id) || end_tokens.contains(&id) {
            true => {
                let text = tokenizer.token_text(id).unwrap_or_default();
                [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat()
            }
            false => tokenizer.token_bytes(id).unwrap_or_default(),
        };
        let words: Vec<Vec<u8>> = (0..size).map(bytes).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, eos), &words).with_eos_tokens(end_tokens);
        let mut vocab = Self { tokenizer, trie, is_canonical: true };
        vocab.is_canonical = PROBES.iter().all(|probe| vocab.encode(probe.as_bytes()).is_some());
        Ok(vocab)
    }

    /// Tokens of a text in the middle of another; `None` if the tokenizer would change it.
    fn encode(&self, text: &[u8]) -> Option<Vec<TokenId>> {
        let ids = self.tokenizer.encode_bytes(text, false, false);
        let spelled = ids.iter().flat_map(|&id| self.trie.token(id));
        (spelled.eq(text) && !ids.is_empty()).then_some(ids)
    }
}

/// Texts that a tokenizer which puts a space before everything, or drops one, does not give back.
const PROBES: &[&str] = &["a", " a", "{\"a\": [1, 2.5], \"b\": \"c\"}", "\n\n  x", "Zoë "];

impl TokenizerEnv for GrammarVocab {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.encode(text).unwrap_or_else(|| self.trie.greedy_tokenize(text))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.is_canonical
    }
}
