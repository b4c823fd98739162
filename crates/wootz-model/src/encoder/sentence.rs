//! Sentence embeddings: a transformer, and the modules that follow it in a sentence-transformers folder.
//!
//! Where:  `wootz embed`, retrieval; an [`Embed`] among others.
//! Source: Reimers & Gurevych 2019, arXiv:1908.10084, §3; the files and their defaults: sentence-transformers 6.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use wootz_graph::{Activation, Device, Graph, Param, ParamKind, ParamSpec, Pooling, Value};
use wootz_text::{Embed, EmbedKind, ModelError};
use wootz_weights::Weights;

use super::folder::{object, refuse_unknown};
use super::modules::{Dense, Modules, Stage};
use super::reader::Reader;
use super::runner::{Runner, Tokens};
use crate::load::{Model, cut};
use crate::names::Part;
use crate::{Error, Result};

/// Turns texts into vectors exactly as their folder says.
#[derive(Debug)]
pub struct SentenceEncoder {
    reader: Reader,
    runner: Runner,
    prompts: Prompts,
    dim: usize,
}

impl SentenceEncoder {
    /// Opens a sentence-transformers folder, or a bare transformer, whose tokens' mean is then taken.
    ///
    /// # Errors
    /// A file that is missing or broken, and any module or setting that is not done here, by its name.
    pub fn open(folder: &Path, device: &dyn Device) -> Result<Self> {
        let modules = Modules::read(folder)?;
        let prompts = Prompts::read(folder)?;
        let mut model = Model::open_body(&modules.transformer)?;
        let mut tail = Tail::default();
        let mut dim = model.network.config.d_hidden();
        for stage in &modules.stages {
            dim = tail.add(&mut model, stage, dim, &prompts)?;
        }
        let config = &model.network.config;
        let reader = Reader::open(&modules.transformer, config, modules.max_len, modules.lower_case)?;
        let weights = device.load(&model.network.params, &|spec| match tail.dense_of(spec) {
            Some(weights) => weights,
            None => model.tensor(spec),
        })?;
        let steps = tail.steps;
        let build =
            Box::new(move |_: &_, g: &mut Graph, x| steps.iter().try_fold(x, |x, step| step.build(g, x)));
        let runner = Runner::new(Arc::clone(&model.network), device, &weights, build)?;
        Ok(Self { reader, runner, prompts, dim })
    }

    /// One vector for each text, behind the prompt of its kind.
    ///
    /// # Errors
    /// A text without tokens.
    pub fn embed_texts(&self, texts: &[&str], kind: EmbedKind) -> Result<Vec<Vec<f32>>> {
        let prompt = self.prompts.of(kind);
        let tokens: Vec<Tokens> =
            texts.iter().map(|text| self.reader.read(&format!("{prompt}{text}"))).collect();
        self.runner.run(&tokens)
    }
}

impl Embed for SentenceEncoder {
    fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Vec<Vec<f32>>, ModelError> {
        self.embed_texts(texts, kind).map_err(ModelError::failed)
    }

    fn dim(&self) -> usize {
        self.dim
    }
}

/// What is put before a text.
#[derive(Debug, Default)]
struct Prompts {
    by_name: BTreeMap<String, String>,
    default: String,
}

impl Prompts {
    fn read(folder: &Path) -> Result<Self> {
        let Some(hf) = object(&folder.join("config_sentence_transformers.json"))? else {
            return Ok(Self::default());
        };
        let known = ["__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name"];
        refuse_unknown(&hf, &known)?;
        hf.require("model_type", "SentenceTransformer")?;
        let mut by_name = BTreeMap::new();
        for (name, prompt) in hf.object("prompts").iter().flat_map(|prompts| prompts.map()) {
            let text = prompt.as_str().ok_or_else(|| hf.error("prompts", "texts by name", name))?;
            by_name.insert(name.clone(), text.to_owned());
        }
        let default = match hf.str("default_prompt_name") {
            None => String::new(),
            Some(name) => by_name
                .get(name)
                .cloned()
                .ok_or_else(|| hf.error("default_prompt_name", "one of `prompts`", name))?,
        };
        Ok(Self { by_name, default })
    }

    /// A question's and a document's own prompt; nothing, not the default, where they have none.
    fn of(&self, kind: EmbedKind) -> &str {
        let first = |names: &[&str]| names.iter().find_map(|name| self.by_name.get(*name));
        match kind {
            EmbedKind::Plain => &self.default,
            EmbedKind::Query => first(&["query"]).map_or("", |prompt| prompt),
            EmbedKind::Document => first(&["document", "passage", "corpus"]).map_or("", |prompt| prompt),
        }
    }

    fn are_empty(&self) -> bool {
        self.by_name.values().all(String::is_empty)
    }
}

/// The steps behind the transformer, with their weights declared.
#[derive(Debug, Default)]
struct Tail {
    steps: Vec<Step>,
    /// Weights of dense layers: by declared name, the file and the tensor.
    files: BTreeMap<String, (Arc<Weights>, &'static str)>,
}

#[derive(Debug)]
enum Step {
    Pool(Vec<Pooling>),
    Dense { w: Param, b: Option<Param>, activation: Option<Activation> },
    Normalize,
}

impl Tail {
    /// Adds a stage that gets rows of width `dim`, and gives the width of what it makes.
    fn add(&mut self, model: &mut Model, stage: &Stage, dim: usize, prompts: &Prompts) -> Result<usize> {
        match stage {
            Stage::Pool { poolings, include_prompt } => {
                if !include_prompt && !prompts.are_empty() {
                    let message =
                        "`include_prompt` false beside `prompts`: tokens of a prompt always count here";
                    return Err(Error::Unsupported(message.to_owned()));
                }
                if !self.steps.is_empty() {
                    return Err(Error::Unsupported("`Pooling` twice in `modules.json`".to_owned()));
                }
                self.steps.push(Step::Pool(poolings.clone()));
                Ok(dim * poolings.len())
            }
            Stage::Dense(dense) => self.add_dense(model, dense, dim),
            Stage::Normalize => {
                self.steps.push(Step::Normalize);
                Ok(dim)
            }
        }
    }

    fn add_dense(&mut self, model: &mut Model, dense: &Dense, dim: usize) -> Result<usize> {
        let &Dense { n_in, n_out, bias, activation, .. } = dense;
        if n_in != dim {
            return Err(Error::Config {
                file: dense.folder.join("config.json").display().to_string(),
                key: "in_features".to_owned(),
                expected: dim.to_string(),
                got: n_in.to_string(),
            });
        }
        let weights = Arc::new(Weights::open(&dense.folder)?);
        let network = Arc::get_mut(&mut model.network).expect("nobody shares a model that is being opened");
        let at = self.steps.len();
        let mut declare = |name: &str, shape: &[usize], kind, tensor| {
            let name = format!("modules.{at}.{name}");
            self.files.insert(name.clone(), (Arc::clone(&weights), tensor));
            network.params.declare(name, shape, kind)
        };
        let w = declare("w", &[n_out, n_in], ParamKind::Matrix, "linear.weight");
        let b = bias.then(|| declare("b", &[n_out], ParamKind::Vector, "linear.bias"));
        self.steps.push(Step::Dense { w, b, activation });
        Ok(n_out)
    }

    /// The numbers of a dense layer's weight, if it is one.
    fn dense_of(&self, spec: &ParamSpec) -> Option<wootz_graph::Result<wootz_graph::HostTensor<'_>>> {
        let (weights, tensor) = self.files.get(&spec.name)?;
        let fail = |message: String| wootz_graph::Error::Weight { name: spec.name.clone(), message };
        let view = weights.need(tensor).map_err(|error| fail(error.to_string()));
        Some(view.and_then(|view| cut(view, Part::Whole).map_err(|error| fail(error.to_string()))))
    }
}

impl Step {
    fn build(&self, g: &mut Graph, x: Value) -> wootz_graph::Result<Value> {
        match self {
            Step::Pool(poolings) => {
                let mut pooled: Option<Value> = None;
                for &pooling in poolings {
                    let one = g.pool(x, pooling)?; // (B, C)
                    pooled = Some(match pooled {
                        Some(before) => g.concat(before, one)?,
                        None => one,
                    });
                }
                Ok(pooled.unwrap_or(x))
            }
            Step::Dense { w, b, activation } => {
                let y = g.linear_bias(x, *w, *b)?;
                match *activation {
                    Some(activation) => g.activate(y, activation),
                    None => Ok(y),
                }
            }
            Step::Normalize => g.normalize(x),
        }
    }
}
