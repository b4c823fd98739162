//! `modules.json`: the steps from a text to its vector, as sentence-transformers 2 to 6 write them.
//!
//! Where:  read when a [`SentenceEncoder`](super::SentenceEncoder) is opened.
//! Idea:   a transformer, then poolings, dense layers and normalisations in the order in which they stand. Any other
//!         module, and any setting of these that is not done here, is an error that names it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wootz_graph::{Activation, Pooling};

use super::folder::{bytes, object, refuse_unknown, stays_below};
use crate::hf::Hf;
use crate::{Error, Result};

/// The steps of a folder.
#[derive(Debug)]
pub(super) struct Modules {
    /// Where the transformer is.
    pub transformer: PathBuf,
    /// The longest text in tokens, special ones counted, if the folder says one.
    pub max_len: Option<usize>,
    /// Whether texts are lower-cased before they are tokenized.
    pub lower_case: bool,
    /// What follows the transformer.
    pub stages: Vec<Stage>,
}

/// One step behind the transformer.
#[derive(Debug)]
pub(super) enum Stage {
    /// One row for each text: these side by side.
    Pool {
        /// In the order of the columns.
        poolings: Vec<Pooling>,
        /// Whether tokens of the prompt count.
        include_prompt: bool,
    },
    /// `f(W·x + b)`.
    Dense(Dense),
    /// Length one.
    Normalize,
}

/// A dense layer.
#[derive(Debug)]
pub(super) struct Dense {
    pub folder: PathBuf,
    pub n_in: usize,
    pub n_out: usize,
    pub bias: bool,
    pub activation: Option<Activation>,
}

/// Settings of a transformer may stand in a file that is called after its architecture.
const TRANSFORMER_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

impl Modules {
    /// Reads a folder. One without `modules.json` is a bare transformer, whose tokens' mean is taken.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("modules.json");
        let Some(text) = bytes(&path)? else {
            let mean = Stage::Pool { poolings: vec![Pooling::Mean], include_prompt: true };
            return Self::of_transformer(folder.to_owned(), vec![mean]);
        };
        let file = path.display().to_string();
        let fail = |expected: &str, got: String| Error::Config {
            file: file.clone(),
            key: "type".to_owned(),
            expected: expected.to_owned(),
            got,
        };
        let list: Vec<Value> =
            serde_json::from_slice(&text).map_err(|error| fail("a list of modules", error.to_string()))?;
        let mut entries = list.iter().map(|entry| Entry::read(&file, folder, entry));
        let transformer = match entries.next().transpose()? {
            Some(Entry { kind, path }) if kind == "Transformer" => path,
            Some(Entry { kind, .. }) => return Err(fail("a Transformer first", kind)),
            None => return Err(fail("a Transformer first", "nothing".to_owned())),
        };
        let stages: Vec<Stage> =
            entries.map(|entry| entry.and_then(|entry| Stage::read(&file, entry))).collect::<Result<_>>()?;
        match stages.first() {
            Some(Stage::Pool { .. }) => Self::of_transformer(transformer, stages),
            _ => Err(fail("a Pooling behind the Transformer", format!("{} other modules", stages.len()))),
        }
    }

    fn of_transformer(transformer: PathBuf, stages: Vec<Stage>) -> Result<Self> {
        let task = ["feature-extraction", "last_hidden_state", "token_embeddings"];
        let TransformerSettings { max_len, lower_case } = TransformerSettings::read(&transformer, task)?;
        Ok(Self { transformer, max_len, lower_case, stages })
    }
}

/// How a transformer wants its texts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TransformerSettings {
    pub max_len: Option<usize>,
    pub lower_case: bool,
}

impl TransformerSettings {
    /// Reads a folder whose transformer does this: the task, what of its outputs is taken, and what that is called.
    pub fn read(folder: &Path, [task, method_output, module_output]: [&str; 3]) -> Result<Self> {
        for name in TRANSFORMER_CONFIGS {
            let Some(hf) = object(&folder.join(name))? else { continue };
            refuse_unknown(
                &hf,
                &[
                    "max_seq_length",
                    "do_lower_case",
                    "transformer_task",
                    "module_output_name",
                    "modality_config",
                    "unpad_inputs",
                ],
            )?;
            hf.require("transformer_task", task)?;
            hf.require("module_output_name", module_output)?;
            if let Some(text) = hf.object("modality_config").and_then(|modality| modality.object("text")) {
                text.require("method", "forward")?;
                text.require("method_output_name", method_output)?;
            }
            let max_len = hf.find_usize("max_seq_length")?;
            return Ok(Self { max_len, lower_case: hf.bool_or("do_lower_case", false)? });
        }
        Ok(Self::default())
    }
}

/// One entry of the list.
struct Entry {
    kind: String,
    path: PathBuf,
}

impl Entry {
    fn read(file: &str, folder: &Path, entry: &Value) -> Result<Self> {
        let hf = Hf::parse(file, entry.to_string().as_bytes())?;
        refuse_unknown(&hf, &["idx", "name", "path", "type"])?;
        let kind = hf.str("type").unwrap_or_default();
        let path = hf.str("path").unwrap_or_default();
        if !stays_below(path) {
            return Err(hf.error("path", "a folder below this one", path));
        }
        let known = kind.strip_prefix("sentence_transformers.").and_then(|kind| kind.rsplit('.').next());
        match known {
            Some(kind) => Ok(Self { kind: kind.to_owned(), path: folder.join(path) }),
            None => Err(hf.error("type", "a module of sentence_transformers", kind)),
        }
    }
}

impl Stage {
    fn read(file: &str, entry: Entry) -> Result<Self> {
        let path = entry.path.join("config.json");
        let missing = || Hf::parse(&path.display().to_string(), b"{}");
        let hf = object(&path)?.map_or_else(missing, Ok)?;
        match &entry.kind[..] {
            "Pooling" => Self::pool(&hf),
            "Dense" => Dense::read(&hf, entry.path).map(Stage::Dense),
            "Normalize" => {
                refuse_unknown(&hf, &["module_input_name", "module_output_name"])?;
                of_sentences(&hf)?;
                Ok(Stage::Normalize)
            }
            other => Err(Error::Config {
                file: file.to_owned(),
                key: "type".to_owned(),
                expected: "Transformer, Pooling, Dense or Normalize".to_owned(),
                got: other.to_owned(),
            }),
        }
    }

    fn pool(hf: &Hf) -> Result<Self> {
        const LEGACY: [(&str, &str); 6] = [
            ("pooling_mode_cls_token", "cls"),
            ("pooling_mode_max_tokens", "max"),
            ("pooling_mode_mean_tokens", "mean"),
            ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
            ("pooling_mode_weightedmean_tokens", "weightedmean"),
            ("pooling_mode_lasttoken", "lasttoken"),
        ];
        let known = ["embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt"];
        refuse_unknown(hf, &[&known[..], &LEGACY.map(|(key, _)| key)].concat())?;
        let mut modes: Vec<&str> = match hf.get("pooling_mode") {
            Some(Value::String(mode)) => vec![mode],
            Some(_) => hf
                .strings("pooling_mode")
                .ok_or_else(|| hf.error("pooling_mode", "a name or a list of names", "another value"))?,
            None => {
                let mut on = Vec::new();
                for (key, mode) in LEGACY {
                    if hf.bool_or(key, false)? {
                        on.push(mode);
                    }
                }
                on
            }
        };
        if modes.is_empty() {
            modes.push("mean");
        }
        let pooling = |mode: &str| match mode {
            "cls" => Ok(Pooling::Cls),
            "max" => Ok(Pooling::Max),
            "mean" => Ok(Pooling::Mean),
            "lasttoken" => Ok(Pooling::Last),
            other => Err(hf.error("pooling_mode", "cls, max, mean or lasttoken", other)),
        };
        let poolings = modes.into_iter().map(pooling).collect::<Result<_>>()?;
        Ok(Stage::Pool { poolings, include_prompt: hf.bool_or("include_prompt", true)? })
    }
}

impl Dense {
    fn read(hf: &Hf, folder: PathBuf) -> Result<Self> {
        refuse_unknown(
            hf,
            &[
                "in_features",
                "out_features",
                "bias",
                "activation_function",
                "module_input_name",
                "module_output_name",
                "use_residual",
            ],
        )?;
        hf.require("use_residual", false)?;
        of_sentences(hf)?;
        Ok(Self {
            folder,
            n_in: hf.positive("in_features")?,
            n_out: hf.positive("out_features")?,
            bias: hf.bool_or("bias", true)?,
            activation: torch_activation(
                hf,
                "activation_function",
                hf.str("activation_function").unwrap_or("torch.nn.modules.activation.Tanh"),
            )?,
        })
    }
}

/// Refuses modules that read or write anything but the vector of the text.
fn of_sentences(hf: &Hf) -> Result<()> {
    hf.require("module_input_name", "sentence_embedding")?;
    hf.require("module_output_name", "sentence_embedding")
}

/// An activation by the name of its class in PyTorch; none is the identity.
pub(super) fn torch_activation(hf: &Hf, key: &str, name: &str) -> Result<Option<Activation>> {
    let class = name.strip_prefix("torch.nn.").and_then(|name| name.rsplit('.').next());
    Ok(match class {
        Some("Identity") => None,
        Some("Tanh") => Some(Activation::Tanh),
        Some("Sigmoid") => Some(Activation::Sigmoid),
        Some("ReLU") => Some(Activation::Relu),
        Some("GELU") => Some(Activation::Gelu),
        Some("SiLU") => Some(Activation::Silu),
        _ => return Err(hf.error(key, "Identity, Tanh, Sigmoid, ReLU, GELU or SiLU of torch.nn", name)),
    })
}
