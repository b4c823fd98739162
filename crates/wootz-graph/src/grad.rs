//! Backward passes: gradients as further nodes of the same graph.
//!
//! Where:  called by the trainer and by gradient tests; each operator's rule stands in its own file.
//! Idea:   nodes are in order, so one walk from the loss to the front meets every user before its input.
//!         Values that lead to no wanted input get no gradient: frozen weights cost nothing.

use std::collections::{HashMap, HashSet};

use crate::graph::{Graph, Value};
use crate::ops::{Backward, Op};
use crate::shape::{DType, Shape, Type};
use crate::{Error, Result};

impl Graph<'_> {
    /// The gradients of `loss` (one number) with respect to each of `wrt`, which are weights, inputs or any
    /// values before the loss; each has the shape of its value. A value that the loss does not depend on gets a
    /// gradient of zeros.
    ///
    /// # Errors
    /// [`Error::NoGradient`] if an operator in between has none; [`Error::ForeignValue`] and [`Error::Operator`] if
    /// a value is of another graph or the loss is more than one number.
    pub fn backward(&mut self, loss: Value, wrt: &[Value]) -> Result<Vec<Value>> {
        if let Some(index) = [loss].iter().chain(wrt).position(|&value| !self.owns(value)) {
            return Err(Error::ForeignValue { op: "backward", path: String::new(), index });
        }
        let ty = self.ty(loss);
        if ty != Type::f32(Shape::fixed(&[1])) {
            return Err(
                self.error("backward", format!("expected a loss (1), got {:?} {}", ty.dtype, ty.shape))
            );
        }
        let needed = self.leading_from(wrt, loss.index());
        let mut grads: HashMap<usize, Value> = HashMap::from([(loss.index(), self.fill(1.0, ty)?)]);
        for index in (0..=loss.index()).rev() {
            let Some(&dy) = grads.get(&index) else { continue };
            let node = &self.nodes()[index];
            let (op, inputs, path) = (node.op.clone(), node.inputs.clone(), format!("grad.{}", node.path));
            let wanted: Vec<bool> = inputs.iter().map(|input| needed.contains(&input.index())).collect();
            if !wanted.contains(&true) {
                continue;
            }
            let at = Backward { inputs: &inputs, output: self.value_at(index), dy, wanted: &wanted };
            self.at(path, |g| g.spread_back(&op, &at, &mut grads))?;
        }
        wrt.iter().map(|value| self.gradient_of(*value, &grads)).collect()
    }

    /// Adds what one node's rule gives to the gradients of its inputs.
    fn spread_back(&mut self, op: &Op, at: &Backward, grads: &mut HashMap<usize, Value>) -> Result<()> {
        let of_inputs = op.gradient(self, at)?;
        for ((input, grad), &wanted) in at.inputs.iter().zip(of_inputs).zip(at.wanted) {
            let Some(grad) = grad.filter(|_| wanted) else { continue };
            let sum = match grads.get(&input.index()) {
                Some(&earlier) => self.add(earlier, grad)?,
                None => grad,
            };
            grads.insert(input.index(), sum);
        }
        Ok(())
    }

    fn gradient_of(&mut self, value: Value, grads: &HashMap<usize, Value>) -> Result<Value> {
        let ty = self.ty(value);
        match grads.get(&value.index()) {
            Some(&grad) if self.ty(grad) == ty => Ok(grad),
            Some(&grad) => self.reshape(grad, ty.shape),
            None => self.fill(0.0, ty),
        }
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
