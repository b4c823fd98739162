//! Hand-written twins of the regular expressions that byte-level tokenizers split by.
//!
//! Where:  chosen by [`Pattern::regex`](super::pattern::Pattern::regex) when a file's expression is one of those known here.
//! Idea:   these expressions are a choice of a few runs of character classes that together match any text, so one pass
//!         over the text, looking at most one run ahead, finds all matches without gaps.
//! Source: the expressions of GPT-2, cl100k (also Llama 3), Qwen 2 and o200k, as their `tokenizer.json` spell them.
//! Elsewhere: the expressions themselves are the plain twin; the test below holds both against each other.

use super::classes::{Classes, LETTER, LOWER, NUMBER, SPACE, UPPER};
use super::ggml::{LLAMA3_REGEX, O200K_REGEX, QWEN2_REGEX};
use super::json::GPT2_REGEX;

/// A well-known expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scanner {
    Gpt2,
    /// Up to three digits are one match.
    Llama3,
    /// Each digit is a match.
    Qwen2,
    O200k,
}

impl Scanner {
    /// The scanner that does what an expression says.
    pub(crate) fn for_regex(expression: &str) -> Option<Self> {
        Some(match expression {
            GPT2_REGEX => Self::Gpt2,
            LLAMA3_REGEX => Self::Llama3,
            QWEN2_REGEX => Self::Qwen2,
            O200K_REGEX => Self::O200k,
            _ => return None,
        })
    }

    /// Calls `each(start, end)` for all matches, which cover the text.
    #[inline]
    pub(crate) fn each(self, text: &str, each: impl FnMut(usize, usize)) {
        let scan = Scan { text, classes: Classes::get() };
        match self {
            Self::Gpt2 => scan.each(|start| scan.gpt2(start), each),
            Self::Llama3 => scan.each(|start| scan.cl100k(start, 3), each),
            Self::Qwen2 => scan.each(|start| scan.cl100k(start, 1), each),
            Self::O200k => scan.each(|start| scan.o200k(start), each),
        }
    }
}

struct Scan<'a> {
    text: &'a str,
    classes: &'static Classes,
}

const LN: u8 = LETTER | NUMBER;
const LNS: u8 = LETTER | NUMBER | SPACE;

impl Scan<'_> {
    #[inline]
    fn each(&self, end_of: impl Fn(usize) -> usize, mut each: impl FnMut(usize, usize)) {
        let mut start = 0;
        while start < self.text.len() {
            let end = end_of(start);
            each(start, end);
            start = end;
        }
    }

    /// Where a word of ASCII letters begins that starts here, perhaps after one space.
    #[inline]
    fn ascii_word(&self, start: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let from = start + usize::from(bytes[start] == b' ');
        bytes.get(from).filter(|byte| byte.is_ascii_alphabetic()).map(|_| from)
    }

    /// The end of a run of letters.
    #[inline]
    fn letters(&self, at: usize) -> usize {
        let end = self.ascii_run(at, not_letters);
        if self.is_ascii(end) { end } else { self.run(end, |flags| flags & LETTER != 0) }
    }

    /// The end of a run of ASCII characters, of which `others` marks the bytes that end it.
    #[inline]
    fn ascii_run(&self, mut at: usize, others: impl Fn(u64) -> u64) -> usize {
        let bytes = self.text.as_bytes();
        // PERF: eight letters a step; most words need one.
        while let Some(word) = bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk()) {
            let others = others(u64::from_le_bytes(*word));
            if others != 0 {
                return at + (others.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        let mut word = [0; 8];
        word[..bytes.len() - at].copy_from_slice(&bytes[at..]);
        at + (others(u64::from_le_bytes(word)).trailing_zeros() / 8) as usize
    }

    /// Whether the text ends here or goes on with an ASCII character.
    #[inline]
    fn is_ascii(&self, at: usize) -> bool {
        self.text.as_bytes().get(at).is_none_or(u8::is_ascii)
    }

    /// The character at a place with its flags and its end; at the end of the text a NUL without flags.
    fn at(&self, at: usize) -> (char, u8, usize) {
        match self.text.as_bytes().get(at) {
            None => ('\0', SPACE, at), // an end is no letter, no number and no symbol
            Some(&byte) if byte < 0x80 => (char::from(byte), self.classes.of_ascii(byte), at + 1),
            Some(_) => {
                let c = self.text[at..].chars().next().expect("there is a byte here");
                (c, self.classes.of(c), at + c.len_utf8())
            }
        }
    }

    /// The end of a run of characters that are in the class of `any` flag, or in none of `none`.
    fn run(&self, mut at: usize, is_in: impl Fn(u8) -> bool) -> usize {
        while at < self.text.len() {
            let (_, flags, end) = self.at(at);
            if !is_in(flags) {
                break;
            }
            at = end;
        }
        at
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d` at an apostrophe: the end of the match.
    fn contraction(&self, at: usize, ignores_case: bool) -> Option<usize> {
        let (quote, _, first_at) = self.at(at);
        if quote != '\'' || at >= self.text.len() {
            return None;
        }
        let fold = |c: char| match c {
            '\u{17f}' if ignores_case => 's', // the long s folds to s
            c if ignores_case => c.to_ascii_lowercase(),
            c => c,
        };
        let (first, _, second_at) = self.at(first_at);
        let (second, _, end) = self.at(second_at);
        match (fold(first), fold(second)) {
            ('s' | 't' | 'm' | 'd', _) => Some(second_at),
            ('r' | 'v', 'e') | ('l', 'l') => Some(end),
            _ => None,
        }
    }

    #[inline]
    fn gpt2(&self, start: usize) -> usize {
        match self.ascii_word(start) {
            Some(from) => self.letters(from),
            None => self.gpt2_other(start),
        }
    }

    #[inline(never)]
    fn gpt2_other(&self, start: usize) -> usize {
        if let Some(end) = self.contraction(start, false) {
            return end;
        }
        let (c, flags, next) = self.at(start);
        // One space may come before a run of any kind.
        let (from, flags) =
            if c == ' ' && next < self.text.len() { (next, self.at(next).1) } else { (start, flags) };
        if flags & LETTER != 0 {
            self.run(from, |flags| flags & LETTER != 0)
        } else if flags & NUMBER != 0 {
            self.run(from, |flags| flags & NUMBER != 0)
        } else if flags & SPACE == 0 {
            self.run(from, |flags| flags & LNS == 0)
        } else {
            self.spaces(start)
        }
    }

    #[inline]
    fn cl100k(&self, start: usize, max_digits: usize) -> usize {
        match self.ascii_word(start) {
            Some(from) => self.letters(from),
            None => self.cl100k_other(start, max_digits),
        }
    }

    #[inline(never)]
    fn cl100k_other(&self, start: usize, max_digits: usize) -> usize {
        if let Some(end) = self.contraction(start, true) {
            return end;
        }
        let (c, flags, next) = self.at(start);
        if flags & LETTER != 0 {
            return self.run(next, |flags| flags & LETTER != 0);
        }
        let after = self.at(next);
        if flags & NUMBER == 0 && !matches!(c, '\r' | '\n') && next < self.text.len() && after.1 & LETTER != 0
        {
            return self.run(after.2, |flags| flags & LETTER != 0);
        }
        self.rest(start, max_digits, &['\r', '\n'])
    }

    /// What cl100k and o200k share after their words: numbers, symbols, whitespace.
    fn rest(&self, start: usize, max_digits: usize, tail: &[char]) -> usize {
        let (c, flags, next) = self.at(start);
        if flags & NUMBER != 0 {
            let mut end = next;
            for _ in 1..max_digits {
                let (_, flags, after) = self.at(end);
                if end >= self.text.len() || flags & NUMBER == 0 {
                    break;
                }
                end = after;
            }
            return end;
        }
        let from = if c == ' ' { next } else { start };
        if from < self.text.len() && self.at(from).1 & LNS == 0 {
            let end = self.run(from, |flags| flags & LNS == 0);
            let rest = &self.text[end..];
            return self.text.len() - rest.trim_start_matches(tail).len();
        }
        let end = self.run(start, |flags| flags & SPACE != 0);
        match self.text[start..end].rfind(['\r', '\n']) {
            Some(newline) => start + newline + 1,
            None => self.spaces(start),
        }
    }

    /// `\s+(?!\S)|\s+`: a run of whitespace without its last character, unless it is alone or ends the text.
    fn spaces(&self, start: usize) -> usize {
        let end = self.run(start, |flags| flags & SPACE != 0);
        let last = self.text[start..end].chars().next_back().map_or(0, char::len_utf8);
        if end < self.text.len() && end - last > start { end - last } else { end }
    }

    /// Words are capitals and then small letters; letters without case, and marks, are both.
    #[inline]
    fn o200k(&self, start: usize) -> usize {
        let Some(from) = self.ascii_word(start) else { return self.o200k_other(start) };
        let end = self.ascii_run(self.ascii_run(from, not_capitals), not_small);
        match self.text.as_bytes().get(end) {
            Some(b'\'') => self.contraction(end, true).unwrap_or(end),
            Some(byte) if !byte.is_ascii() => self.o200k_other(start),
            _ => end,
        }
    }

    #[inline(never)]
    fn o200k_other(&self, start: usize) -> usize {
        let (c, flags, next) = self.at(start);
        let can_lead = flags & LN == 0 && !matches!(c, '\r' | '\n') && next < self.text.len();
        let starts = [can_lead.then_some(next), Some(start)];
        let small = starts.into_iter().flatten().find_map(|from| self.capitals_then_small(from));
        let word = small.or_else(|| {
            // `[U]+[L]*`: no small letter follows, or the first choice would have matched.
            let capitals = |from| Some(self.run(from, |flags| flags & UPPER != 0)).filter(|&end| end > from);
            starts.into_iter().flatten().find_map(capitals)
        });
        match word {
            Some(end) => self.contraction(end, true).unwrap_or(end),
            None => self.rest(start, 3, &['\r', '\n', '/']),
        }
    }

    /// `[U]*[L]+` with as many capitals as leave one small letter.
    fn capitals_then_small(&self, from: usize) -> Option<usize> {
        let capitals = self.run(from, |flags| flags & UPPER != 0);
        let end = self.run(capitals, |flags| flags & LOWER != 0);
        if end > capitals {
            return Some(end);
        }
        let both =
            |(at, c): (usize, char)| (self.classes.of(c) & LOWER != 0).then_some(from + at + c.len_utf8());
        self.text[from..capitals].char_indices().rev().find_map(both)
    }
}

/// Marks, by their highest bit, the bytes that are no ASCII letters.
#[inline]
fn not_letters(word: u64) -> u64 {
    not_between(word | (EACH * 0x20), b'a', b'z') | (word & (EACH * 0x80))
}

/// The same for small letters.
#[inline]
fn not_small(word: u64) -> u64 {
    not_between(word, b'a', b'z')
}

/// The same for capitals.
#[inline]
fn not_capitals(word: u64) -> u64 {
    not_between(word, b'A', b'Z')
}

const EACH: u64 = 0x0101_0101_0101_0101;

/// Marks, by their highest bit, the bytes outside a range of ASCII.
#[inline]
fn not_between(word: u64, first: u8, last: u8) -> u64 {
    let low = word & (EACH * 0x7f);
    let reach_first = low + EACH * u64::from(0x80 - first);
    let pass_last = low + EACH * u64::from(0x7f - last);
    (!reach_first | pass_last | word) & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;

    #[test]
    fn bytes_outside_a_range_are_marked() {
        for byte in 0..=255_u8 {
            for lane in 0..8 {
                let word = 0x6162_7a41_5a6d_4d67 & !(0xff << (8 * lane)) | u64::from(byte) << (8 * lane);
                let check = |marks: u64, is_in: bool| {
                    assert_eq!(marks >> (8 * lane) & 0xff, if is_in { 0 } else { 0x80 }, "{byte:#x}");
                };
                check(not_letters(word), byte.is_ascii_alphabetic());
                check(not_small(word), byte.is_ascii_lowercase());
                check(not_capitals(word), byte.is_ascii_uppercase());
            }
        }
    }

    #[test]
    fn scanners_agree_with_their_expressions() {
        let parts: Vec<&str> = "a|B|é|Ž|ǅ|ʰ|中|한|\u{301}|\u{20e3}|1|23|½|٣|Ⅻ| |  |\t|\n|\r\n|\u{a0}|\u{3000}|\u{85}|'|'s|'LL|'Re|'ſ|'ve|.|!?|-|_|/|//\n|€|👩\u{200d}👧|\u{0}|ß|İ|S|the|Word|iOS|URLs|internationalization|ABCDEFGHIJ|straßenbahnhaltestelle| a"
            .split('|')
            .collect();
        let mut seed = 11_u64;
        for expression in [GPT2_REGEX, LLAMA3_REGEX, QWEN2_REGEX, O200K_REGEX] {
            let scanner = Scanner::for_regex(expression).unwrap();
            let plain = Pattern::plain_regex(expression, "p").unwrap();
            for _ in 0..20_000 {
                let mut text = String::new();
                for _ in 0..8 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    text.push_str(parts[(seed >> 33) as usize % parts.len()]);
                }
                let mut found = Vec::new();
                scanner.each(&text, |start, end| found.push((start..end, true)));
                assert_eq!(found, plain.parts(&text), "{scanner:?} {text:?}");
            }
        }
    }
}
