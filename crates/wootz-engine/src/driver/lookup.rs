//! Guessing by looking back: where the last few tokens occurred before, what came then may come again.
//!
//! Where:  one for each choice of a request.
//! Idea:   an index from three tokens to what followed their last occurrence, kept up to date token by token. After many
//!         wrong guesses it pauses, longer each time.
//! Elsewhere: how much of a guess is run ([`scheduler`](crate::scheduler)).
//! Source: Saxena 2023, prompt lookup decoding; the pauses are our own.

use std::collections::HashMap;

use wootz_text::TokenId;

/// Tokens that must have occurred before in the same order.
const N_ALIKE: usize = 3;
/// A guess that is right more seldom does not pay.
const MIN_RATE: f32 = 0.25;
/// Tokens of the first pause, and of the longest.
const PAUSES: (usize, usize) = (16, 1024);

/// Guesses from what was said.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Where the tokens behind three others stand.
    followers: HashMap<[TokenId; N_ALIKE], usize>,
    n_indexed: usize,
    /// Chance of a guessed token to be right, of late.
    rate: f32,
    /// No guess before so many tokens.
    resume_at: usize,
    pause: usize,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { followers: HashMap::new(), n_indexed: 0, rate: 0.7, resume_at: 0, pause: PAUSES.0 }
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
        let end = (start + most).min(token_ids.len());
        token_ids[start..end].to_vec()
    }

    /// Chance of a guessed token to be right.
    pub(super) fn rate(&self) -> f32 {
        self.rate
    }

    /// `n_right` of `n_guessed` tokens were right; those behind the first wrong one say nothing.
    pub(super) fn learn(&mut self, n_guessed: usize, n_right: usize) {
        let mut see = |is_right: bool| self.rate += (f32::from(u8::from(is_right)) - self.rate) / 10.0;
        (0..n_right).for_each(|_| see(true));
        if n_right < n_guessed {
            see(false);
        }
        if self.rate < MIN_RATE {
            self.resume_at = self.n_indexed + N_ALIKE + self.pause;
            self.pause = (2 * self.pause).min(PAUSES.1);
            self.rate = 2.0 * MIN_RATE;
        } else if n_right >= 4 {
            self.pause = PAUSES.0;
        }
    }

    /// Brings the index up to the last token, whose own followers are not known yet.
    fn index(&mut self, token_ids: &[TokenId]) {
        let n_known = token_ids.len().saturating_sub(N_ALIKE);
        if n_known < self.n_indexed {
            // Tokens were forgotten.
            *self = Self { rate: self.rate, ..Self::default() };
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
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 1, 2, 3], 4), [4, 5, 1, 2]);
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 1, 2, 3], 2), [4, 5]);
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 1, 2, 3, 9, 1, 2, 3], 8), [9, 1, 2, 3], "the latest");
        assert!(lookup.guess(&[7, 7], 8).is_empty(), "tokens were forgotten");
        assert_eq!(lookup.guess(&[7, 7, 7, 7], 8), [7]);
    }

    #[test]
    fn wrong_guesses_pause_and_right_ones_raise_the_rate() {
        let mut lookup = Lookup::default();
        lookup.learn(8, 8);
        assert!(lookup.rate() > 0.8);
        let again: Vec<TokenId> = (0..40).chain(0..3).collect();
        let n_wrong = (0..).take_while(|_| {
            lookup.learn(3, 0);
            !lookup.guess(&again, 99).is_empty()
        });
        assert!((5..30).contains(&n_wrong.count()));
        let later: Vec<TokenId> = (0..40).chain(0..40).chain(0..3).collect();
        assert!(!lookup.guess(&later, 99).is_empty(), "it tries again");
    }
}
