//! Backward passes: gradients as further nodes of the same graph.
//!
//! Where:  called by the trainer and by gradient tests; each operator's rule stands in its own file.
//! Idea:   nodes are in order, so one walk from the loss to the front meets every user before its input.
//!         Values that lead to no wanted input get no gradient: frozen weights cost nothing.

use std::collections::{HashMap, HashSet};

use crate::Result;
use crate::graph::{Graph, Value};
use crate::ops::Backward;
use crate::shape::DType;

impl Graph<'_> {
    /// The gradients of `loss` (one number) with respect to each of `wrt`, which are weights, inputs or any
    /// values before the loss. A value that the loss does not depend on gets a gradient of zeros.
    ///
    /// # Errors
    /// [`Error::NoGradient`](crate::Error::NoGradient) if an operator in between has none.
    pub fn backward(&mut self, loss: Value, wrt: &[Value]) -> Result<Vec<Value>> {
        assert!(self.owns(loss) && wrt.iter().all(|&value| self.owns(value)), "values of another graph");
        assert_eq!(self.ty(loss).shape.inner(), 1, "a loss is one number");
        let needed = self.leading_from(wrt, loss.index());
        let seed = self.fill(1.0, self.ty(loss))?;
        let mut grads: HashMap<usize, Value> = HashMap::from([(loss.index(), seed)]);
        for index in (0..=loss.index()).rev() {
            let Some(&dy) = grads.get(&index) else { continue };
            let inputs = self.nodes()[index].inputs.clone();
            let wanted: Vec<bool> = inputs.iter().map(|input| needed.contains(&input.index())).collect();
            if !wanted.contains(&true) {
                continue;
            }
            let op = self.nodes()[index].op.clone();
            let at = Backward { inputs: &inputs, output: self.value_at(index), dy, wanted: &wanted };
            let input_grads = op.gradient(self, &at)?;
            for ((input, grad), wanted) in inputs.iter().zip(input_grads).zip(wanted) {
                let Some(grad) = grad.filter(|_| wanted) else { continue };
                let sum = match grads.get(&input.index()) {
                    Some(&earlier) => self.add(earlier, grad)?,
                    None => grad,
                };
                grads.insert(input.index(), sum);
            }
        }
        let of = |g: &mut Self, value: &Value| match grads.get(&value.index()) {
            Some(&grad) => Ok(grad),
            None => g.fill(0.0, g.ty(*value)),
        };
        wrt.iter().map(|value| of(self, value)).collect()
    }

    /// The nodes up to `end` that depend on one of `wrt`.
    fn leading_from(&self, wrt: &[Value], end: usize) -> HashSet<usize> {
        let mut needed: HashSet<usize> = wrt.iter().map(|value| value.index()).collect();
        for (index, node) in self.nodes().iter().enumerate().take(end + 1) {
            let depends = node.inputs.iter().any(|input| needed.contains(&input.index()));
            if depends && node.ty.dtype == DType::F32 {
                needed.insert(index);
            }
        }
        needed
    }
}
