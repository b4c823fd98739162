//! What is done to a text before it is split: Unicode forms, case, accents, replacements.
//!
//! Where:  `normalizer` in `tokenizer.json`; also made for SentencePiece and GGUF vocabularies.
//! Idea:   a closed list of steps, each from text to text. Besides the text, one bit is kept: whether its first
//!         character still stands at the very beginning of the input, because `Metaspace` may ask.
//! Source: Hugging Face `tokenizers`, `normalizers`; SentencePiece `normalizer.cc` for [`SentencePieceRules`].

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::is_combining_mark;

use super::byte_level;
use super::charsmap::Charsmap;
use super::pattern::Pattern;

/// One step, or several.
#[derive(Debug, Clone)]
pub(crate) enum Normalizer {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    Strip { left: bool, right: bool },
    StripAccents,
    Replace { pattern: Pattern, content: String },
    Prepend(String),
    Bert(BertRules),
    Nmt,
    Charsmap(Charsmap),
    ByteLevel,
    SentencePiece(SentencePieceRules),
    Sequence(Vec<Normalizer>),
}

/// A text on its way through the normalizer.
#[derive(Debug, Clone)]
pub(crate) struct Normalized<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Whether its first character came from the first one of the whole input.
    pub(crate) at_start: bool,
}

impl Normalizer {
    pub(crate) fn apply(&self, input: &mut Normalized) {
        match self {
            // COMPAT: Hugging Face's tables are those of Unicode 9, whence the crate.
            Self::Nfc => input.map_unless(is_nfc_for_sure, |text| text.nfc().map(|(c, _)| c).collect()),
            Self::Nfd => input.map_unless(str::is_ascii, |text| text.nfd().map(|(c, _)| c).collect()),
            Self::Nfkc => input.map_unless(str::is_ascii, |text| text.nfkc().map(|(c, _)| c).collect()),
            Self::Nfkd => input.map_unless(str::is_ascii, |text| text.nfkd().map(|(c, _)| c).collect()),
            // COMPAT: character by character, so a final sigma stays an ordinary one.
            Self::Lowercase => input.map(|text| text.chars().flat_map(char::to_lowercase).collect()),
            Self::Strip { left, right } => strip(input, *left, *right),
            Self::StripAccents => input.filter(|c| !is_combining_mark(c)),
            Self::Replace { pattern, content } => replace(input, pattern, content),
            Self::Prepend(prefix) => {
                if !input.text.is_empty() {
                    input.text.to_mut().insert_str(0, prefix);
                }
            }
            Self::Bert(rules) => rules.apply(input),
            Self::Nmt => nmt(input),
            Self::Charsmap(map) => input.map(|text| map.normalize_graphemes(text)),
            Self::ByteLevel => input.map(|text| byte_level::byte_spelling(text.as_bytes())),
            Self::SentencePiece(rules) => input.map(|text| rules.apply(text)),
            Self::Sequence(steps) => steps.iter().for_each(|step| step.apply(input)),
        }
    }

    /// How many bytes one byte of text becomes at most.
    pub(crate) fn growth(&self) -> u64 {
        match self {
            Self::Strip { .. } | Self::StripAccents | Self::Nmt => 1,
            Self::Lowercase | Self::ByteLevel => 2,
            Self::Nfc | Self::Nfd => 4,
            Self::Nfkc | Self::Nfkd => 12, // U+FDFA: 3 bytes become 33
            Self::Replace { pattern, content } => pattern.growth(content),
            Self::Prepend(prefix) => 1 + prefix.len() as u64,
            Self::Bert(_) => 2 * 4 * 2,
            Self::Charsmap(map) => map.growth(),
            Self::SentencePiece(rules) => 6 * rules.charsmap.growth(),
            Self::Sequence(steps) => steps.iter().map(Self::growth).fold(1, u64::saturating_mul),
        }
    }

    /// The text after this step, for tokens that are matched in normalized text.
    pub(crate) fn apply_to(&self, text: &str) -> String {
        let mut input = Normalized { text: Cow::Borrowed(text), at_start: true };
        self.apply(&mut input);
        input.text.into_owned()
    }
}

impl Normalized<'_> {
    fn map(&mut self, step: impl Fn(&str) -> String) {
        self.text = Cow::Owned(step(&self.text));
    }

    fn map_unless(&mut self, is_unchanged: impl Fn(&str) -> bool, step: impl Fn(&str) -> String) {
        if !is_unchanged(&self.text) {
            self.map(step);
        }
    }

    fn filter(&mut self, keeps: impl Fn(char) -> bool) {
        if self.text.chars().all(&keeps) {
            return;
        }
        self.at_start &= self.text.chars().next().is_some_and(&keeps);
        self.map(|text| text.chars().filter(|&c| keeps(c)).collect());
    }
}

/// Below U+0300 nothing combines and nothing is decomposed by NFC.
fn is_nfc_for_sure(text: &str) -> bool {
    text.chars().all(|c| c < '\u{300}')
}

fn strip(input: &mut Normalized, left: bool, right: bool) {
    let mut kept: &str = &input.text;
    if left {
        kept = kept.trim_start();
    }
    input.at_start &= kept.len() == input.text.len();
    if right {
        kept = kept.trim_end();
    }
    if kept.len() != input.text.len() {
        input.text = Cow::Owned(kept.to_owned());
    }
}

fn replace(input: &mut Normalized, pattern: &Pattern, content: &str) {
    let mut out = String::new();
    let mut end = 0;
    let mut at_start = input.at_start;
    pattern.each_match(&input.text, |found| {
        if found.start == 0 && found.end > 0 {
            // COMPAT: what is inserted inherits the place of the last character that it replaces.
            at_start &= !content.is_empty() && input.text[found.clone()].chars().count() == 1;
        }
        out.push_str(&input.text[end..found.start]);
        out.push_str(content);
        end = found.end;
    });
    if end == 0 && out.is_empty() {
        return;
    }
    out.push_str(&input.text[end..]);
    input.text = Cow::Owned(out);
    input.at_start = at_start;
}

fn nmt(input: &mut Normalized) {
    input.filter(|c| {
        let is_control =
            matches!(c, '\x01'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' | '\u{8f}' | '\u{9f}');
        !is_control
    });
    let blank = |c: char| match c {
        '\t' | '\n' | '\x0c' | '\r' | '\u{1680}' | '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}' => ' ',
        '\u{2581}' | '\u{feff}' | '\u{fffd}' => ' ',
        c => c,
    };
    input.map(|text| text.chars().map(blank).collect());
}

/// BERT's cleaning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BertRules {
    pub(crate) clean_text: bool,
    pub(crate) handle_chinese_chars: bool,
    pub(crate) strip_accents: bool,
    pub(crate) lowercase: bool,
}

impl BertRules {
    fn apply(self, input: &mut Normalized) {
        if self.clean_text {
            input.filter(|c| !(c == '\0' || c == '\u{fffd}' || is_bert_control(c)));
            input.map(|text| text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect());
        }
        if self.handle_chinese_chars && input.text.chars().any(is_chinese) {
            input.map(space_chinese);
        }
        if self.strip_accents && !input.text.is_ascii() {
            input.map(|text| text.nfd().map(|(c, _)| c).collect());
            input.filter(|c| !c.is_mark_nonspacing());
        }
        if self.lowercase {
            Normalizer::Lowercase.apply(input);
        }
    }
}

fn space_chinese(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if is_chinese(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

fn is_bert_control(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && c.is_other()
}

/// COMPAT: `0x2B920` instead of `0x2B820` is what Hugging Face has.
fn is_chinese(c: char) -> bool {
    matches!(
        c as u32,
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}

/// What SentencePiece itself does to a text.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentencePieceRules {
    pub(crate) charsmap: Charsmap,
    /// Whether the text begins with a space of its own.
    pub(crate) add_dummy_prefix: bool,
    /// Whether runs of spaces become one and those at the ends vanish.
    pub(crate) remove_extra_whitespaces: bool,
    /// Whether spaces are written `▁`.
    pub(crate) escape_whitespaces: bool,
    /// Symbols that pass through unchanged.
    pub(crate) protected: Protected,
}

impl SentencePieceRules {
    pub(crate) fn apply(&self, text: &str) -> String {
        let space = if self.escape_whitespaces { "\u{2581}" } else { " " };
        let mut out = String::with_capacity(text.len() + text.len() / 2 + 3);
        let mut rest = text;
        if self.remove_extra_whitespaces {
            while !rest.is_empty() {
                let (piece, len) = self.prefix(rest);
                if piece != " " {
                    break;
                }
                rest = &rest[len..];
            }
        }
        if rest.is_empty() {
            return out;
        }
        if self.add_dummy_prefix {
            out.push_str(space);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !rest.is_empty() {
            let (piece, len) = self.prefix(rest);
            rest = &rest[len..];
            let piece = if after_space { piece.trim_start_matches(' ') } else { piece };
            if piece.is_empty() {
                continue;
            }
            piece.chars().for_each(|c| if c == ' ' { out.push_str(space) } else { out.push(c) });
            after_space = self.remove_extra_whitespaces && piece.ends_with(' ');
        }
        if self.remove_extra_whitespaces {
            while out.ends_with(space) {
                out.truncate(out.len() - space.len());
            }
        }
        out
    }

    /// The normalized form of the beginning of `text` and how many of its bytes that consumes.
    fn prefix<'a>(&'a self, text: &'a str) -> (&'a str, usize) {
        if let Some(symbol) = self.protected.longest_prefix(text) {
            return (symbol, symbol.len());
        }
        self.charsmap.longest_prefix(text).unwrap_or_else(|| {
            let len = text.chars().next().map_or(0, char::len_utf8);
            (&text[..len], len)
        })
    }
}

/// Symbols to be found at a place of a text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Protected {
    symbols: HashSet<String>,
    /// The lengths of symbols that begin with a byte, longest first: a place costs as many look-ups, however many
    /// symbols there are.
    lengths: HashMap<u8, Vec<usize>>,
}

impl Protected {
    pub(crate) fn new<'a>(symbols: impl Iterator<Item = &'a str>) -> Self {
        let mut protected = Self::default();
        for symbol in symbols.filter(|symbol| !symbol.is_empty()) {
            protected.symbols.insert(symbol.to_owned());
            let lengths = protected.lengths.entry(symbol.as_bytes()[0]).or_default();
            if let Err(at) = lengths.binary_search_by_key(&Reverse(symbol.len()), |&length| Reverse(length)) {
                lengths.insert(at, symbol.len());
            }
        }
        protected
    }

    fn longest_prefix<'a>(&self, text: &'a str) -> Option<&'a str> {
        let lengths = self.lengths.get(text.as_bytes().first()?)?;
        let prefixes = lengths.iter().filter_map(|&length| text.get(..length));
        prefixes.into_iter().find(|&prefix| self.symbols.contains(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(normalizer: &Normalizer, text: &str, expected: &str) {
        assert_eq!(normalizer.apply_to(text), expected, "{normalizer:?}");
    }

    #[test]
    fn unicode_forms() {
        check(&Normalizer::Nfc, "e\u{301}", "é");
        check(&Normalizer::Nfd, "é", "e\u{301}");
        check(&Normalizer::Nfkc, "ﬁ①", "fi1");
        check(&Normalizer::StripAccents, "e\u{301}a", "ea");
    }

    #[test]
    fn bert_cleans_splits_chinese_and_strips_accents() {
        let rules =
            BertRules { clean_text: true, handle_chinese_chars: true, strip_accents: true, lowercase: true };
        check(&Normalizer::Bert(rules), "Héllo\u{200d}\t中A", "hello  中 a");
    }

    #[test]
    fn sentencepiece_joins_spaces_and_prefixes() {
        let rules = SentencePieceRules {
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            ..SentencePieceRules::default()
        };
        check(&Normalizer::SentencePiece(rules.clone()), "  a   b ", "▁a▁b");
        check(&Normalizer::SentencePiece(rules.clone()), "   ", "");
        let rules = SentencePieceRules { remove_extra_whitespaces: false, ..rules };
        check(&Normalizer::SentencePiece(rules), " a  ", "▁▁a▁▁");
    }

    #[test]
    fn the_longest_protected_symbol_is_found() {
        let protected = Protected::new(["ab", "abc", "é", ""].into_iter());
        let check = |text: &str, expected: Option<&str>| assert_eq!(protected.longest_prefix(text), expected);
        check("abcd", Some("abc"));
        check("abé", Some("ab"));
        check("éa", Some("é"));
        check("a", None);
        check("", None);
    }

    #[test]
    fn growth_multiplies_over_a_sequence() {
        let double = Normalizer::Replace { pattern: Pattern::Literal("a".into()), content: "aa".into() };
        assert_eq!(double.growth(), 2);
        assert_eq!(Normalizer::Sequence(vec![double; 10]).growth(), 1024);
    }

    #[test]
    fn stripping_forgets_the_start() {
        let mut input = Normalized { text: " a".into(), at_start: true };
        Normalizer::Strip { left: true, right: true }.apply(&mut input);
        assert_eq!((&*input.text, input.at_start), ("a", false));
    }
}
