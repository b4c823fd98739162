//! Which model an argument names.
//!
//! Where:  every command that takes a model.
//! Idea:   a path if there is one, else a name in the home, else `hf:org/name` as far as it was pulled. Nothing named
//!         is the small model inside the program. Nothing here touches the network.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use wootz_model::Model;
use wootz_remote::ModelName;

use crate::settings;

/// A model that exists on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelChoice {
    /// A folder or a file.
    Path(PathBuf),
    /// The one inside the program.
    BuiltIn,
}

/// The small model inside the program, as a GGUF; its card is `assets/README.md`.
static BUILT_IN: &[u8] = include_bytes!("../assets/wootz-small.gguf");

impl ModelChoice {
    /// The model that `name` names; none is the built-in one.
    pub(crate) fn find(name: Option<&str>) -> anyhow::Result<Self> {
        let Some(name) = name else { return Ok(Self::BuiltIn) };
        if let Some(path) = existing(name) {
            return Ok(Self::Path(path));
        }
        if name.starts_with("hf:") {
            ModelName::parse(name)?;
        }
        bail!(
            "no model `{name}` here\nhint: expected a path, a name that `wootz list` shows, or hf:org/name after `wootz pull hf:org/name`"
        )
    }

    /// Whether `name` names a model that is here.
    pub(crate) fn exists(name: &str) -> bool {
        existing(name).is_some()
    }

    /// Opens it: reads headers and configuration.
    pub(crate) fn open(&self) -> anyhow::Result<Model> {
        match self {
            Self::Path(path) => {
                Model::open(path).with_context(|| format!("opening model `{}`", path.display()))
            }
            Self::BuiltIn => Model::open_bytes("built-in", BUILT_IN).context("opening the built-in model"),
        }
    }

    /// What to call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::BuiltIn => "wootz-small (built in)".to_owned(),
        }
    }
}

fn existing(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if looks_like_model(path) {
        return Some(path.to_owned());
    }
    let places = settings::places().ok()?;
    if name.starts_with("hf:") {
        let hub_name = ModelName::parse(name).ok()?;
        return places.find(&hub_name).map(|model| model.path());
    }
    let models = places.models;
    [models.join(name), models.join(format!("{name}.gguf"))].into_iter().find(|path| looks_like_model(path))
}

/// A file of weights, or a folder with a configuration or weights in it.
fn looks_like_model(path: &Path) -> bool {
    let is_weights = |path: &Path| {
        path.extension().is_some_and(|e| ["gguf", "safetensors", "bin", "pth", "pt"].iter().any(|x| e == *x))
    };
    if path.is_file() {
        return is_weights(path);
    }
    let Ok(entries) = path.read_dir() else { return false };
    path.join("config.json").is_file() || entries.flatten().any(|entry| is_weights(&entry.path()))
}
