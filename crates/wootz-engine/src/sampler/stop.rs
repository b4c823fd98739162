//! Ends a text before a stop string, and holds back what may become one.
//!
//! Where:  the engine pushes each new piece of text and emits what comes out. Before `min_tokens` it emits pieces directly.
//! Idea:   text is certain once no stop string can begin in it. The first stop string to be *complete* ends the text, the longest
//!         of those that end together: so the cut does not depend on how the text was cut into pieces.
//! Elsewhere: cutting bytes into whole characters (the tokenizer's streaming decoder).

use super::matcher::Matcher;

/// Watches one choice's text for stop strings.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    matchers: Vec<Matcher>,
    held: String,
}

/// What a piece of text made certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopText {
    /// Emit this.
    pub text: String,
    /// Index of the stop string that was completed; the text ended before it.
    pub stop: Option<usize>,
}

impl StopMatcher {
    /// Watches for `stops`. Panics if one is empty ([`Sampling::validate`](wootz_text::Sampling::validate) refuses those).
    pub fn new(stops: &[String]) -> Self {
        Self { matchers: stops.iter().map(|stop| Matcher::new(stop)).collect(), held: String::new() }
    }

    /// Adds a piece. After a stop nothing more may be pushed. O(bytes · stop strings).
    pub fn push(&mut self, piece: &str) -> StopText {
        if self.matchers.is_empty() {
            return StopText { text: piece.to_owned(), stop: None };
        }
        let n_held = self.held.len();
        self.held.push_str(piece);
        for end in n_held..self.held.len() {
            let byte = self.held.as_bytes()[end];
            if let Some((stop, length)) = self.push_byte(byte) {
                let mut text = std::mem::take(&mut self.held);
                text.truncate(end + 1 - length);
                return StopText { text, stop: Some(stop) };
            }
        }
        let n_uncertain = self.matchers.iter().map(Matcher::n_matched).max().unwrap_or(0);
        let uncertain = self.held.split_off(self.held.len() - n_uncertain);
        StopText { text: std::mem::replace(&mut self.held, uncertain), stop: None }
    }

    /// The generation ended otherwise: what was held back is certain now.
    pub fn finish(self) -> String {
        self.held
    }

    /// The longest stop string that `byte` completes, the first of equals, with its length.
    fn push_byte(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut longest: Option<(usize, usize)> = None;
        for (i, matcher) in self.matchers.iter_mut().enumerate() {
            if matcher.push(byte) && longest.is_none_or(|(_, length)| matcher.n_matched() > length) {
                longest = Some((i, matcher.n_matched()));
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(&stops.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    /// Pushes the pieces; the text that came out, what was held at the end, the stop.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher = matcher(stops);
        let mut text = String::new();
        for piece in pieces {
            let step = matcher.push(piece);
            text += &step.text;
            if step.stop.is_some() {
                return (text, step.stop);
            }
        }
        (text + &matcher.finish(), None)
    }

    #[test]
    fn the_text_ends_before_the_stop_string() {
        let check = |stops: &[&str], pieces: &[&str], text: &str, stop| {
            assert_eq!(run(stops, pieces), (text.to_owned(), stop), "{stops:?} in {pieces:?}");
        };
        check(&[], &["a", "b"], "ab", None);
        check(&["\n\n"], &["a\n", "b\n", "\nc"], "a\nb", Some(0));
        check(&["END"], &["the E", "N", "D of"], "the ", Some(0));
        check(&["END"], &["the E", "NE", "W"], "the ENEW", None);
        check(&["aab"], &["aaa", "b"], "a", Some(0));
        check(&["b", "abc"], &["xabc"], "xa", Some(0)); // the first to be complete
        check(&["c", "abc"], &["xabc"], "x", Some(1)); // the longest of those complete together
        check(&["über"], &["das ü", "ber"], "das ", Some(0));
    }

    #[test]
    fn only_what_may_become_a_stop_string_is_held_back() {
        let mut matcher = matcher(&["User:", "\n\n"]);
        assert_eq!(matcher.push("hi\nUs").text, "hi\n");
        assert_eq!(matcher.push("e").text, "");
        assert_eq!(matcher.push("d\n").text, "Used");
        assert_eq!(matcher.finish(), "\n");
    }

    #[test]
    fn the_cut_does_not_depend_on_the_pieces() {
        let stops = ["aba", "bab", "cc", "é"];
        let mut state = 1_u32;
        for _ in 0..500 {
            let text: String = (0..12)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ['a', 'b', 'c', 'd', 'é'][(state >> 24) as usize % 5]
                })
                .collect();
            let whole = run(&stops, &[&text]);
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(run(&stops, &letters), whole, "{text}");
            let plain = (0..=text.len()).find_map(|end| {
                let seen = &text.as_bytes()[..end];
                stops.iter().filter(|stop| seen.ends_with(stop.as_bytes())).map(|stop| end - stop.len()).min()
            });
            assert_eq!(whole.0, text[..plain.unwrap_or(text.len())], "{text}");
        }
    }
}
