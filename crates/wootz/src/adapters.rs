//! Adapters as the person names them: `PATH`, `PATH=STRENGTH`.
//!
//! Where:  `run`, `chat` and `serve` lay them over models, `show` tells what they are.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use wootz_graph::Addition;
use wootz_model::{AdapterFile, AdapterKind, Model};

/// What is laid over the model.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdapterArgs {
    /// LoRA or control vector over the model: PEFT's folder or llama.cpp's GGUF, with a strength other than 1 after `=`
    #[arg(long = "adapter", value_name = "PATH[=STRENGTH]", help_heading = "Running")]
    adapters: Vec<String>,
}

impl AdapterArgs {
    /// What they all add; nothing where none is named.
    pub(crate) fn over(&self, model: &Model) -> anyhow::Result<Vec<Addition>> {
        let mut all = Vec::new();
        for adapter in &self.adapters {
            let (path, strength) = parse(adapter)?;
            all.extend(open(&path, strength, model)?);
        }
        Ok(all)
    }
}

/// What the adapter of a file adds to a model.
pub(crate) fn open(path: &Path, strength: f32, model: &Model) -> anyhow::Result<Vec<Addition>> {
    let file = AdapterFile::open(path).with_context(|| format!("opening adapter `{}`", path.display()))?;
    file.over(model, strength).with_context(|| format!("laying `{}` over the model", path.display()))
}

/// A path, and a strength if one stands behind it.
pub(crate) fn parse(text: &str) -> anyhow::Result<(PathBuf, f32)> {
    match text.rsplit_once('=') {
        Some((path, strength)) if !Path::new(text).exists() => {
            let number = strength.parse::<f32>().ok().filter(|number| number.is_finite());
            let number =
                number.with_context(|| format!("`{text}`: expected a strength, got `{strength}`"))?;
            Ok((path.into(), number))
        }
        _ => Ok((text.into(), 1.0)),
    }
}

/// What `show` says of an adapter; none if the path is no adapter.
pub(crate) fn facts(path: &str) -> anyhow::Result<Option<Value>> {
    let path = Path::new(path);
    let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let is_adapter = match path.is_dir() {
        true => path.join("adapter_config.json").is_file(),
        false => path.is_file() && is_gguf && is_gguf_adapter(path),
    };
    if !is_adapter {
        return Ok(None);
    }
    let file = AdapterFile::open(path).with_context(|| format!("opening adapter `{}`", path.display()))?;
    let mut modules: Vec<&str> =
        file.modules().map(|name| name.rsplit_once('.').map_or(name, |(_, last)| last)).collect();
    modules.sort_unstable();
    modules.dedup();
    let (kind, base, alpha) = match file.kind() {
        AdapterKind::Peft(settings) => {
            let kind = if settings.use_dora { "DoRA" } else { "LoRA" };
            (kind, settings.hf().str("base_model_name_or_path"), Some(settings.alpha))
        }
        AdapterKind::Gguf { architecture, alpha } => {
            ("LoRA", Some(architecture.as_str()), Some(f64::from(*alpha)))
        }
        AdapterKind::Control => ("control vector", None, None),
    };
    let ranks = file.ranks();
    Ok(Some(json!({
        "adapter": path.display().to_string(),
        "kind": kind,
        "for": base,
        "parameters": file.n_params(),
        "bytes": file.n_bytes(),
        "ranks": (!ranks.is_empty()).then_some(ranks),
        "alpha": alpha,
        "modules": file.modules().count(),
        "names": if alpha.is_some() { modules } else { Vec::new() },
    })))
}

fn is_gguf_adapter(path: &Path) -> bool {
    let Ok(weights) = wootz_weights::Weights::open(path) else { return false };
    let Some(keys) = weights.gguf() else { return false };
    let is = |key: &str, value: &str| keys.find::<&str>(key).is_ok_and(|found| found == Some(value));
    is("general.type", "adapter") || is("general.architecture", "controlvector")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_stands_behind_the_last_sign() {
        let check = |text: &str, expected: (&str, f32)| {
            assert_eq!(parse(text).unwrap(), (PathBuf::from(expected.0), expected.1));
        };
        check("lora", ("lora", 1.0));
        check("lora=0.5", ("lora", 0.5));
        check("a=b=-2", ("a=b", -2.0));
        assert!(parse("lora=much").unwrap_err().to_string().contains("`much`"));
        assert!(parse("lora=NaN").is_err());
    }
}
