//! Finds a string in a stream of bytes, one byte at a time.
//!
//! Where:  stop strings ([`StopMatcher`](super::StopMatcher)) and DRY's sequence breakers ([`dry`](super::dry)).
//! Idea:   remember how much of the pattern the text ends with; that is also what must be held back.
//! Source: Knuth, Morris & Pratt 1977, "Fast pattern matching in strings".

/// One pattern and how much of it the text so far ends with.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    pattern: Vec<u8>,
    /// `border[i]`: the longest proper prefix of `pattern[..=i]` that is also its suffix.
    border: Vec<usize>,
    n_matched: usize,
}

impl Matcher {
    /// Panics if `pattern` is empty.
    pub(super) fn new(pattern: &str) -> Self {
        let pattern = pattern.as_bytes().to_vec();
        assert!(!pattern.is_empty(), "an empty pattern is everywhere");
        let mut border = vec![0; pattern.len()];
        for i in 1..pattern.len() {
            let mut length = border[i - 1];
            while length > 0 && pattern[length] != pattern[i] {
                length = border[length - 1];
            }
            border[i] = length + usize::from(pattern[length] == pattern[i]);
        }
        Self { pattern, border, n_matched: 0 }
    }

    /// Whether the text, with `byte` added, ends with the pattern.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        if self.n_matched == self.pattern.len() {
            self.n_matched = self.border[self.n_matched - 1];
        }
        while self.n_matched > 0 && self.pattern[self.n_matched] != byte {
            self.n_matched = self.border[self.n_matched - 1];
        }
        self.n_matched += usize::from(self.pattern[self.n_matched] == byte);
        self.n_matched == self.pattern.len()
    }

    /// Bytes at the end of the text that begin the pattern.
    pub(super) fn n_matched(&self) -> usize {
        self.n_matched
    }

    /// Whether `text` holds the pattern anywhere.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        text.windows(self.pattern.len()).any(|window| window == self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_found_overlaps_too() {
        for (pattern, text) in
            [("aa", "aaaa"), ("abab", "abababab"), ("aab", "aaab"), ("x", "yxx"), ("é", "eéé")]
        {
            let mut matcher = Matcher::new(pattern);
            for end in 1..=text.len() {
                let seen = &text.as_bytes()[..end];
                let found = matcher.push(text.as_bytes()[end - 1]);
                assert_eq!(found, seen.ends_with(pattern.as_bytes()), "{pattern} in {text} at {end}");
                let held = (0..=pattern.len()).rev().find(|&n| seen.ends_with(&pattern.as_bytes()[..n]));
                assert_eq!(Some(matcher.n_matched()), held, "{pattern} in {text} at {end}");
            }
            assert!(matcher.is_in(text.as_bytes()));
        }
    }
}
