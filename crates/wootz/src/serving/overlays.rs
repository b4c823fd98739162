//! Adapters that are served beside the models that they change.
//!
//! Where:  owned by [`Stock`](super::Stock); named by `--adapter` and by `POST /v1/load_lora_adapter`.
//! Idea:   an adapter is a name, a path and the model that it is for. Its numbers are read when it is first asked for and
//!         live with the loaded model, in the bank of its engine; when the model is put away they go, too, and come back with
//!         it. Whoever holds an adapter's model holds the model itself.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use wootz_engine::LocalModel;
use wootz_serve::{ModelCard, ServedModel};

use crate::adapters;
use crate::model_choice::ModelChoice;

/// What is known of an adapter before it is loaded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Overlay {
    /// The name by which clients ask for it.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// Times what it adds.
    pub strength: f32,
    /// The served model that it is for.
    pub base: String,
}

/// What a loaded decoder keeps for its adapters.
pub(super) struct Base {
    local: LocalModel,
    adapters: Mutex<HashMap<String, (Overlay, LocalModel)>>,
}

impl Base {
    pub(super) fn of(local: LocalModel) -> Arc<dyn Any + Send + Sync> {
        Arc::new(Self { local, adapters: Mutex::default() })
    }

    fn from(model: &ServedModel) -> anyhow::Result<Arc<Self>> {
        let own = model.own.clone().and_then(|own| own.downcast().ok());
        own.with_context(|| format!("`{}` is no decoder, and takes no adapters", model.card.name))
    }

    /// Whether an adapter of that name is in the bank.
    pub(super) fn has(model: &ServedModel, name: &str) -> bool {
        let lock = |base: Arc<Self>| base.lock().contains_key(name);
        Self::from(model).is_ok_and(lock)
    }

    /// Takes an adapter out of the bank as soon as nothing runs with it.
    pub(super) fn forget(model: &ServedModel, name: &str) {
        if let Ok(base) = Self::from(model) {
            base.lock().remove(name);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Overlay, LocalModel)>> {
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The adapter's handle, read and loaded unless it is there.
    fn get(&self, overlay: &Overlay, choice: &ModelChoice) -> anyhow::Result<LocalModel> {
        // Held while it loads: two who ask for the same adapter do not load it twice.
        let mut all = self.lock();
        if let Some((known, local)) = all.get(&overlay.name)
            && known == overlay
        {
            return Ok(local.clone());
        }
        let additions = adapters::open(&overlay.path, overlay.strength, &choice.open()?)?;
        let local = self.local.with_adapter(additions).context("loading the adapter")?;
        all.insert(overlay.name.clone(), (overlay.clone(), local.clone()));
        Ok(local)
    }
}

/// The card of a model with an adapter.
pub(super) fn card(overlay: &Overlay, base: &ModelCard, is_loaded: bool) -> ModelCard {
    let (name, parent) = (overlay.name.clone(), Some(base.name.clone()));
    ModelCard { name, parent, is_loaded, ..base.clone() }
}

/// A loaded model with an adapter.
///
/// # Errors
/// A model that takes none, and files that are broken or another model's.
pub(super) fn open(
    overlay: &Overlay,
    base: &Arc<ServedModel>,
    choice: &ModelChoice,
) -> anyhow::Result<ServedModel> {
    let local = Base::from(base)?.get(overlay, choice)?;
    let for_tokens = local.clone();
    Ok(ServedModel {
        card: card(overlay, &base.card, true),
        tokenize: Some(Arc::new(move |prompt| for_tokens.tokenize(prompt))),
        generate: Some(Arc::new(local.clone())),
        score: Some(Arc::new(local.clone())),
        embed: Some(Arc::new(local)),
        tokenizer: base.tokenizer.clone(),
        template: base.template.clone(),
        own: Some(base.clone()),
        ..ServedModel::default()
    })
}
