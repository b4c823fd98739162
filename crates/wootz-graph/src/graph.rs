//! The builder: a list of nodes, and `Copy` handles that know which list they belong to.
//!
//! Where:  filled by the architectures of `wootz-model`; differentiated by [`grad`](crate::grad), placed by
//!         [`plan`](crate::plan), run by a [`Device`](crate::Device).
//! Idea:   nodes stand in the order in which they were added, so that an input always precedes its user and
//!         the list is already a schedule. Shapes are checked when a node is added, before any computation.
//! Elsewhere: one method per operator, in the operator's own file under `ops/`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bank::Bank;
use crate::change::{LowRankChange, LowRankChanges};
use crate::ops::noise::Randomness;
use crate::ops::{Op, Takes, input::Input, weight::Weight};
use crate::param::{Param, ParamKind, Params};
use crate::shape::{DType, Dim, Shape, Type};
use crate::state::{State, StateSpec};
use crate::{Error, Result};

/// A handle to a value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    graph: u32,
    index: u32,
}

impl Value {
    /// The place of the node that computes it.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// One operator applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub(crate) op: Op,
    /// The values it reads.
    pub inputs: Vec<Value>,
    /// What comes out.
    pub ty: Type,
    /// Where in the model it stands, `layers.7.attn`.
    pub path: String,
    /// A name under which it can be read and replaced while the graph runs, `layers.7.resid`.
    pub name: Option<String>,
    /// The weight whose gradient it is a term of.
    pub(crate) adds_to: Option<Param>,
}

impl Node {
    /// The operator's name.
    pub fn op_name(&self) -> &'static str {
        self.op.name()
    }
}

/// A computation over ragged rows.
#[derive(Debug)]
pub struct Graph<'p> {
    tag: u32,
    params: &'p Params,
    states: Vec<StateSpec>,
    nodes: Vec<Node>,
    path: Vec<String>,
    shared: HashMap<String, Value>,
    bank: Option<Bank>,
    changes: LowRankChanges,
    /// Whether a backward pass makes what stands within layers again.
    pub(crate) recomputes_layers: bool,
    pub(crate) randomness: Randomness,
}

static NEXT_TAG: AtomicU32 = AtomicU32::new(0);

impl<'p> Graph<'p> {
    /// The path of values that several layers share.
    pub(crate) const SHARED: &'static str = "shared";

    /// An empty graph over a model's weights.
    pub fn new(params: &'p Params) -> Self {
        Self {
            tag: NEXT_TAG.fetch_add(1, Ordering::Relaxed),
            params,
            states: Vec::new(),
            nodes: Vec::new(),
            path: Vec::new(),
            shared: HashMap::new(),
            bank: None,
            changes: LowRankChanges::new(),
            recomputes_layers: false,
            randomness: Randomness::default(),
        }
    }

    /// The same graph, in which layers are adapted at the bank's sites; before any layer is built.
    pub fn with_bank(self, bank: Bank) -> Self {
        assert!(self.nodes.is_empty(), "layers that are built already are not adapted");
        Self { bank: Some(bank), ..self }
    }

    /// The same graph, in which these weights are changed; before any layer is built.
    pub fn with_changes(self, changes: LowRankChanges) -> Self {
        assert!(self.nodes.is_empty(), "layers that are built already are not changed");
        Self { changes, ..self }
    }

    /// The same graph, in which backward passes make what stands within a layer (`layers.7…`) again from what it reads of others,
    /// instead of keeping it: a smaller arena for about a third more work, and the same bits. Named values are kept.
    /// Chen et al. 2016, arXiv:1604.06174.
    pub fn with_recomputed_layers(self) -> Self {
        Self { recomputes_layers: true, ..self }
    }

    /// The same graph, in which these things are random; before any layer is built. What is drawn depends on the input
    /// [`noise_seed`](Self::noise_seed).
    pub fn with_randomness(self, randomness: Randomness) -> Self {
        assert!(self.nodes.is_empty(), "layers that are built already are not random");
        Self { randomness, ..self }
    }

    pub(crate) fn change_of(&self, param: Param) -> Option<LowRankChange> {
        self.changes.get(&param).copied()
    }

    pub(crate) fn bank(&self) -> Option<&Bank> {
        self.bank.as_ref()
    }

    /// The nodes in order of execution.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The weights it is built over.
    pub fn params(&self) -> &'p Params {
        self.params
    }

    /// The states it declares.
    pub fn states(&self) -> &[StateSpec] {
        &self.states
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> Type {
        assert_eq!(value.graph, self.tag, "a value of another graph");
        self.nodes[value.index()].ty
    }

    /// The dimensions of a value, which must have exactly `N`.
    pub fn dims<const N: usize>(&self, value: Value) -> Result<[Dim; N]> {
        let shape = self.ty(value).shape;
        shape.dims().try_into().map_err(|_| {
            self.error("dims", format!("expected {N} dimensions, got {} {shape}", shape.dims().len()))
        })
    }

    /// The last dimension of a value.
    pub fn width(&self, value: Value) -> usize {
        self.ty(value).shape.width()
    }

    /// Runs `build` with `segment` added to the path that errors and drawings show.
    pub fn at<T>(&mut self, segment: impl Into<String>, build: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(segment.into());
        let built = build(self);
        self.path.pop();
        built
    }

    /// Names a computed value within the current path, so that it can be read and replaced while the graph runs.
    /// Naming an input or a weight has no effect: the caller has those already.
    pub fn name(&mut self, value: Value, name: &str) -> Value {
        let path = self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
        self.nodes[value.index()].name = Some(path);
        value
    }

    /// Declares a state; graphs of one model declare the same states in the same order.
    pub fn state(&mut self, spec: StateSpec) -> State {
        self.states.push(spec);
        State(self.states.len() as u32 - 1)
    }

    /// The weight as a value; the same value each time.
    pub fn weight(&mut self, param: Param) -> Value {
        let spec = self.params.spec(param);
        let ty = Type::f32(Shape::fixed(&spec.shape));
        self.once(format!("weight {}", param.index()), Op::Weight(Weight { param, ty }))
    }

    /// The run-time input of this name; the same value each time.
    pub fn input(&mut self, name: &'static str, ty: Type) -> Value {
        let value = self.once(format!("input {name}"), Op::Input(Input { name, ty }));
        assert_eq!(self.ty(value), ty, "input `{name}` is asked for as two types");
        value
    }

    /// (T) ids of the new tokens.
    pub fn token_ids(&mut self) -> Value {
        self.input("token_ids", Type::u32((Dim::Rows(crate::Axis::Tokens, 1),)))
    }

    /// (T) absolute positions of the new tokens.
    pub fn positions(&mut self) -> Value {
        self.input("positions", Type::u32((Dim::Rows(crate::Axis::Tokens, 1),)))
    }

    /// (T) types of the new tokens: which of two texts they belong to (BERT).
    pub fn token_types(&mut self) -> Value {
        self.input("token_types", Type::u32((Dim::Rows(crate::Axis::Tokens, 1),)))
    }

    /// (T) ids that the tokens should be followed by, for losses.
    pub fn targets(&mut self) -> Value {
        self.input("targets", Type::u32((Dim::Rows(crate::Axis::Tokens, 1),)))
    }

    /// (T) weights of the tokens in a loss.
    pub fn loss_weights(&mut self) -> Value {
        self.input("loss_weights", Type::f32((Dim::Rows(crate::Axis::Tokens, 1),)))
    }

    /// Adds a leaf unless `key` is there already.
    pub(crate) fn once(&mut self, key: String, op: Op) -> Value {
        if let Some(&value) = self.shared.get(&key) {
            return value;
        }
        let value = self.push(op, &[]).expect("a leaf has no inputs that could be wrong");
        self.nodes[value.index()].path.clear();
        self.shared.insert(key, value);
        value
    }

    /// Adds a value that several layers share, built on first use.
    pub(crate) fn shared(
        &mut self,
        key: String,
        build: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<Value> {
        if let Some(&value) = self.shared.get(&key) {
            return Ok(value);
        }
        let path = std::mem::replace(&mut self.path, vec![Self::SHARED.to_owned()]);
        let value = build(self);
        self.path = path;
        let value = value?;
        self.shared.insert(key, value);
        Ok(value)
    }

    /// Adds a node after checking its inputs.
    pub(crate) fn push(&mut self, op: Op, inputs: &[Value]) -> Result<Value> {
        for (index, input) in inputs.iter().enumerate() {
            if input.graph != self.tag {
                return Err(Error::ForeignValue { op: op.name(), path: self.path.join("."), index });
            }
        }
        let types: Vec<Type> = inputs.iter().map(|&input| self.ty(input)).collect();
        let ty = self.infer(&op, inputs, &types).map_err(|message| self.error(op.name(), message))?;
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            ty,
            path: self.path.join("."),
            name: None,
            adds_to: None,
        });
        Ok(Value { graph: self.tag, index: self.nodes.len() as u32 - 1 })
    }

    /// The type of what `op` makes of these inputs, once it is sure that devices can run it.
    fn infer(&self, op: &Op, inputs: &[Value], types: &[Type]) -> Result<Type, String> {
        for (i, ty) in types.iter().enumerate() {
            let is_appended = matches!(self.node(inputs[i]).op, Op::Append(_));
            if ty.shape.dims().contains(&Dim::Fixed(0)) && !is_appended {
                return Err(format!("input {i} is empty: {}", ty.shape));
            }
        }
        let ty = op.infer(types)?;
        for (i, &input) in inputs.iter().enumerate() {
            self.check_taken(op.takes(i, types), input).map_err(|message| format!("input {i}: {message}"))?;
        }
        Ok(ty)
    }

    /// Checks that a value is what an operator takes there.
    fn check_taken(&self, takes: Takes, input: Value) -> Result<(), String> {
        let node = self.node(input);
        let weight = match &node.op {
            Op::Weight(weight) => Some(self.params.spec(weight.param)),
            _ => None,
        };
        match (takes, weight) {
            (Takes::Anything, _) => Ok(()),
            (Takes::Weight(kinds), Some(spec)) if kinds.contains(&spec.kind) => Ok(()),
            (Takes::Numbers, Some(spec)) if spec.kind == ParamKind::Vector => Ok(()),
            (Takes::Numbers, None) if node.ty.dtype == DType::F32 => Ok(()),
            (Takes::Ids { below }, None) if node.ty.dtype == DType::U32 => {
                let types: Vec<Type> = node.inputs.iter().map(|&input| self.ty(input)).collect();
                match (below, node.op.ids_below(&types)) {
                    (Some(below), Some(of_node)) if of_node > below => {
                        Err(format!("ids below {of_node} where {below} is the end"))
                    }
                    _ => Ok(()),
                }
            }
            (takes, Some(spec)) => {
                Err(format!("expected {takes:?}, got weight `{}`, a {:?}", spec.name, spec.kind))
            }
            (takes, None) => Err(format!("expected {takes:?}, got {:?} {}", node.ty.dtype, node.ty.shape)),
        }
    }

    pub(crate) fn node(&self, value: Value) -> &Node {
        assert_eq!(value.graph, self.tag, "a value of another graph");
        &self.nodes[value.index()]
    }

    /// Makes a node a term of a weight's gradient. Nothing else reads it.
    pub(crate) fn add_to(&mut self, value: Value, param: Param) {
        assert!(self.owns(value));
        self.nodes[value.index()].adds_to = Some(param);
    }

    pub(crate) fn value_at(&self, index: usize) -> Value {
        assert!(index < self.nodes.len());
        Value { graph: self.tag, index: index as u32 }
    }

    pub(crate) fn owns(&self, value: Value) -> bool {
        value.graph == self.tag
    }

    pub(crate) fn error(&self, op: &'static str, message: String) -> Error {
        Error::Operator { op, path: self.path.join("."), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::ParamKind;

    #[test]
    fn an_error_names_operator_path_and_both_shapes() {
        let mut params = Params::default();
        let table = params.declare("embed", &[10, 8], ParamKind::Table);
        let wq = params.declare("layers.7.wq", &[8, 6], ParamKind::Matrix);
        let mut g = Graph::new(&params);
        let ids = g.token_ids();
        let x = g.embed(ids, table).unwrap();
        let error = g.at("layers.7", |g| g.at("attn", |g| g.linear(x, wq))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`linear` at `layers.7.attn`: weight (8, 6) takes rows of 6 numbers, got (T, 8)"
        );
    }

    #[test]
    fn a_value_of_another_graph_is_an_error() {
        let mut params = Params::default();
        let table = params.declare("embed", &[10, 8], ParamKind::Table);
        let mut one = Graph::new(&params);
        let mut other = Graph::new(&params);
        let ids = one.token_ids();
        assert!(matches!(other.embed(ids, table), Err(Error::ForeignValue { index: 0, .. })));
    }
}
