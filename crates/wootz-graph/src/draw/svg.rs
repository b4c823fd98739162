//! The drawing as SVG text, coloured for light and dark backgrounds.

use std::fmt::Write;

use super::Kind;
use super::layout::{Edge, Item, Layout, What, lines};

const MARGIN: f64 = 24.0;
const TITLE: f64 = 44.0;
const STYLE: &str = "\
text{font:12px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#1f2933}\
.title{font-size:16px;font-weight:600}.op{font-weight:600}.soft{fill:#66717f}.count{font-weight:600;fill:#2563ab}\
.page{fill:#fff}.frame{fill:#5b7ba3;fill-opacity:.06;stroke:#8fa3bb;stroke-opacity:.7}\
.box{fill:#fff;stroke:#b6c2cf}.input{stroke:#8a63c9}.product{stroke:#2f74c0}.mixing{stroke:#d07a1f}\
.line{fill:none;stroke:#7b8794;stroke-width:1.3}.tip{fill:#7b8794}\
@media(prefers-color-scheme:dark){text{fill:#e4e9ef}.soft{fill:#97a3b1}.count{fill:#7fb4ee}.page{fill:#14181d}\
.frame{fill:#9db8d8;stroke:#5d6f85}.box{fill:#1d232b;stroke:#4a5765}.input{stroke:#a98be0}.product{stroke:#5a9be0}\
.mixing{stroke:#e09a4a}.line{stroke:#8895a4}.tip{fill:#8895a4}}";

pub(super) fn write(layout: &Layout, title: &str) -> String {
    let root = &layout.items[0];
    let width = root.width.max(8.0 + 9.7 * title.chars().count() as f64) + 2.0 * MARGIN;
    let height = root.height + TITLE + 2.0 * MARGIN;
    let shift = (width - root.width) / 2.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\">\n<style>{STYLE}</style>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path class=\"tip\" d=\"M0 0.5L8 4L0 7.5z\"/></marker></defs>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"{:.0}\">{}</text>\n<g transform=\"translate({shift:.1} {:.1})\">\n",
        MARGIN + 12.0,
        escape(title),
        MARGIN + TITLE
    );
    layout.items[1..].iter().for_each(|item| frame(&mut svg, item));
    layout.edges.iter().for_each(|edge| line(&mut svg, edge));
    layout.items[1..].iter().for_each(|item| operator(&mut svg, item));
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn frame(svg: &mut String, item: &Item) {
    let What::Frame(frame) = &item.what else { return };
    let (left, y) = (item.x - item.width / 2.0, item.y);
    if frame.repeats > 1 {
        // The layers behind this one.
        let _ = writeln!(svg, "{}", rect("frame", left + 6.0, y + 6.0, item.width, item.height, 10.0));
    }
    let _ = writeln!(svg, "{}", rect("frame", left, y, item.width, item.height, 10.0));
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\"><tspan class=\"soft\">{}</tspan>",
        left + 10.0,
        y + 16.0,
        escape(&frame.label)
    );
    if frame.repeats > 1 {
        let _ = write!(svg, "<tspan class=\"count\" dx=\"8\">× {}</tspan>", frame.repeats);
    }
    svg.push_str("</text>\n");
}

fn operator(svg: &mut String, item: &Item) {
    let What::Box { label, shared, name } = &item.what else { return };
    let (class, radius) = match label.kind {
        Kind::Input => ("box input", item.height / 2.0),
        Kind::Product => ("box product", 5.0),
        Kind::Mixing => ("box mixing", 5.0),
        Kind::Other => ("box", 5.0),
    };
    let left = item.x - item.width / 2.0;
    let _ = writeln!(svg, "{}", rect(class, left, item.y, item.width, item.height, radius));
    for (i, text) in lines(label, shared, name).iter().enumerate() {
        let y = item.y + 18.0 + 16.0 * i as f64;
        let rest = text.strip_prefix(&label.title[..]).filter(|_| i == 0);
        let spans = match rest {
            Some(rest) => format!("<tspan class=\"op\">{}</tspan>{}", escape(&label.title), escape(rest)),
            None => format!("<tspan class=\"soft\">{}</tspan>", escape(text)),
        };
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{spans}</text>", item.x);
    }
}

/// Vertical stretches, joined by curves that leave and arrive vertically.
fn line(svg: &mut String, edge: &Edge) {
    let (x, y, _) = edge.stretches[0];
    let mut path = format!("M{x:.1} {y:.1}V{:.1}", edge.stretches[0].2);
    for pair in edge.stretches.windows(2) {
        let ((x0, _, y0), (x1, y1, end)) = (pair[0], pair[1]);
        let bend = ((y1 - y0) / 2.0).max(4.0);
        let _ = write!(path, "C{x0:.1} {:.1} {x1:.1} {:.1} {x1:.1} {y1:.1}V{end:.1}", y0 + bend, y1 - bend);
    }
    let _ = writeln!(svg, "<path class=\"line\" marker-end=\"url(#tip)\" d=\"{path}\"/>");
}

fn rect(class: &str, x: f64, y: f64, width: f64, height: f64, radius: f64) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\"/>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
