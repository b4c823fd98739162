//! Asking a model how well documents answer a query.
//!
//! Where:  used by retrieval after the first, cheap search.
//! Idea:   one query, many documents, one score each; higher is better, the scale is the model's own.

use crate::ModelError;

/// A model that scores documents against a query.
pub trait Rerank: Send + Sync {
    /// One score per document, in the documents' order.
    ///
    /// # Errors
    /// A document that cannot be scored fails the batch.
    fn rerank(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>, ModelError>;
}
