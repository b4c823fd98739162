//! Weights as a model declares them: names, shapes and how they are used, without their numbers.
//!
//! Where:  filled by `wootz-model`, read by [`Device::load`](crate::Device::load).
//! Idea:   a [`Param`] is a `Copy` handle into one [`Params`] list that all graphs of a model share, so that
//!         training, decoding and inspection run over the same loaded weights.

/// A handle to a declared weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Param(pub(crate) u32);

impl Param {
    /// Its place in [`Params::specs`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a weight is used, which decides how a device keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamKind {
    /// A few numbers that are read as f32: norms, biases, decays.
    Vector,
    /// (n, k): maps k inputs to n outputs, and may give back single rows (tied embeddings).
    Matrix,
    /// (V, C): only single rows are read.
    Table,
    /// (E, n, k): one matrix per expert or per head.
    Stack,
}

/// One declared weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// The canonical name, `layers.7.wq`.
    pub name: String,
    /// Outermost first, as PyTorch says.
    pub shape: Vec<usize>,
    /// How it is used.
    pub kind: ParamKind,
}

impl ParamSpec {
    /// How many numbers it holds; `usize::MAX` if that is more than can be counted.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().fold(1, |n, &size| n.saturating_mul(size))
    }
}

/// The weights of one model, in the order in which they were declared.
#[derive(Clone, Debug, Default)]
pub struct Params {
    specs: Vec<ParamSpec>,
}

impl Params {
    /// Declares a weight. Names are unique; the shape's rank fits the kind.
    pub fn declare(&mut self, name: impl Into<String>, shape: &[usize], kind: ParamKind) -> Param {
        let name = name.into();
        let rank_fits = match kind {
            ParamKind::Vector => true,
            ParamKind::Matrix | ParamKind::Table => shape.len() == 2,
            ParamKind::Stack => shape.len() == 3,
        };
        assert!(rank_fits, "weight `{name}`: a {kind:?} cannot have shape {shape:?}");
        assert!(self.specs.iter().all(|spec| spec.name != name), "weight `{name}` declared twice");
        self.specs.push(ParamSpec { name, shape: shape.to_vec(), kind });
        Param(self.specs.len() as u32 - 1)
    }

    /// All weights, in order of declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The declaration behind a handle.
    pub fn spec(&self, param: Param) -> &ParamSpec {
        &self.specs[param.index()]
    }

    /// The weight with this name.
    pub fn find(&self, name: &str) -> Option<Param> {
        self.specs.iter().position(|spec| spec.name == name).map(|i| Param(i as u32))
    }

    /// Handle and declaration of every weight.
    pub fn iter(&self) -> impl Iterator<Item = (Param, &ParamSpec)> {
        self.specs.iter().enumerate().map(|(i, spec)| (Param(i as u32), spec))
    }

    /// How many numbers all weights hold together.
    pub fn n_elements(&self) -> usize {
        self.specs.iter().fold(0, |n, spec| n.saturating_add(spec.n_elements()))
    }
}
