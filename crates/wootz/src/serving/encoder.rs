//! Encoders on the compute thread, so that they and the decoders take turns instead of fighting over the cores.

use std::sync::Arc;

use wootz_engine::Host;
use wootz_model::{CrossEncoder, SentenceEncoder};
use wootz_text::{Embed, EmbedKind, ModelError, Rerank};

/// Texts that are encoded between two steps of the decoders.
const TEXTS_A_TURN: usize = 16;

/// An encoder whose work is done by the host.
pub(super) struct OnHost<E> {
    pub host: Arc<Host>,
    pub encoder: Arc<E>,
}

impl Embed for OnHost<SentenceEncoder> {
    fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for turn in texts.chunks(TEXTS_A_TURN) {
            let encoder = self.encoder.clone();
            let turn: Vec<String> = turn.iter().map(|&text| text.to_owned()).collect();
            vectors.extend(self.host.call(move || {
                let turn: Vec<&str> = turn.iter().map(String::as_str).collect();
                encoder.embed(&turn, kind)
            })??);
        }
        Ok(vectors)
    }

    fn dim(&self) -> usize {
        self.encoder.dim()
    }
}

impl Rerank for OnHost<CrossEncoder> {
    fn rerank(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>, ModelError> {
        let mut scores = Vec::with_capacity(documents.len());
        for turn in documents.chunks(TEXTS_A_TURN) {
            let (encoder, query) = (self.encoder.clone(), query.to_owned());
            let turn: Vec<String> = turn.iter().map(|&text| text.to_owned()).collect();
            scores.extend(self.host.call(move || {
                let turn: Vec<&str> = turn.iter().map(String::as_str).collect();
                encoder.rerank(&query, &turn)
            })??);
        }
        Ok(scores)
    }
}
