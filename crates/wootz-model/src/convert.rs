//! From one format of a model to another: Hugging Face folder or GGUF, with or without another dtype.
//!
//! Where:  `wootz convert`; quantization and merging write through the same tables.
//! Idea:   a target is a list of tensors, each made of weights by the target's own name table read backwards. One tensor
//!         is in memory at a time, and the target has its name only when it is whole.

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use wootz_graph::{HostTensor, ParamKind, ParamSpec};
use wootz_kernels::{TensorType, cast};
use wootz_weights::gguf::{self, Value};
use wootz_weights::{TensorInfo, safetensors};

use crate::config::{Config, Mixer};
use crate::folder::NewFolder;
use crate::gguf::{GgufFamily, KeyWriter, write_tokenizer};
use crate::load::Model;
use crate::names::{Names, Part, Place};
use crate::source::{self, Source};
use crate::{Error, Result};

/// Data of one safetensors file at most.
const MAX_FILE_BYTES: usize = 5_000_000_000;

/// What to change on the way.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// F32, F16 or BF16 for the matrices; `None` keeps what is there. A GGUF's vectors are always F32.
    pub dtype: Option<TensorType>,
    /// Overwrite what is there.
    pub force: bool,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes written.
    pub bytes_done: usize,
    /// Bytes to write.
    pub bytes_total: usize,
}

/// Writes `model` to `target`: a GGUF if the name ends in `.gguf`, else a Hugging Face folder.
///
/// # Errors
/// [`Error::Exists`] without `force`; [`Error::NoGguf`] if GGUF cannot name the architecture; anything that a file
/// system or a broken source says. Nothing half-written stays under the target's name.
pub fn convert(
    model: &Model,
    target: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    if target.exists() && !options.force {
        return Err(Error::Exists(target.to_owned()));
    }
    // The source's configuration goes along, and would say of plain numbers that they are quantized.
    if let Some(hf) = model.hf().filter(|hf| hf.get("quantization_config").is_some()) {
        let message = format!("{}: `quantization_config`: quantized weights are not converted", hf.file());
        return Err(Error::Unsupported(message));
    }
    if target.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
        to_gguf(model, target, options, progress)
    } else {
        to_folder(model, target, options, progress)
    }
}

fn to_gguf(
    model: &Model,
    target: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let config = &model.network.config;
    let (pairs, extra, names) = match model.weights().gguf() {
        Some(source) => {
            let own = |(key, value): (&str, Value<'_>)| (key.to_owned(), value.into_owned());
            let pairs: Vec<(String, Value<'static>)> = source.iter().map(own).collect();
            (pairs, model.extra_tensors(), model.names().clone())
        }
        None => {
            let family = GgufFamily::of_arch(config.arch)?;
            let mut out = metadata(model, family)?;
            source::write(model, &mut out)?;
            (out.pairs, out.tensors, family.names_of(config))
        }
    };
    let plan = plan(model, &names, options.dtype, None)?;
    let mut infos: Vec<TensorInfo> = plan.iter().map(|tensor| tensor.info.clone()).collect();
    infos.extend(extra.iter().map(|(info, _)| info.clone()));
    let mut pairs = pairs;
    set_file_type(&mut pairs, &infos);
    let mut writer = gguf::Writer::create(target, &pairs, &infos)?;
    let total = total_bytes(&infos);
    let mut done = 0;
    for tensor in &plan {
        let bytes = tensor.make(model)?;
        writer.write(&bytes)?;
        done += bytes.len();
        progress(Progress { bytes_done: done, bytes_total: total });
    }
    for (_, tensor) in &extra {
        writer.write(&tensor.bytes)?;
    }
    Ok(writer.finish()?)
}

/// Everything that a GGUF says beside its tensors.
fn metadata(model: &Model, family: &GgufFamily) -> Result<KeyWriter> {
    let hf = model.hf().ok_or_else(|| Error::Unsupported("the source has no config.json".to_owned()))?;
    let mut out = family.metadata(&model.network.config, hf)?;
    out.general("general.type", Value::from("model"));
    if let Some(name) = model.weights().path().file_name() {
        out.general("general.name", Value::Str(name.to_string_lossy().into_owned().into()));
    }
    let words = crate::Words::of(model)?;
    if let Some(tokenizer) = &words.tokenizer {
        let vocab = tokenizer.to_vocab(model.network.config.vocab_size);
        let vocab =
            vocab.map_err(|error| Error::NoGguf(format!("the tokenizer cannot become a GGUF's: {error}")))?;
        let template = words.template.as_ref().and_then(|template| template.source("default"));
        write_tokenizer(&vocab, template, &mut out);
    } else {
        out.general("tokenizer.ggml.model", Value::from("no_vocab"));
    }
    for (name, text) in model.source_files() {
        out.general(&format!("wootz.source.{name}"), Value::Str(text.into()));
    }
    Ok(out)
}

/// `general.file_type`, which llama.cpp shows: the type of most bytes.
fn set_file_type(pairs: &mut Vec<(String, Value<'static>)>, infos: &[TensorInfo]) {
    let mut bytes: HashMap<TensorType, usize> = HashMap::new();
    for info in infos {
        *bytes.entry(info.ty).or_default() += info.n_bytes().unwrap_or(0);
    }
    let most = bytes.into_iter().max_by_key(|(ty, bytes)| (*bytes, *ty)).map(|(ty, _)| ty);
    // llama.cpp's `llama_ftype` for files that are all of one plain type.
    let file_type = match most {
        Some(TensorType::F32) => 0,
        Some(TensorType::F16) => 1,
        Some(TensorType::BF16) => 32,
        _ => return,
    };
    pairs.retain(|(key, _)| key != "general.file_type");
    pairs.push(("general.file_type".to_owned(), Value::U32(file_type)));
}

fn to_folder(
    model: &Model,
    target: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let files = model.folder_files()?;
    let names = model.hf_names()?;
    let source = Source::of(model)?;
    let plan = plan(model, &names, options.dtype, Some(&source))?;
    let infos: Vec<TensorInfo> = plan.iter().map(|tensor| tensor.info.clone()).collect();
    let metadata = [("format".to_owned(), "pt".to_owned())];
    let folder = NewFolder::beside(target)?;
    let mut writer = safetensors::FolderWriter::create(&folder.path, &metadata, &infos, MAX_FILE_BYTES)?;
    let total = total_bytes(&infos);
    let mut done = 0;
    for tensor in &plan {
        let bytes = match source.bytes(&tensor.info)? {
            Some(bytes) => bytes,
            None => tensor.make(model)?,
        };
        writer.write(&bytes)?;
        done += bytes.len();
        progress(Progress { bytes_done: done, bytes_total: total });
    }
    writer.finish()?;
    let dtype = options.dtype.or_else(|| source.changed_dtype());
    for (name, text) in files {
        let text = match dtype {
            Some(dtype) if name == "config.json" => with_dtype(&text, dtype),
            _ => text,
        };
        let path = folder.path.join(&name);
        std::fs::write(&path, text).map_err(|source| Error::Io { path, source })?;
    }
    folder.finish(target)
}

/// `config.json` with another `dtype` (or `torch_dtype`, where it is called so).
fn with_dtype(config: &str, dtype: TensorType) -> String {
    let Ok(serde_json::Value::Object(mut map)) = serde_json::from_str(config) else {
        return config.to_owned();
    };
    let name = match dtype {
        TensorType::F16 => "float16",
        TensorType::BF16 => "bfloat16",
        _ => "float32",
    };
    let key = if map.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    map.insert(key.to_owned(), name.into());
    serde_json::to_string_pretty(&map).unwrap_or_else(|_| config.to_owned())
}

fn total_bytes(infos: &[TensorInfo]) -> usize {
    infos.iter().filter_map(TensorInfo::n_bytes).sum()
}

/// One tensor of the target and the weights that it is made of.
struct Target {
    info: TensorInfo,
    /// Weight, its part of this tensor, and which expert of it, if each has a tensor of its own.
    made_of: Vec<(ParamSpec, Part, Option<usize>)>,
}

/// The target's tensors, in the order of the weights; of a folder if there is a source to describe it, else of a GGUF.
fn plan(
    model: &Model,
    names: &Names,
    dtype: Option<TensorType>,
    source: Option<&Source>,
) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for spec in model.network.params.specs() {
        let place = match source {
            Some(source) => source.place(names, spec),
            None => names.place(&spec.name),
        };
        let Some(Place { file_name, part }) = place else {
            return Err(Error::Unsupported(format!("the target format has no name for `{}`", spec.name)));
        };
        let is_split = file_name.contains("{e}");
        let experts: Vec<Option<usize>> =
            if is_split { (0..spec.shape[0]).map(Some).collect() } else { vec![None] };
        for expert in experts {
            let name = match expert {
                Some(expert) => file_name.replace("{e}", &expert.to_string()),
                None => file_name.clone(),
            };
            let made_of = (spec.clone(), part, expert);
            match places.get(&name) {
                Some(&at) => targets[at].made_of.push(made_of),
                None => {
                    places.insert(name.clone(), targets.len());
                    let info = TensorInfo::new(name, Vec::new(), TensorType::F32);
                    targets.push(Target { info, made_of: vec![made_of] });
                }
            }
        }
    }
    for target in &mut targets {
        target.describe(model, dtype, source.is_none())?;
        if let Some(source) = source {
            source.describe(dtype, &target.made_of[0].0, &mut target.info);
        }
    }
    Ok(targets)
}

impl Target {
    /// Shape and type of the tensor.
    fn describe(&mut self, model: &Model, dtype: Option<TensorType>, is_gguf: bool) -> Result<()> {
        let (first, part, expert) = &self.made_of[0];
        let mut shape = first.shape.clone();
        if expert.is_some() {
            shape.remove(0);
        }
        match part {
            Part::Rows { .. } => {
                let covered: usize = self.made_of.iter().map(|(_, part, _)| n_rows(*part)).sum();
                // RoBERTa's positions begin behind rows that no weight has.
                shape[0] =
                    self.made_of.iter().map(|(_, part, _)| end_of(*part)).max().unwrap_or(0).max(covered);
            }
            Part::RowsTurned { groups, len, .. } => {
                let width = shape[1];
                let rows: usize = self.made_of.iter().map(|(_, part, _)| n_rows(*part)).sum();
                debug_assert_eq!(shape, [*groups, width, *len]);
                shape = vec![rows, width];
            }
            Part::Columns { .. } => {
                let columns: usize = self
                    .made_of
                    .iter()
                    .map(|(_, part, _)| if let Part::Columns { len, .. } = part { *len } else { 0 })
                    .sum();
                shape = vec![shape[1], columns];
            }
            _ => {}
        }
        let source = model.stored_type(first)?;
        self.info.ty = match (is_gguf && is_always_f32(&self.info.name, first.kind), dtype) {
            (true, _) => TensorType::F32,
            (false, Some(dtype)) => dtype,
            (false, None) => source,
        };
        if is_gguf {
            shape = gguf_shape(&self.info.name, shape, &model.network.config);
        }
        self.info.shape = model.stored_shape(&self.info.name, shape);
        Ok(())
    }

    /// The tensor's bytes.
    fn make(&self, model: &Model) -> Result<Vec<u8>> {
        if let [(spec, part, expert)] = &self.made_of[..]
            && !matches!(part, Part::Rows { .. } | Part::RowsTurned { .. } | Part::Columns { .. })
        {
            let tensor = one_expert(model.read(spec)?, spec, *expert);
            return back(&tensor, spec, *part, &self.info);
        }
        let row = row_bytes(&self.info);
        let mut out = match model.weights().get(&self.info.name) {
            // Rows that no weight has stay as they were.
            Some(tensor) if tensor.shape == self.info.shape && tensor.ty.is_plain() => {
                retyped(&HostTensor { ty: tensor.ty, bytes: tensor.bytes.into() }, &self.info)?
            }
            _ => vec![0; self.info.n_bytes().unwrap_or(0)],
        };
        for (spec, part, expert) in &self.made_of {
            let tensor = one_expert(model.read(spec)?, spec, *expert);
            paste(&tensor, spec, *part, &self.info, row, &mut out)?;
        }
        Ok(out)
    }
}

/// Whether a GGUF has a tensor in f32 whatever the others are: ggml adds and multiplies these in f32 only.
pub(crate) fn is_always_f32(name: &str, kind: ParamKind) -> bool {
    const TABLES: [&str; 4] =
        ["position_embd.weight", "token_types.weight", "ffn_gate_inp.weight", "ssm_conv1d.weight"];
    kind == ParamKind::Vector || TABLES.iter().any(|table| name.ends_with(table))
}

/// The shape that llama.cpp expects: Mamba-2's numbers a head are columns, its norm has a row a group.
fn gguf_shape(name: &str, shape: Vec<usize>, config: &Config) -> Vec<usize> {
    let n_groups = config.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Mamba2(mamba) => Some(mamba.n_groups),
        _ => None,
    });
    match (n_groups, &shape[..]) {
        (Some(_), &[n]) if name.ends_with(".ssm_a") || name.ends_with(".ssm_d") => vec![n, 1],
        (Some(n_groups), &[n]) if name.ends_with(".ssm_norm.weight") => vec![n_groups, n / n_groups],
        _ => shape,
    }
}

fn n_rows(part: Part) -> usize {
    match part {
        Part::Rows { groups, len, .. } | Part::RowsTurned { groups, len, .. } => groups * len,
        _ => 0,
    }
}

/// The row behind the last of a part that is not grouped.
fn end_of(part: Part) -> usize {
    match part {
        Part::Rows { groups: 1, start, len } => start + len,
        _ => 0,
    }
}

/// Bytes of one step in the first dimension.
fn row_bytes(info: &TensorInfo) -> usize {
    info.n_bytes().unwrap_or(0) / info.shape.first().copied().unwrap_or(1).max(1)
}

fn one_expert<'a>(tensor: HostTensor<'a>, spec: &ParamSpec, expert: Option<usize>) -> HostTensor<'a> {
    let Some(expert) = expert else { return tensor };
    let each = tensor.bytes.len() / spec.shape[0].max(1);
    HostTensor { ty: tensor.ty, bytes: tensor.bytes[expert * each..][..each].to_vec().into() }
}

/// A weight as a tensor of its own: the part undone, the type changed.
pub(crate) fn back(tensor: &HostTensor, spec: &ParamSpec, part: Part, info: &TensorInfo) -> Result<Vec<u8>> {
    let undo: Option<fn(f32) -> f32> = match part {
        Part::PlusOne => Some(|x| x - 1.0),
        Part::NegExp => Some(|x| (-x).ln()),
        _ => None,
    };
    let bytes = match undo {
        Some(undo) => {
            let numbers: Vec<f32> = numbers(tensor, spec.n_elements()).into_iter().map(undo).collect();
            encode(&numbers, info)?
        }
        None => retyped(tensor, info)?,
    };
    Ok(match part {
        Part::HalvesFromPairs { n_heads, n_rot } => {
            reordered(&bytes, spec.shape[0], n_heads, n_rot, place_in_halves)
        }
        Part::PairsFromHalves { n_heads, n_rot } => {
            reordered(&bytes, spec.shape[0], n_heads, n_rot, place_in_pairs)
        }
        _ => bytes,
    })
}

/// Puts a weight into its part of a fused tensor.
fn paste(
    tensor: &HostTensor,
    spec: &ParamSpec,
    part: Part,
    info: &TensorInfo,
    row: usize,
    out: &mut [u8],
) -> Result<()> {
    match part {
        Part::Rows { groups, start, len } => {
            let bytes = retyped(tensor, info)?;
            let per_group = out.len() / row / groups;
            for (group, bytes) in bytes.chunks_exact(len * row).enumerate() {
                out[(group * per_group + start) * row..][..len * row].copy_from_slice(bytes);
            }
        }
        Part::RowsTurned { groups, start, len } => {
            let numbers = numbers(tensor, spec.n_elements());
            let width = info.shape[1];
            let per_group = info.shape[0] / groups;
            for group in 0..groups {
                for at in 0..len {
                    let one: Vec<f32> = (0..width).map(|c| numbers[(group * width + c) * len + at]).collect();
                    let bytes = encode(&one, info)?;
                    out[(group * per_group + start + at) * row..][..row].copy_from_slice(&bytes);
                }
            }
        }
        Part::Columns { start, len } => {
            let numbers = numbers(tensor, spec.n_elements());
            let (n_rows, number) = (info.shape[0], info.ty.block_bytes());
            for at in 0..n_rows {
                let one: Vec<f32> = (0..len).map(|column| numbers[column * n_rows + at]).collect();
                let bytes = encode(&one, info)?;
                out[at * row + start * number..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
        _ => {
            return Err(Error::Unsupported(format!("`{}` cannot be a part of `{}`", spec.name, info.name)));
        }
    }
    Ok(())
}

/// A tensor's bytes in the target's type.
fn retyped(tensor: &HostTensor, info: &TensorInfo) -> Result<Vec<u8>> {
    if tensor.ty == info.ty {
        return Ok(tensor.bytes.to_vec());
    }
    let n = tensor.bytes.len() / tensor.ty.block_bytes() * tensor.ty.block_len();
    encode(&numbers(tensor, n), info)
}

fn numbers(tensor: &HostTensor, n: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; n];
    wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
    numbers
}

fn encode(numbers: &[f32], info: &TensorInfo) -> Result<Vec<u8>> {
    Ok(match info.ty {
        TensorType::F32 => cast::bytes_of(numbers).to_vec(),
        TensorType::F16 => {
            let numbers: Vec<f16> = numbers.iter().map(|&x| f16::from_f32(x)).collect();
            cast::bytes_of(&numbers).to_vec()
        }
        TensorType::BF16 => {
            let numbers: Vec<bf16> = numbers.iter().map(|&x| bf16::from_f32(x)).collect();
            cast::bytes_of(&numbers).to_vec()
        }
        other => {
            return Err(Error::Unsupported(format!(
                "`{}` would have to be quantized to {other} again",
                info.name
            )));
        }
    })
}

/// Of each head's rows the first `n_rot` change places: row `i` becomes what was row `order(i, n_rot)`.
pub(crate) fn reordered(
    bytes: &[u8],
    n_rows: usize,
    n_heads: usize,
    n_rot: usize,
    order: fn(usize, usize) -> usize,
) -> Vec<u8> {
    let (row, head) = (bytes.len() / n_rows, bytes.len() / n_heads);
    let mut out = bytes.to_vec();
    for (bytes, out) in bytes.chunks_exact(head).zip(out.chunks_exact_mut(head)) {
        for i in 0..n_rot {
            out[i * row..][..row].copy_from_slice(&bytes[order(i, n_rot) * row..][..row]);
        }
    }
    out
}

/// Where the number at place `i` of pairs stands in halves.
pub(crate) fn place_in_halves(i: usize, n: usize) -> usize {
    (i % 2) * (n / 2) + i / 2
}

/// Where the number at place `i` of halves stands in pairs.
pub(crate) fn place_in_pairs(i: usize, n: usize) -> usize {
    2 * (i % (n / 2)) + i / (n / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_halves_undo_each_other() {
        let halves: Vec<u8> = (0..24).collect(); // two heads of 6 rows of 2 bytes, 4 rows rotated
        let pairs = reordered(&halves, 12, 2, 4, place_in_halves);
        assert_eq!(pairs[..12], [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]);
        assert_eq!(reordered(&pairs, 12, 2, 4, place_in_pairs), halves);
    }
}
