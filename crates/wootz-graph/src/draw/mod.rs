//! A graph as a picture: operators from top to bottom, layers as frames, as one self-contained SVG.
//!
//! Where:  `wootz show --graph`.
//! Idea:   paths nest the operators in frames; in a frame an operator stands one row below what it reads, so that
//!         what is independent stands side by side. Layers that repeat are drawn once and counted. Views through
//!         another shape are not drawn, and what many layers share (positions, rotary tables) is named instead of
//!         connected: the lines that remain are the flow.
//! Elsewhere: which nodes are shown and how they nest (`fold`), where they stand (`layout`), the SVG (`svg`).

mod fold;
mod layout;
mod svg;

use crate::graph::{Graph, Node};
use crate::ops::Op;

/// The graph as an SVG document, for light and dark backgrounds alike.
pub fn draw_svg(graph: &Graph, title: &str) -> String {
    let shown = fold::fold(graph);
    let layout = layout::Layout::new(graph, &shown);
    svg::write(&layout, title)
}

/// What a box says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Label {
    /// The operator, and what there is to know of it.
    title: String,
    detail: String,
    /// Its weights with their shapes.
    weights: String,
    /// The shape of its output.
    shape: String,
    kind: Kind,
}

/// What an operator is about, which decides its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    Input,
    /// Multiplies by matrices or looks rows up in them.
    Product,
    /// Tokens look at others of their sequence.
    Mixing,
    #[default]
    Other,
}

impl Label {
    /// `None` for what is not drawn: weights stand in the boxes that read them, views are their values.
    fn of(node: &Node, graph: &Graph) -> Option<Self> {
        if matches!(node.op, Op::Weight(_)) || node.op.alias().is_some() {
            return None;
        }
        let weight = |spec: &crate::ParamSpec| {
            let shape: Vec<String> = spec.shape.iter().map(usize::to_string).collect();
            format!("{} {}", spec.name.rsplit('.').next().unwrap_or(&spec.name), shape.join(" × "))
        };
        let weights: Vec<String> = node
            .inputs
            .iter()
            .filter_map(|input| match &graph.node(*input).op {
                Op::Weight(of) => Some(weight(graph.params().spec(of.param))),
                _ => None,
            })
            .collect();
        let (title, kind) = match &node.op {
            Op::Input(input) => (input.name, Kind::Input),
            Op::Linear(_) | Op::Embed(_) | Op::ExpertLinear(_) | Op::HeadLinear(_) | Op::TokenLogprobs(_) => {
                (node.op.name(), Kind::Product)
            }
            Op::Attend(_) | Op::Conv1d(_) | Op::SelectiveScan(_) | Op::SsdScan(_) | Op::Pool(_) => {
                (node.op.name(), Kind::Mixing)
            }
            _ => (node.op.name(), Kind::Other),
        };
        let detail = match &node.op {
            Op::Append(append) => graph.states()[append.state.0 as usize].name.clone(),
            op => op.detail(),
        };
        let shape = if matches!(node.op, Op::Append(_)) { String::new() } else { node.ty.shape.to_string() };
        Some(Label { title: title.to_owned(), detail, weights: weights.join(", "), shape, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::drawn_llama;

    #[test]
    fn repeated_layers_are_drawn_once_and_counted() {
        let svg = drawn_llama(|graph| draw_svg(graph, "a <small> Llama"));
        assert_eq!(svg.matches(">attend<").count(), 1);
        assert!(svg.contains("layers.0 … layers.1") && svg.contains("× 2"));
        assert!(svg.contains("a &lt;small&gt; Llama"));
        assert!(svg.contains("wq 24 × 12") && svg.contains("(T, 12)"));
    }

    #[test]
    fn boxes_lie_apart_and_inside_their_frames() {
        drawn_llama(|graph| layout::Layout::new(graph, &fold::fold(graph)).check());
    }
}
