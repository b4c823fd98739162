//! What a Parquet file says of itself: its schema, its row groups, its pages.
//!
//! Where:  [`Reader`](super::Reader).
//! Source: Apache Parquet, `parquet.thrift`, and "Nested Encoding" for levels. Field numbers below are that file's.

use super::thrift::Thrift;

/// Deepest nesting of columns, and most nodes of a schema.
const MAX_DEPTH: usize = 12;
const MAX_NODES: usize = 10_000;

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Physical {
    Bool,
    Int32,
    Int64,
    Int96,
    Float,
    Double,
    Bytes,
    Fixed(usize),
}

/// What it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Plain,
    Text,
    Unsigned,
    Decimal { scale: u32 },
    Float16,
}

/// How often a node stands in the one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    Required,
    Optional,
    Repeated,
}

/// A node of the schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub name: String,
    pub repetition: Repetition,
    /// Levels at which it is there, and at which it repeats
    pub max_def: u16,
    pub max_rep: u16,
    /// Leaves under it: the first, and how many
    pub first_leaf: usize,
    pub n_leaves: usize,
    pub kind: Kind,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Leaf(Physical, Meaning),
    Group(Vec<Node>, Shape),
}

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Fields,
    List,
    Map,
}

/// A leaf's part of a row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Bytes in the file
    pub start: u64,
    pub end: u64,
    pub codec: i64,
    pub n_values: u64,
}

/// A row group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub n_rows: u64,
    pub chunks: Vec<Chunk>,
}

/// The footer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Footer {
    pub root: Node,
    pub groups: Vec<Group>,
}

impl Footer {
    /// Of the footer's struct; `n_bytes` is the file's length.
    pub fn read(footer: &Thrift<'_>, n_bytes: u64) -> Result<Self, String> {
        let elements = footer.list(2);
        if elements.len() > MAX_NODES {
            return Err(format!("expected at most {MAX_NODES} columns, got {}", elements.len()));
        }
        let mut schema = Schema { elements, at: 0, n_leaves: 0 };
        let root = schema.node(0, 0, 0)?;
        if schema.at != elements.len() || !matches!(root.kind, Kind::Group(..)) {
            return Err("its schema contradicts itself".to_owned());
        }
        let group = |group: &Thrift<'_>| -> Result<Group, String> {
            let chunks: Vec<Chunk> =
                group.list(1).iter().map(|chunk| chunk_of(chunk, n_bytes)).collect::<Result<_, _>>()?;
            match chunks.len() == root.n_leaves {
                true => Ok(Group { n_rows: count(group, 3)?, chunks }),
                false => {
                    Err(format!("expected {} columns in a row group, got {}", root.n_leaves, chunks.len()))
                }
            }
        };
        let groups: Vec<Group> = footer.list(4).iter().map(group).collect::<Result<_, _>>()?;
        // Values of a bit or less, a thousand times as many as bytes: nobody means that.
        let n_rows = groups.iter().try_fold(0_u64, |sum, group| sum.checked_add(group.n_rows));
        match n_rows {
            Some(n_rows) if n_rows / 64 <= n_bytes => Ok(Self { root, groups }),
            _ => Err(format!("expected at most 64 rows a byte, got {n_bytes} bytes with more")),
        }
    }
}

fn count(of: &Thrift<'_>, id: i16) -> Result<u64, String> {
    let count = of.int(id).and_then(|count| u64::try_from(count).ok());
    count.ok_or_else(|| format!("expected a number as field {id}"))
}

fn chunk_of(chunk: &Thrift<'_>, n_bytes: u64) -> Result<Chunk, String> {
    if chunk.bytes(1).is_some() {
        return Err("its columns lie in other files, which is not read".to_owned());
    }
    let about = chunk.field(3).ok_or("a column without its place")?;
    let dictionary = about.int(11).filter(|at| *at > 0).and_then(|at| u64::try_from(at).ok());
    let start = count(about, 9)?.min(dictionary.unwrap_or(u64::MAX));
    let end = start.checked_add(count(about, 7)?).filter(|end| *end <= n_bytes);
    let end = end.ok_or("a column lies outside the file")?;
    Ok(Chunk { start, end, codec: about.int(4).unwrap_or(-1), n_values: count(about, 5)? })
}

struct Schema<'a, 'b> {
    elements: &'a [Thrift<'b>],
    at: usize,
    n_leaves: usize,
}

impl Schema<'_, '_> {
    fn node(&mut self, depth: usize, def: u16, rep: u16) -> Result<Node, String> {
        let element = self.elements.get(self.at).ok_or("its schema ends too early")?;
        self.at += 1;
        if depth > MAX_DEPTH {
            return Err(format!("expected at most {MAX_DEPTH} levels of columns"));
        }
        let name = element.bytes(4).unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| "expected UTF-8 in a column's name")?.to_owned();
        let repetition = match element.int(3) {
            _ if depth == 0 => Repetition::Required,
            Some(1) => Repetition::Optional,
            Some(2) => Repetition::Repeated,
            _ => Repetition::Required,
        };
        let max_def = def + u16::from(repetition != Repetition::Required);
        let max_rep = rep + u16::from(repetition == Repetition::Repeated);
        let first_leaf = self.n_leaves;
        let kind = match (element.int(1), element.int(5)) {
            (None, n_children) => {
                let n_children = n_children.unwrap_or(0).clamp(0, MAX_NODES as i64);
                let children = (0..n_children).map(|_| self.node(depth + 1, max_def, max_rep));
                let children: Vec<Node> = children.collect::<Result<_, _>>()?;
                if children.is_empty() {
                    return Err(format!("column `{name}` has neither a type nor columns"));
                }
                let shape = group_shape(element, &children);
                Kind::Group(children, shape)
            }
            (Some(physical), _) => {
                self.n_leaves += 1;
                let (physical, meaning) =
                    leaf(element, physical).ok_or_else(|| format!("column `{name}` has an unknown type"))?;
                Kind::Leaf(physical, meaning)
            }
        };
        let n_leaves = self.n_leaves - first_leaf;
        Ok(Node { name, repetition, max_def, max_rep, first_leaf, n_leaves, kind })
    }
}

/// Whether the logical type is this one.
fn is_logical(element: &Thrift<'_>, id: i16) -> bool {
    element.field(10).is_some_and(|logical| logical.field(id).is_some())
}

fn group_shape(element: &Thrift<'_>, children: &[Node]) -> Shape {
    let [child] = children else { return Shape::Fields };
    let repeats = child.repetition == Repetition::Repeated;
    match element.int(6) {
        Some(3) if repeats => Shape::List,
        Some(1 | 2) if repeats => Shape::Map,
        _ if repeats && is_logical(element, 3) => Shape::List,
        _ if repeats && is_logical(element, 2) => Shape::Map,
        _ => Shape::Fields,
    }
}

fn leaf(element: &Thrift<'_>, physical: i64) -> Option<(Physical, Meaning)> {
    let physical = match physical {
        0 => Physical::Bool,
        1 => Physical::Int32,
        2 => Physical::Int64,
        3 => Physical::Int96,
        4 => Physical::Float,
        5 => Physical::Double,
        6 => Physical::Bytes,
        7 => Physical::Fixed(usize::try_from(element.int(2)?).ok().filter(|n| (1..=1 << 20).contains(n))?),
        _ => return None,
    };
    let logical = |id| is_logical(element, id);
    let signed = element.field(10).and_then(|logical| logical.field(10)).and_then(|int| int.field(2));
    let meaning = match element.int(6) {
        Some(0 | 4 | 19) => Meaning::Text,
        Some(11..=14) => Meaning::Unsigned,
        Some(5) => Meaning::Decimal {
            scale: u32::try_from(element.int(7).unwrap_or(0)).ok().filter(|scale| *scale < 77)?,
        },
        _ if logical(1) || logical(4) || logical(12) => Meaning::Text,
        _ if signed == Some(&Thrift::Bool(false)) => Meaning::Unsigned,
        _ if logical(15) && physical == Physical::Fixed(2) => Meaning::Float16,
        _ => Meaning::Plain,
    };
    Some((physical, meaning))
}
