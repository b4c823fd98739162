//! Finding the parts of a text: a literal, a regular expression, or a class of characters; and what happens at matches.
//!
//! Where:  used by the normalizer `Replace`, by `Split`-like pre-tokenizers and by the decoder `Replace`.
//! Idea:   a pattern cuts a text into contiguous parts that match or do not; a behaviour turns those into pieces.
//! Source: Hugging Face `tokenizers`, `Pattern` and `SplitDelimiterBehavior`.
//! Elsewhere: hand-written twins of well-known expressions ([`scanner`](super::scanner)).

use std::ops::Range;

use fancy_regex::{Regex, RegexBuilder};

use super::TokenizerError;
use super::scanner::Scanner;

/// Steps that a backtracking search may take before the rest of the text counts as unmatched.
const MAX_BACKTRACKS: usize = 1_000_000;
/// Bytes that a compiled expression may take.
const MAX_REGEX_BYTES: usize = 16 << 20;
/// Longest expression that is compiled at all.
const MAX_PATTERN_BYTES: usize = 64 << 10;

/// Something that matches parts of a text.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// This text.
    Literal(String),
    /// A well-known expression, matched by hand-written code.
    Scanner(Scanner),
    /// Any other expression.
    Regex(Box<Regex>),
}

/// A contiguous part of a text and whether it matched.
pub(crate) type Part = (Range<usize>, bool);

impl Pattern {
    /// A literal; an empty one matches between all characters, as Hugging Face's does.
    pub(crate) fn literal(text: &str, field: &str) -> Result<Self, TokenizerError> {
        if text.is_empty() { Self::plain_regex("", field) } else { Ok(Self::Literal(text.to_owned())) }
    }

    /// A regular expression in Oniguruma's syntax, as far as `fancy-regex` shares it.
    pub(crate) fn regex(expression: &str, field: &str) -> Result<Self, TokenizerError> {
        match Scanner::for_regex(expression) {
            Some(scanner) => Ok(Self::Scanner(scanner)),
            None => Self::plain_regex(&from_oniguruma(expression), field),
        }
    }

    /// A regular expression in the syntax of the `regex` crate.
    pub(crate) fn plain_regex(expression: &str, field: &str) -> Result<Self, TokenizerError> {
        if expression.len() > MAX_PATTERN_BYTES {
            let message = format!("expected at most {MAX_PATTERN_BYTES} bytes, got {}", expression.len());
            return Err(TokenizerError::field(field, message));
        }
        // COMPAT: in Oniguruma's Ruby syntax `^` and `$` always match at line ends.
        let regex = RegexBuilder::new(expression)
            .multi_line(true)
            .backtrack_limit(MAX_BACKTRACKS)
            .delegate_size_limit(MAX_REGEX_BYTES)
            .delegate_dfa_size_limit(MAX_REGEX_BYTES)
            .build()
            .map_err(|error| {
                TokenizerError::field(field, format!("expected a regular expression: {error}"))
            })?;
        Ok(Self::Regex(Box::new(regex)))
    }

    /// How many bytes one byte of text becomes at most where matches are replaced.
    pub(crate) fn growth(&self, content: &str) -> u64 {
        match self {
            Self::Literal(literal) => content.len().div_ceil(literal.len().max(1)).max(1) as u64,
            // An expression may match between any two bytes.
            Self::Scanner(_) | Self::Regex(_) => 1 + content.len() as u64,
        }
    }

    /// All parts of the text in order, without gaps. A search that exceeds its budget leaves the rest unmatched.
    pub(crate) fn parts(&self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut end = 0;
        self.each_match(text, |found| {
            if end != found.start {
                parts.push((end..found.start, false));
            }
            end = found.end;
            parts.push((found, true));
        });
        if end != text.len() {
            parts.push((end..text.len(), false));
        }
        parts
    }

    /// Every match, from left to right.
    pub(crate) fn each_match(&self, text: &str, mut each: impl FnMut(Range<usize>)) {
        match self {
            Self::Literal(literal) => {
                text.match_indices(literal).for_each(|(start, found)| each(start..start + found.len()));
            }
            Self::Scanner(scanner) => scanner.each(text, |start, end| each(start..end)),
            // COMPAT: Hugging Face ends the search at an error, too.
            Self::Regex(regex) => {
                regex
                    .find_iter(text)
                    .map_while(Result::ok)
                    .for_each(|found| each(found.start()..found.end()));
            }
        }
    }
}

/// What compiling an expression may cost in literals: a class of characters counts as many, and what is repeated
/// counts as often as it may be copied. Too much rather than too little: repeating a group counts for all before it.
pub(crate) fn cost(expression: &str) -> u64 {
    const CLASS: u64 = 256;
    let (mut sum, mut last) = (0_u64, 0_u64);
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let before = last;
        last = match c {
            '(' if ignores_spaces(rest) => return u64::MAX, // a repetition may then stand anywhere
            '{' => match copies(rest) {
                Some((copies, after)) => {
                    rest = after;
                    last.saturating_mul(copies.saturating_sub(1))
                }
                None => 1,
            },
            '[' | '.' => CLASS,
            '\\' => {
                let escaped = rest.chars().next().unwrap_or('\\');
                rest = after_escape(rest, escaped);
                let is_class = escaped.is_ascii_alphabetic() && !"rntfvae".contains(escaped);
                if is_class { CLASS } else { 1 }
            }
            _ => 1,
        };
        sum = sum.saturating_add(last);
        last = match c {
            ')' | ']' => sum,
            '{' | '*' | '+' | '?' => before.saturating_add(last),
            _ => last,
        };
    }
    sum
}

/// What follows `\p{L}`, `\pL`, `\x{41}` or any other escape.
fn after_escape(rest: &str, escaped: char) -> &str {
    let rest = rest.strip_prefix(escaped).unwrap_or(rest);
    match rest.strip_prefix('{').filter(|_| "pPxuUkgNo".contains(escaped)) {
        Some(name) => name.split_once('}').map_or("", |(_, rest)| rest),
        None if matches!(escaped, 'p' | 'P') => rest.char_indices().nth(1).map_or("", |(at, _)| &rest[at..]),
        None => rest,
    }
}

/// Whether `(` begins flags with `x` among them.
fn ignores_spaces(group: &str) -> bool {
    let flags = group.strip_prefix('?').unwrap_or("").split([':', ')']).next().unwrap_or("");
    flags.contains('x') && flags.bytes().all(|flag| flag.is_ascii_alphabetic() || flag == b'-')
}

/// How many copies `3}`, `3,}` or `3,7}` may make, and what follows.
fn copies(braces: &str) -> Option<(u64, &str)> {
    let (bounds, after) = braces.split_once('}')?;
    let numbers = bounds.split(',').map(|number| number.trim().parse::<u64>());
    Some((numbers.filter_map(Result::ok).max()?, after))
}

/// Spells out the classes that mean something else in Oniguruma's Ruby syntax: `\w` has no joiners there, `\h` is a hex
/// digit, and bracketed names know all of Unicode.
fn from_oniguruma(expression: &str) -> String {
    const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";
    const NAMED: [(&str, &str); 9] = [
        ("[:alpha:]", r"\p{Alphabetic}"),
        ("[:alnum:]", r"\p{Alphabetic}\p{Nd}"),
        ("[:digit:]", r"\p{Nd}"),
        ("[:space:]", r"\s"),
        ("[:upper:]", r"\p{Uppercase}"),
        ("[:lower:]", r"\p{Lowercase}"),
        ("[:cntrl:]", r"\p{Cc}"),
        ("[:punct:]", r"\p{P}$+<=>\^`|\~"),
        ("[:word:]", WORD),
    ];
    let mut out = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        let named = NAMED.iter().find(|(name, _)| rest.starts_with(name));
        let escaped = rest.strip_prefix('\\').and_then(|rest| rest.chars().next());
        let taken = match (named, escaped) {
            (Some((name, class)), _) => {
                out.push_str(class);
                name.len()
            }
            (_, Some('w')) => {
                out.push_str(&format!("[{WORD}]"));
                2
            }
            (_, Some('W')) => {
                out.push_str(&format!("[^{WORD}]"));
                2
            }
            (_, Some('h')) => {
                out.push_str("[0-9a-fA-F]");
                2
            }
            (_, Some('H')) => {
                out.push_str("[^0-9a-fA-F]");
                2
            }
            (_, Some(other)) => {
                out.push_str(&rest[..1 + other.len_utf8()]);
                1 + other.len_utf8()
            }
            _ => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// The parts of a text by a class of characters: each matching character is a part of its own.
pub(crate) fn parts_by(text: &str, matches: impl Fn(char) -> bool) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut end = 0;
    for (start, c) in text.char_indices().filter(|&(_, c)| matches(c)) {
        if end != start {
            parts.push((end..start, false));
        }
        end = start + c.len_utf8();
        parts.push((start..end, true));
    }
    if end != text.len() {
        parts.push((end..text.len(), false));
    }
    parts
}

/// What becomes of matches when a text is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// They vanish.
    Removed,
    /// Each is a piece.
    Isolated,
    /// They end the piece before.
    MergedWithPrevious,
    /// They begin the piece after.
    MergedWithNext,
    /// Neighbouring matches are one piece.
    Contiguous,
}

impl Behavior {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "Removed" => Self::Removed,
            "Isolated" => Self::Isolated,
            "MergedWithPrevious" => Self::MergedWithPrevious,
            "MergedWithNext" => Self::MergedWithNext,
            "Contiguous" => Self::Contiguous,
            _ => return None,
        })
    }

    /// The pieces, empty ones included.
    pub(crate) fn pieces(self, parts: Vec<Part>) -> Vec<Range<usize>> {
        match self {
            Self::Removed => parts.into_iter().filter(|part| !part.1).map(|part| part.0).collect(),
            Self::Isolated => parts.into_iter().map(|part| part.0).collect(),
            Self::MergedWithPrevious => merge(parts.into_iter(), |matched, before| matched && !before),
            Self::Contiguous => merge(parts.into_iter(), |matched, before| matched == before),
            Self::MergedWithNext => {
                let mut pieces: Vec<Range<usize>> = Vec::new();
                let mut before = false;
                for (range, matched) in parts.into_iter().rev() {
                    match pieces.last_mut() {
                        Some(piece) if matched && !before => piece.start = range.start,
                        _ => pieces.push(range),
                    }
                    before = matched;
                }
                pieces.reverse();
                pieces
            }
        }
    }
}

/// Joins a part to the piece before it where `joins(matched, part before matched)`.
fn merge(parts: impl Iterator<Item = Part>, joins: impl Fn(bool, bool) -> bool) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut before = false;
    for (range, matched) in parts {
        match pieces.last_mut() {
            Some(piece) if joins(matched, before) => piece.end = range.end,
            _ => pieces.push(range),
        }
        before = matched;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviors_split_as_hugging_face_documents() {
        let check = |behavior: Behavior, expected: &[&str]| {
            let text = "the-final--countdown";
            let pieces = behavior.pieces(parts_by(text, |c| c == '-'));
            assert_eq!(pieces.into_iter().map(|range| &text[range]).collect::<Vec<_>>(), expected);
        };
        check(Behavior::Removed, &["the", "final", "countdown"]);
        check(Behavior::Isolated, &["the", "-", "final", "-", "-", "countdown"]);
        check(Behavior::MergedWithPrevious, &["the-", "final-", "-", "countdown"]);
        check(Behavior::MergedWithNext, &["the", "-final", "-", "-countdown"]);
        check(Behavior::Contiguous, &["the", "-", "final", "--", "countdown"]);
    }

    #[test]
    fn oniguruma_words_have_no_joiners() {
        let words = |expression: &str| {
            let pattern = Pattern::regex(expression, "p").unwrap();
            pattern
                .parts("a\u{200d}é_7-")
                .into_iter()
                .filter(|part| part.1)
                .map(|part| part.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(r"\w+"), [0..1, 4..8]);
        assert_eq!(words(r"[^\W_]+"), [0..1, 4..6, 7..8]);
        assert_eq!(words(r"[[:punct:]]"), [6..7, 8..9]);
        assert_eq!(words(r"\\w|\h"), [0..1, 7..8]);
    }

    #[test]
    fn parts_cover_the_text_and_an_exploding_search_ends() {
        let pattern = Pattern::regex(r"(?:(a+)+)(?!a)b", "p").unwrap();
        let text = "a".repeat(5000);
        let parts = pattern.parts(&text);
        assert_eq!(parts.iter().map(|part| part.0.len()).sum::<usize>(), text.len());
        assert!(Pattern::regex("(", "p").is_err());
        assert!(Pattern::regex(r"(?:a{1000}){1000}{1000}", "p").is_err());
    }

    #[test]
    fn an_expression_costs_what_it_may_be_copied_to() {
        let at_least = |expression: &str, least: u64| {
            assert!(cost(expression) >= least, "{expression}: {}", cost(expression))
        };
        at_least(r"\w{1000}", 256_000);
        at_least(r"\p{L}{1,1000}?", 256_000);
        at_least(r"\pL{9}{9}", 81 * 256);
        at_least(r"[\w)]{1000}", 256_000);
        at_least(r"(?:\w[(]){1000}", 512_000);
        at_least(r"(?:(?:a{100}){100}){100}", 1_000_000);
        at_least(r"(?x) \w {1000}", u64::MAX);
        at_least(r"\w+{1000}", 256_000);
        assert!((5_000..15_000).contains(&cost(crate::tokenizer::ggml::O200K_REGEX)));
        assert_eq!((cost("abc"), cost(r"a\.")), (3, 2));
    }
}
