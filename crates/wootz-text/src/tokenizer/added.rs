//! Tokens that are matched in the text before the model sees it: special tokens and those added by hand.
//!
//! Where:  `added_tokens` in `tokenizer.json`; control and user-defined tokens of other vocabularies.
//! Idea:   two automata find the leftmost-longest token, one in the raw text, one in the normalized text.
//! Source: Hugging Face `tokenizers`, `added_vocabulary.rs`.

use std::collections::{HashMap, HashSet};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::TokenId;

/// Most tokens.
pub(crate) const MAX_ADDED: usize = 1 << 17;
/// Longest token, and the normalized forms of all together: a normalizer may make much of little.
const MAX_CONTENT_BYTES: usize = 1 << 12;
const MAX_NORMALIZED_BYTES: usize = 4 << 20;
/// Most states of an automaton, which takes about a hundred bytes for each while it is built; and most where it may be a
/// table of a kilobyte for each, which is the fastest.
const MAX_STATES: usize = 1 << 18;
const MAX_DFA_STATES: usize = 1 << 12;

/// A token that is matched as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddedToken {
    /// Its text.
    pub content: String,
    /// It matches only where no word character stands beside it.
    pub single_word: bool,
    /// It swallows the whitespace on its left.
    pub lstrip: bool,
    /// It swallows the whitespace on its right.
    pub rstrip: bool,
    /// It is matched in normalized text, in its own normalized form.
    pub normalized: bool,
    /// It has a meaning instead of a text: not matched unless asked for, skipped in decoding if asked for.
    pub special: bool,
}

/// All added tokens, ready to be matched.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddedTokens {
    by_id: HashMap<TokenId, AddedToken>,
    by_content: HashMap<String, TokenId>,
    /// How a token is spelled when decoding, where that is its normalized form.
    spelled: HashMap<TokenId, String>,
    special: HashSet<String>,
    raw: Option<Matcher>,
    normalized: Option<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<TokenId>,
}

/// A stretch of text: one added token, or text between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) token: Option<TokenId>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// In which text tokens are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Raw,
    Normalized,
}

impl AddedTokens {
    /// Remembers a token; [`build`](AddedTokens::build) makes it match.
    pub(crate) fn insert(&mut self, id: TokenId, token: AddedToken) {
        if token.special {
            self.special.insert(token.content.clone());
        }
        self.by_content.insert(token.content.clone(), id);
        self.by_id.insert(id, token);
    }

    /// Builds the automata; `normalize` is what the normalizer makes of a text.
    pub(crate) fn build(&mut self, normalize: impl Fn(&str) -> String) -> Result<(), String> {
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        let mut ids: Vec<TokenId> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        let mut n_bytes = 0;
        for id in ids {
            let token = &self.by_id[&id];
            if token.content.len() > MAX_CONTENT_BYTES {
                let got = token.content.len();
                return Err(format!("expected added tokens of at most {MAX_CONTENT_BYTES} bytes, got {got}"));
            }
            if !token.normalized {
                raw.push((token.content.clone(), id));
                continue;
            }
            let spelled = normalize(&token.content);
            n_bytes += spelled.len();
            if n_bytes > MAX_NORMALIZED_BYTES {
                return Err(format!("expected at most {MAX_NORMALIZED_BYTES} bytes of normalized tokens"));
            }
            if spelled != token.content {
                self.spelled.insert(id, spelled.clone());
            }
            normalized.push((spelled, id));
        }
        self.raw = Matcher::new(raw)?;
        self.normalized = Matcher::new(normalized)?;
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn id_of(&self, content: &str) -> Option<TokenId> {
        self.by_content.get(content).copied()
    }

    pub(crate) fn get(&self, id: TokenId) -> Option<&AddedToken> {
        self.by_id.get(&id)
    }

    pub(crate) fn max_id(&self) -> Option<TokenId> {
        self.by_id.keys().copied().max()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TokenId, &AddedToken)> {
        self.by_id.iter().map(|(&id, token)| (id, token))
    }

    /// How the decoder sees a token.
    pub(crate) fn spelled(&self, id: TokenId) -> Option<&str> {
        let spelled = self.spelled.get(&id).map(String::as_str);
        spelled.or_else(|| self.by_id.get(&id).map(|token| token.content.as_str()))
    }

    /// Whether a spelled token is special.
    pub(crate) fn is_special(&self, spelled: &str) -> bool {
        self.special.contains(spelled)
    }

    /// Cuts a text at its added tokens; special ones are passed over unless `parse_special`.
    pub(crate) fn cut(&self, text: &str, phase: Phase, parse_special: bool) -> Vec<Stretch> {
        let matcher = match phase {
            Phase::Raw => &self.raw,
            Phase::Normalized => &self.normalized,
        };
        let whole = Stretch { token: None, start: 0, end: text.len() };
        let Some(matcher) = matcher else { return vec![whole] };
        let mut stretches = Vec::new();
        let mut done = 0;
        for found in matcher.automaton.find_iter(text) {
            let id = matcher.ids[found.pattern().as_usize()];
            let token = &self.by_id[&id];
            let is_unwanted = !parse_special && self.special.contains(&token.content);
            if is_unwanted || token.single_word && !stands_alone(text, found.start(), found.end()) {
                continue;
            }
            let (mut start, mut end) = (found.start(), found.end());
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                stretches.push(Stretch { token: None, start: done, end: start });
            }
            stretches.push(Stretch { token: Some(id), start, end });
            done = end;
        }
        if done < text.len() || stretches.is_empty() {
            stretches.push(Stretch { token: None, start: done, end: text.len() });
        }
        stretches
    }
}

impl Matcher {
    fn new(tokens: Vec<(String, TokenId)>) -> Result<Option<Self>, String> {
        let (contents, ids): (Vec<String>, Vec<TokenId>) =
            tokens.into_iter().filter(|(content, _)| !content.is_empty()).unzip();
        if contents.is_empty() {
            return Ok(None);
        }
        let n_states = n_prefixes(&contents);
        if n_states > MAX_STATES {
            return Err(format!("expected added tokens with at most {MAX_STATES} different beginnings"));
        }
        let kind =
            if n_states <= MAX_DFA_STATES { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let automaton = AhoCorasick::builder()
            .kind(Some(kind))
            .match_kind(MatchKind::LeftmostLongest)
            .build(&contents)
            .map_err(|error| error.to_string())?;
        Ok(Some(Self { automaton, ids }))
    }
}

/// How many different beginnings texts have: an automaton has a state for each.
fn n_prefixes(texts: &[String]) -> usize {
    let mut sorted: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    sorted.sort_unstable();
    let shared = |pair: &[&[u8]]| std::iter::zip(pair[0], pair[1]).take_while(|(a, b)| a == b).count();
    texts.iter().map(String::len).sum::<usize>() - sorted.windows(2).map(shared).sum::<usize>()
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].chars().next_back();
    let after = text[end..].chars().next();
    !before.is_some_and(is_word) && !after.is_some_and(is_word)
}

/// `\w` of Unicode's UTS 18: letters, marks, digits, connectors, joiners.
fn is_word(c: char) -> bool {
    use unicode_categories::UnicodeCategories as _;
    let is_joiner = matches!(c, '\u{200c}' | '\u{200d}');
    c.is_alphabetic()
        || c.is_mark()
        || c.is_number_decimal_digit()
        || c.is_punctuation_connector()
        || is_joiner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(tokens: &[AddedToken]) -> AddedTokens {
        let mut added = AddedTokens::default();
        for (id, token) in tokens.iter().enumerate() {
            added.insert(id as TokenId, token.clone());
        }
        added.build(str::to_lowercase).unwrap();
        added
    }

    fn token(content: &str) -> AddedToken {
        AddedToken { content: content.into(), ..AddedToken::default() }
    }

    #[test]
    fn tokens_are_cut_out_with_their_whitespace() {
        let added = added(&[
            AddedToken { lstrip: true, rstrip: true, ..token("<m>") },
            AddedToken { single_word: true, ..token("ing") },
            AddedToken { special: true, ..token("<s>") },
        ]);
        let check = |text: &str, parse_special: bool, expected: &[(&str, bool)]| {
            let stretches = added.cut(text, Phase::Raw, parse_special);
            let found: Vec<_> =
                stretches.iter().map(|s| (&text[s.start..s.end], s.token.is_some())).collect();
            assert_eq!(found, expected);
        };
        check("a <m>  b", true, &[("a", false), (" <m>  ", true), ("b", false)]);
        check("sing ing", true, &[("sing ", false), ("ing", true)]);
        check("a<s>b", true, &[("a", false), ("<s>", true), ("b", false)]);
        check("a<s>b", false, &[("a<s>b", false)]);
        check("", true, &[("", false)]);
    }

    #[test]
    fn different_beginnings_are_counted() {
        let check = |texts: &[&str], expected: usize| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(n_prefixes(&texts), expected, "{texts:?}");
        };
        check(&["abc", "abd", "x"], 5);
        check(&["a", "a"], 1);
        check(&["ab", "b", "abc"], 4);
    }

    #[test]
    fn normalized_tokens_match_in_normalized_text() {
        let added = added(&[AddedToken { normalized: true, ..token("Yesterday") }]);
        assert!(added.cut("yesterday", Phase::Normalized, true)[0].token.is_some());
        assert!(added.cut("yesterday", Phase::Raw, true)[0].token.is_none());
        assert_eq!(added.spelled(0), Some("yesterday"));
    }
}
