//! What a bank's adapters add behind a layer, for each sequence its own or nothing: `y = gain ⊙ (y₀ + scale·B(A·x)) + shift`.
//!
//! Idea:   a sequence names a slot of the bank or none; its rows are adapted, the others copied bit by bit. A graph without
//!         a bank has no such nodes, and one with a bank has them at the bank's sites alone.
//! Source: LoRA: Hu et al. 2021, arXiv:2106.09685, eq. 3; gain: DoRA, Liu et al. 2024, arXiv:2402.09353, eq. 5; a shift of the
//!         residual stream: Turner et al. 2023, arXiv:2308.10248.
//! Elsewhere: slots and their checks ([`bank`](crate::bank), the executors' door), gathering of rows
//!         (`wootz_kernels::add_low_rank`). Training of A and B: see [`bank`](crate::bank).

use wootz_kernels::LowRank;

use crate::bank::Site;
use crate::batch::{Batch, Data};
use crate::cost::{Cost, n_elements};
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator};
use crate::shape::{Axis, Type};
use crate::Result;

/// Adds what each row's adapter has for a site.
#[derive(Clone, Debug)]
pub(crate) struct Adapt {
    pub site: Site,
    pub max_rank: usize,
}

/// `dy₀ = gain ⊙ dy`.
#[derive(Clone, Debug)]
pub(crate) struct AdaptBaseGrad {
    site: Site,
}

/// `dx = scale·Aᵀ(Bᵀ(gain ⊙ dy))`, 0 for rows without an adapter.
#[derive(Clone, Debug)]
pub(crate) struct AdaptInputGrad {
    site: Site,
    max_rank: usize,
    width: usize,
}

impl Graph<'_> {
    /// `y` (T, n), what a linear layer made of `x` (T, k), with what the bank has for `site`; `y` itself where it has nothing.
    pub(crate) fn adapt(&mut self, y: Value, x: Value, site: Site) -> Result<Value> {
        match self.bank().filter(|bank| bank.sites.contains(&site)).map(|bank| bank.max_rank) {
            Some(max_rank) => self.push(Adapt { site, max_rank }.into(), &[y, x]),
            None => Ok(y),
        }
    }

    /// The residual stream `x` (T, C) behind a layer with what the bank's control vectors add there.
    pub fn steer(&mut self, x: Value, layer: usize) -> Result<Value> {
        let site = Site::Residual(layer);
        match self.bank().is_some_and(|bank| bank.sites.contains(&site)) {
            true => self.push(Adapt { site, max_rank: 0 }.into(), &[x]),
            false => Ok(x),
        }
    }
}

/// The slot of each row of `width` numbers of a value.
fn slots(batch: &Batch, ty: &Type, width: usize) -> Vec<Option<usize>> {
    let Some((axis, _)) = ty.shape.rows() else { return Vec::new() };
    let n_rows = batch.rows().of(axis);
    let each = (n_elements(ty, batch) / width).checked_div(n_rows).unwrap_or(0);
    let mut of_row = vec![None; n_rows];
    let outputs = match batch.inputs.get("outputs") {
        Some(Data::U32(outputs)) if axis == Axis::Outputs => outputs.as_slice(),
        _ => &[],
    };
    for (index, seq) in batch.sequences.iter().enumerate().filter(|(_, seq)| seq.adapter.is_some()) {
        match axis {
            Axis::Tokens => of_row[seq.rows.clone()].fill(seq.adapter),
            Axis::Keys => of_row[seq.key_rows.clone()].fill(seq.adapter),
            Axis::Sequences => of_row[index] = seq.adapter,
            Axis::Outputs => {
                let rows = of_row.iter_mut().zip(outputs);
                rows.filter(|(_, row)| seq.rows.contains(&(**row as usize)))
                    .for_each(|(slot, _)| *slot = seq.adapter);
            }
        }
    }
    of_row.into_iter().flat_map(|slot| std::iter::repeat_n(slot, each)).collect()
}

/// The rows of `width` numbers that have an adapter.
fn n_adapted(batch: &Batch, ty: &Type, width: usize) -> usize {
    slots(batch, ty, width).iter().flatten().count()
}

impl Operator for Adapt {
    fn name(&self) -> &'static str {
        "adapt"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        match (inputs, self.site) {
            ([y, x], Site::Linear(_)) if y.shape.with_width(1) == x.shape.with_width(1) => Ok(*y),
            ([y], Site::Residual(_)) => Ok(*y),
            ([y, x], Site::Linear(_)) => Err(format!("expected rows like {}, got {}", y.shape, x.shape)),
            _ => Err(format!("expected rows for {:?}, got {} inputs", self.site, inputs.len())),
        }
    }

    /// Of the rows that have an adapter, as if it had the highest rank; the others are copied.
    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let widths: usize = inputs.iter().map(|ty| ty.shape.width()).sum();
        let n_rows = n_adapted(batch, output, output.shape.width());
        let copied = Cost::elementwise(&inputs[..1], output, batch, 0.0);
        let n_numbers = widths * self.max_rank;
        Cost {
            flops: 2.0 * (n_rows * n_numbers) as f64,
            bytes: copied.bytes + 4.0 * (n_numbers * usize::from(n_rows > 0)) as f64,
        }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let (site, max_rank) = (self.site, self.max_rank);
        let dy = at.wanted[0].then(|| g.push(AdaptBaseGrad { site }.into(), &[at.dy])).transpose()?;
        let Some(&x) = at.inputs.get(1) else { return Ok(vec![dy]) };
        let width = g.width(x);
        let dx = at.wanted[1].then(|| g.push(AdaptInputGrad { site, max_rank, width }.into(), &[at.dy]));
        Ok(vec![dy, dx.transpose()?])
    }

    fn reference(&self, run: &mut RefRun) {
        let (base, n) = (run.input(0), run.width(0));
        let slots = slots(run.batch, &run.out_ty, n);
        run.out.copy_from_slice(base);
        for (row, (slot, y)) in slots.iter().zip(run.out.chunks_exact_mut(n)).enumerate() {
            let Some(addition) = slot.and_then(|slot| run.bank.at(slot, self.site)) else { continue };
            if addition.rank > 0 {
                let x = &run.inputs[1][row * addition.k..][..addition.k];
                let dot = |a: &[f64]| a.iter().zip(x).map(|(a, x)| a * x).sum::<f64>();
                let z: Vec<f64> = addition.a.chunks_exact(addition.k).map(dot).collect();
                for (y, b) in y.iter_mut().zip(addition.b.chunks_exact(addition.rank)) {
                    *y += addition.scale * b.iter().zip(&z).map(|(b, z)| b * z).sum::<f64>();
                }
            }
            for (i, y) in y.iter_mut().enumerate() {
                *y = addition.gain(i) * *y + addition.shift.as_ref().map_or(0.0, |shift| shift[i]);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (base, n) = (run.f32(0), run.width(0));
        let x = if run.n_inputs() == 2 { run.f32(1) } else { &[] };
        let layers = layers(run, n, self.site);
        wootz_kernels::add_low_rank(run.isa, run.pool, &layers, x, base, run.out);
    }
}

/// What each row's adapter has for a site.
fn layers<'a>(run: &CpuRun<'a>, width: usize, site: Site) -> Vec<Option<&'a LowRank>> {
    let slots = slots(run.batch, &run.types[0], width);
    slots.into_iter().map(|slot| run.bank.at(slot?, site)).collect()
}

impl Operator for AdaptBaseGrad {
    fn name(&self) -> &'static str {
        "adapt_base_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [dy] = crate::ops::arity(inputs)?;
        Ok(dy)
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, n) = (run.input(0), run.width(0));
        let slots = slots(run.batch, &run.out_ty, n);
        for (row, out) in run.out.chunks_exact_mut(n).enumerate() {
            let addition = slots[row].and_then(|slot| run.bank.at(slot, self.site));
            for (i, (out, dy)) in out.iter_mut().zip(&dy[row * n..]).enumerate() {
                *out = dy * addition.map_or(1.0, |addition| addition.gain(i));
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, n) = (run.f32(0), run.width(0));
        let layers = layers(run, n, self.site);
        run.pool.rows(run.out, n, 4, |first, out| {
            for (row, out) in out.chunks_exact_mut(n).enumerate() {
                let dy = &dy[(first + row) * n..][..n];
                match layers[first + row].and_then(LowRank::gain) {
                    Some(gain) => {
                        out.iter_mut().zip(dy).zip(gain).for_each(|((out, dy), gain)| *out = dy * gain)
                    }
                    None => out.copy_from_slice(dy),
                }
            }
        });
    }
}

impl Operator for AdaptInputGrad {
    fn name(&self) -> &'static str {
        "adapt_input_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [dy] = crate::ops::arity(inputs)?;
        Ok(Type::f32(dy.shape.with_width(self.width)))
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let n_numbers = (inputs[0].shape.width() + self.width) * self.max_rank;
        let n_rows = n_adapted(batch, output, self.width);
        let moved = Cost::elementwise(inputs, output, batch, 0.0);
        Cost { flops: 2.0 * (n_rows * n_numbers) as f64, bytes: moved.bytes + 4.0 * n_numbers as f64 }
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, n, k) = (run.input(0), run.width(0), self.width);
        let slots = slots(run.batch, &run.out_ty, k);
        run.out.fill(0.0);
        for (row, dx) in run.out.chunks_exact_mut(k).enumerate() {
            let Some(addition) = slots[row].and_then(|slot| run.bank.at(slot, self.site)) else { continue };
            for j in 0..addition.rank {
                let dy = &dy[row * n..][..n];
                let up = |i: usize| addition.b[i * addition.rank + j] * addition.gain(i) * dy[i];
                let z = addition.scale * (0..n).map(up).sum::<f64>();
                dx.iter_mut().zip(&addition.a[j * k..]).for_each(|(dx, a)| *dx += z * a);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, n, k) = (run.f32(0), run.width(0), self.width);
        let layers = layers(run, n, self.site);
        run.pool.rows(run.out, k, 1, |row, dx| {
            dx.fill(0.0);
            if let Some(layer) = layers[row].filter(|layer| layer.has_product()) {
                layer.add_input_grad(&dy[row * n..][..n], dx);
            }
        });
    }
}
