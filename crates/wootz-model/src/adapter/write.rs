//! Adapters as PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Where:  the end, and the checkpoints, of training low-rank changes.
//! Idea:   a change belongs to one of our weights; the name table of a Hugging Face folder says which module that is there, and
//!         whether its rows stand in another order.
//! Source: PEFT 0.21's files.

use std::path::Path;

use serde_json::json;
use wootz_graph::{Param, ParamSpec};
use wootz_kernels::{TensorType, cast};
use wootz_weights::{AtomicFile, TensorInfo, safetensors};

use crate::convert::{place_in_halves, place_in_pairs, reordered};
use crate::names::{Part, renamed};
use crate::{Error, Model, Result};

/// An adapter that was trained here.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAdapter {
    /// r
    pub rank: usize,
    /// α
    pub alpha: f64,
    /// The scale is α/√r
    pub use_rslora: bool,
    /// Chance with which an input of A was left out in training
    pub dropout: f64,
    /// What it was trained on, as others find it
    pub base_model: String,
    /// For each weight that changes
    pub changes: Vec<NewChange>,
}

/// The change of one weight (n, k).
#[derive(Debug, Clone, PartialEq)]
pub struct NewChange {
    /// Which
    pub param: Param,
    /// A (rank, k)
    pub a: Vec<f32>,
    /// B (n, rank)
    pub b: Vec<f32>,
    /// m (n), of DoRA
    pub magnitude: Option<Vec<f32>>,
}

/// A weight's module in a Hugging Face folder, and the part of it that the weight is.
struct Module {
    name: String,
    part: Part,
}

impl Model {
    /// What others call the module of a weight, `model.layers.0.self_attn.q_proj`; none if it is part of one that is fused.
    pub fn module_name(&self, param: Param) -> Option<String> {
        Some(self.module(self.network.params.spec(param)).ok()?.name)
    }

    fn module(&self, spec: &ParamSpec) -> Result<Module> {
        let refuse = |message: String| Err(Error::Unsupported(message));
        let names = self.hf_names()?;
        let rename = names.renames.first().copied().unwrap_or_default();
        let Some(place) = names.place(&spec.name) else {
            return refuse(format!("`{}` has no name in a folder of this architecture", spec.name));
        };
        let is_whole = match place.part {
            Part::Whole | Part::PairsFromHalves { .. } | Part::HalvesFromPairs { .. } => true,
            Part::Columns { start: 0, .. } => {
                names.places(&spec.name).count() == 1 && !self.is_fused(&place.file_name)
            }
            _ => false,
        };
        match (is_whole, renamed(&place.file_name, rename).strip_suffix(".weight")) {
            (true, Some(name)) => Ok(Module { name: name.to_owned(), part: place.part }),
            _ => refuse(format!(
                "`{}` is a part of `{}`, which PEFT changes as a whole",
                spec.name, place.file_name
            )),
        }
    }

    /// Whether several weights lie in one tensor of a folder.
    fn is_fused(&self, file_name: &str) -> bool {
        let Ok(names) = self.hf_names() else { return true };
        let is_there =
            |spec: &&ParamSpec| names.place(&spec.name).is_some_and(|place| place.file_name == file_name);
        self.network.params.specs().iter().filter(is_there).count() > 1
    }
}

/// Writes an adapter into `folder`, which is there. Each of the two files is whole or not there.
///
/// # Errors
/// A weight that is part of a fused module; what the file system says.
pub fn write_peft(model: &Model, adapter: &NewAdapter, folder: &Path) -> Result<()> {
    let use_dora = adapter.changes.iter().any(|change| change.magnitude.is_some());
    let mut tensors: Vec<(TensorInfo, Vec<f32>)> = Vec::new();
    let mut targets: Vec<String> = Vec::new();
    for change in &adapter.changes {
        let spec = model.network.params.spec(change.param);
        let Module { name, part } = model.module(spec)?;
        let [n, k] = [spec.shape[0], spec.shape[1]];
        let target = name.rsplit('.').next().unwrap_or(&name).to_owned();
        if !targets.contains(&target) {
            targets.push(target);
        }
        let mut add = |end: &str, shape: &[usize], numbers: Vec<f32>| {
            let name = format!("base_model.model.{name}.{end}");
            tensors.push((TensorInfo::new(name, shape.to_vec(), TensorType::F32), numbers));
        };
        add("lora_A.weight", &[adapter.rank, k], change.a.clone());
        add("lora_B.weight", &[n, adapter.rank], in_order(part, &change.b, n));
        if let Some(magnitude) = &change.magnitude {
            add("lora_magnitude_vector", &[n], in_order(part, magnitude, n));
        }
    }
    targets.sort();
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": adapter.base_model,
        "r": adapter.rank, "lora_alpha": adapter.alpha, "lora_dropout": adapter.dropout, "use_rslora": adapter.use_rslora,
        "use_dora": use_dora, "target_modules": targets, "bias": "none", "inference_mode": true,
        "fan_in_fan_out": false, "init_lora_weights": true, "modules_to_save": null,
    });
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let metadata = [("format".to_owned(), "pt".to_owned())];
    let path = folder.join("adapter_model.safetensors");
    let mut writer = safetensors::Writer::create(&path, &metadata, &infos)?;
    for (_, numbers) in &tensors {
        writer.write(cast::bytes_of(numbers))?;
    }
    writer.finish()?;
    let mut file = AtomicFile::create(&folder.join("adapter_config.json"))?;
    file.write(format!("{config:#}\n").as_bytes())?;
    Ok(file.commit()?)
}

/// Rows in the order in which a folder has them.
fn in_order(part: Part, rows: &[f32], n: usize) -> Vec<f32> {
    let turned = |n_heads, n_rot, order: fn(usize, usize) -> usize| {
        let bytes = reordered(cast::bytes_of(rows), n, n_heads, n_rot, order);
        cast::cast::<f32>(&bytes).map_or_else(
            || bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            <[f32]>::to_vec,
        )
    };
    match part {
        Part::PairsFromHalves { n_heads, n_rot } => turned(n_heads, n_rot, place_in_pairs),
        Part::HalvesFromPairs { n_heads, n_rot } => turned(n_heads, n_rot, place_in_halves),
        _ => rows.to_vec(),
    }
}
