//! Backward passes: gradients as further nodes of the same graph.
//!
//! Where:  called by the trainer and by gradient tests; each operator's rule stands in its own file.
//! Idea:   nodes are in order, so one walk from the loss to the front meets every user before its input.
//!         Values that lead to no wanted input get no gradient: frozen weights cost nothing. A weight's gradient is a sum of
//!         terms, one for each use, that add to one buffer of the executor; runs add to it until it is cleared. Recomputation is
//!         a copy of a layer's nodes, made when the walk first meets the layer; the plan's liveness does the rest.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::graph::{Graph, Value};
use crate::ops::{Backward, Op};
use crate::param::Param;
use crate::shape::{DType, Shape, Type};
use crate::{Error, Result};

/// What one walk has found: the gradient of each value, and the terms of the gradients of weights that are trained.
struct Walk {
    grads: HashMap<usize, Value>,
    /// By node; in the order of the walk.
    terms: BTreeMap<usize, Vec<Value>>,
}

/// What one walk makes again.
struct Copies {
    /// By node, of those that were there before.
    keeps: Vec<bool>,
    made: HashMap<usize, Value>,
}

/// `layers.7`, where a path begins with that.
fn layer_of(path: &str) -> Option<&str> {
    let number = path.strip_prefix("layers.")?;
    Some(&path[..path.len() - number.len() + number.find('.').unwrap_or(number.len())])
}

impl Graph<'_> {
    /// The gradients of `loss` (one number) with respect to each of `wrt`, which are weights, inputs or any
    /// values before the loss; each has the shape of its value. A value that the loss does not depend on gets a
    /// gradient of zeros.
    ///
    /// # Errors
    /// [`Error::NoGradient`] if an operator in between has none; [`Error::ForeignValue`] and [`Error::Operator`] if
    /// a value is of another graph or the loss is more than one number.
    pub fn backward(&mut self, loss: Value, wrt: &[Value]) -> Result<Vec<Value>> {
        self.check_owned([loss].iter().chain(wrt))?;
        let ty = self.ty(loss);
        if ty != Type::f32(Shape::fixed(&[1])) {
            return Err(
                self.error("backward", format!("expected a loss (1), got {:?} {}", ty.dtype, ty.shape))
            );
        }
        let one = self.fill(1.0, ty)?;
        let walk = self.walk_back(&[(loss, one)], wrt, &[])?;
        wrt.iter().map(|value| self.gradient_of(*value, &walk.grads)).collect()
    }

    /// Adds the gradients of weights, from those of some outputs: pairs of a value and the slope of the loss along it. Every
    /// run of a plan of this graph adds to the buffers that [`Executor::with_gradient`](crate::Executor::with_gradient) gives.
    ///
    /// # Errors
    /// [`Error::NoGradient`], [`Error::ForeignValue`] as [`backward`](Self::backward); [`Error::Operator`] if a slope has another
    /// shape than its value.
    pub fn backward_to(&mut self, outputs: &[(Value, Value)], params: &[Param]) -> Result<()> {
        self.check_owned(outputs.iter().flat_map(|(value, slope)| [value, slope]))?;
        for &(value, slope) in outputs {
            let (expected, got) = (self.ty(value), self.ty(slope));
            if expected != got {
                let message = format!("a slope {} of a value {}", got.shape, expected.shape);
                return Err(self.error("backward", message));
            }
        }
        let weights: Vec<Value> = params.iter().map(|&param| self.weight(param)).collect();
        let walk = self.walk_back(outputs, &weights, &weights)?;
        for (&param, weight) in params.iter().zip(&weights) {
            for &term in walk.terms.get(&weight.index()).into_iter().flatten() {
                let is_read = self.nodes().iter().any(|node| node.inputs.contains(&term));
                let node = self.node(term);
                let is_its_own = node.op.alias().is_none() && !node.inputs.is_empty();
                let term = match is_read || !is_its_own || node.adds_to.is_some() {
                    true => self.scale(term, 1.0)?,
                    false => term,
                };
                self.add_to(term, param);
            }
        }
        Ok(())
    }

    fn check_owned<'v>(&self, mut values: impl Iterator<Item = &'v Value>) -> Result<()> {
        match values.position(|&value| !self.owns(value)) {
            Some(index) => Err(Error::ForeignValue { op: "backward", path: String::new(), index }),
            None => Ok(()),
        }
    }

    /// One walk to the front. Gradients of `trained` weights are kept as terms.
    fn walk_back(&mut self, outputs: &[(Value, Value)], wrt: &[Value], trained: &[Value]) -> Result<Walk> {
        let end = outputs.iter().map(|(value, _)| value.index()).max().unwrap_or(0);
        let needed = self.leading_from(wrt, end);
        let mut copies =
            self.recomputes_layers.then(|| Copies { keeps: self.kept(outputs, end), made: HashMap::new() });
        let mut walk = Walk {
            grads: HashMap::new(),
            terms: trained.iter().map(|weight| (weight.index(), Vec::new())).collect(),
        };
        for &(value, slope) in outputs {
            self.give(&mut walk, value, slope)?;
        }
        for index in (0..=end).rev() {
            let Some(&dy) = walk.grads.get(&index) else { continue };
            let node = &self.nodes()[index];
            let (op, inputs, path) = (node.op.clone(), node.inputs.clone(), format!("grad.{}", node.path));
            let wanted: Vec<bool> = inputs.iter().map(|input| needed.contains(&input.index())).collect();
            if !wanted.contains(&true) {
                continue;
            }
            let (mut read, mut output) = (inputs.clone(), self.value_at(index));
            if let Some(copies) = &mut copies {
                for value in read.iter_mut().chain([&mut output]) {
                    *value = self.again(*value, copies)?;
                }
            }
            let at = Backward { inputs: &read, output, dy, wanted: &wanted };
            self.at(path, |g| g.spread_back(&op, &at, &inputs, &mut walk))?;
        }
        Ok(walk)
    }

    /// What every value before `end` must be kept for: readers outside of its layer, a slope, or somebody who knows its name.
    fn kept(&self, outputs: &[(Value, Value)], end: usize) -> Vec<bool> {
        let nodes = self.nodes();
        let mut kept: Vec<bool> =
            nodes.iter().map(|node| layer_of(&node.path).is_none() || node.name.is_some()).collect();
        for node in &nodes[..=end] {
            for input in &node.inputs {
                kept[input.index()] |= layer_of(&nodes[input.index()].path) != layer_of(&node.path);
            }
        }
        outputs.iter().for_each(|(value, _)| kept[value.index()] = true);
        kept
    }

    /// A value, or a copy of it that is made from what is kept.
    fn again(&mut self, value: Value, copies: &mut Copies) -> Result<Value> {
        if copies.keeps[value.index()] {
            return Ok(value);
        }
        if let Some(&copy) = copies.made.get(&value.index()) {
            return Ok(copy);
        }
        let node = self.node(value);
        let (op, inputs, path) = (node.op.clone(), node.inputs.clone(), format!("again.{}", node.path));
        let inputs: Vec<Value> =
            inputs.into_iter().map(|input| self.again(input, copies)).collect::<Result<_>>()?;
        let copy = self.at(path, |g| g.push(op, &inputs))?;
        copies.made.insert(value.index(), copy);
        Ok(copy)
    }

    /// Adds what one node's rule gives to the gradients of its inputs.
    fn spread_back(&mut self, op: &Op, at: &Backward, inputs: &[Value], walk: &mut Walk) -> Result<()> {
        let of_inputs = op.gradient(self, at)?;
        for ((&input, grad), &wanted) in inputs.iter().zip(of_inputs).zip(at.wanted) {
            if let Some(grad) = grad.filter(|_| wanted) {
                self.give(walk, input, grad)?;
            }
        }
        Ok(())
    }

    /// Adds a term to a value's gradient.
    fn give(&mut self, walk: &mut Walk, value: Value, grad: Value) -> Result<()> {
        if let Some(terms) = walk.terms.get_mut(&value.index()) {
            terms.push(grad);
            return Ok(());
        }
        let sum = match walk.grads.get(&value.index()) {
            Some(&earlier) => self.add(earlier, grad)?,
            None => grad,
        };
        walk.grads.insert(value.index(), sum);
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
