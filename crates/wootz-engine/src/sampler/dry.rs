//! DRY, "don't repeat yourself": penalise tokens that would continue a repetition.
//!
//! Where:  [`Sampling::dry`](wootz_text::Sampling::dry).
//! Idea:   if the last `l` tokens stood somewhere before, the token that followed them there loses
//!         `multiplier · base^(l - allowed_length)`. Lengths of all such repetitions come from one linear pass.
//! Source: p-e-w 2024, text-generation-webui, pull request 5677. Gusfield 1997, "Algorithms on strings, trees and
//!         sequences", §1.4 (the Z-algorithm; here on the reversed history).
//!         COMPAT: `l` counts the tokens before the new one, as there and in llama.cpp.
//!
//! # Invariants
//! - Sequence breakers are found in the text of the history, so they may begin and end inside tokens. A repetition never
//!   reaches back to the token in which the last breaker ended, and a token that holds a breaker is never penalised.

use std::collections::HashMap;

use wootz_text::{Dry, TokenId};

use super::candidates::Candidates;
use super::matcher::Matcher;
use super::rng::Rng;
use super::step::Step;
use super::{SamplerVocab, TokenBytes};

/// The penalty with the history that it looks at.
#[derive(Clone)]
pub(super) struct DryPenalty {
    multiplier: f64,
    base: f64,
    allowed_length: usize,
    last_n: usize,
    breakers: Vec<Matcher>,
    token_bytes: Option<TokenBytes>,
    history: Vec<TokenId>,
    /// Tokens since the one in which the last breaker ended.
    n_unbroken: usize,
    lengths: Vec<usize>,
}

impl DryPenalty {
    pub(super) fn new(dry: &Dry, vocab: &SamplerVocab) -> Self {
        Self {
            multiplier: f64::from(dry.multiplier),
            base: f64::from(dry.base),
            allowed_length: dry.allowed_length,
            last_n: dry.penalty_last_n.unwrap_or(usize::MAX),
            breakers: dry.sequence_breakers.iter().map(|breaker| Matcher::new(breaker)).collect(),
            token_bytes: vocab.token_bytes.clone(),
            history: Vec::new(),
            n_unbroken: 0,
            lengths: Vec::new(),
        }
    }

    /// The longest repetition that each token would continue, for those of `allowed_length` or more.
    fn continuations(&mut self) -> HashMap<TokenId, usize> {
        let window = &self.history[self.history.len().saturating_sub(self.last_n)..];
        let limit = self.n_unbroken.min(window.len());
        let mut longest = HashMap::new();
        if limit < self.allowed_length {
            return longest;
        }
        repetition_lengths(window, &mut self.lengths);
        for (back, &length) in self.lengths.iter().enumerate().skip(1) {
            let length = length.min(limit);
            if length >= self.allowed_length {
                let next = window[window.len() - back];
                longest.entry(next).and_modify(|l: &mut usize| *l = length.max(*l)).or_insert(length);
            }
        }
        longest
    }

    fn is_breaker(&self, id: TokenId) -> bool {
        let Some(token_bytes) = &self.token_bytes else { return false };
        let mut bytes = Vec::new();
        token_bytes(id, &mut bytes);
        self.breakers.iter().any(|breaker| breaker.is_in(&bytes))
    }
}

impl Step for DryPenalty {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        for (id, length) in self.continuations() {
            if !self.is_breaker(id) {
                let penalty = self.multiplier * power(self.base, length - self.allowed_length);
                candidates.change(id, |logit| logit - penalty);
            }
        }
    }

    fn accept(&mut self, id: TokenId) {
        self.history.push(id);
        self.n_unbroken += 1;
        let Some(token_bytes) = &self.token_bytes else { return };
        let mut bytes = Vec::new();
        token_bytes(id, &mut bytes);
        for breaker in &mut self.breakers {
            for &byte in &bytes {
                if breaker.push(byte) {
                    self.n_unbroken = 0;
                }
            }
        }
    }
}

/// `lengths[back]`: how many tokens before the end of `window` equal those before its end less `back`. O(n).
fn repetition_lengths(window: &[TokenId], lengths: &mut Vec<usize>) {
    let n = window.len();
    let from_end = |i: usize| window[n - 1 - i];
    lengths.clear();
    lengths.resize(n, 0);
    let (mut start, mut end) = (0, 0); // the match that reaches furthest: from_end(start..end) = from_end(0..end - start)
    for back in 1..n {
        let mut length = if back < end { lengths[back - start].min(end - back) } else { 0 };
        while back + length < n && from_end(length) == from_end(back + length) {
            length += 1;
        }
        if back + length > end {
            (start, end) = (back, back + length);
        }
        lengths[back] = length;
    }
}

/// `base^exponent` by squaring, the same bits everywhere; may be infinite.
fn power(base: f64, exponent: usize) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result *= square;
        }
        square *= square;
        left /= 2;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_comparing_every_pair() {
        let mut state = 5_u32;
        let mut lengths = Vec::new();
        for n in 0..60 {
            let window: Vec<TokenId> = (0..n)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 31
                })
                .collect();
            repetition_lengths(&window, &mut lengths);
            for (back, &length) in lengths.iter().enumerate().skip(1) {
                let (late, early) = (&window[..], &window[..window.len() - back]);
                let plain = late.iter().rev().zip(early.iter().rev()).take_while(|(a, b)| a == b).count();
                assert_eq!(length, plain, "{window:?}, {back} back");
            }
        }
    }

    #[test]
    fn powers_may_be_infinite_and_never_nan() {
        assert_eq!([power(1.75, 0), power(2.0, 10), power(1.0, usize::MAX)], [1.0, 1024.0, 1.0]);
        assert_eq!(power(1.75, 1 << 40), f64::INFINITY);
    }
}
