//! The router of a mixture of experts: which experts a token goes to, and the scores that go with them. Which ones has no
//! gradient; their scores do.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::shape::{DType, Type};
use crate::Result;

/// The k best columns of each row, in ascending order of column, so that expert sums have one order.
#[derive(Clone, Debug)]
pub(crate) struct TopK {
    k: usize,
    groups: Option<Groups>,
}

/// Experts in equal groups, of which only the best may be chosen from (DeepSeek-V2 and V3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many groups.
    pub n_groups: usize,
    /// How many of them stay.
    pub n_kept: usize,
    /// A group's score is the sum of its best this many columns: 1 in V2, 2 in V3.
    pub n_summed: usize,
}

/// `y[t, i] = x[t, ids[t, i]]`.
#[derive(Clone, Debug)]
pub(crate) struct Pick;

/// `dx[t, ids[t, i]] = dy[t, i]`, added where an id comes twice, zero elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct PickGrad {
    width: usize,
}

impl Graph<'_> {
    /// The `k` best columns of each row of `scores` (T, E) → ids (T, k), ascending. Ties go to the lower column.
    pub fn top_k(&mut self, scores: Value, k: usize, groups: Option<Groups>) -> Result<Value> {
        self.push(TopK { k, groups }.into(), &[scores])
    }

    /// The columns `ids` (T, k) of `x` (T, E) → (T, k).
    pub fn pick(&mut self, x: Value, ids: Value) -> Result<Value> {
        self.push(Pick.into(), &[x, ids])
    }
}

impl TopK {
    fn choose(&self, scores: &[f32]) -> Vec<usize> {
        let mut allowed = vec![true; scores.len()];
        if let Some(groups) = self.groups {
            let len = scores.len() / groups.n_groups;
            let group_score = |group: usize| {
                let columns = &scores[group * len..][..len];
                best(columns, groups.n_summed, |_| true).iter().map(|&i| columns[i]).sum::<f32>()
            };
            let of_groups: Vec<f32> = (0..groups.n_groups).map(group_score).collect();
            let kept = best(&of_groups, groups.n_kept, |_| true);
            allowed.iter_mut().enumerate().for_each(|(i, allowed)| *allowed = kept.contains(&(i / len)));
        }
        let mut chosen = best(scores, self.k, |i| allowed[i]);
        chosen.sort_unstable();
        chosen
    }

    /// The same by counting: a column is chosen if fewer than k allowed ones go before it.
    fn ranked(&self, scores: &[f64]) -> Vec<usize> {
        let rank = |all: &[f64], i: usize| {
            let goes_before = |j: usize| all[j] > all[i] || all[i].is_nan() && !all[j].is_nan();
            let ties = |j: usize| j < i && (all[j] == all[i] || all[i].is_nan() && all[j].is_nan());
            (0..all.len()).filter(|&j| goes_before(j) || ties(j)).count()
        };
        let mut allowed = vec![true; scores.len()];
        if let Some(groups) = self.groups {
            let columns: Vec<&[f64]> = scores.chunks_exact(scores.len() / groups.n_groups).collect();
            let sum = |group: &&[f64]| -> f64 {
                (0..group.len()).filter(|&i| rank(group, i) < groups.n_summed).map(|i| group[i]).sum()
            };
            let sums: Vec<f64> = columns.iter().map(sum).collect();
            let is_kept = |i: usize| rank(&sums, i * groups.n_groups / scores.len()) < groups.n_kept;
            allowed = (0..scores.len()).map(is_kept).collect();
        }
        let places: Vec<usize> = (0..scores.len()).filter(|&i| allowed[i]).collect();
        let candidates: Vec<f64> = places.iter().map(|&i| scores[i]).collect();
        (0..places.len()).filter(|&i| rank(&candidates, i) < self.k).map(|i| places[i]).collect()
    }
}

/// The `k` highest of the allowed places, best first, ties to the lower place, what is not a number last.
fn best(scores: &[f32], k: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| allowed(i)).collect();
    let ascending = |a: f32, b: f32| a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()));
    order.sort_by(|&a, &b| ascending(scores[b], scores[a]));
    order.truncate(k);
    order
}

impl Operator for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn detail(&self) -> String {
        match self.groups {
            None => format!("{} best", self.k),
            Some(groups) => format!("{} best of {} groups of {}", self.k, groups.n_kept, groups.n_groups),
        }
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [scores] = arity(inputs)?;
        let n = scores.shape.width();
        if self.k == 0 || self.k > n {
            return Err(format!("cannot choose {} of {}", self.k, scores.shape));
        }
        if let Some(groups) = self.groups
            && (groups.n_groups == 0
                || !n.is_multiple_of(groups.n_groups)
                || groups.n_kept.min(groups.n_groups) * (n / groups.n_groups) < self.k)
        {
            return Err(format!("cannot choose {} of {} within {groups:?}", self.k, scores.shape));
        }
        Ok(Type { shape: scores.shape.with_width(self.k), dtype: DType::U32 })
    }

    fn ids_below(&self, inputs: &[Type]) -> Option<usize> {
        Some(inputs[0].shape.width())
    }

    fn reference(&self, run: &mut RefRun) {
        let rows = run.input(0).chunks_exact(run.width(0));
        for (scores, ids) in rows.zip(run.out.chunks_exact_mut(self.k)) {
            ids.iter_mut().zip(self.ranked(scores)).for_each(|(id, column)| *id = column as f64);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (scores, width) = (run.f32(0), run.width(0));
        let out = run.out_u32();
        for (scores, ids) in scores.chunks_exact(width).zip(out.chunks_exact_mut(self.k)) {
            ids.iter_mut().zip(self.choose(scores)).for_each(|(id, column)| *id = column as u32);
        }
    }
}

impl Operator for Pick {
    fn name(&self) -> &'static str {
        "pick"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, ids] = arity(inputs)?;
        if x.shape.rows() != ids.shape.rows() {
            return Err(format!("expected ids for the rows of {}, got {}", x.shape, ids.shape));
        }
        Ok(Type::f32(ids.shape))
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Ids { below: Some(inputs[0].shape.width()) } } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::copy(&inputs[1..], output, batch)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let width = g.width(at.inputs[0]);
        Ok(vec![Some(g.push(PickGrad { width }.into(), &[at.dy, at.inputs[1]])?), None])
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, ids, width, k) = (run.input(0), run.input(1), run.width(0), run.width(1));
        for (i, (y, &id)) in run.out.iter_mut().zip(ids).enumerate() {
            *y = x[i / k * width + id as usize];
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, ids, width, k) = (run.f32(0), run.u32(1), run.width(0), run.width(1));
        for (i, (y, &id)) in run.out.iter_mut().zip(ids).enumerate() {
            *y = x[i / k * width + id as usize];
        }
    }
}

impl Operator for PickGrad {
    fn name(&self) -> &'static str {
        "pick_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [dy, _ids] = arity(inputs)?;
        Ok(Type::f32(dy.shape.with_width(self.width)))
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Ids { below: Some(self.width) } } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::copy(&inputs[1..], output, batch)
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, ids, k) = (run.input(0), run.input(1), run.width(1));
        run.out.fill(0.0);
        for (i, (dy, &id)) in dy.iter().zip(ids).enumerate() {
            run.out[i / k * self.width + id as usize] += dy;
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, ids, k) = (run.f32(0), run.u32(1), run.width(1));
        run.out.fill(0.0);
        for (i, (dy, &id)) in dy.iter().zip(ids).enumerate() {
            run.out[i / k * self.width + id as usize] += dy;
        }
    }
}
