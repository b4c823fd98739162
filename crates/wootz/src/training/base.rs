//! The model that a run begins with, and the words that its examples are written in.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::{Map, Value as Json};
use wootz_model::{Model, Words};
use wootz_text::{ChatTemplate, Tokenizer};
use wootz_train::Initial;
use wootz_train::config::TrainConfig;

use crate::model_choice::ModelChoice;

/// A model to train.
pub(super) struct Base {
    pub model: Model,
    pub tokenizer: Arc<Tokenizer>,
    pub template: Option<Arc<ChatTemplate>>,
    /// As others find it
    pub name: String,
}

/// Files of a tokenizer's folder that a new model's folder gets.
const FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
];

/// What others call the class of a model.
const CLASSES: [(&str, &str); 14] = [
    ("llama", "LlamaForCausalLM"),
    ("mistral", "MistralForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "Qwen3ForCausalLM"),
    ("gemma", "GemmaForCausalLM"),
    ("gemma2", "Gemma2ForCausalLM"),
    ("gemma3_text", "Gemma3ForCausalLM"),
    ("mixtral", "MixtralForCausalLM"),
    ("phi", "PhiForCausalLM"),
    ("phi3", "Phi3ForCausalLM"),
    ("gpt2", "GPT2LMHeadModel"),
    ("gpt_neox", "GPTNeoXForCausalLM"),
    ("mamba", "MambaForCausalLM"),
    ("mamba2", "Mamba2ForCausalLM"),
];

impl Base {
    pub fn open(config: &TrainConfig) -> anyhow::Result<Self> {
        match (&config.base_model, &config.architecture) {
            (Some(name), _) => Self::of_model(name, config),
            (None, Some(architecture)) => Self::made(architecture, config),
            (None, None) => bail!("the recipe names neither `base_model` nor `architecture`"),
        }
    }

    fn of_model(name: &str, config: &TrainConfig) -> anyhow::Result<Self> {
        let model = ModelChoice::find(Some(name))?.open()?;
        let words = Words::of(&model).context("reading the tokenizer")?;
        let (tokenizer, template) = match &config.tokenizer {
            Some(folder) => of_folder(Path::new(folder))?,
            None => {
                (words.tokenizer.context("the model has no tokenizer\nhint: `tokenizer:`")?, words.template)
            }
        };
        let template = template_of(config, template)?;
        let base = Self { model, tokenizer, template, name: name.to_owned() };
        base.check()?;
        Ok(base)
    }

    /// A new model with random weights.
    fn made(architecture: &Map<String, Json>, config: &TrainConfig) -> anyhow::Result<Self> {
        let Some(folder) = config.tokenizer.as_deref().map(Path::new) else {
            bail!("a new model needs `tokenizer:`\nhint: `wootz tokenizer train` makes one");
        };
        let (tokenizer, template) = of_folder(folder)?;
        let mut says = architecture.clone();
        let special = tokenizer.special();
        let mut default = |key: &str, value: Json| {
            says.entry(key.to_owned()).or_insert(value);
        };
        default("vocab_size", tokenizer.vocab_size().into());
        default("max_position_embeddings", config.sequence_len.max(1024).into());
        default("tie_word_embeddings", false.into());
        if let Some(bos) = special.bos {
            default("bos_token_id", bos.into());
        }
        if let Some(&eos) = special.eos.first() {
            default("eos_token_id", eos.into());
        }
        let model_type = architecture.get("model_type").and_then(Json::as_str).unwrap_or_default();
        if let Some((_, class)) = CLASSES.iter().find(|(name, _)| *name == model_type) {
            default("architectures", vec![*class].into());
        }
        default("dtype", "float32".into());
        let text = serde_json::to_string_pretty(&says).expect("JSON is written");
        let read = |name: &&str| Some(((*name).to_owned(), std::fs::read_to_string(folder.join(name)).ok()?));
        let files = FILES.iter().filter_map(read).collect();
        let deviation = says.get("initializer_range").and_then(Json::as_f64).unwrap_or(0.02);
        let n_layers =
            ["num_hidden_layers", "n_layer"].iter().find_map(|key| says.get(*key)?.as_u64()).unwrap_or(1);
        let initial = Initial { deviation, n_layers: n_layers as usize, seed: config.seed };
        let model = Model::made(&text, files, Box::new(move |spec| Some(initial.numbers(spec))))
            .context("`architecture`")?;
        let template = template_of(config, template)?;
        let base = Self { model, tokenizer, template, name: "a new model".to_owned() };
        base.check()?;
        Ok(base)
    }

    /// The tokenizer's ids must be the model's.
    fn check(&self) -> anyhow::Result<()> {
        let (words, rows) = (self.tokenizer.vocab_size(), self.model.network.config.vocab_size);
        if words > rows {
            bail!("the tokenizer has {words} tokens, the model {rows}");
        }
        Ok(())
    }
}

fn of_folder(folder: &Path) -> anyhow::Result<(Arc<Tokenizer>, Option<Arc<ChatTemplate>>)> {
    let context = || format!("reading the tokenizer in `{}`", folder.display());
    let tokenizer = Tokenizer::from_dir(folder).with_context(context)?;
    Ok((Arc::new(tokenizer), ChatTemplate::from_dir(folder).with_context(context)?.map(Arc::new)))
}

/// The recipe's template, as text or as a file, or the tokenizer's.
fn template_of(
    config: &TrainConfig,
    own: Option<Arc<ChatTemplate>>,
) -> anyhow::Result<Option<Arc<ChatTemplate>>> {
    let Some(said) = &config.chat_template else { return Ok(own) };
    if said == "tokenizer_default" {
        return Ok(own);
    }
    let is_text = said.contains("{%") || said.contains("{{");
    let text = if is_text {
        said.clone()
    } else {
        std::fs::read_to_string(said)
            .with_context(|| format!("`chat_template`: neither a template's text nor a file: `{said}`"))?
    };
    let config = serde_json::json!({ "chat_template": text }).to_string();
    let template = ChatTemplate::from_config(config.as_bytes()).context("`chat_template`")?;
    Ok(template.map(Arc::new))
}
