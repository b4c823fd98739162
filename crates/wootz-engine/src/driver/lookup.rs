//! Guessing by looking back: where the last few tokens occurred before, what came then may come again.
//!
//! Where:  one for each choice of a request.
//! Idea:   an index from three tokens to what followed their last occurrence, kept up to date token by token. How much is
//!         guessed follows how much was right, and after many wrong guesses it pauses, longer each time.
//! Source: Saxena 2023, prompt lookup decoding; the pauses are our own.

use std::collections::HashMap;

use wootz_text::TokenId;

/// Tokens that must have occurred before in the same order.
const N_ALIKE: usize = 3;
/// The longest guess.
const MAX_GUESS: usize = 16;
/// The first guess.
const FIRST_GUESS: usize = 4;
/// Tokens of the first pause, and of the longest.
const PAUSES: (usize, usize) = (16, 1024);

/// Guesses from what was said.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Where the tokens behind three others stand.
    followers: HashMap<[TokenId; N_ALIKE], usize>,
    n_indexed: usize,
    /// How much to guess next.
    length: usize,
    /// Right tokens a guess, of late.
    mean_right: f32,
    /// No guess before so many tokens.
    resume_at: usize,
    pause: usize,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            followers: HashMap::new(),
            n_indexed: 0,
            length: FIRST_GUESS,
            mean_right: 1.0,
            resume_at: 0,
            pause: PAUSES.0,
        }
    }
}

impl Lookup {
    /// Up to `most` tokens that may follow; often none.
    pub(super) fn guess(&mut self, token_ids: &[TokenId], most: usize) -> Vec<TokenId> {
        self.index(token_ids);
        if token_ids.len() < self.resume_at {
            return Vec::new();
        }
        let Some(last) = token_ids.last_chunk::<N_ALIKE>() else { return Vec::new() };
        let Some(&start) = self.followers.get(last) else { return Vec::new() };
        let end = (start + self.length.min(most)).min(token_ids.len());
        token_ids[start..end].to_vec()
    }

    /// `n_right` of `n_guessed` tokens were right.
    pub(super) fn learn(&mut self, n_guessed: usize, n_right: usize) {
        self.length = match n_right == n_guessed {
            true => (2 * self.length).min(MAX_GUESS),
            false => (n_right + 1).clamp(2, MAX_GUESS),
        };
        self.mean_right += (n_right as f32 - self.mean_right) / 8.0;
        if self.mean_right < 0.4 {
            self.resume_at = self.n_indexed + N_ALIKE + self.pause;
            self.pause = (2 * self.pause).min(PAUSES.1);
            self.mean_right = 0.6;
        } else if n_right >= 2 {
            self.pause = PAUSES.0;
        }
    }

    /// Brings the index up to the last token, whose own followers are not known yet.
    fn index(&mut self, token_ids: &[TokenId]) {
        let n_known = token_ids.len().saturating_sub(N_ALIKE);
        if n_known < self.n_indexed {
            // Tokens were forgotten.
            *self = Self { length: self.length, mean_right: self.mean_right, ..Self::default() };
        }
        for start in self.n_indexed..n_known {
            let (alike, _) = token_ids[start..].split_first_chunk().expect("tokens follow");
            self.followers.insert(*alike, start + N_ALIKE);
        }
        self.n_indexed = n_known;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_time_is_guessed() {
        let mut lookup = Lookup::default();
        assert!(lookup.guess(&[1, 2, 3, 4, 5], 8).is_empty());
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 1, 2, 3], 8), [4, 5, 1, 2]);
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 1, 2, 3], 2), [4, 5]);
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 1, 2, 3, 9, 1, 2, 3], 8), [9, 1, 2, 3], "the latest");
        assert!(lookup.guess(&[7, 7], 8).is_empty(), "tokens were forgotten");
        assert_eq!(lookup.guess(&[7, 7, 7, 7], 8), [7]);
    }

    #[test]
    fn right_guesses_grow_and_wrong_ones_pause() {
        let mut lookup = Lookup::default();
        lookup.learn(4, 4);
        let again: Vec<TokenId> = (0..40).chain(0..3).collect();
        assert_eq!(lookup.guess(&again, 99).len(), 8);
        lookup.learn(8, 2);
        assert_eq!(lookup.guess(&again, 99).len(), 3);
        let n_wrong = (0..).take_while(|_| {
            lookup.learn(3, 0);
            !lookup.guess(&again, 99).is_empty()
        });
        assert!((3..20).contains(&n_wrong.count()));
        let later: Vec<TokenId> = (0..40).chain(0..40).chain(0..3).collect();
        assert!(!lookup.guess(&later, 99).is_empty(), "it tries again");
    }
}
