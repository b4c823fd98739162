//! Which models there are, and what each can do.
//!
//! Where:  filled by the command line, asked by every handler.
//! Idea:   a served model is a bundle of traits, each of which may be missing; opening one by name may load it, which
//!         blocks, so handlers open models off the async threads.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::metrics::Number;
use wootz_text::{
    ChatTemplate, Embed, Generate, ModelError, Prompt, ReplyFormat, Rerank, Score, TokenId, Tokenizer,
};

/// The models of a server.
pub trait Catalog: Send + Sync {
    /// What can be named, loaded or not. May read headers of files, never weights.
    fn list(&self) -> Vec<ModelCard>;

    /// The model of that name, loaded. Blocks while it loads. Whoever holds it keeps it in memory.
    ///
    /// # Errors
    /// An unknown name, no room for it, or files that are broken.
    fn open(&self, name: &str, stay: Stay) -> Result<Arc<ServedModel>, CatalogError>;

    /// What is in memory; looking makes nothing stay longer.
    fn loaded(&self) -> Vec<Loaded>;

    /// Takes a model out of memory as soon as nobody holds it. Whether it was there and may go.
    fn put_away(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Serves an adapter under a name of its own. Blocks while it loads.
    ///
    /// # Errors
    /// A name that is taken, a model that is not there, a file that does not fit it, [`CatalogError::Forbidden`].
    fn load_adapter(&self, adapter: NewAdapter) -> Result<(), CatalogError> {
        let _ = adapter;
        Err(CatalogError::Unsupported { what: "loading adapters".to_owned() })
    }

    /// Serves an adapter no more; what runs with it ends undisturbed.
    ///
    /// # Errors
    /// No adapter of that name, [`CatalogError::Forbidden`].
    fn unload_adapter(&self, name: &str) -> Result<(), CatalogError> {
        let _ = name;
        Err(CatalogError::Unsupported { what: "unloading adapters".to_owned() })
    }

    /// Fetches a model from where models come from, telling from any thread how far it is. Blocks.
    ///
    /// # Errors
    /// [`CatalogError::Unsupported`] unless a catalogue can do that, [`CatalogError::Forbidden`] where it must not.
    fn pull(&self, name: &str, tell: &(dyn Fn(PullProgress) + Sync)) -> Result<(), CatalogError> {
        let _ = (name, tell);
        Err(CatalogError::Unsupported { what: "fetching models: `wootz pull` does".to_owned() })
    }
}

/// How long a model stays in memory after it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stay {
    /// As the server was told when it started.
    #[default]
    Usual,
    /// So long; zero: until nobody holds it.
    For(Duration),
    /// Until room is needed.
    ForEver,
}

/// A model that is in memory.
#[derive(Clone)]
pub struct Loaded {
    /// The model.
    pub model: Arc<ServedModel>,
    /// When it will be put away if nobody asks for it; `None`: when room is needed.
    pub expires: Option<SystemTime>,
    /// Memory that was set aside for weights and states.
    pub n_bytes: u64,
}

/// An adapter that is to be served.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAdapter {
    /// The name by which clients will ask for it.
    pub name: String,
    /// Where it is on this machine.
    pub path: PathBuf,
    /// The served model that it is for; without it the first.
    pub base: Option<String>,
    /// Times what it adds.
    pub strength: f32,
}

/// How far a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The file's name.
    pub file: String,
    /// Its length.
    pub total_bytes: u64,
    /// What is there of it.
    pub done_bytes: u64,
}

/// Turns a prompt into tokens. Blocks.
pub type Tokenize = dyn Fn(Prompt) -> Result<Vec<TokenId>, ModelError> + Send + Sync;

/// A model's own numbers, as of now.
pub type Numbers = dyn Fn() -> Vec<Number> + Send + Sync;

/// A model and what it can do.
#[derive(Clone, Default)]
pub struct ServedModel {
    /// What it is.
    pub card: ModelCard,
    /// Continues texts.
    pub generate: Option<Arc<dyn Generate>>,
    /// Gives log-probabilities of texts.
    pub score: Option<Arc<dyn Score>>,
    /// Makes vectors.
    pub embed: Option<Arc<dyn Embed>>,
    /// Ranks documents.
    pub rerank: Option<Arc<dyn Rerank>>,
    /// Its tokenizer, for counting and for spelling tokens.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// A prompt as the tokens that a generation would begin with.
    pub tokenize: Option<Arc<Tokenize>>,
    /// Its chat template, for counting and for telling how it writes tool calls.
    pub template: Option<Arc<ChatTemplate>>,
    /// What it tells of itself at `/metrics`.
    pub numbers: Option<Arc<Numbers>>,
    /// What its catalogue keeps with it.
    pub own: Option<Arc<dyn Any + Send + Sync>>,
}

impl ServedModel {
    /// How it writes thoughts and calls.
    pub(crate) fn reply_format(&self) -> ReplyFormat {
        self.template_source().map_or(ReplyFormat::PLAIN, ReplyFormat::of_template)
    }

    /// Whether its template shows it tools.
    pub(crate) fn knows_tools(&self) -> bool {
        self.template_source().is_some_and(|source| source.contains("tools"))
    }

    fn template_source(&self) -> Option<&str> {
        let template = self.template.as_ref()?;
        template.source("tool_use").or_else(|| template.source("default"))
    }
}

/// What is said about a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelCard {
    /// The name by which clients ask for it.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
    /// Its architecture, as its configuration spells it.
    pub architecture: String,
    /// Numbers in its weights.
    pub n_params: u64,
    /// Bytes of its weights.
    pub size_bytes: u64,
    /// The type of most weights, `q4_k`.
    pub weight_type: String,
    /// Positions of a sequence.
    pub max_seq_len: usize,
    /// Width of its vectors, if it embeds.
    pub embedding_dim: Option<usize>,
    /// Whether it is in memory now.
    pub is_loaded: bool,
    /// Of an adapter: the model that it changes.
    pub parent: Option<String>,
}

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Nothing of that name.
    #[error("no model `{name}`; there {}", there_are(.known))]
    NotFound {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// This server cannot do that with models.
    #[error("this server does not support {what}")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// There is no room now.
    #[error("model `{name}` cannot be loaded now: {why}")]
    Busy {
        /// What was asked for.
        name: String,
        /// What is in the way.
        why: String,
    },
    /// Whoever started the server does not want it.
    #[error("{why}")]
    Forbidden {
        /// What forbids it.
        why: String,
    },
    /// An adapter cannot be served as was asked.
    #[error("adapter `{name}`: {why}")]
    Adapter {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It is there and cannot be loaded.
    #[error("model `{name}` cannot be loaded: {why}")]
    Failed {
        /// What was asked for.
        name: String,
        /// The error with its causes.
        why: String,
    },
}

fn there_are(known: &[String]) -> String {
    match known {
        [] => "is none".to_owned(),
        [one] => format!("is `{one}`"),
        many => format!("are `{}`", many.join("`, `")),
    }
}

/// Models that are all loaded from the start.
#[derive(Default)]
pub struct FixedCatalog {
    models: Vec<Arc<ServedModel>>,
}

impl FixedCatalog {
    /// A catalogue of these.
    pub fn new(models: impl IntoIterator<Item = ServedModel>) -> Self {
        Self { models: models.into_iter().map(Arc::new).collect() }
    }
}

impl Catalog for FixedCatalog {
    fn list(&self) -> Vec<ModelCard> {
        self.models.iter().map(|model| ModelCard { is_loaded: true, ..model.card.clone() }).collect()
    }

    fn open(&self, name: &str, _stay: Stay) -> Result<Arc<ServedModel>, CatalogError> {
        let found = self.models.iter().find(|model| model.card.name == name);
        found.cloned().ok_or_else(|| CatalogError::NotFound {
            name: name.to_owned(),
            known: self.models.iter().map(|model| model.card.name.clone()).collect(),
        })
    }

    fn loaded(&self) -> Vec<Loaded> {
        let loaded = |model: &Arc<ServedModel>| Loaded {
            model: model.clone(),
            expires: None,
            n_bytes: model.card.size_bytes,
        };
        self.models.iter().map(loaded).collect()
    }
}
