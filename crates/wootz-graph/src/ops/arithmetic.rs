//! Sum, product and scaling of values, number by number, with the few broadcasts that models use.
//!
//! Where:  residual connections, gates, scaled embeddings, and wherever gradients of one value meet.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::rms_norm::rows_per_task;
use crate::ops::{Backward, Operator, arity};
use crate::param::Param;
use crate::shape::{Shape, Type};
use crate::Result;

/// How the second operand is spread over the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// Same shape.
    Equal,
    /// (C) for every row of (T, C): a vector.
    EveryRow,
    /// (T, 1) over the columns of (T, C): a number a row.
    EveryColumn,
    /// One number for all.
    Scalar,
}

impl Spread {
    fn of(a: &Shape, b: &Shape) -> Option<Self> {
        if a == b || (a.rows() == b.rows() && a.inner() == b.inner()) {
            Some(Spread::Equal)
        } else if b.rows().is_none() && b.inner() == 1 {
            Some(Spread::Scalar)
        } else if b.rows().is_none() && a.inner().is_multiple_of(b.inner()) {
            Some(Spread::EveryRow)
        } else if a.rows() == b.rows() && b.inner() == 1 {
            Some(Spread::EveryColumn)
        } else {
            None
        }
    }

    /// The index into `b` that goes with index `i` of `a`, whose rows have `inner` numbers.
    fn index(self, i: usize, inner: usize, b_len: usize) -> usize {
        match self {
            Spread::Equal => i,
            Spread::EveryRow => i % b_len,
            Spread::EveryColumn => i / inner,
            Spread::Scalar => 0,
        }
    }
}

fn spread_of(inputs: &[Type]) -> Spread {
    Spread::of(&inputs[0].shape, &inputs[1].shape).expect("checked when the node was added")
}

fn infer_spread(inputs: &[Type]) -> Result<Type, String> {
    let [a, b] = arity(inputs)?;
    match Spread::of(&a.shape, &b.shape) {
        Some(_) => Ok(a),
        None => Err(format!("{} cannot be spread over {}", b.shape, a.shape)),
    }
}

/// The gradient of the spread operand: `d` summed over what it was spread over.
fn gather(g: &mut Graph, inputs: &[Value], d: Value) -> Result<Value> {
    let (a, b) = (g.ty(inputs[0]), g.ty(inputs[1]));
    match spread_of(&[a, b]) {
        Spread::Equal => Ok(d),
        Spread::EveryRow | Spread::Scalar => g.sum_rows(d, b.shape.inner()),
        Spread::EveryColumn => g.sum_columns(d),
    }
}

/// `y = a + b`.
#[derive(Clone, Debug)]
pub(crate) struct Add;

/// `y = a·b`.
#[derive(Clone, Debug)]
pub(crate) struct Mul;

/// `y = factor·x`.
#[derive(Clone, Debug)]
pub(crate) struct Scale(f32);

impl Graph<'_> {
    /// `a + b`; `b` has the shape of `a`, or is a vector for every row, a number a row, or one number.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Add.into(), &[a, b])
    }

    /// `x + b` for a weight `b` that every row gets.
    pub fn add_weight(&mut self, x: Value, b: Param) -> Result<Value> {
        let b = self.weight(b);
        self.add(x, b)
    }

    /// `a·b`, number by number, with the spreads of [`add`](Self::add).
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Mul.into(), &[a, b])
    }

    /// `x·w` for a weight `w` that every row gets.
    pub fn mul_weight(&mut self, x: Value, w: Param) -> Result<Value> {
        let w = self.weight(w);
        self.mul(x, w)
    }

    /// `factor·x`.
    pub fn scale(&mut self, x: Value, factor: f32) -> Result<Value> {
        self.push(Scale(factor).into(), &[x])
    }
}

fn reference(run: &mut RefRun, f: impl Fn(f64, f64) -> f64) {
    let (a, b, inner) = (run.input(0), run.input(1), run.out_ty.shape.inner());
    let spread = spread_of(run.types);
    for (i, y) in run.out.iter_mut().enumerate() {
        *y = f(a[i], b[spread.index(i, inner, b.len())]);
    }
}

/// The spreads that are not number by number.
fn cpu_spread(run: &mut CpuRun, f: impl Fn(f32, f32) -> f32 + Sync) {
    let (a, b, inner) = (run.f32(0), run.f32(1), run.out_ty.shape.inner());
    let spread = spread_of(run.types);
    run.pool.rows(run.out, inner, rows_per_task(inner), |first, rows| {
        for (t, (y, a)) in
            rows.chunks_exact_mut(inner).zip(a[first * inner..].chunks_exact(inner)).enumerate()
        {
            match spread {
                Spread::EveryRow => {
                    for (y, a) in y.chunks_exact_mut(b.len()).zip(a.chunks_exact(b.len())) {
                        y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = f(*a, *b));
                    }
                }
                Spread::EveryColumn => y.iter_mut().zip(a).for_each(|(y, a)| *y = f(*a, b[first + t])),
                Spread::Scalar => y.iter_mut().zip(a).for_each(|(y, a)| *y = f(*a, b[0])),
                Spread::Equal => {
                    let b = &b[(first + t) * inner..];
                    y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = f(*a, *b));
                }
            }
        }
    });
}

impl Operator for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        infer_spread(inputs)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let db = if at.wanted[1] { Some(gather(g, at.inputs, at.dy)?) } else { None };
        Ok(vec![Some(at.dy), db])
    }

    fn reference(&self, run: &mut RefRun) {
        reference(run, |a, b| a + b);
    }

    fn cpu(&self, run: &mut CpuRun) {
        match spread_of(run.types) {
            Spread::Equal => wootz_kernels::add(run.isa, run.pool, run.f32(0), run.f32(1), run.out),
            _ => cpu_spread(run, |a, b| a + b),
        }
    }
}

impl Operator for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        infer_spread(inputs)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let (a, b) = (at.inputs[0], at.inputs[1]);
        let da = g.mul(at.dy, b)?;
        let db = if at.wanted[1] {
            let d = g.mul(at.dy, a)?;
            Some(gather(g, at.inputs, d)?)
        } else {
            None
        };
        Ok(vec![Some(da), db])
    }

    fn reference(&self, run: &mut RefRun) {
        reference(run, |a, b| a * b);
    }

    fn cpu(&self, run: &mut CpuRun) {
        match spread_of(run.types) {
            Spread::Equal => wootz_kernels::mul(run.isa, run.pool, run.f32(0), run.f32(1), run.out),
            _ => cpu_spread(run, |a, b| a * b),
        }
    }
}

impl Operator for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn detail(&self) -> String {
        format!("× {}", self.0)
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[x]| x)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(g.scale(at.dy, self.0)?)])
    }

    fn reference(&self, run: &mut RefRun) {
        let x = run.input(0);
        for (y, x) in run.out.iter_mut().zip(x) {
            *y = x * f64::from(self.0);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        wootz_kernels::scale(run.isa, run.pool, self.0, run.f32(0), run.out);
    }
}
