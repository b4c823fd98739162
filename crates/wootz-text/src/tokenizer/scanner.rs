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
    pub(crate) fn each(self, text: &str, mut each: impl FnMut(usize, usize)) {
        let scan = Scan { text, classes: Classes::get() };
        let mut start = 0;
        while start < text.len() {
            let end = match self {
                Self::Gpt2 => scan.gpt2(start),
                Self::Llama3 => scan.cl100k(start, 3),
                Self::Qwen2 => scan.cl100k(start, 1),
                Self::O200k => scan.o200k(start),
            };
            each(start, end);
            start = end;
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

    fn gpt2(&self, start: usize) -> usize {
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

    fn cl100k(&self, start: usize, max_digits: usize) -> usize {
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
    fn o200k(&self, start: usize) -> usize {
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

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;

    #[test]
    fn scanners_agree_with_their_expressions() {
        let parts: Vec<&str> = "a|B|é|Ž|ǅ|ʰ|中|한|\u{301}|\u{20e3}|1|23|½|٣|Ⅻ| |  |\t|\n|\r\n|\u{a0}|\u{3000}|\u{85}|'|'s|'LL|'Re|'ſ|'ve|.|!?|-|_|/|//\n|€|👩\u{200d}👧|\u{0}|ß|İ|S|the|Word|iOS|URLs"
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
