//! Which nodes are drawn, and in which frames: repeated layers once, views never.
//!
//! Idea:   a layer is a run of nodes under one numbered path. Its signature is what its boxes would say; a run of
//!         layers whose signatures repeat with a short period is drawn once, and its other layers stand for it.

use std::collections::HashMap;

use super::Label;
use crate::graph::Graph;
use crate::ops::Op;

/// Layers of a hybrid model repeat at most this far apart.
const LONGEST_PERIOD: usize = 12;

/// A frame around operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub label: String,
    /// How many layers it stands for.
    pub repeats: usize,
}

/// A node with its box and the frames around it, outermost first.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub node: usize,
    pub label: Label,
    pub frames: Vec<Frame>,
}

/// The shown nodes in order, and for every node the shown one that it is drawn as.
#[derive(Debug)]
pub(super) struct Folded {
    pub shown: Vec<Shown>,
    pub drawn_as: HashMap<usize, usize>,
}

/// Nodes under one numbered path, or between those.
struct Run {
    layer: Option<String>,
    nodes: Vec<(usize, Label)>,
}

impl Run {
    fn same_as(&self, other: &Run) -> bool {
        self.layer.is_some()
            && other.layer.is_some()
            && self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(|(a, b)| a.1 == b.1)
    }
}

pub(super) fn fold(graph: &Graph) -> Folded {
    let runs = runs(graph);
    let mut folded = Folded { shown: Vec::new(), drawn_as: HashMap::new() };
    let mut at = 0;
    while at < runs.len() {
        let (period, repeats) = repetition(&runs[at..]);
        let end = at + period * repeats;
        for (offset, run) in runs[at..at + period].iter().enumerate() {
            let last = &runs[end - period + offset];
            for (i, (node, label)) in run.nodes.iter().enumerate() {
                let path = &graph.nodes()[*node].path;
                let mut frames = frames_of(path);
                match (period, run.layer.as_deref().zip(last.layer.as_deref())) {
                    (1, Some((first, last))) if repeats > 1 => {
                        let frame = &mut frames[frames_of(first).len() - 1];
                        *frame = Frame { label: format!("{first} … {last}"), repeats };
                    }
                    (_, Some(_)) if repeats > 1 => {
                        let (first, last) = (&runs[at].layer, &runs[end - 1].layer);
                        let name = |layer: &Option<String>| layer.clone().unwrap_or_default();
                        let label = format!("{} … {}", name(first), name(last));
                        frames.insert(0, Frame { label, repeats });
                    }
                    _ => {}
                }
                folded.shown.push(Shown { node: *node, label: label.clone(), frames });
                for repeat in 0..repeats {
                    let (hidden, _) = runs[at + repeat * period + offset].nodes[i];
                    folded.drawn_as.insert(hidden, *node);
                }
            }
        }
        at = end;
    }
    folded
}

/// How often the first runs repeat, and how many make up one repetition: what covers most.
fn repetition(runs: &[Run]) -> (usize, usize) {
    let repeats = |period: usize| {
        let same =
            |from: usize| (0..period).all(|i| runs.get(from + i).is_some_and(|run| run.same_as(&runs[i])));
        1 + (1..).take_while(|&times| same(times * period)).count()
    };
    let mut best = (1, 1);
    for period in 1..=LONGEST_PERIOD.min(runs.len()) {
        let repeats = repeats(period);
        if repeats > 1 && period * repeats > best.0 * best.1 {
            best = (period, repeats);
        }
    }
    best
}

/// What all layers share comes first, whoever asked for it first.
fn runs(graph: &Graph) -> Vec<Run> {
    let labels = graph.nodes().iter().enumerate().filter_map(|(i, node)| Some((i, Label::of(node, graph)?)));
    let is_shared = |node: &(usize, Label)| {
        let node = &graph.nodes()[node.0];
        matches!(node.op, Op::Input(_)) || node.path == Graph::SHARED
    };
    let (shared, others): (Vec<_>, Vec<_>) = labels.partition(is_shared);
    let mut runs = vec![Run { layer: None, nodes: shared }];
    for node in others {
        let layer = layer_of(&graph.nodes()[node.0].path);
        match runs.last_mut() {
            Some(run) if run.layer == layer => run.nodes.push(node),
            _ => runs.push(Run { layer, nodes: vec![node] }),
        }
    }
    runs
}

/// `layers.7` of `layers.7.attn`: the path up to its first number.
fn layer_of(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('.').collect();
    let number = segments.iter().position(|segment| segment.parse::<usize>().is_ok())?;
    Some(segments[..=number].join("."))
}

/// The segments of a path, a number together with what it counts.
fn frames_of(path: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for segment in path.split('.').filter(|segment| !segment.is_empty() && *segment != Graph::SHARED) {
        match frames.last_mut() {
            Some(counted) if segment.parse::<usize>().is_ok() => {
                counted.label = format!("{}.{segment}", counted.label);
            }
            _ => frames.push(Frame { label: segment.to_owned(), repeats: 1 }),
        }
    }
    frames
}
