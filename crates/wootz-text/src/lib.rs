//! Tokenizers, chat templates, and the traits by which others see a model.
//!
//! Where:  words; knows no numbers. Everything above models (evaluation, retrieval, agents, serving) speaks these types.
//! Idea:   to its users a model is a trait: the local engine, a remote API and a scripted double look the same.
//! Elsewhere: filling a [`Vocab`] from a GGUF (`wootz-model`), sampling itself (`wootz-engine`), the wire
//!         formats of OpenAI, Anthropic and others (`wootz-serve`, `wootz-remote`), scripted models (`wootz-testkit`).
#![forbid(unsafe_code)]

mod embed;
mod error;
mod generate;
mod message;
mod reply;
mod rerank;
mod rollout;
mod sampling;
mod score;
mod template;
mod tokenizer;
mod vocab;

pub use embed::{Embed, EmbedKind};
pub use error::{ModelError, SamplingError};
pub use generate::{
    Cancelled, Choice, FinishReason, Generate, GenerateEvent, GenerateRequest, Generation, Handle, Prompt,
    Sink, TokenEvent, TokenLogprob, Usage, collect,
};
pub use message::{Content, ContentPart, Message, Role, ToolCall, ToolSpec};
pub use reply::{Form, FormRules, Free, Reply, ReplyCall, ReplyDelta, ReplyFormat, ReplyParser, ToolFormat};
pub use rerank::Rerank;
pub use rollout::{Rollout, Sampled};
pub use sampling::{
    Beam, Constraint, ContextFull, Contrastive, Dry, DynamicTemperature, EarlyStopping, Mirostat,
    MirostatVersion, Penalties, SamplerKind, Sampling, Search, Xtc,
};
pub use score::{Score, ScoreRequest, Scored};
pub use template::{ChatInput, ChatTemplate, Now, Rendered, TemplateError};
pub use tokenizer::{
    AddedToken, Source, SpecialTokens, StreamDecoder, Tokenizer, TokenizerError, byte_spelling, expression_of,
};
pub use vocab::{TokenType, Vocab, VocabKind};

/// A token's number in its vocabulary, counting from 0.
pub type TokenId = u32;
