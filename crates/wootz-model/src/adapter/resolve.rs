//! An adapter's modules laid over a model: which weights they are, which rows of B belong to each, and DoRA's gains.

use std::borrow::Cow;
use std::collections::HashMap;

use wootz_graph::{Addition, HostTensor, MAX_RANK, Param, ParamKind, ParamSpec, Site};
use wootz_kernels::{Isa, TensorType, dot};
use wootz_weights::TensorView;

use super::{AdapterFile, AdapterKind, Module};
use crate::gguf::GgufFamily;
use crate::load::cut;
use crate::names::{Names, Part, renamed};
use crate::{Error, Model, Result};

/// The weights that lie in one tensor of a model's file.
type Places<'m> = HashMap<String, Vec<(Param, &'m ParamSpec, Part)>>;

pub(super) fn additions(file: &AdapterFile, model: &Model, strength: f32) -> Result<Vec<Addition>> {
    let names = match file.kind() {
        AdapterKind::Control => return directions(file, model, strength),
        AdapterKind::Peft(settings) => {
            if settings.use_dora && strength != 1.0 {
                return Err(file.error("use_dora", "a strength of 1", &strength.to_string()));
            }
            model.hf_names()?
        }
        AdapterKind::Gguf { architecture, .. } => {
            let arch = model.network.config.arch;
            let family = GgufFamily::of_arch(arch)?;
            if family.name != architecture {
                let expected = format!("`{}`", family.name);
                return Err(file.error("general.architecture", &expected, &format!("`{architecture}`")));
            }
            match model.weights().gguf() {
                Some(_) => model.names().clone(),
                None => family.names_of(&model.network.config),
            }
        }
    };
    let places = places(model, &names);
    let mut additions = Vec::new();
    for module in &file.modules {
        let name = format!("{}.weight", module.name);
        let Some(weights) = places.get(&name) else {
            return Err(no_layer(file, module, model));
        };
        if let Some((_, spec, _)) = weights.iter().find(|(_, spec, _)| spec.kind != ParamKind::Matrix) {
            let got =
                format!("`{}`: adapters of experts, embeddings and latents are not supported", spec.name);
            return Err(file.error(&module.any(), "a linear layer", &got));
        }
        check_rows(file, module, weights)?;
        for (param, spec, part) in weights {
            additions.push(One { file, model, module, param: *param, spec, part: *part }.addition(strength)?);
        }
    }
    Ok(additions)
}

/// Weights by their tensors' names in files of this kind, renamed or not.
fn places<'m>(model: &'m Model, names: &Names) -> Places<'m> {
    let mut places = Places::new();
    for (param, spec) in model.network.params.iter().filter(|(_, spec)| spec.kind != ParamKind::Vector) {
        // Where a head is tied to the embedding, an adapter changes what the head makes of it.
        let is_tied = spec.name == "embed" && spec.kind == ParamKind::Matrix;
        for place in names.places(if is_tied { "head" } else { &spec.name }) {
            let mut all: Vec<String> =
                names.renames.iter().map(|rename| renamed(&place.file_name, *rename)).collect();
            all.push(place.file_name);
            all.sort_unstable();
            all.dedup();
            for file_name in all {
                places.entry(file_name).or_default().push((param, spec, place.part));
            }
        }
    }
    places
}

fn no_layer(file: &AdapterFile, module: &Module, model: &Model) -> Error {
    let expected = format!("a linear layer of this `{}`", model.network.config.arch);
    file.error(&module.any(), &expected, "a module that it does not have, or that is none")
}

impl Module {
    /// The name of one of its tensors.
    fn any(&self) -> String {
        let all = [&self.a, &self.b, &self.bias, &self.magnitude];
        all.into_iter().flatten().next().unwrap_or(&self.name).clone()
    }
}

/// Checks that the module's outputs are those of the weights together.
fn check_rows(file: &AdapterFile, module: &Module, weights: &[(Param, &ParamSpec, Part)]) -> Result<()> {
    let n_rows: usize = weights.iter().map(|(_, spec, _)| spec.shape[0]).sum();
    let k = weights[0].1.shape[1];
    let check = |tensor: &Option<String>, expected: &dyn Fn(&[usize]) -> bool, says: String| {
        let Some(info) = tensor.as_ref().and_then(|name| file.weights.info(name)) else { return Ok(()) };
        match expected(&info.shape) {
            true => Ok(()),
            false => Err(file.error(&info.name, &says, &format!("{:?}", info.shape))),
        }
    };
    let rank = file.weights.info(module.a.as_deref().unwrap_or_default()).map_or(0, |info| info.shape[0]);
    check(
        &module.a,
        &|shape| shape.len() == 2 && shape[1] == k && (1..=MAX_RANK).contains(&shape[0]),
        format!("[rank, {k}] with a rank of 1 to {MAX_RANK}"),
    )?;
    check(&module.own, &|shape| shape == [n_rows, k], format!("[{n_rows}, {k}]"))?;
    check(&module.b, &|shape| shape == [n_rows, rank], format!("[{n_rows}, {rank}]"))?;
    for vector in [&module.b_bias, &module.magnitude, &module.bias] {
        let is_it = |shape: &[usize]| shape.iter().product::<usize>() == n_rows;
        check(vector, &is_it, format!("[{n_rows}]"))?;
    }
    Ok(())
}

/// One weight of one module.
struct One<'a> {
    file: &'a AdapterFile,
    model: &'a Model,
    module: &'a Module,
    param: Param,
    spec: &'a ParamSpec,
    part: Part,
}

impl One<'_> {
    fn addition(&self, strength: f32) -> Result<Addition> {
        let [n, k] = [self.spec.shape[0], self.spec.shape[1]];
        let site = Site::Linear(self.param);
        let (rank, scale) = self.rank_and_scale()?;
        let none = || HostTensor { ty: TensorType::F32, bytes: Cow::Borrowed(&[]) };
        let (a, b) = match (&self.module.a, &self.module.b) {
            (Some(a), Some(b)) => (own(cut(self.tensor(a)?, Part::Whole)?), own(self.rows(self.tensor(b)?)?)),
            _ => (none(), none()),
        };
        let scale = scale * strength;
        self.check_own()?;
        let gain = match &self.module.magnitude {
            Some(magnitude) => Some(self.gain(&self.vector(magnitude)?, &a, &b, rank, scale)?),
            None => None,
        };
        let shift = self.shift(gain.as_deref(), scale, strength)?;
        let finite = |numbers: &Option<Vec<f32>>| numbers.iter().flatten().all(|x| x.is_finite());
        if !scale.is_finite() || !finite(&gain) || !finite(&shift) {
            return Err(self.file.error(&self.module.any(), "finite numbers", "others"));
        }
        Ok(Addition { site, shape: [n, k], rank, scale, a, b, gain, shift })
    }

    /// PEFT saves the weights of heads along; they must be the model's, not trained ones.
    fn check_own(&self) -> Result<()> {
        let Some(name) = &self.module.own else { return Ok(()) };
        let (own, model) = (to_f32(&self.rows(self.tensor(name)?)?), self.model.read(self.spec)?);
        // Rounding to 8 bits is allowed to either file, and a model may be quantized.
        let allowed = if model.ty.is_plain() { 0.01 } else { 0.15 };
        let model = to_f32(&model);
        let sum = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| f64::from(x.abs())).sum::<f64>();
        let off = sum(&mut own.iter().zip(&model).map(|(a, b)| a - b)) / sum(&mut model.iter().copied());
        match off <= allowed {
            true => Ok(()),
            false => Err(self.file.error(
                name,
                "the model's own weight",
                &format!("one that is {:.1} % off", 100.0 * off),
            )),
        }
    }

    /// The rank, as the file's settings and tensors both must say, and the scale.
    fn rank_and_scale(&self) -> Result<(usize, f32)> {
        let Some(a) = &self.module.a else { return Ok((0, 1.0)) };
        let rank = self.tensor(a)?.shape[0];
        match self.file.kind() {
            AdapterKind::Peft(settings) => {
                let (said, scale) = settings.rank_and_scale(&self.module.name);
                if said != rank {
                    return Err(self.file.error(a, &format!("rank {said}"), &rank.to_string()));
                }
                Ok((rank, scale as f32))
            }
            AdapterKind::Gguf { alpha, .. } => {
                Ok((rank, if *alpha == 0.0 { 1.0 } else { alpha / rank as f32 }))
            }
            AdapterKind::Control => unreachable!("it has no modules"),
        }
    }

    fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        Ok(self.file.weights.need(name)?)
    }

    /// Those rows of a module's output that are this weight's, in its order.
    fn rows<'t>(&self, tensor: TensorView<'t>) -> Result<HostTensor<'t>> {
        let name = tensor.name.to_owned();
        let part = match self.part {
            Part::Columns { start, len } => Part::Rows { groups: 1, start, len },
            Part::MadeTernary | Part::Ternary(_) => Part::Whole,
            part @ (Part::Whole
            | Part::Rows { .. }
            | Part::HalvesFromPairs { .. }
            | Part::PairsFromHalves { .. }) => part,
            Part::RowsTurned { .. } | Part::PlusOne | Part::NegExp => {
                return Err(self.file.error(
                    &name,
                    "a layer whose rows stand as they are used",
                    &self.spec.name,
                ));
            }
        };
        cut(tensor, part)
    }

    /// The same of a vector.
    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let shape = [tensor.n_elements()];
        let rows = self.rows(TensorView { shape: &shape, ..tensor })?;
        Ok(to_f32(&rows))
    }

    /// Magnitudes over the norms of the rows of `W + scale·B·A`.
    fn gain(
        &self,
        magnitude: &[f32],
        a: &HostTensor,
        b: &HostTensor,
        rank: usize,
        scale: f32,
    ) -> Result<Vec<f32>> {
        let (k, isa) = (self.spec.shape[1], Isa::detect());
        let (a, b, w) = (to_f32(a), to_f32(b), self.model.read(self.spec)?);
        let row_bytes = w.bytes.len() / self.spec.shape[0];
        let mut sum = vec![0.0; k];
        let mut gains = Vec::with_capacity(magnitude.len());
        for (i, magnitude) in magnitude.iter().enumerate() {
            wootz_kernels::dequantize(w.ty, &w.bytes[i * row_bytes..][..row_bytes], &mut sum);
            for (b, a) in b[i * rank..][..rank].iter().zip(a.chunks_exact(k)) {
                sum.iter_mut().zip(a).for_each(|(sum, a)| *sum += scale * b * a);
            }
            gains.push(magnitude / dot(isa, &sum, &sum).sqrt());
        }
        Ok(gains)
    }

    /// What is added last: `lora_B`'s bias, and the difference that gain and trained biases make to the model's own.
    fn shift(&self, gain: Option<&[f32]>, scale: f32, strength: f32) -> Result<Option<Vec<f32>>> {
        let own = self.own_bias()?;
        let trained = self.module.bias.as_ref().map(|name| self.vector(name)).transpose()?;
        let of_b = self.module.b_bias.as_ref().map(|name| self.vector(name)).transpose()?;
        if let (Some(_), None, Some(name)) = (&trained, &own, &self.module.bias) {
            return Err(self.file.error(name, "a layer that has a bias", &format!("`{}`", self.spec.name)));
        }
        if trained.is_none() && of_b.is_none() && (gain.is_none() || own.is_none()) {
            return Ok(None);
        }
        let at = |numbers: &Option<Vec<f32>>, i: usize| numbers.as_ref().map(|numbers| numbers[i]);
        let shift = |i: usize| {
            let own = at(&own, i).unwrap_or(0.0);
            let trained = at(&trained, i).map_or(0.0, |trained| strength * (trained - own));
            let gain = gain.map_or(1.0, |gain| gain[i]);
            trained + (1.0 - gain) * own + gain * scale * at(&of_b, i).unwrap_or(0.0)
        };
        Ok(Some((0..self.spec.shape[0]).map(shift).collect()))
    }

    /// The bias that the model itself has there.
    fn own_bias(&self) -> Result<Option<Vec<f32>>> {
        let Some(name) = bias_of(&self.spec.name) else { return Ok(None) };
        let params = &self.model.network.params;
        let spec = params.find(&name).map(|param| params.spec(param));
        spec.map(|spec| Ok(to_f32(&self.model.read(spec)?))).transpose()
    }
}

/// What the bias beside a matrix is called: `layers.7.bq` for `layers.7.wq`.
pub(super) fn bias_of(name: &str) -> Option<String> {
    let (prefix, last) = name.rsplit_once('.').map_or(("", name), |(prefix, last)| (prefix, last));
    let last = match last.strip_prefix('w') {
        Some(rest) => format!("b{rest}"),
        None if last == "head" => "head_b".to_owned(),
        None => return None,
    };
    Some(if prefix.is_empty() { last } else { format!("{prefix}.{last}") })
}

fn own(tensor: HostTensor<'_>) -> HostTensor<'static> {
    HostTensor { ty: tensor.ty, bytes: tensor.bytes.into_owned().into() }
}

pub(super) fn to_f32(tensor: &HostTensor) -> Vec<f32> {
    let n_blocks = tensor.bytes.len() / tensor.ty.block_bytes();
    let mut numbers = vec![0.0; n_blocks * tensor.ty.block_len()];
    wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
    numbers
}

/// A control vector: `direction.N` is added behind layer N, counted from 0.
fn directions(file: &AdapterFile, model: &Model, strength: f32) -> Result<Vec<Addition>> {
    let config = &model.network.config;
    let one = |module: &Module| {
        let layer = module.name.strip_prefix("direction.").and_then(|layer| layer.parse::<usize>().ok());
        let layer = layer.filter(|layer| (1..config.layers.len()).contains(layer));
        let layer = layer.ok_or_else(|| {
            let expected = format!("`direction.1` to `direction.{}`", config.layers.len().saturating_sub(1));
            file.error(&module.name, &expected, "another")
        })?;
        let tensor = file.weights.need(&module.name)?;
        if tensor.n_elements() != config.d_model {
            let got = format!("{:?}", tensor.shape);
            return Err(file.error(&module.name, &format!("[{}]", config.d_model), &got));
        }
        let shift = tensor.to_f32().into_iter().map(|x| strength * x).collect();
        Ok(Addition::shift(Site::Residual(layer), shift))
    };
    file.modules.iter().map(one).collect()
}
