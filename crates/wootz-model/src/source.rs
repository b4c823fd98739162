//! What a GGUF keeps to become the same folder again: types, shapes, and numbers that its own form has lost.
//!
//! Where:  written and read by [`convert`](crate::convert()).
//! Idea:   a GGUF holds vectors in f32 and some of them transformed (Gemma's plus one, Mamba's exponential). The key
//!         `wootz.source.tensors` says type and shape of each tensor of the folder, and `wootz.source.tensor.NAME` holds
//!         the bytes of those, and only those, that cannot be computed back exactly.

use serde_json::{Map, Value as Json, json};
use wootz_graph::{HostTensor, ParamKind, ParamSpec};
use wootz_kernels::TensorType;
use wootz_weights::TensorInfo;
use wootz_weights::gguf::{Array, Value};

use crate::convert::{back, is_always_f32};
use crate::gguf::KeyWriter;
use crate::load::{Model, cut};
use crate::names::{Names, Part, Place, renamed};
use crate::{Error, Result};

const TENSORS: &str = "wootz.source.tensors";

/// Describes the folder's tensors in the metadata of a GGUF that is made from it.
pub(crate) fn write(model: &Model, out: &mut KeyWriter) -> Result<()> {
    let mut tensors = Map::new();
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    for spec in model.network.params.specs() {
        let place = model.place(spec)?;
        let n_files = if place.file_name.contains("{e}") { spec.shape[0] } else { 1 };
        for expert in 0..n_files {
            let name = place.file_name.replace("{e}", &expert.to_string());
            let Some(tensor) = model.weights().get(&name) else { continue };
            let is_lost = match place.part {
                Part::Rows { groups: 1, .. } => {
                    spec.name == "positions" && tensor.n_elements() != spec.n_elements()
                }
                Part::PlusOne | Part::NegExp => {
                    let there: HostTensor = cut(tensor, place.part)?;
                    let info = TensorInfo::new(name.clone(), tensor.shape, tensor.ty);
                    back(&there, spec, place.part, &info)? != tensor.bytes
                }
                _ => false,
            };
            if is_lost {
                kept.push((name.clone(), tensor.bytes.to_vec()));
            }
            let described = json!({"dtype": tensor.ty.to_string(), "shape": tensor.shape});
            tensors.insert(name, described);
        }
    }
    out.general(TENSORS, Value::Str(Json::from(tensors).to_string().into()));
    for (name, bytes) in kept {
        out.general(&kept_key(&name), Value::Array(Array::u8s(bytes)));
    }
    Ok(())
}

/// What a GGUF says about the folder that it was made from.
pub(crate) struct Source<'a> {
    model: &'a Model,
    tensors: Map<String, Json>,
}

impl<'a> Source<'a> {
    /// Of any model; what is no GGUF of ours says nothing.
    pub(crate) fn of(model: &'a Model) -> Result<Self> {
        let text = match model.weights().gguf() {
            Some(gguf) => gguf.find::<&str>(TENSORS)?,
            None => None,
        };
        let tensors = text.map(serde_json::from_str).transpose().map_err(|error| Error::Config {
            file: model.weights().path().display().to_string(),
            key: TENSORS.to_owned(),
            expected: "a JSON object".to_owned(),
            got: error.to_string(),
        })?;
        Ok(Self { model, tensors: tensors.unwrap_or_default() })
    }

    /// Where a folder had a weight: under that of the possible names that it used.
    pub(crate) fn place(&self, names: &Names, spec: &ParamSpec) -> Option<Place> {
        if self.model.weights().gguf().is_none() {
            return self.model.place(spec).ok();
        }
        let was_there = |place: &Place| self.tensors.contains_key(&place.file_name.replace("{e}", "0"));
        let under = |place: Place| {
            let rename =
                move |to: &(&str, &str)| Place { file_name: renamed(&place.file_name, *to), ..place };
            names.renames.iter().map(rename).collect::<Vec<_>>()
        };
        names.places(&spec.name).flat_map(under).find(was_there).or_else(|| names.place(&spec.name))
    }

    /// Type and shape that a tensor had, where the GGUF still holds as many numbers. With a type asked for, its shape.
    pub(crate) fn describe(&self, dtype: Option<TensorType>, spec: &ParamSpec, info: &mut TensorInfo) {
        let Some((ty, shape)) = self.described(&info.name) else { return };
        let n = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        let is_kept = dtype.is_none() && self.has_bytes(&info.name);
        if n(&shape) == n(&info.shape) || is_kept {
            info.shape = shape;
        }
        let was_widened = || {
            let name = self.model.place(spec).map(|place| place.file_name).unwrap_or_default();
            info.ty == TensorType::F32 && is_always_f32(&name, spec.kind)
        };
        if dtype.is_none() && (is_kept || was_widened()) {
            info.ty = ty;
        }
    }

    /// The bytes of a tensor that the GGUF keeps as they were.
    ///
    /// # Errors
    /// Bytes that are not as many as type and shape say.
    pub(crate) fn bytes(&self, info: &TensorInfo) -> Result<Option<Vec<u8>>> {
        if self.described(&info.name) != Some((info.ty, info.shape.clone())) || !self.has_bytes(&info.name) {
            return Ok(None);
        }
        let key = kept_key(&info.name);
        let array = self.model.weights().gguf().and_then(|gguf| gguf.get(&key));
        let byte = |item: Value| u8::try_from(item.as_integer()?).ok();
        let bytes: Option<Vec<u8>> = match &array {
            Some(Value::Array(array)) if Some(array.len()) == info.n_bytes() => {
                array.items().map(byte).collect()
            }
            _ => None,
        };
        bytes.map(Some).ok_or_else(|| Error::Config {
            file: self.model.weights().path().display().to_string(),
            key,
            expected: format!("{} bytes", info.n_bytes().unwrap_or(0)),
            got: "another value".to_owned(),
        })
    }

    /// The type of a GGUF's matrices, if no tensor of the folder had it.
    pub(crate) fn changed_dtype(&self) -> Option<TensorType> {
        let specs = self.model.network.params.specs();
        let now = self.model.stored(specs.iter().find(|spec| spec.kind == ParamKind::Matrix)?).ok()?.ty;
        let is_source = self.tensors.values().any(|tensor| tensor["dtype"] == now.to_string());
        (now.is_plain() && !self.tensors.is_empty() && !is_source).then_some(now)
    }

    fn described(&self, name: &str) -> Option<(TensorType, Vec<usize>)> {
        let tensor = self.tensors.get(name)?;
        let ty = TensorType::from_name(tensor["dtype"].as_str()?).filter(|ty| ty.is_plain())?;
        let size = |size: &Json| usize::try_from(size.as_u64()?).ok();
        Some((ty, tensor["shape"].as_array()?.iter().map(size).collect::<Option<_>>()?))
    }

    fn has_bytes(&self, name: &str) -> bool {
        self.model.weights().gguf().is_some_and(|gguf| gguf.get(&kept_key(name)).is_some())
    }
}

fn kept_key(name: &str) -> String {
    format!("wootz.source.tensor.{name}")
}
