//! Rotary position embedding: pairs of numbers turned by an angle that grows with the position.
//!
//! Where:  the angles are one operator that all layers share; turning is another, once for q and once for k.
//! Source: Su et al. 2021, arXiv:2104.09864, eq. 34. Angles are f32 products, as the models were trained with.
//! Elsewhere: how linear, llama3, YaRN and longrope change the frequencies (`wootz-model`).

use wootz_kernels::RopeStyle as KernelStyle;

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::shape::Type;
use crate::Result;

/// Which numbers of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(x[i], x[i + n/2])`: GPT-NeoX, Hugging Face's Llama.
    Halves,
    /// `(x[2i], x[2i + 1])`: GPT-J, Meta's Llama, ggml's "norm".
    Pairs,
}

/// Rotary frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Radians a position, one for each pair; their number is half of the rotated width.
    pub inv_freq: Vec<f32>,
    /// What changes for long sequences.
    pub scale: RopeScale,
    /// Multiplies sine and cosine (YaRN's and longrope's attention factor); 1 otherwise.
    pub factor: f32,
}

/// How frequencies depend on the length that a sequence is planned to reach.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScale {
    /// Not at all.
    Fixed,
    /// Other frequencies for sequences planned longer than `beyond` (longrope).
    Long {
        /// The original context.
        beyond: usize,
        /// The frequencies of longer sequences.
        inv_freq: Vec<f32>,
    },
    /// The base grows with the planned length beyond the original context (dynamic NTK).
    Dynamic {
        /// The original base.
        theta: f64,
        /// The configured factor.
        factor: f64,
        /// The original context.
        beyond: usize,
    },
}

impl RopeTable {
    /// `theta^(−2i/n)` for a rotated width of `n`.
    pub fn plain(theta: f64, n_rot: usize) -> Self {
        Self { inv_freq: frequencies(theta, n_rot), scale: RopeScale::Fixed, factor: 1.0 }
    }

    fn for_length(&self, planned_len: usize) -> std::borrow::Cow<'_, [f32]> {
        match &self.scale {
            RopeScale::Long { beyond, inv_freq } if planned_len > *beyond => inv_freq.into(),
            RopeScale::Dynamic { theta, factor, beyond } if planned_len > *beyond => {
                let n = 2 * self.inv_freq.len();
                let ratio = factor * planned_len as f64 / *beyond as f64 - (factor - 1.0);
                frequencies(theta * ratio.powf(n as f64 / (n as f64 - 2.0)), n).into()
            }
            _ => (&self.inv_freq).into(),
        }
    }
}

fn frequencies(theta: f64, n_rot: usize) -> Vec<f32> {
    (0..n_rot / 2).map(|i| (1.0 / theta.powf(2.0 * i as f64 / n_rot as f64)) as f32).collect()
}

/// Cosines and sines of every row's position: (T) → (T, n), all rows' cosines before all rows' sines.
#[derive(Clone, Debug)]
pub(crate) struct RopeTables {
    table: RopeTable,
    /// Turns the other way, as gradients do.
    inverse: bool,
}

/// `(a, b) → (a·cos − b·sin, b·cos + a·sin)` over the first numbers of each head.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    style: RopeStyle,
    table: RopeTable,
    inverse: bool,
}

impl Graph<'_> {
    /// Turns the first `2·table.inv_freq.len()` numbers of every head of `x` (T, H, D) by its row's position.
    pub fn rope(&mut self, x: Value, table: &RopeTable, style: RopeStyle) -> Result<Value> {
        self.turn(x, Rope { style, table: table.clone(), inverse: false })
    }

    fn turn(&mut self, x: Value, rope: Rope) -> Result<Value> {
        let tables = self.shared(format!("rope {} {:?}", rope.inverse, rope.table), |g| {
            let positions = g.positions();
            let tables = RopeTables { table: rope.table.clone(), inverse: rope.inverse };
            g.push(tables.into(), &[positions])
        })?;
        self.push(rope.into(), &[x, tables])
    }
}

impl Operator for RopeTables {
    fn name(&self) -> &'static str {
        "rope_tables"
    }

    fn detail(&self) -> String {
        format!("{} frequencies", self.table.inv_freq.len())
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [positions] = arity(inputs)?;
        let n = self.table.inv_freq.len();
        if positions.shape.inner() != 1 || n == 0 {
            return Err(format!("expected positions (T) and frequencies, got {} and {n}", positions.shape));
        }
        if let RopeScale::Long { inv_freq, .. } = &self.table.scale
            && inv_freq.len() != n
        {
            return Err(format!("expected {n} frequencies of long sequences, got {}", inv_freq.len()));
        }
        Ok(Type::f32(positions.shape.with_width(2 * n)))
    }

    fn takes(&self, _input: usize, _inputs: &[Type]) -> Takes {
        Takes::Ids { below: None }
    }

    fn reference(&self, run: &mut RefRun) {
        let positions = run.input(0);
        let (cos, sin) = run.out.split_at_mut(positions.len() * self.table.inv_freq.len());
        self.each_angle(run.batch, |t| positions[t] as u32, |at, angle| {
            (cos[at], sin[at]) = self.turn(angle);
        });
    }

    fn cpu(&self, run: &mut CpuRun) {
        let positions = run.u32(0);
        let (cos, sin) = run.out.split_at_mut(positions.len() * self.table.inv_freq.len());
        self.each_angle(run.batch, |t| positions[t], |at, angle| {
            let (c, s) = self.turn(angle);
            (cos[at], sin[at]) = (c as f32, s as f32);
        });
    }
}

impl RopeTables {
    /// Calls `write` with place and angle of every row and frequency.
    fn each_angle(&self, batch: &Batch, position: impl Fn(usize) -> u32, mut write: impl FnMut(usize, f32)) {
        let n = self.table.inv_freq.len();
        for seq in &batch.sequences {
            let inv_freq = self.table.for_length(seq.planned_len);
            for t in seq.rows.clone() {
                for (i, freq) in inv_freq.iter().enumerate() {
                    write(t * n + i, position(t) as f32 * freq);
                }
            }
        }
    }

    /// Cosine and sine of an angle, scaled.
    fn turn(&self, angle: f32) -> (f64, f64) {
        let (sin, cos) = f64::from(if self.inverse { -angle } else { angle }).sin_cos();
        (cos * f64::from(self.table.factor), sin * f64::from(self.table.factor))
    }
}

impl Operator for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn detail(&self) -> String {
        if self.inverse { "back".to_owned() } else { String::new() }
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, tables] = arity(inputs)?;
        let n_rot = tables.shape.width();
        if x.shape.dims().len() != 3 || x.shape.rows() != tables.shape.rows() || x.shape.width() < n_rot {
            return Err(format!("expected heads (T, H, {n_rot} or wider), got {}", x.shape));
        }
        Ok(x)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 3.0)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let back = Rope { inverse: !self.inverse, ..self.clone() };
        Ok(vec![Some(g.turn(at.dy, back)?), None])
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, tables, n_rot, d) = (run.input(0), run.input(1), run.width(1), run.width(0));
        let (half, n_heads) = (n_rot / 2, run.types[0].shape.inner() / d);
        let (cos, sin) = tables.split_at(tables.len() / 2);
        run.out.copy_from_slice(x);
        for (head, y) in run.out.chunks_exact_mut(d).enumerate() {
            let at = head / n_heads * half;
            for i in 0..half {
                let (a, b) = match self.style {
                    RopeStyle::Halves => (i, i + half),
                    RopeStyle::Pairs => (2 * i, 2 * i + 1),
                };
                let (cos, sin) = (cos[at + i], sin[at + i]);
                (y[a], y[b]) = (y[a] * cos - y[b] * sin, y[b] * cos + y[a] * sin);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (tables, d, width) = (run.f32(1), run.width(0), run.types[0].shape.inner());
        let style = match self.style {
            RopeStyle::Halves => KernelStyle::Halves,
            RopeStyle::Pairs => KernelStyle::Pairs,
        };
        let (x, cos_sin) = (run.f32(0), tables.split_at(tables.len() / 2));
        wootz_kernels::rope(run.pool, style, x, d, cos_sin, x.len() / width, run.out);
    }
}
