//! The slope of a loss along a value, which the caller finds while the graph runs.
//!
//! Where:  between a training graph's forward and its backward half.
//! Idea:   losses are functions of few numbers, most often one log-probability a token. The caller reads them by
//!         [`Taps`](crate::Taps) under their name, works out loss and slope, and writes the slope when it is shown this node. So
//!         adding a loss is adding a function, and one run is forward and backward.

use crate::Result;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Operator, arity};
use crate::shape::Type;

/// Zeros in the shape of the input, to be replaced.
#[derive(Clone, Debug)]
pub(crate) struct Slope;

impl Graph<'_> {
    /// Zeros in the shape of `y`, shown to taps under `name` to be replaced by the loss's slope along `y`. It is computed after
    /// everything that was added to the graph before it.
    pub fn slope(&mut self, y: Value, name: &str) -> Result<Value> {
        let slope = self.push(Slope.into(), &[y])?;
        Ok(self.name(slope, name))
    }
}

impl Operator for Slope {
    fn name(&self) -> &'static str {
        "slope"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[y]| y)
    }

    fn reference(&self, run: &mut RefRun) {
        run.out.fill(0.0);
    }

    fn cpu(&self, run: &mut CpuRun) {
        run.out.fill(0.0);
    }
}
