//! PEFT's folders: which tensor belongs to which module.

use std::path::Path;

use wootz_weights::Weights;

use super::{AdapterFile, AdapterKind, LoraSettings, error};
use crate::{Error, Result};

/// Ends of tensor names, and what they are.
const ENDS: [&str; 8] = [
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_B.bias",
    ".lora_magnitude_vector",
    ".lora_magnitude_vector.weight",
    ".base_layer.weight",
    ".base_layer.bias",
    ".bias",
];

pub(super) fn open(folder: &Path) -> Result<AdapterFile> {
    let settings = LoraSettings::open(folder)?;
    let names = ["adapter_model.safetensors", "adapter_model.bin"];
    let file = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let file = file.ok_or_else(|| Error::Io {
        path: folder.join(names[0]),
        source: std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "neither it nor adapter_model.bin is there",
        ),
    })?;
    let weights = Weights::open(&file)?;
    let mut modules = Vec::new();
    for info in weights.infos() {
        let name = info.name.strip_prefix("base_model.model.").unwrap_or(&info.name);
        let end = ENDS.into_iter().find(|end| name.ends_with(end));
        let Some(end) = end else {
            let expected = "`lora_A`, `lora_B` or `lora_magnitude_vector` of a linear layer, or a bias";
            return Err(error(&file, &info.name, expected, "a tensor that is not supported"));
        };
        let module = AdapterFile::module(&mut modules, name.strip_suffix(end).unwrap_or(name));
        let place = match end {
            ".lora_A.weight" => &mut module.a,
            ".lora_B.weight" => &mut module.b,
            ".lora_B.bias" => &mut module.b_bias,
            ".base_layer.weight" => &mut module.own,
            ".base_layer.bias" | ".bias" => &mut module.bias,
            _ => &mut module.magnitude,
        };
        if place.replace(info.name.clone()).is_some() {
            return Err(error(&file, &info.name, "one tensor of each kind for a module", "two"));
        }
    }
    for module in &modules {
        let tensor = |tensor: &Option<String>| tensor.clone().unwrap_or_else(|| module.name.clone());
        match (&module.a, &module.b, &module.magnitude) {
            (Some(_), Some(_), Some(_)) if settings.use_dora => {}
            (Some(_), Some(_), None) if !settings.use_dora => {}
            (None, None, None) if module.b_bias.is_none() && settings.trains_biases() => {}
            (None, None, None) => {
                let (expected, name) = ("no bias where `bias` is `none`", tensor(&module.bias));
                return Err(error(&file, &name, expected, "one"));
            }
            (Some(_), Some(_), _) => {
                let expected =
                    format!("a `lora_magnitude_vector` only with `use_dora`, {}", settings.use_dora);
                return Err(error(&file, &tensor(&module.magnitude), &expected, "the opposite"));
            }
            (a, b, _) => {
                let there = tensor(if a.is_some() { a } else { b });
                return Err(error(&file, &there, "`lora_A` and `lora_B`", "one of them"));
            }
        }
        if module.b_bias.is_some() != (settings.lora_bias && module.b.is_some()) {
            let expected = format!("a bias of `lora_B` if `lora_bias` says so, {}", settings.lora_bias);
            return Err(error(&file, &tensor(&module.b_bias), &expected, "the opposite"));
        }
        if module.a.is_some() {
            settings.check_target(&module.name)?;
        }
    }
    Ok(AdapterFile { weights, kind: AdapterKind::Peft(Box::new(settings)), modules })
}
