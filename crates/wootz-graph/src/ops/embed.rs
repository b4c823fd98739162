//! Embedding: rows of a table, chosen by ids. Its gradient adds rows back.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::Type;
use crate::{Result, Shape};

/// `y[t] = table[ids[t]]`.
#[derive(Clone, Debug)]
pub(crate) struct Embed;

/// `dtable[v] = Σ dy[t]` over the rows with `ids[t] = v`, in row order.
#[derive(Clone, Debug)]
pub(crate) struct EmbedGrad {
    vocab_size: usize,
}

impl Graph<'_> {
    /// Rows of `table` (V, C) chosen by `ids` (T) → (T, C).
    pub fn embed(&mut self, ids: Value, table: Param) -> Result<Value> {
        let table = self.weight(table);
        self.push(Embed.into(), &[ids, table])
    }
}

impl Operator for Embed {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [ids, table] = arity(inputs)?;
        if ids.shape.inner() != 1 || table.shape.dims().len() != 2 {
            return Err(format!("expected ids (T) and a table (V, C), got {} and {}", ids.shape, table.shape));
        }
        Ok(Type::f32(ids.shape.with_width(table.shape.width())))
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        let table = &inputs[1].shape;
        match input {
            0 => Takes::Ids { below: Some(table.inner() / table.width()) },
            _ => Takes::Weight(&[ParamKind::Table, ParamKind::Matrix, ParamKind::Vector]),
        }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::copy(&inputs[..1], output, batch)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let vocab_size = g.ty(at.inputs[1]).shape.inner() / g.width(at.inputs[1]);
        let dtable = g.push(EmbedGrad { vocab_size }.into(), &[at.inputs[0], at.dy])?;
        Ok(vec![None, Some(dtable)])
    }

    fn reference(&self, run: &mut RefRun) {
        let (ids, table, width) = (run.input(0), run.input(1), run.width(1));
        for (row, &id) in run.out.chunks_exact_mut(width).zip(ids) {
            row.copy_from_slice(&table[id as usize * width..][..width]);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (ids, table, width) = (run.u32(0), run.weight(1), run.width(1));
        run.pool.rows(run.out, width, 16, |first, rows| {
            for (row, &id) in rows.chunks_exact_mut(width).zip(&ids[first..]) {
                table.row(id as usize, row);
            }
        });
    }
}

impl Operator for EmbedGrad {
    fn name(&self) -> &'static str {
        "embed_grad"
    }

    fn adds(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [_ids, dy] = arity(inputs)?;
        Ok(Type::f32(Shape::fixed(&[self.vocab_size, dy.shape.width()])))
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 0 { Takes::Ids { below: Some(self.vocab_size) } } else { Takes::Numbers }
    }

    fn reference(&self, run: &mut RefRun) {
        let (ids, dy, width) = (run.input(0), run.input(1), run.width(1));
        run.out.fill(0.0);
        for (row, &id) in dy.chunks_exact(width).zip(ids) {
            for (sum, d) in run.out[id as usize * width..][..width].iter_mut().zip(row) {
                *sum += d;
            }
        }
    }

    /// A task has a range of the table and looks through all ids.
    fn cpu(&self, run: &mut CpuRun) {
        let (ids, dy, width, adds) = (run.u32(0), run.f32(1), run.width(1), run.adds);
        let per_task = self.vocab_size.div_ceil(4 * run.pool.threads());
        run.pool.rows(run.out, width, per_task, |first, rows| {
            if !adds {
                rows.fill(0.0);
            }
            let here = first..first + rows.len() / width;
            for (row, &id) in dy.chunks_exact(width).zip(ids) {
                if here.contains(&(id as usize)) {
                    let sum = &mut rows[(id as usize - first) * width..][..width];
                    sum.iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
                }
            }
        });
    }
}
