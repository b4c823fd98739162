//! `POST /v1/embeddings`

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::sampling::OneOrMany;
use crate::api_error::{ApiError, ApiResult};
use crate::fields::{FieldTable, WireRequest};
use crate::limits::Limits;

/// The body.
#[derive(Debug, Deserialize)]
pub(crate) struct EmbeddingRequest {
    pub model: String,
    input: EmbeddingInput,
    dimensions: Option<usize>,
    encoding_format: Option<EncodingFormat>,
}

/// Texts, or token ids as LangChain's client sends them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EmbeddingInput {
    Texts(OneOrMany),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    Float,
    Base64,
}

impl WireRequest for EmbeddingRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/embeddings",
        honoured: &["model", "input", "dimensions", "encoding_format"],
        no_effect: &["user"],
        refused: &[],
    };
}

/// What to embed, and how to tell it.
pub(crate) struct EmbeddingCall {
    pub input: Vec<EmbeddingText>,
    pub dimensions: Option<usize>,
    as_base64: bool,
}

/// One input.
pub(crate) enum EmbeddingText {
    Text(String),
    Tokens(Vec<u32>),
}

impl EmbeddingRequest {
    pub(crate) fn validate(self, limits: &Limits) -> ApiResult<EmbeddingCall> {
        let input: Vec<EmbeddingText> = match self.input {
            EmbeddingInput::Texts(texts) => texts.into_vec().into_iter().map(EmbeddingText::Text).collect(),
            EmbeddingInput::Tokens(ids) => vec![EmbeddingText::Tokens(ids)],
            EmbeddingInput::ManyTokens(lists) => lists.into_iter().map(EmbeddingText::Tokens).collect(),
        };
        let n = input.len();
        if n == 0 || n > limits.texts {
            return Err(ApiError::invalid("input", format!("expected 1 to {} texts, got {n}", limits.texts)));
        }
        if self.dimensions == Some(0) {
            return Err(ApiError::invalid("dimensions", "expected at least 1, got 0"));
        }
        let as_base64 = self.encoding_format == Some(EncodingFormat::Base64);
        Ok(EmbeddingCall { input, dimensions: self.dimensions, as_base64 })
    }
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Embeddings {
    object: &'static str,
    data: Vec<EmbeddingItem>,
    model: String,
    usage: EmbeddingUsage,
}

#[derive(Debug, Serialize)]
struct EmbeddingItem {
    object: &'static str,
    index: usize,
    embedding: WireVector,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum WireVector {
    Numbers(Vec<f32>),
    /// Little-endian f32.
    Base64(String),
}

#[derive(Debug, Serialize)]
struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Embeddings {
    pub(crate) fn new(call: &EmbeddingCall, vectors: Vec<Vec<f32>>, model: &str, n_tokens: usize) -> Self {
        let item = |(index, vector): (usize, Vec<f32>)| EmbeddingItem {
            object: "embedding",
            index,
            embedding: match call.as_base64 {
                true => WireVector::Base64(STANDARD.encode(bytes_of(&vector))),
                false => WireVector::Numbers(vector),
            },
        };
        Self {
            object: "list",
            data: vectors.into_iter().enumerate().map(item).collect(),
            model: model.to_owned(),
            usage: EmbeddingUsage { prompt_tokens: n_tokens, total_tokens: n_tokens },
        }
    }
}

fn bytes_of(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The first `dimensions` numbers, scaled to unit length again, as models with nested (Matryoshka) vectors are used.
pub(crate) fn shorten(mut vector: Vec<f32>, dimensions: usize) -> Vec<f32> {
    vector.truncate(dimensions);
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
    vector
}
