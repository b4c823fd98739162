//! Token by token: each of `n` choices draws from its own distribution.
//!
//! Where:  the driver of ordinary requests.
//! Idea:   the prompt is run once; its states are forked for the second choice and those after it. A guess at what
//!         comes next may be run along: its rows are drawn from one after the other, and the first draw that differs
//!         from the guess ends it. What is said is what would have been said without.
//! Source: Leviathan et al. 2023, speculative decoding, arXiv:2211.17192; with draws that depend on their position alone,
//!         accepting exactly the equal ones keeps every token, not only the distribution.

use wootz_grammar::{Grammar, Guide};
use wootz_text::{FinishReason, Sampling, TokenId};

use super::emitter::{Chosen, Emitter};
use super::lookup::Lookup;
use super::{Branch, Desk, Room, Rows};
use crate::{Error, Result, SampleError, Sampler, SamplerVocab, TokenMask};

/// Draws tokens for `n` choices.
pub(crate) struct DrawDriver {
    /// One for each branch, in the same order.
    choices: Vec<Choice>,
    has_started: bool,
    completion_tokens: usize,
}

struct Choice {
    sampler: Sampler,
    emitter: Emitter,
    guide: Option<Guide>,
    lookup: Lookup,
    closing: Closing,
    ignore_eos: bool,
    /// Whether forced tokens may be taken without their logits.
    jumps: bool,
    /// Whether guesses may be run along.
    guesses: bool,
}

/// When a constrained answer must come to its end: where the tokens that are left are just enough.
#[derive(Default)]
struct Closing {
    is_near: bool,
    /// Looked at again when there are so many tokens.
    next_look: usize,
}

impl Closing {
    /// The way to the end may turn out longer than it looked, by the model's own choices where it has some.
    const SPARE: usize = 24;
    /// Ways longer than this are not looked for.
    const MAX_TOKENS: usize = 512;

    fn look(&mut self, guide: &Guide, n_tokens: usize, n_left: usize) {
        if self.is_near || n_tokens < self.next_look || guide.is_done() {
            return;
        }
        let most = n_left.min(Self::MAX_TOKENS);
        let n_needed = guide.n_to_close(most).map(|n| n + n / 4 + Self::SPARE);
        match n_needed {
            Some(n_needed) if n_needed < n_left => {
                // One token may open what takes many to close, so look again well before it is late.
                self.next_look = n_tokens + (n_left - n_needed).div_ceil(16);
            }
            None if n_left > Self::MAX_TOKENS => {
                self.next_look = n_tokens + (n_left - Self::MAX_TOKENS).div_ceil(8)
            }
            _ => self.is_near = true,
        }
    }
}

/// Whether a choice goes on.
#[derive(PartialEq)]
enum Way {
    On,
    Ended,
}

impl DrawDriver {
    pub(super) fn new(
        sampling: &Sampling,
        vocab: &SamplerVocab,
        prompt: &[TokenId],
        room: Room,
        grammar: Option<&Grammar>,
    ) -> Result<Self, SampleError> {
        let choice = |choice: usize| {
            let mut sampler = Sampler::new(sampling, vocab, room.seed, choice)?;
            sampler.accept_prompt(prompt);
            Ok(Choice {
                sampler,
                emitter: Emitter::new(sampling, choice, room.max_tokens),
                guide: grammar.map(Grammar::guide),
                lookup: Lookup::default(),
                closing: Closing::default(),
                ignore_eos: sampling.ignore_eos,
                // What is reported or fed back needs the logits.
                guesses: sampling.guesses,
                jumps: sampling.logprobs.is_none() && sampling.mirostat.is_none(),
            })
        };
        Ok(Self {
            choices: (0..sampling.n).map(choice).collect::<Result<_, SampleError>>()?,
            has_started: false,
            completion_tokens: 0,
        })
    }

    pub(super) fn n_branches(&self) -> usize {
        self.choices.len().max(1)
    }

    /// Whether guesses may be run along.
    pub(super) fn takes_guesses(&self) -> bool {
        self.choices.iter().any(|choice| choice.guesses)
    }

    /// The guides that will be asked for a mask after the next step.
    pub(super) fn guides(&mut self) -> impl Iterator<Item = &mut Guide> {
        self.choices.iter_mut().filter_map(|choice| choice.guide.as_mut())
    }

    pub(super) fn advance(
        &mut self,
        branches: &mut Vec<Branch>,
        rows: Rows,
        desk: &mut Desk,
    ) -> Result<Option<usize>> {
        let v = desk.vocab.size;
        let mut ready: Vec<(usize, &[f32])> = Vec::new();
        let mut first = 0;
        for &(branch, n_rows) in rows.ready {
            ready.push((branch, &rows.logits[first * v..(first + n_rows) * v]));
            first += n_rows;
        }
        if let (false, Some(&(_, logits))) = (self.has_started, ready.first()) {
            self.has_started = true;
            for branch in 1..self.choices.len() {
                let fork = branches[0].fork(desk)?;
                branches.push(fork);
                ready.push((branch, logits));
            }
        }
        let mut n_gone = 0;
        for (branch, logits) in ready {
            let at = branch - n_gone;
            if self.choices[at].go_on(&mut branches[at], logits, desk)? == Way::Ended {
                self.completion_tokens += self.choices.remove(at).emitter.n_tokens();
                desk.finish(branches.remove(at));
                n_gone += 1;
            }
        }
        Ok(branches.is_empty().then_some(self.completion_tokens))
    }
}

impl Choice {
    /// Draws from the rows behind a branch's last token and behind what was guessed.
    fn go_on(&mut self, branch: &mut Branch, logits: &[f32], desk: &mut Desk) -> Result<Way> {
        let guess = std::mem::take(&mut branch.guess);
        let n_before = branch.token_ids.len();
        for (i, row) in logits.chunks_exact(desk.vocab.size).enumerate() {
            let Some(token) = self.draw(row, desk)? else { return Ok(Way::Ended) };
            branch.token_ids.push(token);
            if guess.get(i) != Some(&token) {
                break;
            }
        }
        let n_right = branch.token_ids.len() - n_before - 1;
        branch.n_valid = n_before + n_right;
        if let Some(track) = &mut branch.track {
            desk.runner.truncate(track, branch.n_valid);
        }
        if !guess.is_empty() {
            match std::mem::take(&mut branch.is_drafted) {
                true => branch.pace.learn(guess.len(), n_right),
                false => self.lookup.learn(guess.len(), n_right),
            }
            desk.usage.guessed_tokens += guess.len();
            desk.usage.right_tokens += n_right;
        }
        if self.jumps && self.jump(branch, desk)? == Way::Ended {
            return Ok(Way::Ended);
        }
        branch.guess = self.guess(branch, desk);
        branch.guess_rate = self.lookup.rate();
        Ok(Way::On)
    }

    /// Draws and reports a token; `None` if the choice ended with it.
    fn draw(&mut self, logits: &[f32], desk: &mut Desk) -> Result<Option<TokenId>> {
        let narrow;
        let mask = match &mut self.guide {
            Some(guide) if self.closing.is_near => {
                narrow = guide.closing_mask()?;
                Some(TokenMask::new(&narrow))
            }
            Some(guide) => Some(TokenMask::new(guide.mask()?)),
            None => None,
        };
        let drawn = self.sampler.sample(logits, mask, desk.candidates)?;
        if !self.ignore_eos && desk.vocab.end_tokens.contains(&drawn.id) {
            self.emitter.finish(desk.tokenizer, FinishReason::Stop, desk.sink);
            return Ok(None);
        }
        let chosen = Chosen { id: drawn.id, logprob: drawn.logprob, top: &drawn.top, is_last: false };
        Ok((self.take(chosen, desk)? == Way::On).then_some(drawn.id))
    }

    fn take(&mut self, mut chosen: Chosen, desk: &mut Desk) -> Result<Way> {
        self.sampler.accept(chosen.id);
        if let Some(guide) = &mut self.guide {
            guide.accept(chosen.id)?;
            chosen.is_last = guide.is_done();
        }
        let ended = self.emitter.token(desk.tokenizer, chosen, desk.sink);
        if let (Some(guide), None) = (&self.guide, ended) {
            self.closing.look(guide, self.emitter.n_tokens(), self.emitter.n_left());
        }
        Ok(if ended.is_some() { Way::Ended } else { Way::On })
    }

    /// Takes the tokens that must come, without asking the model.
    fn jump(&mut self, branch: &mut Branch, desk: &mut Desk) -> Result<Way> {
        let Some(guide) = &mut self.guide else { return Ok(Way::On) };
        for id in guide.forced() {
            if desk.vocab.end_tokens.contains(&id) {
                break;
            }
            if self.take(Chosen { id, logprob: None, top: &[], is_last: false }, desk)? == Way::Ended {
                return Ok(Way::Ended);
            }
            branch.token_ids.push(id);
        }
        Ok(Way::On)
    }

    /// What may come next, to be run along with the last token.
    fn guess(&mut self, branch: &Branch, desk: &Desk) -> Vec<TokenId> {
        // The last token of an answer needs no guess behind it.
        let most = desk.max_guess.min(branch.planned_len.saturating_sub(branch.token_ids.len() + 1));
        if most == 0 || !self.guesses {
            return Vec::new();
        }
        let mut guess = self.lookup.guess(&branch.token_ids, most);
        if let (Some(guide), false) = (&mut self.guide, guess.is_empty()) {
            guess.truncate(guide.n_allowed(&guess));
        }
        guess
    }
}

impl From<wootz_grammar::GrammarError> for Error {
    fn from(error: wootz_grammar::GrammarError) -> Self {
        Self::Grammar(error)
    }
}
