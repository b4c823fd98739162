//! What a model's files say about text: tokenizer, chat template, end tokens.
//!
//! Where:  beside the weights; those who run a model put both together.

use std::sync::Arc;

use wootz_text::{TokenId, Tokenizer};

use crate::load::Model;
use crate::{Error, Result};

/// What a model's files say about text.
#[derive(Clone, Debug)]
pub struct Words {
    /// The tokenizer, where there is one.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Tokens that end a generation.
    pub end_tokens: Vec<TokenId>,
}

impl Words {
    /// Reads what lies beside a model's weights.
    ///
    /// # Errors
    /// A tokenizer that is there but broken, by file and field.
    pub fn of(model: &Model) -> Result<Self> {
        let mut end_tokens = model.network.config.eos_tokens.clone();
        let folder = model.weights().path();
        let has_tokenizer = ["tokenizer.json", "tokenizer.model"].iter().any(|f| folder.join(f).is_file());
        if !has_tokenizer {
            return Ok(Self { tokenizer: None, end_tokens });
        }
        let tokenizer = Tokenizer::from_dir(folder).map_err(|error| Error::Unsupported(error.to_string()))?;
        for &id in &tokenizer.special().eos {
            if !end_tokens.contains(&id) {
                end_tokens.push(id);
            }
        }
        Ok(Self { tokenizer: Some(Arc::new(tokenizer)), end_tokens })
    }
}
