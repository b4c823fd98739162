//! A graph as a picture: nodes by layer path, edges by data flow, as a self-contained SVG.
//!
//! Where:  `wootz show --graph`.
//! Idea:   the list of nodes is a schedule already, so each node is a line; its path indents it, and edges are
//!         drawn as arcs at the side. Layers that repeat are drawn once.

use std::fmt::Write;

use crate::graph::{Graph, Node};
use crate::ops::Op;

const LINE: f64 = 18.0;
const LEFT: f64 = 120.0;

/// The graph as an SVG document.
pub fn draw_svg(graph: &Graph, title: &str) -> String {
    let shown = shown_nodes(graph);
    let line_of = |index: usize| shown.iter().position(|&(i, _)| i == index);
    let height = LINE * (shown.len() as f64 + 4.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" viewBox=\"0 0 900 {height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"12\">\n\
         <style>text{{fill:#222}}.p{{fill:#777}}.e{{fill:none;stroke:#4a7dbd;stroke-opacity:.45}}\
         @media(prefers-color-scheme:dark){{text{{fill:#ddd}}.p{{fill:#999}}}}</style>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
        escape(title)
    );
    for (line, (index, note)) in shown.iter().enumerate() {
        let node = &graph.nodes()[*index];
        let y = LINE * (line as f64 + 3.0);
        for input in &node.inputs {
            let Some(from) = line_of(input.index()) else { continue };
            let y0 = LINE * (from as f64 + 3.0);
            let bend = (LEFT - 12.0 - 5.0 * (line - from) as f64).max(6.0);
            let (x, y0, y1) = (LEFT - 6.0, y0 - 4.0, y - 4.0);
            let _ = writeln!(svg, "<path class=\"e\" d=\"M{x} {y0} C{bend} {y0} {bend} {y1} {x} {y1}\"/>");
        }
        let label = escape(&label(node, graph));
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{y}\">{label}<tspan class=\"p\">  {}{}</tspan></text>",
            escape(node.name.as_deref().unwrap_or(&node.path)),
            escape(note),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Nodes worth a line, repeated layers left out with a note on the last one shown.
fn shown_nodes(graph: &Graph) -> Vec<(usize, String)> {
    let mut shown: Vec<(usize, String)> = Vec::new();
    let mut signatures: Vec<(String, Vec<String>)> = Vec::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        if matches!(node.op, Op::Weight(_)) {
            continue;
        }
        let layer = layer_of(&node.path);
        if signatures.last().is_none_or(|(last, _)| *last != layer) {
            signatures.push((layer, Vec::new()));
        }
        let (_, lines) = signatures.last_mut().expect("one was just pushed");
        lines.push(label(node, graph));
        shown.push((index, String::new()));
    }
    let mut kept = Vec::new();
    let (mut at, mut i) = (0, 0);
    while i < signatures.len() {
        let (layer, lines) = &signatures[i];
        let repeats = signatures[i + 1..].iter().take_while(|(_, other)| other == lines).count();
        let is_layer = layer.starts_with("layers.");
        let skip = if is_layer { repeats } else { 0 };
        kept.extend_from_slice(&shown[at..at + lines.len()]);
        if skip > 0
            && let Some(last) = kept.last_mut()
        {
            last.1 = format!("   … and {skip} more layers like this");
        }
        at += signatures[i..=i + skip].iter().map(|(_, lines)| lines.len()).sum::<usize>();
        i += skip + 1;
    }
    kept
}

/// `layers.7` of `layers.7.attn`.
fn layer_of(path: &str) -> String {
    path.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

fn label(node: &Node, graph: &Graph) -> String {
    let weights: Vec<String> = node
        .inputs
        .iter()
        .filter_map(|input| match &graph.node(*input).op {
            Op::Weight(weight) => Some(graph.params().spec(weight.param)),
            _ => None,
        })
        .map(|spec| {
            let short = spec.name.rsplit('.').next().unwrap_or(&spec.name);
            format!("{short}{:?}", spec.shape)
        })
        .collect();
    let name = match &node.op {
        Op::Input(input) => input.name,
        op => op.name(),
    };
    format!("{name} {} → {}", weights.join(" "), node.ty.shape)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
