//! The CPU device: plans run by SIMD kernels in one arena, on one pool of threads.
//!
//! Where:  the default device of everything.
//! Idea:   a device is an instruction set, threads and a precision; everything else belongs to an executor.
//! Elsewhere: each operator calls its kernel in its own file; the kernels are in `wootz-kernels`.

mod arena;
mod call;
mod executor;
mod state;
mod stored;

pub(crate) use call::{CpuRun, Out, Outs};

use std::sync::Arc;

use wootz_kernels::{Isa, Pool, Precision, Slab};

use crate::Result;
use crate::device::{Device, Executor, Loaded, Source, Weights};
use crate::param::Params;
use crate::state::{StateCapacity, StateSpec};
use executor::CpuExecutor;
use stored::Stored;

/// The CPU device. Cloning shares the threads.
#[derive(Clone)]
pub struct Cpu {
    isa: Isa,
    pool: Arc<Pool>,
    precision: Precision,
}

impl Cpu {
    /// A device on `n_threads` threads with the best instruction set that this machine has.
    pub fn new(n_threads: usize) -> Self {
        Self::with(Isa::detect(), n_threads, Precision::Fast)
    }

    /// A device with a given instruction set, and with products that may or may not round activations.
    pub fn with(isa: Isa, n_threads: usize, precision: Precision) -> Self {
        Self { isa, pool: Arc::new(Pool::new(n_threads)), precision }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads in use.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Device for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn load(&self, params: &Params, source: &Source) -> Result<Weights> {
        let slab = Slab::default();
        Loaded::load(params, source, |spec, tensor| Stored::new(self, Some(&slab), spec, tensor))
    }

    fn executor(
        &self,
        weights: &Weights,
        states: &[StateSpec],
        capacity: StateCapacity,
    ) -> Result<Box<dyn Executor>> {
        Ok(Box::new(CpuExecutor::new(self, weights, states, capacity)?))
    }
}
