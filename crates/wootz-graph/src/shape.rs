//! Shapes whose first dimension may be a number of rows that only the batch knows.
//!
//! Where:  on every node of a [`Graph`](crate::Graph).
//! Idea:   tokens of all sequences lie in one flat row axis, so a shape is `(rows, fixed…)` and never holds a
//!         batch dimension or padding. How many rows there are is a run-time input.

use std::fmt;

/// A row axis of a ragged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// T: every new token, or embedding, of every sequence.
    Tokens,
    /// O: the tokens whose output somebody wants, a selection of T.
    Outputs,
    /// B: the sequences.
    Sequences,
    /// S: rows of the other side of a cross-attention.
    Keys,
}

impl Axis {
    /// Every axis, in the order of [`Rows`](crate::Rows).
    pub const ALL: [Axis; 4] = [Axis::Tokens, Axis::Outputs, Axis::Sequences, Axis::Keys];

    fn letter(self) -> &'static str {
        match self {
            Axis::Tokens => "T",
            Axis::Outputs => "O",
            Axis::Sequences => "B",
            Axis::Keys => "S",
        }
    }
}

/// One dimension: known when the graph is built, or `times` rows for every row of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size that the architecture fixes.
    Fixed(usize),
    /// `times` × the rows of an axis: (T·k, …) holds k rows a token.
    Rows(Axis, usize),
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Dim::Fixed(size)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(size) => write!(f, "{size}"),
            Dim::Rows(axis, 1) => f.write_str(axis.letter()),
            Dim::Rows(axis, times) => write!(f, "{}·{times}", axis.letter()),
        }
    }
}

/// Up to four dimensions, outermost first. Only the first may be rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [Dim; 4],
    len: u8,
}

impl Shape {
    /// The shape with these dimensions; at most four.
    pub fn new(dims: &[Dim]) -> Self {
        assert!(dims.len() <= 4, "a shape has at most four dimensions");
        assert!(
            dims.iter().skip(1).all(|dim| matches!(dim, Dim::Fixed(_))),
            "only the first dimension of a shape may be rows"
        );
        let mut all = [Dim::Fixed(1); 4];
        all[..dims.len()].copy_from_slice(dims);
        Self { dims: all, len: dims.len() as u8 }
    }

    /// A shape of fixed dimensions only, as weights have.
    pub fn fixed(dims: &[usize]) -> Self {
        Self::new(&dims.iter().map(|&size| Dim::Fixed(size)).collect::<Vec<_>>())
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.dims[..self.len as usize]
    }

    /// The row axis and how many rows each of its rows has here.
    pub fn rows(&self) -> Option<(Axis, usize)> {
        match self.dims().first() {
            Some(&Dim::Rows(axis, times)) => Some((axis, times)),
            _ => None,
        }
    }

    /// The product of the fixed dimensions: numbers a row, or all of them when there is no row axis.
    pub fn inner(&self) -> usize {
        self.dims().iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 }).product()
    }

    /// The last dimension's size; 1 where the last dimension is the rows.
    pub fn width(&self) -> usize {
        match self.dims().last() {
            Some(&Dim::Fixed(size)) => size,
            _ => 1,
        }
    }

    /// The same shape with another last dimension.
    pub fn with_width(&self, width: usize) -> Self {
        let mut dims = self.dims().to_vec();
        match dims.last_mut() {
            Some(last @ Dim::Fixed(_)) => *last = Dim::Fixed(width),
            _ => dims.push(Dim::Fixed(width)),
        }
        Self::new(&dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, dim) in self.dims().iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! shape_from_tuple {
    ($($name:ident),*) => {
        impl<$($name: Into<Dim>),*> From<($($name,)*)> for Shape {
            fn from(($($name,)*): ($($name,)*)) -> Self {
                Shape::new(&[$($name.into()),*])
            }
        }
    };
}
#[expect(non_snake_case, reason = "type parameters of the macro double as bindings")]
mod tuples {
    use super::{Dim, Shape};
    shape_from_tuple!(A);
    shape_from_tuple!(A, B);
    shape_from_tuple!(A, B, C);
    shape_from_tuple!(A, B, C, D);
}

/// What the numbers of a value are. Weights and states have storage types of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// Activations and gradients.
    F32,
    /// Token ids, positions, expert ids.
    U32,
}

/// Shape and dtype of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Its shape.
    pub shape: Shape,
    /// Its dtype.
    pub dtype: DType,
}

impl Type {
    /// Activations of this shape.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), dtype: DType::F32 }
    }

    /// Ids of this shape.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), dtype: DType::U32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_reads_as_the_comments_do() {
        let shape = Shape::from((Dim::Rows(Axis::Tokens, 2), 4, 64));
        assert_eq!(shape.to_string(), "(T·2, 4, 64)");
        assert_eq!((shape.inner(), shape.width()), (256, 64));
        assert_eq!(shape.with_width(8).to_string(), "(T·2, 4, 8)");
    }

    #[test]
    fn rows_alone_are_one_number_a_row() {
        let shape = Shape::from((Dim::Rows(Axis::Tokens, 1),));
        assert_eq!((shape.inner(), shape.width()), (1, 1));
        assert_eq!(shape.with_width(5).to_string(), "(T, 5)");
    }
}
