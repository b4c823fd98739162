//! llama.cpp's files: LoRA (`general.type` = `adapter`) and control vectors (`general.architecture` = `controlvector`).

use std::path::Path;

use wootz_weights::Weights;

use super::{AdapterFile, AdapterKind, Module, error};
use crate::{Error, Result};

/// Keys that say something about the file, not about what it computes.
const WITHOUT_EFFECT: [&str; 5] =
    ["adapter.lora.task_name", "adapter.lora.prompt_prefix", "controlvector.", "general.", "split."];

pub(super) fn open(path: &Path) -> Result<AdapterFile> {
    let weights = Weights::open(path)?;
    let fail = |key: &str, expected: &str, got: &str| Error::Config {
        file: path.display().to_string(),
        key: key.to_owned(),
        expected: expected.to_owned(),
        got: got.to_owned(),
    };
    let Some(keys) = weights.gguf() else {
        return Err(fail("", "a folder of PEFT or a GGUF", "another file"));
    };
    let architecture = keys.find::<&str>("general.architecture")?.unwrap_or_default().to_owned();
    if architecture == "controlvector" {
        let modules = weights.names().map(|name| Module { name: name.to_owned(), ..Module::default() });
        let modules = modules.collect();
        return Ok(AdapterFile { weights, kind: AdapterKind::Control, modules });
    }
    let kind = keys.find::<&str>("general.type")?.unwrap_or("model");
    if kind != "adapter" {
        return Err(fail("general.type", "`adapter`", kind));
    }
    let kind = keys.find::<&str>("adapter.type")?.unwrap_or_default();
    if kind != "lora" {
        return Err(fail("adapter.type", "`lora`", kind));
    }
    let is_known = |key: &str| {
        ["adapter.type", "adapter.lora.alpha"].contains(&key)
            || WITHOUT_EFFECT.iter().any(|known| key.starts_with(known))
    };
    if let Some((key, _)) = keys.iter().find(|(key, _)| !is_known(key)) {
        return Err(fail(key, "no such key", "one that is not supported"));
    }
    let alpha = keys.find::<f32>("adapter.lora.alpha")?.unwrap_or(0.0);
    if !alpha.is_finite() {
        return Err(fail("adapter.lora.alpha", "a finite number", &alpha.to_string()));
    }
    let mut modules = Vec::new();
    for name in weights.names() {
        let (module, is_a) = match (name.strip_suffix(".weight.lora_a"), name.strip_suffix(".weight.lora_b"))
        {
            (Some(module), _) => (module, true),
            (None, Some(module)) => (module, false),
            (None, None) => {
                let expected = "`….weight.lora_a` or `….weight.lora_b`";
                return Err(error(path, name, expected, "a tensor that is not supported"));
            }
        };
        let module = AdapterFile::module(&mut modules, module);
        *(if is_a { &mut module.a } else { &mut module.b }) = Some(name.to_owned());
    }
    if let Some(module) = modules.iter().find(|module| module.a.is_none() || module.b.is_none()) {
        return Err(error(path, &module.name, "`lora_a` and `lora_b`", "one of them"));
    }
    Ok(AdapterFile { weights, kind: AdapterKind::Gguf { architecture, alpha }, modules })
}
