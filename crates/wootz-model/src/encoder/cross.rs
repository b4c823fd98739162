//! Cross-encoders: a pair of texts in, scores out.
//!
//! Where:  reranking; a [`Rerank`] among others.
//! Source: Nogueira & Cho 2019, arXiv:1901.04085; the activation: sentence-transformers' `CrossEncoder`.

use std::path::Path;
use std::sync::Arc;

use wootz_graph::{Activation, Device};
use wootz_text::{ModelError, Rerank};

use super::folder::{bytes, object, refuse_unknown};
use super::modules::{TransformerSettings, torch_activation};
use super::reader::Reader;
use super::runner::{Runner, Tokens};
use crate::config::Head;
use crate::hf::Hf;
use crate::load::Model;
use crate::{Error, Result};

/// Scores pairs of texts with a sequence-classification model.
#[derive(Debug)]
pub struct CrossEncoder {
    reader: Reader,
    runner: Runner,
    n_labels: usize,
}

impl CrossEncoder {
    /// Opens the folder of a `…ForSequenceClassification`.
    ///
    /// # Errors
    /// A file that is missing or broken, a model without such a head, an activation that is not known here.
    pub fn open(folder: &Path, device: &dyn Device) -> Result<Self> {
        refuse_modules(folder)?;
        let hf = Hf::open(folder)?;
        let model = Model::open(folder)?;
        let config = &model.network.config;
        let Head::Classifier(classifier) = &config.head else {
            let expected = "a model for sequence classification";
            return Err(hf.error("architectures", expected, &format!("{:?}", hf.strings("architectures"))));
        };
        let n_labels = classifier.n_labels;
        let activation = activation(folder, &hf, n_labels)?;
        let task = ["sequence-classification", "logits", "scores"];
        let TransformerSettings { max_len, lower_case } = TransformerSettings::read(folder, task)?;
        let reader = Reader::open(folder, config, max_len, lower_case)?;
        let weights = model.load(device)?;
        let network = Arc::clone(&model.network);
        let runner = Runner::new(
            network,
            device,
            &weights,
            Box::new(move |network, g, x| {
                let scores = network.classify(g, x)?; // (B, labels)
                match activation {
                    Some(activation) => g.activate(scores, activation),
                    None => Ok(scores),
                }
            }),
        )?;
        Ok(Self { reader, runner, n_labels })
    }

    /// How many scores a pair gets.
    pub fn n_labels(&self) -> usize {
        self.n_labels
    }

    /// The scores of each pair, in order.
    pub fn score_pairs(&self, pairs: &[(&str, &str)]) -> Result<Vec<Vec<f32>>> {
        let tokens: Vec<Tokens> =
            pairs.iter().map(|(first, second)| self.reader.read_pair(first, second)).collect();
        self.runner.run(&tokens)
    }
}

impl Rerank for CrossEncoder {
    fn rerank(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>, ModelError> {
        if self.n_labels != 1 {
            let message = format!("a model that gives {} scores a pair cannot rank", self.n_labels);
            return Err(ModelError::invalid("model", message));
        }
        let pairs: Vec<(&str, &str)> = documents.iter().map(|document| (query, *document)).collect();
        let scores = self.score_pairs(&pairs).map_err(ModelError::failed)?;
        Ok(scores.into_iter().map(|scores| scores[0]).collect())
    }
}

/// Newer folders list modules as well; only the transformer alone is what is done here.
fn refuse_modules(folder: &Path) -> Result<()> {
    let path = folder.join("modules.json");
    let Some(text) = bytes(&path)? else { return Ok(()) };
    let fail = |got: String| Error::Config {
        file: path.display().to_string(),
        key: "type".to_owned(),
        expected: "one Transformer in this folder".to_owned(),
        got,
    };
    let list: Vec<serde_json::Value> =
        serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
    let is_it = |entry: &serde_json::Value| {
        let kind = entry.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
        kind.starts_with("sentence_transformers.")
            && kind.ends_with(".Transformer")
            && entry.get("path").is_none_or(|path| path == "")
    };
    match &list[..] {
        [entry] if is_it(entry) => Ok(()),
        _ => Err(fail(format!("{} modules", list.len()))),
    }
}

/// What the files say, else the sigmoid of a single score and several scores as they are.
fn activation(folder: &Path, hf: &Hf, n_labels: usize) -> Result<Option<Activation>> {
    let newest = object(&folder.join("config_sentence_transformers.json"))?;
    if let Some(hf) = &newest {
        let known = ["__version__", "model_type", "prompts", "default_prompt_name", "activation_fn"];
        refuse_unknown(hf, &known)?;
        hf.require("model_type", "CrossEncoder")?;
        if let Some(name) = hf.str("default_prompt_name") {
            return Err(hf.error("default_prompt_name", "no prompt", name));
        }
    }
    let newer = hf.object("sentence_transformers");
    let found = [
        newest.as_ref().map(|hf| (hf, "activation_fn")),
        newer.as_ref().map(|hf| (hf, "activation_fn")),
        Some((hf, "sbert_ce_default_activation_function")),
    ];
    let named = found.into_iter().flatten().find_map(|(hf, key)| Some((hf, key, hf.str(key)?)));
    match named {
        Some((hf, key, name)) => torch_activation(hf, key, name),
        None if n_labels == 1 => Ok(Some(Activation::Sigmoid)),
        None => Ok(None),
    }
}
