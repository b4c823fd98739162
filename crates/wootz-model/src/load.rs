//! Opening a model: configuration, declared weights, and where their numbers are.
//!
//! Where:  what the command line and the engine start from.
//! Idea:   nothing is read when a model is opened but headers; [`Model::source`] hands a device the bytes of one
//!         weight at a time, borrowed from the mapped file wherever they lie there as they are wanted.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use wootz_graph::{Addition, Device, HostTensor, ParamSpec, RopeStyle, Weights as DeviceWeights};
use wootz_kernels::{TensorType, cast};
use wootz_weights::{TensorInfo, TensorView, Weights};

use crate::adapter::Merged;
use crate::config::{Config, Head};
use crate::convert::{place_in_halves, place_in_pairs, reordered};
use crate::gguf::{GgufFamily, Keys, rotation};
use crate::hf::Hf;
use crate::names::{Names, Part, Place, renamed};
use crate::network::Network;
use crate::{Error, Result, arch, quantization, ternary};

/// An opened model.
#[derive(Debug)]
pub struct Model {
    /// Configuration and declared weights.
    pub network: Arc<Network>,
    weights: Weights,
    names: Names,
    rename: (&'static str, &'static str),
    hf: Option<Hf>,
    merged: Merged,
    given: Given,
    /// Files beside the weights that no folder holds: of a model that was not opened but made.
    files: Vec<(String, String)>,
}

/// Gives a weight's numbers in place of the files', or none.
pub type GiveNumbers = dyn Fn(&ParamSpec) -> Option<Vec<f32>> + Send + Sync;

/// Numbers that stand in no file yet.
#[derive(Default)]
struct Given(Option<Box<GiveNumbers>>);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "given" } else { "none" })
    }
}

impl Model {
    /// Opens a GGUF file or a Hugging Face folder.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.json").is_file() {
            let weights = Weights::open(path)?;
            if weights.gguf().is_some() {
                return Self::of_gguf(weights);
            }
        }
        let hf = Hf::open(path)?;
        let arch = arch::of_hf(&hf)?;
        let config = (arch.from_hf)(&hf)?;
        let mut names = (arch.hf_names)(&config);
        if let Some(part) = quantization::matrices(&hf)? {
            names = names.with_matrices(part);
        }
        Self::assemble(config, names, Weights::open(path)?, Some(hf))
    }

    /// Opens a GGUF that is in memory; `name` stands for it in errors.
    pub fn open_bytes(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::of_gguf(Weights::from_bytes(name, bytes)?)
    }

    /// Opens a Hugging Face folder without its head, for what is made of a model's rows.
    pub fn open_body(path: &Path) -> Result<Self> {
        let hf = Hf::open(path)?;
        let arch = arch::of_hf(&hf)?;
        let config = Config { head: Head::None, ..(arch.from_hf)(&hf)? };
        let names = (arch.hf_names)(&config);
        Self::assemble(config, names, Weights::open(path)?, Some(hf))
    }

    fn of_gguf(weights: Weights) -> Result<Self> {
        let (config, names, hf) = {
            let keys = Keys::of(&weights)?
                .ok_or_else(|| Error::Unsupported(format!("{} is no GGUF", weights.path().display())))?;
            let family = GgufFamily::of_keys(&keys)?;
            let (config, hf) = family.config(&keys)?;
            let names = family.names_in(&keys, &config);
            (config, names, Some(hf))
        };
        let model = Self::assemble(config, names, weights, hf)?;
        model.check_unused()?;
        Ok(model)
    }

    /// Refuses tensors of a GGUF that nothing here would read: without them another model would be computed.
    fn check_unused(&self) -> Result<()> {
        let used = self.used_names();
        let n_layers = self.network.config.layers.len();
        let is_known = |name: &str| {
            let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
            name.starts_with("rope_f")
                || name.starts_with("cls")
                || name.ends_with(".attn_rot_embd")
                || layer.is_some_and(|layer: usize| layer >= n_layers) // layers that predict further tokens
        };
        match self.weights.iter().find(|tensor| !used.contains(tensor.name) && !is_known(tensor.name)) {
            None => Ok(()),
            Some(tensor) => Err(Error::Tensor {
                name: tensor.name.to_owned(),
                expected: format!("a weight of `{}` as the metadata describes it", self.network.config.arch),
                got: format!("{:?} that none of them is", tensor.shape),
            }),
        }
    }

    /// Names of the tensors that weights are read from.
    fn used_names(&self) -> HashSet<String> {
        let name = |spec: &ParamSpec| Some(self.place(spec).ok()?.file_name);
        self.network.params.specs().iter().filter_map(name).collect()
    }

    fn assemble(config: Config, names: Names, weights: Weights, hf: Option<Hf>) -> Result<Self> {
        let network = Arc::new(Network::declare(config));
        let embed: Vec<Place> = names.places("embed").collect();
        let fits = |rename: &&(&'static str, &'static str)| {
            embed.iter().any(|place| weights.info(&renamed(&place.file_name, **rename)).is_some())
        };
        let rename = names.renames.iter().find(fits).copied().unwrap_or_default();
        let (merged, given, files) = (Merged::default(), Given::default(), Vec::new());
        let model = Self { network, weights, names, rename, hf, merged, given, files };
        for spec in model.network.params.specs() {
            model.check(spec)?;
        }
        Ok(model)
    }

    /// A model that is in no file yet: `config.json`, what else its folder will hold (tokenizer, template), and the numbers of
    /// every weight.
    ///
    /// # Errors
    /// A configuration of an unknown or broken architecture.
    pub fn made(config: &str, files: Vec<(String, String)>, numbers: Box<GiveNumbers>) -> Result<Self> {
        const NO_TENSORS: &[u8] = b"\x08\0\0\0\0\0\0\0{}      ";
        let hf = Hf::parse("config.json", config.as_bytes())?;
        let arch = arch::of_hf(&hf)?;
        let config_of_hf = (arch.from_hf)(&hf)?;
        let names = (arch.hf_names)(&config_of_hf);
        let rename = names.renames.first().copied().unwrap_or_default();
        let network = Arc::new(Network::declare(config_of_hf));
        let weights = Weights::from_bytes("new model", NO_TENSORS)?;
        let mut all = vec![("config.json".to_owned(), config.to_owned())];
        all.extend(files);
        let (merged, given) = (Merged::default(), Given(Some(numbers)));
        Ok(Self { network, weights, names, rename, hf: Some(hf), merged, given, files: all })
    }

    /// From now on these numbers are read where the function gives any: what [`convert`](crate::convert()) then writes.
    pub fn set_numbers(&mut self, numbers: Box<GiveNumbers>) {
        self.given = Given(Some(numbers));
    }

    /// Files of a model that was made.
    pub(crate) fn made_files(&self) -> Option<Vec<(String, String)>> {
        (!self.files.is_empty()).then(|| self.files.clone())
    }

    /// The type in which a weight is stored.
    pub(crate) fn stored_type(&self, spec: &ParamSpec) -> Result<TensorType> {
        match self.files.is_empty() {
            true => Ok(self.stored(spec)?.ty),
            false => Ok(TensorType::F32),
        }
    }

    /// The same model with what an adapter adds made part of its weights, from now on in f32 where it is.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what no weight can hold.
    pub fn merged(self, additions: Vec<Addition>) -> Result<Self> {
        let merged = Merged::of(&self, additions)?;
        Ok(Self { merged, ..self })
    }

    /// Loads all weights onto a device. Pages of the file leave memory as soon as the device has made its own of them.
    pub fn load(&self, device: &dyn Device) -> Result<DeviceWeights> {
        let read = Cell::new(None);
        let weights = device.load(&self.network.params, &|spec| {
            if let Some(done) = read.replace(Some(spec.clone())) {
                self.release(&done);
            }
            self.tensor(spec)
        })?;
        if let Some(last) = read.take() {
            self.release(&last);
        }
        Ok(weights)
    }

    /// Says that the file's bytes of a weight are not needed soon.
    fn release(&self, spec: &ParamSpec) {
        if let Ok(place) = self.place(spec) {
            self.weights.release(&place.file_name);
        }
    }

    /// The type in which most of the matrices' bytes are stored.
    pub fn dominant_type(&self) -> TensorType {
        let mut bytes_of: Vec<(TensorType, usize)> = Vec::new();
        for tensor in self.weights.iter() {
            match bytes_of.iter_mut().find(|(ty, _)| *ty == tensor.ty) {
                Some((_, bytes)) => *bytes += tensor.bytes.len(),
                None => bytes_of.push((tensor.ty, tensor.bytes.len())),
            }
        }
        bytes_of.into_iter().max_by_key(|(_, bytes)| *bytes).map_or(TensorType::F32, |(ty, _)| ty)
    }

    /// The weight files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// `config.json`: of the folder, or of the folder that a GGUF was made from here.
    pub fn hf(&self) -> Option<&Hf> {
        self.hf.as_ref()
    }

    /// Where this model's files keep each weight.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Tensors of the files that are no weights here, such as frequency factors.
    pub(crate) fn extra_tensors(&self) -> Vec<(TensorInfo, HostTensor<'static>)> {
        let used = self.used_names();
        let extra = self.weights.iter().filter(|tensor| !used.contains(tensor.name));
        extra
            .map(|tensor| {
                let info = TensorInfo::new(tensor.name, tensor.shape, tensor.ty);
                (info, HostTensor { ty: tensor.ty, bytes: tensor.bytes.to_vec().into() })
            })
            .collect()
    }

    /// The shape in which the source stores a tensor of this name and size, else `shape`.
    pub(crate) fn stored_shape(&self, name: &str, shape: Vec<usize>) -> Vec<usize> {
        match self.weights.info(name) {
            Some(info) if info.n_elements() == Some(shape.iter().product()) => info.shape.clone(),
            _ => shape,
        }
    }

    /// Names of this model's weights in a Hugging Face folder.
    pub(crate) fn hf_names(&self) -> Result<Names> {
        let Some(hf) = &self.hf else {
            return Err(Error::Unsupported("the source does not say its `config.json`".to_owned()));
        };
        let arch = arch::of_hf(hf)?;
        let config = &self.network.config;
        let mut names = (arch.hf_names)(config);
        // A GGUF may rotate by pairs what the folder rotates by halves.
        let source = (arch.from_hf)(hf)?;
        let (ours, theirs) = (rotation(config), rotation(&source));
        if let (Some((attention, RopeStyle::Pairs, n_rot)), Some((_, RopeStyle::Halves, _))) = (ours, theirs)
        {
            for (weight, n_heads) in [
                ("wq", attention.n_heads),
                ("wk", attention.n_kv_heads),
                ("bq", attention.n_heads),
                ("bk", attention.n_kv_heads),
            ] {
                names = names
                    .with_part(&format!("layers.{{}}.{weight}"), Part::PairsFromHalves { n_heads, n_rot });
            }
        }
        Ok(names)
    }

    /// The numbers of a weight, as a device wants them.
    pub fn tensor(&self, spec: &ParamSpec) -> wootz_graph::Result<HostTensor<'_>> {
        self.read(spec).map_err(|error| wootz_graph::Error::Weight {
            name: spec.name.clone(),
            message: error.to_string(),
        })
    }

    /// Checks that a weight's tensors are there and have as many numbers as the declaration says.
    fn check(&self, spec: &ParamSpec) -> Result<()> {
        let place = self.place(spec)?;
        let n_files = if place.file_name.contains("{e}") { spec.shape[0] } else { 1 };
        for expert in 0..n_files {
            let tensor = self.find(&place.file_name.replace("{e}", &expert.to_string()))?;
            let wanted = spec.n_elements() / n_files.max(1);
            let fits = match place.part {
                Part::Rows { .. } | Part::RowsTurned { .. } | Part::Columns { .. } => {
                    tensor.n_elements() >= wanted
                }
                Part::Ternary(_) => tensor.n_elements().checked_mul(4) == Some(wanted),
                _ => tensor.n_elements() == wanted,
            };
            if !fits {
                return Err(Error::Tensor {
                    name: tensor.name.to_owned(),
                    expected: format!("{:?} for `{}`", spec.shape, spec.name),
                    got: format!("{:?}", tensor.shape),
                });
            }
        }
        Ok(())
    }

    /// Where a weight is in these files: at the first of its places that they have, renamed or not, as heads stand
    /// beside a renamed body; or else where it should be.
    pub(crate) fn place(&self, spec: &ParamSpec) -> Result<Place> {
        let rename = |place: Place| Place { file_name: renamed(&place.file_name, self.rename), ..place };
        for place in self.names.places(&spec.name) {
            for place in [rename(place.clone()), place] {
                if self.weights.info(&place.file_name.replace("{e}", "0")).is_some() {
                    return Ok(place);
                }
            }
        }
        self.names.place(&spec.name).map(rename).ok_or_else(|| Error::Tensor {
            name: spec.name.clone(),
            expected: format!("a name in the files of `{}`", self.network.config.arch),
            got: "none".to_owned(),
        })
    }

    fn find(&self, name: &str) -> Result<TensorView<'_>> {
        self.weights.get(name).ok_or_else(|| Error::Tensor {
            name: name.to_owned(),
            expected: "a tensor of this name".to_owned(),
            got: "none".to_owned(),
        })
    }

    /// A weight as the device or another file wants it.
    pub(crate) fn read(&self, spec: &ParamSpec) -> Result<HostTensor<'_>> {
        if let Some(numbers) = self.given.0.as_ref().and_then(|give| give(spec)) {
            return Ok(HostTensor { ty: TensorType::F32, bytes: cast::bytes_of(&numbers).to_vec().into() });
        }
        let stored = self.stored(spec)?;
        match self.network.params.find(&spec.name) {
            Some(param) if !self.merged.is_empty() => Ok(self.merged.apply(param, spec, stored)),
            _ => Ok(stored),
        }
    }

    /// The same before anything was merged into it.
    pub(crate) fn stored(&self, spec: &ParamSpec) -> Result<HostTensor<'_>> {
        let place = self.place(spec)?;
        if let Part::Ternary(scaled) = place.part {
            let scale = self.find(&format!("{}_scale", place.file_name))?;
            return ternary::unpacked(&self.find(&place.file_name)?, &scale, scaled);
        }
        if !place.file_name.contains("{e}") {
            return cut(self.find(&place.file_name)?, place.part);
        }
        let mut all: Option<(TensorType, Vec<u8>)> = None;
        for expert in 0..spec.shape[0] {
            let tensor = self.find(&place.file_name.replace("{e}", &expert.to_string()))?;
            let one = cut(tensor, place.part)?;
            let (ty, bytes) = all.get_or_insert_with(|| (one.ty, Vec::new()));
            if *ty != one.ty {
                let (expected, got) = (format!("`{ty}` like expert 0"), format!("`{}`", one.ty));
                return Err(Error::Tensor { name: tensor.name.to_owned(), expected, got });
            }
            bytes.extend_from_slice(&one.bytes);
        }
        let (ty, bytes) = all.unwrap_or((TensorType::F32, Vec::new()));
        Ok(HostTensor { ty, bytes: Cow::Owned(bytes) })
    }
}

/// The part of a tensor that a weight is.
pub(crate) fn cut(tensor: TensorView<'_>, part: Part) -> Result<HostTensor<'_>> {
    let fail = |expected: String| Error::Tensor {
        name: tensor.name.to_owned(),
        expected,
        got: format!("{:?} of `{}`", tensor.shape, tensor.ty),
    };
    // A vector's rows are its numbers; of a stack, the matrices' rows follow each other.
    let width = if tensor.shape.len() < 2 { 1 } else { tensor.shape[tensor.shape.len() - 1] };
    let n_rows = tensor.n_elements() / width.max(1);
    let plain = || if tensor.ty.is_plain() { Ok(()) } else { Err(fail("an unquantized tensor".to_owned())) };
    let (ty, bytes) = match part {
        Part::Whole => (tensor.ty, Cow::Borrowed(tensor.bytes)),
        Part::Rows { groups, start, len } => {
            let row = tensor.ty.row_bytes(width).ok_or_else(|| fail("whole rows".to_owned()))?;
            let per_group = rows_per_group(n_rows, groups, start, len)
                .ok_or_else(|| fail(format!("{groups} groups with rows {start}..{}", start + len)))?;
            let group = |i: usize| &tensor.bytes[(i * per_group + start) * row..][..len * row];
            match groups {
                1 => (tensor.ty, Cow::Borrowed(group(0))),
                _ => (tensor.ty, Cow::Owned((0..groups).flat_map(group).copied().collect())),
            }
        }
        Part::RowsTurned { groups, start, len } => {
            plain()?;
            let per_group = rows_per_group(n_rows, groups, start, len)
                .ok_or_else(|| fail(format!("{groups} groups with rows {start}..{}", start + len)))?;
            let at =
                |group: usize, column: usize, row: usize| (group * per_group + start + row) * width + column;
            let order = (0..groups)
                .flat_map(|g| (0..width).flat_map(move |c| (0..len).map(move |r| (g, c, r))))
                .map(|(g, c, r)| at(g, c, r));
            (tensor.ty, Cow::Owned(gather(&tensor, order)))
        }
        Part::Columns { start, len } => {
            plain()?;
            if tensor.shape.len() != 2 || start + len > width {
                return Err(fail(format!("columns {start}..{}", start + len)));
            }
            let order =
                (start..start + len).flat_map(|column| (0..n_rows).map(move |row| row * width + column));
            (tensor.ty, Cow::Owned(gather(&tensor, order)))
        }
        Part::HalvesFromPairs { n_heads, n_rot } => {
            (tensor.ty, Cow::Owned(reordered(tensor.bytes, n_rows, n_heads, n_rot, place_in_pairs)))
        }
        Part::PairsFromHalves { n_heads, n_rot } => {
            (tensor.ty, Cow::Owned(reordered(tensor.bytes, n_rows, n_heads, n_rot, place_in_halves)))
        }
        Part::MadeTernary => {
            plain()?;
            return Ok(ternary::made(&tensor.to_f32()));
        }
        Part::Ternary(_) => unreachable!("read together with its scale"),
        Part::PlusOne => (TensorType::F32, map(&tensor, |x| x + 1.0, plain)?),
        Part::NegExp => (TensorType::F32, map(&tensor, |x| -x.exp(), plain)?),
    };
    Ok(HostTensor { ty, bytes })
}

fn rows_per_group(n_rows: usize, groups: usize, start: usize, len: usize) -> Option<usize> {
    let per_group = n_rows.checked_div(groups)?;
    (n_rows.is_multiple_of(groups) && start + len <= per_group).then_some(per_group)
}

/// The numbers at these places, in this order.
fn gather(tensor: &TensorView, order: impl Iterator<Item = usize>) -> Vec<u8> {
    let size = tensor.ty.block_bytes();
    order.flat_map(|at| &tensor.bytes[at * size..][..size]).copied().collect()
}

/// Every number changed. In f32: bf16 has too few digits for a small number plus one.
fn map<'a>(
    tensor: &TensorView<'a>,
    f: impl Fn(f32) -> f32,
    plain: impl Fn() -> Result<()>,
) -> Result<Cow<'a, [u8]>> {
    plain()?;
    let numbers: Vec<f32> = tensor.to_f32().into_iter().map(f).collect();
    Ok(Cow::Owned(cast::bytes_of(&numbers).to_vec()))
}
