//! The tokens that a model wants around a text: BOS, CLS, SEP and their kin.
//!
//! Where:  `post_processor` in `tokenizer.json`; also made for SentencePiece and GGUF vocabularies.
//! Idea:   whatever its name, it is a template for one text and one for a pair: sequences and fixed tokens in order.
//! Source: Hugging Face `tokenizers`, `processors`.

use crate::TokenId;

/// What stands around one text and around a pair.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PostProcessor {
    pub(crate) single: Vec<Slot>,
    pub(crate) pair: Vec<Slot>,
}

/// One place of a template; `type_id` says which text of a pair it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Slot {
    /// The first text.
    First { type_id: u32 },
    /// The second text.
    Second { type_id: u32 },
    /// Fixed tokens.
    Tokens { ids: Vec<TokenId>, type_id: u32 },
}

impl Default for PostProcessor {
    /// Nothing is added; a pair is one text after the other.
    fn default() -> Self {
        Self {
            single: vec![Slot::First { type_id: 0 }],
            pair: vec![Slot::First { type_id: 0 }, Slot::Second { type_id: 1 }],
        }
    }
}

impl PostProcessor {
    /// `before` and `after` around one text, around a pair as a whole.
    pub(crate) fn around(before: Vec<TokenId>, after: Vec<TokenId>) -> Self {
        let wrap = |slots: Vec<Slot>| {
            let before = Slot::Tokens { ids: before.clone(), type_id: 0 };
            let after = Slot::Tokens { ids: after.clone(), type_id: 0 };
            std::iter::once(before).chain(slots).chain([after]).collect()
        };
        let plain = Self::default();
        Self { single: wrap(plain.single), pair: wrap(plain.pair) }
    }

    /// BERT: `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`.
    pub(crate) fn bert(cls: TokenId, sep: TokenId) -> Self {
        let token = |id, type_id| Slot::Tokens { ids: vec![id], type_id };
        let single = vec![token(cls, 0), Slot::First { type_id: 0 }, token(sep, 0)];
        let pair = single.iter().cloned().chain([Slot::Second { type_id: 1 }, token(sep, 1)]).collect();
        Self { single, pair }
    }

    /// RoBERTa: `<s> A </s>` and `<s> A </s></s> B </s>`, all of type 0.
    pub(crate) fn roberta(cls: TokenId, sep: TokenId) -> Self {
        let token = |id| Slot::Tokens { ids: vec![id], type_id: 0 };
        let single = vec![token(cls), Slot::First { type_id: 0 }, token(sep)];
        let second = [token(sep), Slot::Second { type_id: 0 }, token(sep)];
        let pair = single.iter().cloned().chain(second).collect();
        Self { single, pair }
    }

    /// Fills the single template.
    pub(crate) fn apply(&self, ids: Vec<TokenId>) -> Vec<TokenId> {
        let mut out = Vec::with_capacity(ids.len() + 4);
        for slot in &self.single {
            match slot {
                Slot::First { .. } | Slot::Second { .. } => out.extend_from_slice(&ids),
                Slot::Tokens { ids, .. } => out.extend(ids),
            }
        }
        out
    }

    /// Fills the pair template: token ids and type ids.
    pub(crate) fn apply_pair(&self, first: &[TokenId], second: &[TokenId]) -> (Vec<TokenId>, Vec<u32>) {
        let (mut out, mut types) = (Vec::new(), Vec::new());
        for slot in &self.pair {
            let (ids, type_id) = match slot {
                Slot::First { type_id } => (first, type_id),
                Slot::Second { type_id } => (second, type_id),
                Slot::Tokens { ids, type_id } => (ids.as_slice(), type_id),
            };
            out.extend(ids);
            types.resize(out.len(), *type_id);
        }
        (out, types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_surround_texts_and_pairs() {
        assert_eq!(PostProcessor::bert(1, 2).apply(vec![7]), [1, 7, 2]);
        let (ids, types) = PostProcessor::bert(1, 2).apply_pair(&[7], &[8, 9]);
        assert_eq!((ids, types), (vec![1, 7, 2, 8, 9, 2], vec![0, 0, 0, 1, 1, 1]));
        assert_eq!(PostProcessor::roberta(1, 2).apply_pair(&[7], &[8]).0, [1, 7, 2, 2, 8, 2]);
        assert_eq!(PostProcessor::default().apply_pair(&[7], &[8]), (vec![7, 8], vec![0, 1]));
        assert_eq!(PostProcessor::around(vec![1], vec![]).apply(vec![7]), [1, 7]);
    }
}
