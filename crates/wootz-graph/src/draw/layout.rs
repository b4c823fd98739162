//! Where boxes and frames stand, and how lines go around them.
//!
//! Idea:   in a frame, an item (a box or an inner frame) stands in the row below the lowest item that it reads.
//!         Rows are centred. A line to the next row is a curve; one that passes rows gets a lane at their side, in
//!         every frame that it has to leave, pass or enter, and lanes of one frame do not share height.
//! Source: Sugiyama, Tagawa, Toda 1981, for rows and for lines that pass them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::Label;
use super::fold::{Folded, Frame, Shown};
use crate::graph::Graph;
use crate::ops::Op;

const CHAR: f64 = 7.25;
const LINE: f64 = 16.0;
const ROW_GAP: f64 = 26.0;
const ITEM_GAP: f64 = 18.0;
const LANE: f64 = 11.0;
const PAD: f64 = 16.0;
const HEAD: f64 = 24.0;

/// A box or a frame. Frames come before what is in them.
#[derive(Debug)]
pub(super) struct Item {
    parent: usize,
    depth: usize,
    children: Vec<usize>,
    pub what: What,
    row: usize,
    /// Centre and top; relative to the frame's until the end.
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    /// Of a frame: what is beyond its rows to the left and to the right.
    rows: Vec<Row>,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
pub(super) enum What {
    Frame(Frame),
    /// With the names of what it shares with others, and its own.
    Box {
        label: Label,
        shared: String,
        name: String,
    },
}

#[derive(Clone, Debug, Default)]
struct Row {
    top: f64,
    bottom: f64,
    half_width: f64,
}

/// A line beside some rows of a frame.
#[derive(Debug)]
struct Lane {
    edge: usize,
    rows: Range<usize>,
    x: f64,
}

/// A line from box to box, as vertical stretches `(x, from y, to y)` with curves between.
#[derive(Debug)]
pub(super) struct Edge {
    from: usize,
    to: usize,
    pub stretches: Vec<(f64, f64, f64)>,
}

/// The whole drawing.
#[derive(Debug)]
pub(super) struct Layout {
    pub items: Vec<Item>,
    pub edges: Vec<Edge>,
}

impl Layout {
    pub(super) fn new(graph: &Graph, folded: &Folded) -> Self {
        let mut layout = Self {
            items: vec![Item::new(0, 0, What::Frame(Frame { label: String::new(), repeats: 1 }))],
            edges: Vec::new(),
        };
        let links = links(graph, folded);
        let mut of_node = HashMap::new();
        let mut open = vec![0];
        for shown in &folded.shown {
            let Some(what) = links.what(graph, shown) else { continue };
            layout.open_frames(&mut open, &shown.frames);
            let parent = *open.last().expect("the root stays open");
            of_node.insert(shown.node, layout.add(parent, what));
        }
        layout.edges = links
            .drawn
            .iter()
            .map(|(from, to)| Edge { from: of_node[from], to: of_node[to], stretches: Vec::new() })
            .collect();
        layout.set_rows();
        layout.measure(0);
        layout.place();
        layout.route();
        layout
    }

    fn add(&mut self, parent: usize, what: What) -> usize {
        let depth = self.items[parent].depth + 1;
        self.items.push(Item::new(parent, depth, what));
        let index = self.items.len() - 1;
        self.items[parent].children.push(index);
        index
    }

    /// Closes frames that the next box is not in, and opens those that it is.
    fn open_frames(&mut self, open: &mut Vec<usize>, frames: &[Frame]) {
        let is_open = |pair: &(&usize, &Frame)| match &self.items[*pair.0].what {
            What::Frame(frame) => frame == pair.1,
            What::Box { .. } => false,
        };
        let n = open[1..].iter().zip(frames).take_while(|pair| is_open(pair)).count();
        open.truncate(1 + n);
        for frame in &frames[n..] {
            let parent = *open.last().expect("the root stays open");
            open.push(self.add(parent, What::Frame(frame.clone())));
        }
    }

    /// The items in which a line leaves `from` and enters `to`, from the common frame inwards.
    fn chain(&self, item: usize, depth: usize) -> Vec<usize> {
        let mut chain = vec![item];
        while self.items[chain[0]].depth > depth {
            chain.insert(0, self.items[chain[0]].parent);
        }
        chain
    }

    /// Both ends of an edge as children of their common frame and inwards.
    fn chains(&self, edge: &Edge) -> (Vec<usize>, Vec<usize>) {
        let (from, to) = (self.chain(edge.from, 1), self.chain(edge.to, 1));
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        (from[common..].to_vec(), to[common..].to_vec())
    }

    /// Items are in an order in which they may be computed, so one pass gives every item its row.
    fn set_rows(&mut self) {
        let mut reads: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for edge in &self.edges {
            let (from, to) = self.chains(edge);
            reads.entry(to[0]).or_default().insert(from[0]);
        }
        for item in 1..self.items.len() {
            let above = reads.get(&item).into_iter().flatten().map(|&read| self.items[read].row + 1).max();
            self.items[item].row = above.unwrap_or(0);
        }
    }

    /// Sizes from the inside out; places of children within their frame; lanes.
    fn measure(&mut self, frame: usize) {
        let children = self.items[frame].children.clone();
        for &child in &children {
            if matches!(self.items[child].what, What::Frame(_)) {
                self.measure(child);
            }
        }
        let n_rows = children.iter().map(|&child| self.items[child].row + 1).max().unwrap_or(0);
        let mut rows = vec![Row::default(); n_rows];
        let mut y = if frame == 0 { 0.0 } else { HEAD };
        for (index, row) in rows.iter_mut().enumerate() {
            let mut in_row: Vec<usize> =
                children.iter().copied().filter(|&child| self.items[child].row == index).collect();
            in_row.sort_by(|&a, &b| self.above(a).total_cmp(&self.above(b)));
            let width: f64 = in_row.iter().map(|&child| self.items[child].width).sum();
            let width = width + ITEM_GAP * (in_row.len().max(1) - 1) as f64;
            let height = in_row.iter().map(|&child| self.items[child].height).fold(0.0, f64::max);
            let mut x = -width / 2.0;
            for &child in &in_row {
                let item = &mut self.items[child];
                (item.x, item.y) = (x + item.width / 2.0, y);
                x += item.width + ITEM_GAP;
            }
            *row = Row { top: y, bottom: y + height, half_width: width / 2.0 };
            y += height + ROW_GAP;
        }
        let lanes = self.lanes(frame, &rows);
        let half = rows
            .iter()
            .map(|row| row.half_width)
            .chain(lanes.iter().map(|lane| lane.x.abs()))
            .fold(0.0, f64::max);
        let item = &mut self.items[frame];
        let title = match &item.what {
            What::Frame(frame) => CHAR * (frame.label.chars().count() + 6) as f64,
            What::Box { .. } => 0.0,
        };
        item.width = (2.0 * (half + PAD)).max(title);
        item.height = y - ROW_GAP + if frame == 0 { 0.0 } else { PAD };
        (item.rows, item.lanes) = (rows, lanes);
    }

    /// The mean place of what an item reads in its frame, so that lines cross less.
    fn above(&self, item: usize) -> f64 {
        let read = self.edges.iter().filter_map(|edge| {
            let (from, to) = self.chains(edge);
            (to[0] == item).then(|| self.items[from[0]].x)
        });
        let (n, sum) = read.fold((0, 0.0), |(n, sum), x| (n + 1, sum + x));
        sum / f64::from(n.max(1))
    }

    /// Lanes of the lines that leave, pass or enter here beside other rows.
    fn lanes(&self, frame: usize, rows: &[Row]) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = Vec::new();
        for (index, edge) in self.edges.iter().enumerate() {
            let (from, to) = self.chains(edge);
            let row = |item: usize| self.items[item].row;
            let (beside, end) = if self.items[from[0]].parent == frame {
                (row(from[0]) + 1..row(to[0]), from[0])
            } else if let Some(&item) = from[1..].iter().find(|&&item| self.items[item].parent == frame) {
                (row(item) + 1..rows.len(), item)
            } else if let Some(&item) = to[1..].iter().find(|&&item| self.items[item].parent == frame) {
                (0..row(item), item)
            } else {
                continue;
            };
            if beside.is_empty() {
                continue;
            }
            // Frames have their names at the left.
            let side = if self.items[end].x < -1.0 { -1.0 } else { 1.0 };
            let edge_of_rows = rows[beside.clone()].iter().map(|row| row.half_width).fold(0.0, f64::max);
            let mut x = edge_of_rows + LANE;
            let taken = |x: f64| {
                lanes.iter().any(|lane| {
                    let shares_rows = lane.rows.start < beside.end && beside.start < lane.rows.end;
                    shares_rows && (lane.x - side * x).abs() < LANE - 0.5
                })
            };
            while taken(x) {
                x += LANE;
            }
            lanes.push(Lane { edge: index, rows: beside, x: side * x });
        }
        lanes
    }

    /// From places within frames to places in the drawing.
    fn place(&mut self) {
        self.items[0].x = self.items[0].width / 2.0;
        for item in 1..self.items.len() {
            let (x, y) = (self.items[self.items[item].parent].x, self.items[self.items[item].parent].y);
            self.items[item].x += x;
            self.items[item].y += y;
        }
    }

    /// Down past the rest of its row in every frame that a line leaves, around other rows in lanes, into its target.
    fn route(&mut self) {
        for index in 0..self.edges.len() {
            let edge = &self.edges[index];
            let (from, to) = self.chains(edge);
            let (start, end) = (&self.items[edge.from], &self.items[edge.to]);
            let mut stretches = vec![(start.x, start.y + start.height, start.y + start.height)];
            for &item in from.iter().rev() {
                let frame = &self.items[self.items[item].parent];
                let last = stretches.last_mut().expect("it starts somewhere");
                last.2 = frame.y + frame.rows[self.items[item].row].bottom;
                stretches.extend(self.lane(frame, index));
            }
            stretches.extend(
                to[1..].iter().filter_map(|&item| self.lane(&self.items[self.items[item].parent], index)),
            );
            stretches.push((end.x, end.y, end.y));
            self.edges[index].stretches = stretches;
        }
    }

    /// Where a line passes rows of a frame, if it does.
    fn lane(&self, frame: &Item, edge: usize) -> Option<(f64, f64, f64)> {
        let lane = frame.lanes.iter().find(|lane| lane.edge == edge)?;
        let (top, bottom) = (frame.rows[lane.rows.start].top, frame.rows[lane.rows.end - 1].bottom);
        Some((frame.x + lane.x, frame.y + top, frame.y + bottom))
    }

    /// Asserts what makes the drawing readable.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let range = |item: &Item| {
            (item.x - item.width / 2.0, item.x + item.width / 2.0, item.y, item.y + item.height)
        };
        for (i, a) in self.items.iter().enumerate().skip(1) {
            let (left, right, top, bottom) = range(a);
            let frame = range(&self.items[a.parent]);
            assert!(left >= frame.0 - 0.1 && right <= frame.1 + 0.1, "{:?} is wider than its frame", a.what);
            assert!(top >= frame.2 - 0.1 && bottom <= frame.3 + 0.1, "{:?} is higher than its frame", a.what);
            for b in self.items[i + 1..].iter().filter(|b| b.parent == a.parent) {
                let other = range(b);
                let apart = right <= other.0 || other.1 <= left || bottom <= other.2 || other.3 <= top;
                assert!(apart, "{:?} lies over {:?}", a.what, b.what);
            }
        }
        for edge in &self.edges {
            let downwards = edge.stretches.windows(2).all(|pair| pair[1].1 >= pair[0].2 - 0.1);
            assert!(downwards, "a line goes up: {:?}", edge.stretches);
        }
    }
}

impl Item {
    fn new(parent: usize, depth: usize, what: What) -> Self {
        let (width, height) = match &what {
            What::Frame(_) => (0.0, 0.0),
            What::Box { label, shared, name } => {
                let lines = lines(label, shared, name);
                let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
                (CHAR * longest as f64 + 24.0, LINE * lines.len() as f64 + 12.0)
            }
        };
        Self {
            parent,
            depth,
            children: Vec::new(),
            what,
            row: 0,
            x: 0.0,
            y: 0.0,
            width,
            height,
            rows: Vec::new(),
            lanes: Vec::new(),
        }
    }
}

/// The lines of a box: operator and detail, weights, what it shares, its output.
pub(super) fn lines(label: &Label, shared: &str, name: &str) -> Vec<String> {
    let first = [&label.title[..], &label.detail].join(" ").trim_end().to_owned();
    let with = if shared.is_empty() { String::new() } else { format!("with {shared}") };
    let name = if name.is_empty() { String::new() } else { format!("  ◆ {name}") };
    let last = if label.shape.is_empty() { String::new() } else { format!("→ {}{name}", label.shape) };
    [first, label.weights.clone(), with, last].into_iter().filter(|line| !line.is_empty()).collect()
}

/// What is connected by lines, and what only by name.
struct Links {
    drawn: Vec<(usize, usize)>,
    shared: HashMap<usize, Vec<String>>,
}

fn links(graph: &Graph, folded: &Folded) -> Links {
    let mut links = Links { drawn: Vec::new(), shared: HashMap::new() };
    let outermost: HashMap<usize, Option<&Frame>> =
        folded.shown.iter().map(|shown| (shown.node, shown.frames.first())).collect();
    for shown in &folded.shown {
        for (i, input) in graph.nodes()[shown.node].inputs.iter().enumerate() {
            let mut source = input.index();
            while let Some(input) = graph.nodes()[source].op.alias() {
                source = graph.nodes()[source].inputs[input].index();
            }
            let Some(&source) = folded.drawn_as.get(&source) else { continue };
            let is_input = matches!(graph.nodes()[source].op, Op::Input(_));
            let is_shared = i > 0 && outermost[&source].is_none() && (is_input || !shown.frames.is_empty());
            if is_shared {
                let name = Label::of(&graph.nodes()[source], graph).map(|label| label.title);
                links.shared.entry(shown.node).or_default().extend(name);
            } else if source < shown.node && !links.drawn.contains(&(source, shown.node)) {
                links.drawn.push((source, shown.node));
            }
        }
    }
    links
}

impl Links {
    /// What a node is drawn as; inputs that are only named are not.
    fn what(&self, graph: &Graph, shown: &Shown) -> Option<What> {
        let is_connected = self.drawn.iter().any(|(from, _)| *from == shown.node);
        if shown.label.kind == super::Kind::Input && !is_connected {
            return None;
        }
        let shared = self.shared.get(&shown.node).map(|names| names.join(", ")).unwrap_or_default();
        let name = graph.nodes()[shown.node].name.as_deref().unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or(name).to_owned();
        Some(What::Box { label: shown.label.clone(), shared, name })
    }
}
