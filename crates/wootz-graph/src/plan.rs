//! Plans: which steps run in which order, and where every value lies in one arena.
//!
//! Where:  made once per graph variant and row capacity, executed by a [`Device`](crate::Device) many times.
//! Idea:   rows are bounded by a capacity (powers of two), so every buffer has a size and, by its liveness, a
//!         fixed offset. A plan never depends on how many rows or sequences there happen to be.
//!
//! # Invariants
//! - Two values that are alive at the same step never overlap, unless one is the other seen through a shape.
//! - A step never writes where it reads.
//! - Every offset is a multiple of 64 bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bank::Site;
use crate::batch::{Batch, Rows};
use crate::cost::Cost;
use crate::graph::{Graph, Node, Value};
use crate::ops::{Op, Takes};
use crate::param::{Param, ParamSpec};
use crate::shape::Type;
use crate::state::StateSpec;
use crate::{Error, Result};

/// Numbers of 4 bytes in 64 bytes.
const ALIGN: usize = 16;
/// No arena has more numbers: their bytes can still be counted.
const MAX_WORDS: usize = isize::MAX as usize / 8;

/// What a plan is made for.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The most rows of each axis.
    pub capacity: Rows,
}

/// A schedule with fixed places.
#[derive(Debug)]
pub struct Plan {
    pub(crate) nodes: Vec<Node>,
    pub(crate) steps: Vec<Step>,
    pub(crate) places: Vec<Place>,
    pub(crate) outputs: Vec<usize>,
    /// For each step the named values that are there after it.
    pub(crate) named: Vec<Vec<usize>>,
    /// What it reads from a batch.
    pub(crate) inputs: Vec<PlanInput>,
    /// The weights that it reads.
    pub(crate) weights: Vec<(Param, ParamSpec)>,
    /// The weights whose gradients it adds to, and how many numbers they have.
    pub(crate) gradients: Vec<(Param, usize)>,
    /// Where it adds what adapters have, and the shape (n, k) there.
    pub(crate) sites: HashMap<Site, [usize; 2]>,
    tag: u64,
    capacity: Rows,
    states: Vec<StateSpec>,
    words: usize,
}

/// A run-time input of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanInput {
    pub name: &'static str,
    pub ty: Type,
    /// Every id is below this.
    pub below: Option<usize>,
}

static NEXT_TAG: AtomicU64 = AtomicU64::new(0);

/// Where a node's value is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nobody needs it.
    Nowhere,
    /// Among the loaded weights.
    Weight(Param),
    /// Among the batch's inputs.
    Input(&'static str),
    /// In the arena, from this number of 4 bytes on.
    Arena(usize),
    /// Added to a weight's gradient.
    Gradient(Param),
}

/// What is executed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One node.
    One { node: usize },
    /// Linear layers over the same input: one pass over the activations.
    Linears { nodes: Vec<usize> },
    /// Parts of one computation: the gradients of one node's inputs.
    Parts { nodes: Vec<usize> },
}

impl Step {
    /// The nodes that this step computes.
    pub(crate) fn nodes(&self) -> &[usize] {
        match self {
            Step::One { node } => std::slice::from_ref(node),
            Step::Linears { nodes } | Step::Parts { nodes } => nodes,
        }
    }
}

impl Plan {
    /// Plans what `outputs` need, and all gradients of weights that the graph adds to.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if an output is of another graph, or more memory is needed than can be addressed.
    pub fn new(graph: &Graph, outputs: &[Value], options: &PlanOptions) -> Result<Self> {
        if outputs.iter().any(|&output| !graph.owns(output)) {
            return Err(Error::Mismatch("an output belongs to another graph".to_owned()));
        }
        let nodes = graph.nodes().to_vec();
        let outputs: Vec<usize> = outputs.iter().map(|value| value.index()).collect();
        let terms = (0..nodes.len()).filter(|&index| nodes[index].adds_to.is_some());
        let roots: Vec<usize> = outputs.iter().copied().chain(terms).collect();
        let needed = reachable(&nodes, &roots);
        let steps = schedule(&nodes, &needed);
        let too_large = || Error::Mismatch(format!("a plan for {:?} fits into no memory", options.capacity));
        let words: Vec<usize> = nodes
            .iter()
            .map(|node| words(node, &options.capacity))
            .collect::<Option<_>>()
            .ok_or_else(too_large)?;
        let mut arena = Arena::default();
        let places = place(&nodes, &outputs, &needed, &steps, &words, &mut arena);
        if arena.end > MAX_WORDS {
            return Err(too_large());
        }
        Ok(Self {
            named: steps.iter().map(|step| named_after(&nodes, &needed, step)).collect(),
            inputs: inputs(&nodes, &needed),
            weights: weights(graph, &needed),
            gradients: gradients(graph),
            sites: sites(&nodes, &needed),
            nodes,
            steps,
            places,
            outputs,
            tag: NEXT_TAG.fetch_add(1, Ordering::Relaxed),
            capacity: options.capacity,
            states: graph.states().to_vec(),
            words: arena.end,
        })
    }

    /// A number that no other plan of this process has.
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// The most rows that it can run.
    pub fn capacity(&self) -> Rows {
        self.capacity
    }

    /// Bytes of the arena that it runs in.
    pub fn arena_bytes(&self) -> usize {
        4 * self.words
    }

    /// The states that the graph declared.
    pub fn states(&self) -> &[StateSpec] {
        &self.states
    }

    /// How many steps it takes.
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// The types of its outputs.
    pub fn output_types(&self) -> Vec<Type> {
        self.outputs.iter().map(|&node| self.nodes[node].ty).collect()
    }

    /// Arithmetic and traffic of one batch, by operator name.
    pub fn cost(&self, batch: &Batch) -> Vec<(&'static str, Cost)> {
        let mut by_name: Vec<(&'static str, Cost)> = Vec::new();
        for &index in self.steps.iter().flat_map(Step::nodes) {
            let node = &self.nodes[index];
            let types: Vec<Type> = node.inputs.iter().map(|input| self.nodes[input.index()].ty).collect();
            let cost = node.op.cost(&types, &node.ty, batch);
            match by_name.iter_mut().find(|(name, _)| *name == node.op.name()) {
                Some((_, sum)) => *sum = *sum + cost,
                None => by_name.push((node.op.name(), cost)),
            }
        }
        by_name
    }

    /// The place of a value that is this node or another seen through a shape.
    pub(crate) fn place(&self, node: usize) -> Place {
        self.places[self.root(node)]
    }

    /// The node whose buffer this node's value is.
    pub(crate) fn root(&self, node: usize) -> usize {
        root(&self.nodes, node)
    }
}

/// The node whose buffer this node's value is.
fn root(nodes: &[Node], mut index: usize) -> usize {
    while let Some(input) = nodes[index].op.alias() {
        index = nodes[index].inputs[input].index();
    }
    index
}

fn reachable(nodes: &[Node], outputs: &[usize]) -> Vec<bool> {
    let mut needed = vec![false; nodes.len()];
    outputs.iter().for_each(|&output| needed[output] = true);
    for index in (0..nodes.len()).rev() {
        if needed[index] {
            nodes[index].inputs.iter().for_each(|input| needed[input.index()] = true);
        }
    }
    needed
}

/// Numbers of 4 bytes that a node's value takes at most; none if that cannot be counted.
fn words(node: &Node, capacity: &Rows) -> Option<usize> {
    let shape = node.ty.shape;
    let rows = shape.rows().map_or(Some(1), |(axis, times)| capacity.of(axis).checked_mul(times))?;
    let words = rows.checked_mul(shape.inner())?.checked_next_multiple_of(ALIGN)?;
    (words <= MAX_WORDS).then_some(words)
}

fn named_after(nodes: &[Node], needed: &[bool], step: &Step) -> Vec<usize> {
    let is_of = |&i: &usize| needed[i] && nodes[i].name.is_some() && step.nodes().contains(&root(nodes, i));
    (0..nodes.len()).filter(is_of).collect()
}

/// The inputs that are read, with the tightest bound that any reader has for their ids.
fn inputs(nodes: &[Node], needed: &[bool]) -> Vec<PlanInput> {
    let mut inputs: Vec<(usize, PlanInput)> = Vec::new();
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| needed[*index]) {
        if let Op::Input(input) = &node.op {
            inputs.push((index, PlanInput { name: input.name, ty: input.ty, below: None }));
        }
        let types: Vec<Type> = node.inputs.iter().map(|input| nodes[input.index()].ty).collect();
        for (i, read) in node.inputs.iter().enumerate() {
            let read = root(nodes, read.index());
            if let Takes::Ids { below: Some(below) } = node.op.takes(i, &types)
                && let Some((_, input)) = inputs.iter_mut().find(|(index, _)| *index == read)
            {
                input.below = Some(input.below.map_or(below, |earlier| earlier.min(below)));
            }
        }
    }
    inputs.into_iter().map(|(_, input)| input).collect()
}

fn weights(graph: &Graph, needed: &[bool]) -> Vec<(Param, ParamSpec)> {
    let trained = gradients(graph);
    let weight = |(node, needed): (&Node, &bool)| match &node.op {
        Op::Weight(weight) if *needed || trained.iter().any(|(param, _)| *param == weight.param) => {
            Some((weight.param, graph.params().spec(weight.param).clone()))
        }
        _ => None,
    };
    graph.nodes().iter().zip(needed).filter_map(weight).collect()
}

/// The weights that nodes add gradients to.
fn gradients(graph: &Graph) -> Vec<(Param, usize)> {
    let mut params: Vec<Param> = graph.nodes().iter().filter_map(|node| node.adds_to).collect();
    params.sort_unstable();
    params.dedup();
    params.into_iter().map(|param| (param, graph.params().spec(param).n_elements())).collect()
}

/// The sites of the bank that are needed.
fn sites(nodes: &[Node], needed: &[bool]) -> HashMap<Site, [usize; 2]> {
    let site = |(node, needed): (&Node, &bool)| match &node.op {
        Op::Adapt(adapt) if *needed => {
            let width =
                |input: usize| node.inputs.get(input).map_or(0, |x| nodes[x.index()].ty.shape.width());
            Some((adapt.site, [width(0), width(1)]))
        }
        _ => None,
    };
    nodes.iter().zip(needed).filter_map(site).collect()
}

/// What linear layers must have in common to be one pass over the same rows: the rows and their width, and a part
/// of the model, so that rows that many layers read do not bring all of those layers' outputs to life at once.
fn linear_group(nodes: &[Node], index: usize) -> Option<(usize, usize, &str)> {
    let node = &nodes[index];
    let weights_are_leaves = || node.inputs[1..].iter().all(|w| matches!(nodes[w.index()].op, Op::Weight(_)));
    if !matches!(node.op, Op::Linear(_)) || !weights_are_leaves() {
        return None;
    }
    let width = nodes[node.inputs[0].index()].ty.shape.width();
    let part = node.path.match_indices('.').nth(1).map_or(&node.path[..], |(end, _)| &node.path[..end]);
    Some((root(nodes, node.inputs[0].index()), width, part))
}

/// The needed nodes in order; linear layers over the same rows, and parts of one computation, drawn together at the first of
/// them.
fn schedule(nodes: &[Node], needed: &[bool]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut groups = HashMap::new();
    let mut wholes = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let is_leaf = matches!(node.op, Op::Input(_) | Op::Weight(_));
        if !needed[index] || is_leaf || node.op.alias().is_some() {
            continue;
        }
        if let Some(part) = node.op.part() {
            let whole = (part.whole, node.op.name(), &node.inputs);
            let at = *wholes.entry(whole).or_insert(steps.len());
            match steps.get_mut(at) {
                Some(Step::Parts { nodes: parts }) if is_another_part(nodes, parts, index) => {
                    parts.push(index)
                }
                _ => steps.push(Step::Parts { nodes: vec![index] }),
            }
            continue;
        }
        let Some(group) = linear_group(nodes, index) else {
            steps.push(Step::One { node: index });
            continue;
        };
        let at = *groups.entry(group).or_insert(steps.len());
        match steps.get_mut(at) {
            Some(Step::Linears { nodes }) => nodes.push(index),
            _ => steps.push(Step::Linears { nodes: vec![index] }),
        }
    }
    steps
}

/// Whether a node is none of these parts, and adds to no gradient that one of them adds to.
fn is_another_part(nodes: &[Node], parts: &[usize], index: usize) -> bool {
    let node = &nodes[index];
    parts.iter().map(|&part| &nodes[part]).all(|other| {
        let is_same = other.op.part().map(|part| part.index) == node.op.part().map(|part| part.index);
        let adds_alike = node.adds_to.is_some() && other.adds_to == node.adds_to;
        !is_same && !adds_alike
    })
}

/// Gives every value its place.
fn place(
    nodes: &[Node],
    outputs: &[usize],
    needed: &[bool],
    steps: &[Step],
    words: &[usize],
    arena: &mut Arena,
) -> Vec<Place> {
    let mut places = vec![Place::Nowhere; nodes.len()];
    let mut last_use = vec![0; nodes.len()];
    for (at, step) in steps.iter().enumerate() {
        for &index in step.nodes() {
            last_use[index] = at;
            nodes[index].inputs.iter().for_each(|input| last_use[root(nodes, input.index())] = at);
        }
    }
    outputs.iter().for_each(|&output| last_use[root(nodes, output)] = usize::MAX);
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| needed[*index]) {
        match &node.op {
            Op::Weight(weight) => places[index] = Place::Weight(weight.param),
            Op::Input(input) => places[index] = Place::Input(input.name),
            op if op.adds() => {
                if let Some(param) = node.adds_to {
                    places[index] = Place::Gradient(param);
                }
            }
            _ => {}
        }
    }
    let mut alive: Vec<(usize, usize)> = Vec::new(); // (node, words)
    for (at, step) in steps.iter().enumerate() {
        for &index in step.nodes() {
            if places[index] == Place::Nowhere {
                places[index] = Place::Arena(arena.take(words[index]));
                alive.push((index, words[index]));
            }
        }
        alive.retain(|&(index, words)| {
            let over = last_use[index] <= at;
            if over && let Place::Arena(offset) = places[index] {
                arena.give_back(offset, words);
            }
            !over
        });
    }
    places
}

/// Free ranges of a growing arena.
#[derive(Debug, Default)]
struct Arena {
    /// (offset, words), by offset, never touching each other.
    free: Vec<(usize, usize)>,
    end: usize,
}

impl Arena {
    /// The smallest free range that fits, or new room at the end.
    fn take(&mut self, words: usize) -> usize {
        let best = (0..self.free.len()).filter(|&i| self.free[i].1 >= words).min_by_key(|&i| self.free[i].1);
        if let Some(i) = best {
            let (offset, len) = self.free[i];
            if len == words {
                self.free.remove(i);
            } else {
                self.free[i] = (offset + words, len - words);
            }
            return offset;
        }
        // A free range at the very end can grow.
        let offset = match self.free.last() {
            Some(&(offset, len)) if offset + len == self.end => {
                self.free.pop();
                offset
            }
            _ => self.end,
        };
        self.end = offset.saturating_add(words);
        offset
    }

    fn give_back(&mut self, offset: usize, words: usize) {
        if words == 0 {
            return;
        }
        let at = self.free.partition_point(|range| range.0 < offset);
        self.free.insert(at, (offset, words));
        if at + 1 < self.free.len() && offset + words == self.free[at + 1].0 {
            self.free[at].1 += self.free.remove(at + 1).1;
        }
        if at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == offset {
            self.free[at - 1].1 += self.free.remove(at).1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::activation::Activation;
    use crate::param::{ParamKind, Params};

    #[test]
    fn freed_neighbours_become_one_range() {
        let mut arena = Arena::default();
        let [a, b, c] = [16, 32, 16].map(|words| arena.take(words));
        arena.give_back(a, 16);
        arena.give_back(c, 16);
        arena.give_back(b, 32);
        assert_eq!(arena.free, [(0, 64)]);
        assert_eq!((arena.take(64), arena.end), (0, 64));
    }

    #[test]
    fn layers_over_the_same_rows_run_at_once_and_buffers_are_reused() {
        let mut params = Params::default();
        let table = params.declare("embed", &[10, 8], ParamKind::Table);
        let [gate, up, down] =
            ["gate", "up", "down"].map(|name| params.declare(name, &[8, 8], ParamKind::Matrix));
        let mut g = Graph::new(&params);
        let ids = g.token_ids();
        let x = g.embed(ids, table).unwrap();
        let gate = g.linear(x, gate).unwrap();
        let up = g.linear(x, up).unwrap();
        let y = g.gated(gate, up, Activation::Silu).unwrap();
        let y = g.linear(y, down).unwrap();
        let y = g.add(x, y).unwrap();
        let capacity = Rows { tokens: 4, ..Rows::default() };
        let plan = Plan::new(&g, &[y], &PlanOptions { capacity }).unwrap();
        let shown: Vec<String> = plan
            .steps
            .iter()
            .map(|step| match step {
                Step::One { node } => plan.nodes[*node].op_name().to_owned(),
                Step::Linears { nodes } => format!("linear × {}", nodes.len()),
                Step::Parts { nodes } => format!("parts × {}", nodes.len()),
            })
            .collect();
        assert_eq!(shown, ["embed", "linear × 2", "gated", "linear × 1", "add"]);
        assert_eq!(
            plan.arena_bytes(),
            4 * 4 * 8 * 4,
            "x, gate, up and their product; `down` reuses gate's place"
        );
    }
}
