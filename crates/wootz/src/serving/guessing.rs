//! What guesses ahead of a served model: `--draft`.
//!
//! Where:  parsed by `wootz serve`, used where a model is loaded.

use anyhow::Context;
use wootz_engine::{DraftModel, Engine, LoadOptions, load_draft, needed_bytes};
use wootz_graph::Device;
use wootz_model::Model;

use crate::model_choice::ModelChoice;

/// What guesses. Answers are the same whatever does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guessing {
    /// Nothing.
    Off,
    /// What was said before may be said again.
    Lookup,
    /// That, and the model's own first layers.
    FirstLayers(usize),
    /// That, and a small model.
    Model(ModelChoice),
}

impl Guessing {
    /// `off`, `lookup`, `layers:N`, or a model.
    ///
    /// # Errors
    /// No number behind `layers:`, or no such model.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        match text.strip_prefix("layers:") {
            Some(n) => {
                let n = n.parse().ok().filter(|&n| n > 0);
                n.map(Self::FirstLayers).with_context(|| format!("--draft: expected layers:N, got {text}"))
            }
            None if text == "off" => Ok(Self::Off),
            None if text == "lookup" => Ok(Self::Lookup),
            None => Ok(Self::Model(ModelChoice::find(Some(text)).context("--draft")?)),
        }
    }

    /// Memory that it takes beside `model`.
    ///
    /// # Errors
    /// A draft model that cannot be read.
    pub(crate) fn needed_bytes(&self, model: &Model, options: &LoadOptions) -> anyhow::Result<u64> {
        match self {
            Self::Off | Self::Lookup => Ok(0),
            Self::FirstLayers(n) => {
                let n_layers = model.network.config.layers.len().max(1) as u64;
                Ok(needed_bytes(model, options)?.saturating_mul(*n as u64) / n_layers)
            }
            Self::Model(small) => Ok(needed_bytes(&small.open()?, options)?),
        }
    }

    /// Sets it before `engine`.
    ///
    /// # Errors
    /// A small model of other words, or more layers than there are.
    pub(crate) fn add_to(
        &self,
        engine: Engine,
        model: &Model,
        device: &dyn Device,
        options: &LoadOptions,
    ) -> anyhow::Result<Engine> {
        let engine = match self {
            Self::Off | Self::Lookup => return Ok(engine),
            Self::FirstLayers(n) => load_draft(engine, model, DraftModel::FirstLayers(*n), device, options),
            Self::Model(small) => {
                let small = small.open()?;
                load_draft(engine, model, DraftModel::Model(&small), device, options)
            }
        };
        engine.context("--draft")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guesses_has_four_spellings() {
        assert_eq!(Guessing::parse("off").unwrap(), Guessing::Off);
        assert_eq!(Guessing::parse("lookup").unwrap(), Guessing::Lookup);
        assert_eq!(Guessing::parse("layers:3").unwrap(), Guessing::FirstLayers(3));
        for wrong in ["layers:0", "layers:x", "layers:", "no-such-model"] {
            assert!(Guessing::parse(wrong).is_err(), "{wrong}");
        }
    }
}
