//! Parquet files as rows.
//!
//! Where:  [`Rows`](crate::Rows), for names that end in `.parquet`.
//! Idea:   columns are read side by side, a page of each in memory, and put together row by row by their levels. Whatever a file
//!         says is bounded before it is believed, and nothing panics.
//! Source: Apache Parquet, format 2.12; putting records together: Melnik et al. 2010, Dremel, appendix D.
//! Elsewhere: what rows mean ([`Example`](crate::Example)).
//!
//! Not read: encrypted files, Brotli and LZO. Bytes that are no text, and floats that are no number, are `null`; times are numbers.

mod codec;
mod column;
mod metadata;
mod thrift;
mod values;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use serde_json::{Map, Number, Value};

use column::{Column, Levels};
use metadata::{Footer, Kind, Meaning, Node, Physical, Repetition, Shape};

/// Largest footer, most bytes of open pages, most values of a row.
const MAX_FOOTER_BYTES: u64 = 64 << 20;
const MAX_OPEN_BYTES: usize = 256 << 20;
const MAX_ROW_VALUES: u32 = 1 << 20;

/// A file that is being read.
#[derive(Debug)]
pub(crate) struct Reader {
    root: Node,
    groups: std::vec::IntoIter<metadata::Group>,
    columns: Columns,
    /// Rows that are left in the group
    n_left: u64,
}

/// The columns of a row group.
#[derive(Debug)]
struct Columns {
    file: File,
    columns: Vec<Column>,
    /// Values that the row may still have
    n_left: u32,
}

impl Reader {
    /// Reads the footer.
    pub fn open(mut file: File) -> Result<Self, String> {
        let io = |error: std::io::Error| error.to_string();
        let n_bytes = file.metadata().map_err(io)?.len();
        let mut tail = [0; 8];
        if n_bytes < 12 {
            return Err(format!("expected a Parquet file, got {n_bytes} bytes"));
        }
        file.seek(SeekFrom::Start(n_bytes - 8)).map_err(io)?;
        file.read_exact(&mut tail).map_err(io)?;
        let n_footer = u64::from(u32::from_le_bytes(*tail.first_chunk().expect("eight bytes")));
        match &tail[4..] {
            b"PAR1" => {}
            b"PARE" => return Err("it is encrypted, which is not read".to_owned()),
            _ => return Err("expected a Parquet file, got one without its mark at the end".to_owned()),
        }
        if n_footer > (n_bytes - 8).min(MAX_FOOTER_BYTES) {
            return Err(format!("expected a footer within {n_bytes} bytes, got {n_footer}"));
        }
        let mut footer = vec![0; n_footer as usize];
        file.seek(SeekFrom::Start(n_bytes - 8 - n_footer)).map_err(io)?;
        file.read_exact(&mut footer).map_err(io)?;
        let (footer, _) =
            thrift::read(&footer).map_err(|_| "its footer is damaged, or has too many parts")?;
        let Footer { root, groups } = Footer::read(&footer, n_bytes)?;
        let columns = Columns { file, columns: Vec::new(), n_left: 0 };
        Ok(Self { root, groups: groups.into_iter(), columns, n_left: 0 })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Map<String, Value>>, String> {
        while self.n_left == 0 {
            self.columns.check_end()?;
            let Some(group) = self.groups.next() else { return Ok(None) };
            let mut leaves = Vec::new();
            leaves_of(&self.root, &mut leaves);
            let columns = leaves.into_iter().zip(group.chunks);
            self.columns.columns =
                columns.map(|((physical, max), chunk)| Column::new(chunk, physical, max)).collect();
            self.n_left = group.n_rows;
        }
        self.n_left -= 1;
        self.columns.n_left = MAX_ROW_VALUES;
        let Kind::Group(children, _) = &self.root.kind else { panic!("a root is a group") };
        self.columns.fields(children).map(Some)
    }
}

/// The leaves' types and levels, in their order.
fn leaves_of(node: &Node, leaves: &mut Vec<(Physical, Levels)>) {
    match &node.kind {
        Kind::Leaf(physical, _) => leaves.push((*physical, Levels { rep: node.max_rep, def: node.max_def })),
        Kind::Group(children, _) => children.iter().for_each(|child| leaves_of(child, leaves)),
    }
}

impl Columns {
    fn check_end(&mut self) -> Result<(), String> {
        for i in 0..self.columns.len() {
            if self.peek(i)?.is_some() {
                return Err("a column has more values than rows".to_owned());
            }
        }
        Ok(())
    }

    fn peek(&mut self, i: usize) -> Result<Option<Levels>, String> {
        let open: usize = self.columns.iter().map(Column::n_bytes).sum();
        self.columns[i].peek(&mut self.file, MAX_OPEN_BYTES.saturating_sub(open))
    }

    /// The levels of what comes next in a column that goes on.
    fn levels(&mut self, i: usize) -> Result<Levels, String> {
        self.peek(i)?.ok_or_else(|| "a column has fewer values than rows".to_owned())
    }

    fn fields(&mut self, nodes: &[Node]) -> Result<Map<String, Value>, String> {
        nodes.iter().map(|node| Ok((node.name.clone(), self.node(node)?))).collect()
    }

    /// What stands at a node: nothing, one, or as many as repeat.
    fn node(&mut self, node: &Node) -> Result<Value, String> {
        if node.repetition == Repetition::Required {
            return self.one(node);
        }
        let levels = self.levels(node.first_leaf)?;
        let is_there = levels.def >= node.max_def;
        if !is_there {
            for i in node.first_leaf..node.first_leaf + node.n_leaves {
                self.levels(i)?;
                self.columns[i].take()?;
            }
        }
        match node.repetition {
            Repetition::Repeated => {
                let mut list = Vec::new();
                let mut repeats = is_there;
                while repeats {
                    list.push(self.one(node)?);
                    repeats = self.peek(node.first_leaf)?.is_some_and(|next| next.rep == node.max_rep);
                }
                Ok(Value::Array(list))
            }
            _ if is_there => self.one(node),
            _ => Ok(Value::Null),
        }
    }

    /// What is at a node that is there.
    fn one(&mut self, node: &Node) -> Result<Value, String> {
        self.n_left = self
            .n_left
            .checked_sub(1)
            .ok_or_else(|| format!("expected at most {MAX_ROW_VALUES} values in a row"))?;
        match &node.kind {
            Kind::Leaf(physical, meaning) => {
                self.levels(node.first_leaf)?;
                let value = self.columns[node.first_leaf].take()?;
                value.map_or(Ok(Value::Null), |bytes| convert(&bytes, *physical, *meaning))
            }
            Kind::Group(children, Shape::Fields) => Ok(Value::Object(self.fields(children)?)),
            Kind::Group(children, shape) => {
                let Value::Array(list) = self.node(&children[0])? else {
                    panic!("the child of a list repeats")
                };
                Ok(match shape {
                    Shape::List => elements(list, &children[0]),
                    _ => pairs(list),
                })
            }
        }
    }
}

/// The elements of a list. COMPAT: a repeated group of one field is a wrapper around it, unless old writers named it so.
fn elements(list: Vec<Value>, repeated: &Node) -> Value {
    let is_wrapper = match &repeated.kind {
        Kind::Group(children, _) => {
            children.len() == 1 && repeated.name != "array" && !repeated.name.ends_with("_tuple")
        }
        Kind::Leaf(..) => false,
    };
    let unwrap = |value: Value| match value {
        Value::Object(fields) if is_wrapper => fields.into_iter().next().map_or(Value::Null, |field| field.1),
        value => value,
    };
    list.into_iter().map(unwrap).collect()
}

/// A map as an object, if its keys are texts; else as it is.
fn pairs(list: Vec<Value>) -> Value {
    let mut object = Map::new();
    for pair in &list {
        let mut fields = pair.as_object().into_iter().flat_map(Map::values);
        match (fields.next(), fields.next()) {
            (Some(Value::String(key)), value) => {
                object.insert(key.clone(), value.cloned().unwrap_or(Value::Null))
            }
            _ => return Value::Array(list),
        };
    }
    Value::Object(object)
}

fn convert(bytes: &[u8], physical: Physical, meaning: Meaning) -> Result<Value, String> {
    let short = || values::DAMAGED.to_owned();
    let four = || bytes.first_chunk::<4>().copied().ok_or_else(short);
    let eight = || bytes.first_chunk::<8>().copied().ok_or_else(short);
    if let Meaning::Decimal { scale } = meaning {
        let unscaled = match physical {
            Physical::Int32 => i128::from(i32::from_le_bytes(four()?)),
            Physical::Int64 => i128::from(i64::from_le_bytes(eight()?)),
            // The highest byte first, with its sign.
            _ => match bytes {
                [] | [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, ..] => return Ok(Value::Null),
                [first, ..] => {
                    bytes.iter().fold(i128::from(*first as i8 >> 7), |all, byte| all << 8 | i128::from(*byte))
                }
            },
        };
        return Ok(number(unscaled as f64 / 10_f64.powi(scale as i32)));
    }
    Ok(match (physical, meaning) {
        (Physical::Bool, _) => Value::Bool(bytes.first().ok_or_else(short)? & 1 == 1),
        (Physical::Int32, Meaning::Unsigned) => u32::from_le_bytes(four()?).into(),
        (Physical::Int32, _) => i32::from_le_bytes(four()?).into(),
        (Physical::Int64, Meaning::Unsigned) => u64::from_le_bytes(eight()?).into(),
        (Physical::Int64, _) => i64::from_le_bytes(eight()?).into(),
        (Physical::Int96, _) => {
            // Nanoseconds of a day and the Julian day; as nanoseconds since 1970.
            let days = bytes.get(8..).and_then(|bytes| bytes.first_chunk::<4>()).ok_or_else(short)?;
            let days = i128::from(u32::from_le_bytes(*days)) - 2_440_588;
            let nanos = days * 86_400_000_000_000 + i128::from(i64::from_le_bytes(eight()?));
            i64::try_from(nanos).map_or(Value::Null, Value::from)
        }
        // The shortest number that is the same in 32 bits.
        (Physical::Float, _) => number(f32::from_le_bytes(four()?).to_string().parse().unwrap_or(f64::NAN)),
        (Physical::Double, _) => number(f64::from_le_bytes(eight()?)),
        (_, Meaning::Float16) => {
            number(f64::from(half(u16::from_le_bytes(*bytes.first_chunk().ok_or_else(short)?))))
        }
        (_, meaning) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) if meaning == Meaning::Text => {
                return Err("expected UTF-8 in a column of texts".to_owned());
            }
            Err(_) => Value::Null,
        },
    })
}

fn number(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// IEEE 754's 16 bits.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, f32::from(bits & 1023) / 1024.0);
    let size = match exponent {
        0 => fraction * 2_f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction) * 2_f32.powi(i32::from(exponent) - 15),
    };
    if sign == 1 { -size } else { size }
}
