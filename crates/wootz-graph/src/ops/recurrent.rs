//! Recurrent layers over ragged rows: Elman's, LSTM, GRU.
//!
//! Idea:   what rows give to the gates is an ordinary linear layer before; here is the recurrence alone. All sequences take their
//!         steps side by side, so a step is one product of as many rows as sequences are that long. The way back runs the
//!         recurrence again, keeps its gates, and makes the weight's gradient in one product over all rows.
//! Source: Elman 1990; Hochreiter & Schmidhuber 1997; Cho et al. 2014, arXiv:1406.1078; back-propagation through time: Werbos 1990.
//! Elsewhere: a cell's step (`wootz_kernels::cell_step`).

use wootz_kernels::{Cell, CellBack, Isa, LinearPart, PackedMatrix, Pool, Precision, ScanSeq};

use crate::Result;
use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::conv1d::{expect_inner, token_rows};
use crate::ops::{Backward, Operator, Part, Takes};
use crate::param::{Param, ParamKind};
use crate::shape::Type;
use crate::state::State;

/// `h[t] = cell(x[t], w·h[t − 1] + b, h[t − 1])`, from zeros or from the state.
#[derive(Clone, Debug)]
pub(crate) struct Recurrent {
    cell: Cell,
    state: Option<State>,
}

/// The gradients of x (as it reaches the gates), `dw = Σₜ du[t]·h[t − 1]ᵀ` and `db = Σₜ du[t]`, where `du` is that of `w·h + b`.
/// Only without a state.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentGrad {
    cell: Cell,
    part: Part,
}

impl Graph<'_> {
    /// `x` (T, gates·C), what rows give to the gates, `w` (gates·C, C) and `b` (gates·C) → (T, C). Gates stand in PyTorch's order. The
    /// state keeps C numbers, 2·C of an LSTM.
    pub fn recurrent(
        &mut self,
        cell: Cell,
        x: Value,
        w: Param,
        b: Option<Param>,
        state: Option<State>,
    ) -> Result<Value> {
        let w = self.weight(w);
        self.expect_recurrent("recurrent", state, state_len(cell, self.width(w)))?;
        let mut inputs = vec![x, w];
        inputs.extend(b.map(|b| self.weight(b)));
        self.push(Recurrent { cell, state }.into(), &inputs)
    }
}

/// Numbers of a sequence's state: h, and c behind it where there is one.
fn state_len(cell: Cell, width: usize) -> usize {
    if cell == Cell::Lstm { 2 * width } else { width }
}

impl Operator for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.cell).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let (x, w) = match inputs {
            [x, w] | [x, w, _] => (x, w),
            _ => return Err(format!("expected 2 or 3 inputs, got {}", inputs.len())),
        };
        token_rows(&[*x])?;
        let (width, gates) = (w.shape.width(), self.cell.n_gates());
        expect_inner("a weight of its gates", &w.shape, gates * width * width)?;
        expect_inner("rows for its gates", &x.shape, gates * width)?;
        if let Some(b) = inputs.get(2) {
            expect_inner("a bias", &b.shape, gates * width)?;
        }
        Ok(Type::f32((x.shape.dims()[0], width)))
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Weight(&[ParamKind::Matrix]) } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (n_elements(output, batch) * inputs[1].shape.inner()) as f64 / output.shape.width() as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        at.without(g, self.state)?;
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| RecurrentGrad { cell: self.cell, part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, w, b) = (run.input(0), run.input(1), (run.n_inputs() == 3).then(|| run.input(2)));
        let (n, gates) = (run.width(1), self.cell.n_gates() * run.width(1));
        for seq in &run.batch.sequences {
            let mut state = run.slot(self.state, seq, state_len(self.cell, n));
            for t in seq.rows.clone() {
                let step = PlainStep::new(self.cell, &x[t * gates..][..gates], (w, b), &state);
                run.out[t * n..][..n].copy_from_slice(&step.state[..n]);
                state = step.state;
            }
            run.set_slot(self.state, seq, &state);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let layer = Layer::new(self.cell, run, 0);
        let len = state_len(self.cell, layer.n);
        run.scan(self.state, len, |seqs, states, out| {
            layer.forward(seqs, Some(states), out, None);
        });
    }
}

/// One step in f64, with what its derivative needs.
struct PlainStep {
    /// Values of the gates after their functions; of a GRU also what the state gave to `n`.
    gates: Vec<f64>,
    state: Vec<f64>,
}

impl PlainStep {
    fn new(cell: Cell, x: &[f64], (w, b): (&[f64], Option<&[f64]>), before: &[f64]) -> Self {
        let n = x.len() / cell.n_gates();
        let (h, c) = before.split_at(n);
        let from_state = |(i, w): (usize, &[f64])| {
            b.map_or(0.0, |b| b[i]) + w.iter().zip(h).map(|(w, h)| w * h).sum::<f64>()
        };
        let u: Vec<f64> = w.chunks_exact(n).enumerate().map(from_state).collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut gates, mut state) = (vec![0.0; cell.n_kept() * n], vec![0.0; before.len()]);
        for i in 0..n {
            let at = |gate: usize| gate * n + i;
            let sum = |gate: usize| x[at(gate)] + u[at(gate)];
            let mut keep = |gate: usize, value: f64| {
                gates[at(gate)] = value;
                value
            };
            match cell {
                Cell::Plain => state[i] = keep(0, sum(0).tanh()),
                Cell::Lstm => {
                    let (input, forget) = (keep(0, sigmoid(sum(0))), keep(1, sigmoid(sum(1))));
                    let (new, output) = (keep(2, sum(2).tanh()), keep(3, sigmoid(sum(3))));
                    state[n + i] = forget * c[i] + input * new;
                    state[i] = output * keep(4, state[n + i].tanh());
                }
                Cell::Gru => {
                    let (reset, update) = (keep(0, sigmoid(sum(0))), keep(1, sigmoid(sum(1))));
                    let of_state = keep(3, u[at(2)]);
                    let new = keep(2, (x[at(2)] + reset * of_state).tanh());
                    state[i] = (1.0 - update) * new + update * h[i];
                }
            }
        }
        Self { gates, state }
    }

    /// From the gradient of the state after the step to those of `x`, of `u` and of the state before, as far as it does not go
    /// through `u`.
    fn back(&self, cell: Cell, before: &[f64], d: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let n = self.gates.len() / cell.n_kept();
        let (mut dx, mut du) = (vec![0.0; cell.n_gates() * n], vec![0.0; cell.n_gates() * n]);
        let mut d_before = vec![0.0; before.len()];
        let (of_sigmoid, of_tanh) = (|y: f64| y * (1.0 - y), |y: f64| 1.0 - y * y);
        for i in 0..n {
            let at = |gate: usize| gate * n + i;
            let y = |gate: usize| self.gates[at(gate)];
            let mut both = |gate: usize, value: f64| (dx[at(gate)], du[at(gate)]) = (value, value);
            match cell {
                Cell::Plain => both(0, d[i] * of_tanh(y(0))),
                Cell::Lstm => {
                    let dc = d[n + i] + d[i] * y(3) * of_tanh(y(4));
                    both(0, dc * y(2) * of_sigmoid(y(0)));
                    both(1, dc * before[n + i] * of_sigmoid(y(1)));
                    both(2, dc * y(0) * of_tanh(y(2)));
                    both(3, d[i] * y(4) * of_sigmoid(y(3)));
                    d_before[n + i] = dc * y(1);
                }
                Cell::Gru => {
                    let d_new = d[i] * (1.0 - y(1)) * of_tanh(y(2));
                    both(0, d_new * y(3) * of_sigmoid(y(0)));
                    both(1, d[i] * (before[i] - y(2)) * of_sigmoid(y(1)));
                    both(2, d_new);
                    du[at(2)] = d_new * y(0);
                    d_before[i] = d[i] * y(1);
                }
            }
        }
        (dx, du, d_before)
    }
}

/// A layer's weights and rows on the CPU.
struct Layer<'a> {
    cell: Cell,
    isa: Isa,
    pool: &'a Pool,
    n: usize,
    x: &'a [f32],
    weight: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
}

/// What a run over all rows leaves for the way back.
struct Kept {
    /// (T, kept·C).
    gates: Vec<f32>,
    /// (T, C) of an LSTM.
    inner: Vec<f32>,
}

impl<'a> Layer<'a> {
    /// Of inputs x, w and b from this one on.
    fn new(cell: Cell, run: &CpuRun<'a>, first: usize) -> Self {
        let bias = (run.n_inputs() == first + 3).then(|| run.f32(first + 2));
        let (x, weight, n) = (run.f32(first), run.matrix(first + 1), run.width(first + 1));
        Self { cell, isa: run.isa, pool: run.pool, n, x, weight, bias }
    }

    fn n_gates(&self) -> usize {
        self.cell.n_gates() * self.n
    }

    /// Runs all sequences side by side from their states, which move on, or from zeros.
    fn forward(
        &self,
        seqs: &[ScanSeq],
        states: Option<&mut [f32]>,
        out: &mut [f32],
        mut kept: Option<&mut Kept>,
    ) {
        let (n, gates, len) = (self.n, self.n_gates(), state_len(self.cell, self.n));
        let seqs = longest_first(seqs);
        let mut own = Vec::new();
        let states = match states {
            Some(states) => states,
            None => {
                own.resize(seqs.iter().map(|seq| seq.slot + 1).max().unwrap_or(0) * len, 0.0);
                &mut own
            }
        };
        let (mut h, mut u) = (vec![0.0; seqs.len() * n], vec![0.0; seqs.len() * gates]);
        let mut forgotten = vec![0.0; self.cell.n_kept() * n];
        for (seq, h) in seqs.iter().zip(h.chunks_exact_mut(n)) {
            h.copy_from_slice(&states[seq.slot * len..][..n]);
        }
        for (step, n_active) in steps(&seqs) {
            let u = &mut u[..n_active * gates];
            let part = LinearPart { weight: self.weight, bias: self.bias, out: u };
            wootz_kernels::linear(self.isa, self.pool, &h[..n_active * n], n_active, &mut [part]);
            for ((seq, h), u) in seqs[..n_active].iter().zip(h.chunks_exact_mut(n)).zip(u.chunks_exact(gates)) {
                let row = seq.rows.start + step;
                let (_, c) = states[seq.slot * len..][..len].split_at_mut(n);
                let n_kept = self.cell.n_kept() * n;
                let gates_of_row = match &mut kept {
                    Some(kept) => &mut kept.gates[row * n_kept..][..n_kept],
                    None => &mut forgotten,
                };
                let x = &self.x[row * gates..][..gates];
                wootz_kernels::cell_step(self.isa, self.cell, x, u, h, c, gates_of_row);
                out[row * n..][..n].copy_from_slice(h);
                if let Some(kept) = &mut kept
                    && self.cell == Cell::Lstm
                {
                    kept.inner[row * n..][..n].copy_from_slice(c);
                }
            }
        }
        for (seq, h) in seqs.iter().zip(h.chunks_exact(n)) {
            states[seq.slot * len..][..n].copy_from_slice(h);
        }
    }

    /// The gradients of what rows and states gave to the gates, `dx` and `du`, and the states before each row.
    fn backward(&self, seqs: &[ScanSeq], dy: &[f32], dx: &mut [f32], du: &mut [f32], before: &mut [f32]) {
        let (n, gates, n_kept) = (self.n, self.n_gates(), self.cell.n_kept() * self.n);
        let n_rows = self.x.len() / gates;
        let is_lstm = self.cell == Cell::Lstm;
        let inner = vec![0.0; if is_lstm { n_rows * n } else { 0 }];
        let mut kept = Kept { gates: vec![0.0; n_rows * n_kept], inner };
        let mut h = vec![0.0; n_rows * n];
        self.forward(seqs, None, &mut h, Some(&mut kept));
        let seqs = longest_first(seqs);
        for rows in seqs.iter().map(|seq| seq.rows.clone()) {
            before[rows.start * n..][..n].fill(0.0);
            before[(rows.start + 1) * n..rows.end * n].copy_from_slice(&h[rows.start * n..(rows.end - 1) * n]);
        }
        let zeros = vec![0.0; n];
        let (mut dh, mut dc) = (vec![0.0; seqs.len() * n], vec![0.0; seqs.len() * n]);
        let mut of_step = vec![0.0; seqs.len() * gates];
        let mut through = vec![0.0; seqs.len() * n];
        for (step, n_active) in steps(&seqs).collect::<Vec<_>>().into_iter().rev() {
            let of_step = &mut of_step[..n_active * gates];
            for (i, (seq, of_step)) in seqs[..n_active].iter().zip(of_step.chunks_exact_mut(gates)).enumerate() {
                let row = seq.rows.start + step;
                let (dh, dc) = (&mut dh[i * n..][..n], &mut dc[i * n..][..n]);
                dh.iter_mut().zip(&dy[row * n..][..n]).for_each(|(dh, dy)| *dh += dy);
                let c_before = if is_lstm && step > 0 { &kept.inner[(row - 1) * n..][..n] } else { &zeros };
                let back = CellBack {
                    kept: &kept.gates[row * n_kept..][..n_kept],
                    h_before: &before[row * n..][..n],
                    c_before,
                    dh,
                    dc,
                    dx: &mut dx[row * gates..][..gates],
                    du: &mut *of_step,
                };
                wootz_kernels::cell_step_grad(self.isa, self.cell, back);
                du[row * gates..][..gates].copy_from_slice(of_step);
            }
            let through = &mut through[..n_active * n];
            wootz_kernels::linear_input_grad(self.isa, self.pool, of_step, n_active, self.weight, through, false);
            dh.iter_mut().zip(&*through).for_each(|(dh, through)| *dh += through);
        }
    }
}

/// Sequences by length, the longest first; of equal ones, the earlier.
fn longest_first(seqs: &[ScanSeq]) -> Vec<ScanSeq> {
    let mut seqs = seqs.to_vec();
    seqs.sort_by_key(|seq| std::cmp::Reverse(seq.rows.len()));
    seqs
}

/// The steps, and how many of the sequences, which come longest first, are that long.
fn steps(seqs: &[ScanSeq]) -> impl Iterator<Item = (usize, usize)> {
    let n_steps = seqs.first().map_or(0, |seq| seq.rows.len());
    (0..n_steps).map(|step| (step, seqs.partition_point(|seq| seq.rows.len() > step)))
}

impl Operator for RecurrentGrad {
    fn name(&self) -> &'static str {
        "recurrent_grad"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.cell).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 2 { Takes::Weight(&[ParamKind::Matrix]) } else { Takes::Numbers }
    }

    /// A product for each part; the recurrence once more is counted with the rows' gradient.
    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let product = 2.0 * (n_elements(&inputs[0], batch) * inputs[2].shape.inner()) as f64;
        let flops = [2.0, 1.0, 0.0][self.part.index] * product / inputs[2].shape.width() as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, w) = (run.input(0), run.input(1), run.input(2));
        let b = (run.n_inputs() == 4).then(|| run.input(3));
        let (n, gates) = (run.width(2), self.cell.n_gates() * run.width(2));
        let len = state_len(self.cell, n);
        run.out.fill(0.0);
        for seq in &run.batch.sequences {
            let mut states = vec![vec![0.0; len]];
            let mut taken = Vec::new();
            for t in seq.rows.clone() {
                let step = PlainStep::new(self.cell, &x[t * gates..][..gates], (w, b), &states[states.len() - 1]);
                states.push(step.state.clone());
                taken.push(step);
            }
            let mut d = vec![0.0; len];
            for (step, t) in seq.rows.clone().enumerate().rev() {
                (0..n).for_each(|i| d[i] += dy[t * n + i]);
                let before = &states[step];
                let (dx, du, mut d_before) = taken[step].back(self.cell, before, &d);
                for (i, du) in du.iter().enumerate() {
                    (0..n).for_each(|j| d_before[j] += du * w[i * n + j]);
                    match self.part.index {
                        0 => {}
                        1 => (0..n).for_each(|j| run.out[i * n + j] += du * before[j]),
                        _ => run.out[i] += du,
                    }
                }
                if self.part.index == 0 {
                    run.out[t * gates..][..gates].copy_from_slice(&dx);
                }
                d = d_before;
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dx, dw, db, ..]: Outs) {
        let layer = Layer::new(self.cell, run, 1);
        let (n_rows, n) = (layer.x.len() / layer.n_gates(), layer.n);
        let (mut du, mut before) = (vec![0.0; layer.x.len()], vec![0.0; n_rows * n]);
        let (dy, seqs) = (run.f32(0), run.scan_seqs());
        match dx {
            Some(dx) => dx.write(|dx| layer.backward(&seqs, dy, dx, &mut du, &mut before)),
            None => layer.backward(&seqs, dy, &mut vec![0.0; layer.x.len()], &mut du, &mut before),
        }
        if let Some(Out { numbers, adds }) = dw {
            let (isa, pool, exact) = (run.isa, run.pool, Precision::Exact);
            wootz_kernels::linear_weight_grad(isa, pool, &before, &du, n_rows, exact, numbers, adds);
        }
        if let Some(Out { numbers, adds }) = db {
            wootz_kernels::sum_rows(run.isa, run.pool, &du, numbers, adds);
        }
    }
}
