//! From chosen tokens to events: text that is certain, stop strings, ends.
//!
//! Where:  one for each choice of a request.

use wootz_text::{
    FinishReason, GenerateEvent, Sampling, Sink, StreamDecoder, TokenEvent, TokenId, TokenLogprob, Tokenizer,
};

use crate::StopMatcher;

/// Sends one choice's events.
pub(super) struct Emitter {
    choice: usize,
    decoder: StreamDecoder,
    stops: StopMatcher,
    min_tokens: usize,
    max_tokens: usize,
    n_tokens: usize,
}

/// A chosen token as it is reported.
pub(super) struct Chosen<'a> {
    pub id: TokenId,
    pub logprob: Option<f32>,
    pub top: &'a [(TokenId, f32)],
    /// Whether nothing may follow, by the request's constraint.
    pub is_last: bool,
}

impl Emitter {
    pub(super) fn new(sampling: &Sampling, choice: usize, max_tokens: usize) -> Self {
        Self {
            choice,
            decoder: StreamDecoder::new(!sampling.keep_special),
            stops: StopMatcher::new(&sampling.stop),
            min_tokens: sampling.min_tokens,
            max_tokens,
            n_tokens: 0,
        }
    }

    pub(super) fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Tokens that may still come.
    pub(super) fn n_left(&self) -> usize {
        self.max_tokens - self.n_tokens
    }

    /// Reports a token; the reason if the choice ends with it.
    pub(super) fn token(
        &mut self,
        tokenizer: Option<&Tokenizer>,
        chosen: Chosen,
        sink: &mut Sink,
    ) -> Option<FinishReason> {
        self.n_tokens += 1;
        let piece = tokenizer.map_or_else(String::new, |t| self.decoder.push(t, chosen.id));
        let (text, stopped) = if self.n_tokens <= self.min_tokens {
            (piece, None)
        } else {
            let certain = self.stops.push(&piece);
            (certain.text, certain.stop.map(stop_string))
        };
        let spell = |id: TokenId| tokenizer.map_or_else(String::new, |t| t.decode(&[id], false));
        let top =
            chosen.top.iter().map(|&(id, logprob)| TokenLogprob { id: Some(id), text: spell(id), logprob });
        sink(GenerateEvent::Token(TokenEvent {
            choice: self.choice,
            id: Some(chosen.id),
            text,
            logprob: chosen.logprob,
            top: top.collect(),
        }));
        match stopped {
            Some(reason) => {
                self.report(reason, sink);
                Some(reason)
            }
            None if chosen.is_last => {
                self.finish(tokenizer, FinishReason::Stop, sink);
                Some(FinishReason::Stop)
            }
            None if self.n_tokens == self.max_tokens => {
                self.finish(tokenizer, FinishReason::Length, sink);
                Some(FinishReason::Length)
            }
            None => None,
        }
    }

    /// Ends the choice: what was held back is certain now.
    pub(super) fn finish(&mut self, tokenizer: Option<&Tokenizer>, reason: FinishReason, sink: &mut Sink) {
        let rest = tokenizer.map_or_else(String::new, |t| self.decoder.flush(t));
        let mut certain = self.stops.push(&rest);
        let mut reason = reason;
        if let Some(stop) = certain.stop {
            reason = stop_string(stop);
        } else {
            certain.text.push_str(&std::mem::replace(&mut self.stops, StopMatcher::new(&[])).finish());
        }
        if !certain.text.is_empty() {
            sink(GenerateEvent::Token(TokenEvent {
                choice: self.choice,
                id: None,
                text: certain.text,
                logprob: None,
                top: Vec::new(),
            }));
        }
        self.report(reason, sink);
    }

    fn report(&self, reason: FinishReason, sink: &mut Sink) {
        sink(GenerateEvent::Finished { choice: self.choice, reason });
    }
}

fn stop_string(index: usize) -> FinishReason {
    FinishReason::StopString(u8::try_from(index).expect("`Sampling` allows 64 stop strings"))
}
