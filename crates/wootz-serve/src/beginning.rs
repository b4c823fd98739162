//! An answer that begins with tokens of the client's choice, to the token: what branching from a token stands on.
//!
//! Where:  [`answer`](crate::answer), for `answer_token_ids` of chat completions.
//! Idea:   the prompt's own tokens, then those, and nothing is encoded again: text that is encoded anew may become other
//!         tokens. What is said is spelled here from the first token on, because words (spaces before them) and
//!         characters (bytes of them) may go across the place where the model takes over.

use std::sync::Arc;

use wootz_text::{Prompt, StreamDecoder, TokenId, Tokenizer};

use crate::answer::{ToolChoice, Turn};
use crate::api_error::{ApiError, ApiResult};
use crate::bridge::cannot;
use crate::catalog::ServedModel;

/// The field's name.
const FIELD: &str = "answer_token_ids";

/// The first tokens of an answer, checked.
pub(crate) struct Beginning {
    pub token_ids: Vec<TokenId>,
    tokenizer: Arc<Tokenizer>,
}

/// Spells an answer from its first token on.
pub(crate) struct Spelling {
    tokenizer: Arc<Tokenizer>,
    decoder: StreamDecoder,
}

impl Beginning {
    /// `None` without tokens.
    pub(crate) fn new(token_ids: Vec<TokenId>, model: &ServedModel, turn: &Turn) -> ApiResult<Option<Self>> {
        if token_ids.is_empty() {
            return Ok(None);
        }
        let tokenizer = model.tokenizer.clone().ok_or_else(|| cannot(model, "tell its tokens"))?;
        let vocab_size = tokenizer.vocab_size();
        if let Some(id) = token_ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ApiError::invalid(FIELD, format!("expected ids below {vocab_size}, got {id}")));
        }
        if let Some(id) = token_ids.iter().find(|&&id| tokenizer.is_eos(id) && !turn.sampling.ignore_eos) {
            return Err(ApiError::invalid(FIELD, format!("expected no token that ends an answer, got {id}")));
        }
        let is_forced = !matches!(turn.tool_choice, ToolChoice::Auto | ToolChoice::None);
        if turn.sampling.constraint.is_some() || is_forced || turn.holds_calls() {
            let message = "not supported beside a grammar, a forced call, strict tools or a single call";
            return Err(ApiError::unsupported(FIELD, message));
        }
        if !turn.sampling.stop.is_empty() {
            return Err(ApiError::unsupported(FIELD, "not supported beside `stop`"));
        }
        Ok(Some(Self { token_ids, tokenizer }))
    }

    /// The prompt as tokens, and the answer's first ones behind it. Blocks.
    pub(crate) fn prompt(model: &ServedModel, prompt: Prompt, begins: &[TokenId]) -> ApiResult<Prompt> {
        let tokenize = model.tokenize.as_ref().ok_or_else(|| cannot(model, "hold conversations"))?;
        let mut token_ids = tokenize(prompt)?;
        token_ids.extend_from_slice(begins);
        Ok(Prompt::TokenIds(token_ids))
    }

    /// The text of it that is certain, and what spells the rest.
    pub(crate) fn spell(&self, keep_special: bool) -> (String, Spelling) {
        let decoder = StreamDecoder::new(!keep_special);
        let mut spelling = Spelling { tokenizer: self.tokenizer.clone(), decoder };
        let text = self.token_ids.iter().map(|&id| spelling.push(id)).collect();
        (text, spelling)
    }
}

impl Spelling {
    pub(crate) fn push(&mut self, id: TokenId) -> String {
        self.decoder.push(&self.tokenizer, id)
    }

    pub(crate) fn finish(&mut self) -> String {
        self.decoder.flush(&self.tokenizer)
    }
}
