//! Adapters: small files that change what a model says, read as additions to its layers.
//!
//! Where:  opened by the engine and the command line beside a [`Model`](crate::Model); the bank of a graph runs them.
//! Idea:   a file names modules of the model it was trained on. The same tables of names by which weights are read say which
//!         of our layers each module is, and which part of it; so adapters fit models in either format and fused or not.
//! Source: Hu et al. 2021, LoRA, arXiv:2106.09685; PEFT's and llama.cpp's files for the formats.
//! Elsewhere: what an addition computes (`wootz_graph::Addition`), who may use which adapter (`wootz-engine`).

mod gguf;
mod merge;
mod peft;
mod resolve;
mod settings;
mod write;

use std::path::Path;

use wootz_graph::Addition;
use wootz_weights::Weights;

use crate::{Error, Model, Result};
pub(crate) use merge::Merged;
pub use settings::LoraSettings;
pub use write::{NewAdapter, NewChange, write_peft};

/// An adapter's file, read and not yet laid over a model.
#[derive(Debug)]
pub struct AdapterFile {
    weights: Weights,
    kind: AdapterKind,
    modules: Vec<Module>,
}

/// What an adapter is.
#[derive(Clone, Debug)]
pub enum AdapterKind {
    /// PEFT's LoRA or DoRA.
    Peft(Box<LoraSettings>),
    /// llama.cpp's LoRA.
    Gguf {
        /// The architecture it is for.
        architecture: String,
        /// Divided by each rank it is the scale; 0 leaves products as they are.
        alpha: f32,
    },
    /// llama.cpp's control vector: directions that are added behind layers.
    Control,
}

/// The tensors for one module, by their names in the file.
#[derive(Clone, Debug, Default)]
struct Module {
    /// What the model's file calls its weight, without `.weight`.
    name: String,
    a: Option<String>,
    b: Option<String>,
    b_bias: Option<String>,
    magnitude: Option<String>,
    /// The module's own weight, which PEFT keeps beside heads.
    own: Option<String>,
    /// The module's own bias, trained along.
    bias: Option<String>,
}

impl AdapterFile {
    /// Reads PEFT's folder (`adapter_config.json`, `adapter_model.safetensors` or `.bin`) or llama.cpp's GGUF.
    ///
    /// # Errors
    /// Settings and tensors that are not supported are refused by name.
    pub fn open(path: &Path) -> Result<Self> {
        match path.is_dir() {
            true => peft::open(path),
            false => gguf::open(path),
        }
    }

    /// What it is.
    pub fn kind(&self) -> &AdapterKind {
        &self.kind
    }

    /// Numbers in it.
    pub fn n_params(&self) -> usize {
        self.weights.infos().filter_map(|info| info.n_elements()).sum()
    }

    /// Bytes of its tensors.
    pub fn n_bytes(&self) -> usize {
        self.weights.infos().filter_map(|info| info.n_bytes()).sum()
    }

    /// What the model's files call the modules that it changes.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(|module| module.name.as_str())
    }

    /// The ranks of its products, each once, lowest first.
    pub fn ranks(&self) -> Vec<usize> {
        let rank = |module: &Module| self.weights.info(module.a.as_ref()?)?.shape.first().copied();
        let mut ranks: Vec<usize> = self.modules.iter().filter_map(rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    /// Its tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What it adds to a model's layers, `strength` times.
    ///
    /// # Errors
    /// A module that the model does not have or whose layer takes no adapter, and shapes that are not the model's.
    pub fn over(&self, model: &Model, strength: f32) -> Result<Vec<Addition>> {
        if !strength.is_finite() {
            return Err(self.error("strength", "a finite number", &strength.to_string()));
        }
        resolve::additions(self, model, strength)
    }

    /// What is wrong with a tensor of it.
    fn error(&self, tensor: &str, expected: &str, got: &str) -> Error {
        error(self.weights.path(), tensor, expected, got)
    }

    /// The module of this name, new unless it is there.
    fn module<'m>(modules: &'m mut Vec<Module>, name: &str) -> &'m mut Module {
        let at = modules.iter().position(|module| module.name == name).unwrap_or_else(|| {
            modules.push(Module { name: name.to_owned(), ..Module::default() });
            modules.len() - 1
        });
        &mut modules[at]
    }
}

fn error(file: &Path, tensor: &str, expected: &str, got: &str) -> Error {
    Error::Adapter {
        file: file.to_owned(),
        tensor: tensor.to_owned(),
        expected: expected.to_owned(),
        got: got.to_owned(),
    }
}
