//! Embeddings and relevance scores from shared words alone.
//!
//! Where:  tests of retrieval, caches and clustering.
//! Idea:   a text is the bag of its lower-case words, hashed into a few dimensions: texts that share words are near.

use wootz_text::{Embed, EmbedKind, ModelError, Rerank};

/// A scripted [`Embed`]: hashed bags of words, of unit length.
#[derive(Debug, Clone)]
pub struct ScriptedEmbedder {
    dim: usize,
}

impl ScriptedEmbedder {
    /// An embedder of that width, at least 1.
    pub fn new(dim: usize) -> Self {
        assert!(dim >= 1, "an embedding has at least one dimension");
        Self { dim }
    }
}

impl Embed for ScriptedEmbedder {
    fn embed(&self, texts: &[&str], _kind: EmbedKind) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(texts.iter().map(|text| bag(text, self.dim)).collect())
    }

    fn dim(&self) -> usize {
        self.dim
    }
}

/// A scripted [`Rerank`]: the share of the query's words that a document has.
#[derive(Debug, Clone, Default)]
pub struct ScriptedReranker;

impl Rerank for ScriptedReranker {
    fn rerank(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>, ModelError> {
        let wanted: Vec<String> = words(query).collect();
        let score = |document: &&str| {
            let found: Vec<String> = words(document).collect();
            let n_shared = wanted.iter().filter(|word| found.contains(word)).count();
            n_shared as f32 / wanted.len().max(1) as f32
        };
        Ok(documents.iter().map(score).collect())
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn bag(text: &str, dim: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dim];
    for word in words(text) {
        vector[fnv1a(word.as_bytes()) as usize % dim] += 1.0;
    }
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

/// FNV-1a, 64 bit: the same on every machine and in every release, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_words_are_nearer() {
        let texts = ["the red fox", "a red fox ran", "quarterly tax report"];
        let vectors = ScriptedEmbedder::new(64).embed(&texts, EmbedKind::Plain).unwrap();
        let dot = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum::<f32>();
        assert!(dot(0, 1) > dot(0, 2));
        assert!((dot(0, 0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn reranking_counts_shared_words() {
        let scores = ScriptedReranker.rerank("red fox", &["the red fox", "red", "blue"]).unwrap();
        assert_eq!(scores, [1.0, 0.5, 0.0]);
    }
}
