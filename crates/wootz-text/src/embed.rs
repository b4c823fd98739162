//! Asking a model for vectors.
//!
//! Where:  used by retrieval, clustering, deduplication and semantic caches.
//! Idea:   many texts at once; what kind of text it is decides which instruction the model puts before it.
//! Elsewhere: pooling and normalisation, exactly as the model's own files say (`wootz-model`).

use crate::ModelError;

/// A model that turns texts into vectors.
pub trait Embed: Send + Sync {
    /// One vector of [`dim`](Embed::dim) numbers per text, in order.
    ///
    /// # Errors
    /// A text that cannot be embedded fails the batch.
    fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Vec<Vec<f32>>, ModelError>;

    /// Width of the vectors.
    fn dim(&self) -> usize;
}

/// What a text is; models that were trained with instructions put a different one before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EmbedKind {
    /// Nothing is put before the text.
    #[default]
    Plain,
    /// A question that looks for documents.
    Query,
    /// A document to be found.
    Document,
}
