//! The bank of adapters: what is added to a model's layers for some rows of a batch and not for others.
//!
//! Where:  filled and emptied by the engine while it runs ([`Executor::set_adapter`](crate::Executor::set_adapter)), read by
//!         [`adapt`](crate::ops::adapt) for the sequences that name a slot ([`Sequence::adapter`](crate::Sequence::adapter)).
//! Idea:   a graph says at which sites its bank may add something and up to which rank; slots are filled at run time. So
//!         sequences with different adapters and with none share one plan and one pass over the weights.
//! Source: Hu et al. 2021, arXiv:2106.09685; many adapters in one batch: Chen et al. 2023, Punica, arXiv:2310.18547.
//! Elsewhere: reading adapters' files and precomputing gains (`wootz-model`), who owns a slot (`wootz-engine`).
//!
//! A bank is for adapters that are done. Those in training are weights of their own ([`change`](crate::change)).

use std::collections::HashMap;

use crate::device::HostTensor;
use crate::param::Param;

/// Slots of a bank.
pub const MAX_ADAPTERS: usize = 64;
/// The highest rank that a bank takes.
pub const MAX_RANK: usize = 1024;

/// Where something may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// Behind the linear layer with this weight.
    Linear(Param),
    /// To the residual stream behind the layer of this index: a control vector.
    Residual(usize),
}

/// What a graph may add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bank {
    /// Where; each once.
    pub sites: Vec<Site>,
    /// The highest rank, for counting.
    pub max_rank: usize,
}

/// What an adapter adds at one site: `y = gain ⊙ (y₀ + scale·B(A·x)) + shift`.
#[derive(Clone, Debug)]
pub struct Addition {
    /// Where.
    pub site: Site,
    /// Outputs and inputs.
    pub shape: [usize; 2],
    /// 0 for a gain or a shift alone; then there are no matrices.
    pub rank: usize,
    /// `alpha / rank`, usually.
    pub scale: f32,
    /// (rank, k).
    pub a: HostTensor<'static>,
    /// (n, rank).
    pub b: HostTensor<'static>,
    /// (n): DoRA's magnitudes over the norms of `W + scale·B·A`.
    pub gain: Option<Vec<f32>>,
    /// (n): a bias, a control vector, and what a gain must leave of the layer's own bias.
    pub shift: Option<Vec<f32>>,
}

impl Addition {
    /// A vector that is added, and no product.
    pub fn shift(site: Site, numbers: Vec<f32>) -> Self {
        let none = || HostTensor { ty: wootz_kernels::TensorType::F32, bytes: Vec::new().into() };
        let shape = [numbers.len(), 0];
        Self { site, shape, rank: 0, scale: 1.0, a: none(), b: none(), gain: None, shift: Some(numbers) }
    }
}

/// A bank's slots as a device keeps them.
#[derive(Debug)]
pub(crate) struct Slots<T>(Vec<Option<HashMap<Site, T>>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self((0..MAX_ADAPTERS).map(|_| None).collect())
    }
}

impl<T> Slots<T> {
    pub(crate) fn set(&mut self, slot: usize, additions: Option<HashMap<Site, T>>) {
        self.0[slot] = additions;
    }

    /// What the adapter of a slot adds at a site.
    pub(crate) fn at(&self, slot: usize, site: Site) -> Option<&T> {
        self.0[slot].as_ref()?.get(&site)
    }
}
