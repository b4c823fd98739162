//! One step of a recurrent cell for one sequence, forward and back: Elman's, LSTM, GRU.
//!
//! Where:  the recurrent layers of small language models; the product with the state's weights is an ordinary linear layer.
//! Idea:   a step takes what the row and what the state before gave to each gate, and leaves the gates' values for the way back.
//! Source: Elman 1990; Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000); Cho et al. 2014, arXiv:1406.1078. Order
//!         of gates and the place of biases are PyTorch's.

use crate::Isa;
use crate::isa::Kernel;
use crate::simd::{LANES, Simd, math};

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `h = tanh(x + u)`
    Plain,
    /// Gates i, f, g, o: `c = σ(f)·c + σ(i)·tanh(g)`, `h = σ(o)·tanh(c)`.
    Lstm,
    /// Gates r, z, n: `n = tanh(xₙ + σ(r)·uₙ)`, `h = (1 − σ(z))·n + σ(z)·h`.
    Gru,
}

impl Cell {
    /// Numbers that rows and states give, for each of the state.
    pub const fn n_gates(self) -> usize {
        match self {
            Cell::Plain => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// Numbers that a step leaves for the way back, for each of the state.
    pub const fn n_kept(self) -> usize {
        match self {
            Cell::Plain => 1,
            Cell::Lstm => 5,
            Cell::Gru => 4,
        }
    }
}

/// One step: `x` and `u` `(gates·C)` from the row and from the state before, `h` and `c` `(C)` the state, which moves on (`c` is
/// LSTM's alone), `kept` `(kept·C)` for [`cell_step_grad`].
pub fn cell_step(isa: Isa, cell: Cell, x: &[f32], u: &[f32], h: &mut [f32], c: &mut [f32], kept: &mut [f32]) {
    let n = h.len();
    assert_eq!((x.len(), u.len()), (cell.n_gates() * n, cell.n_gates() * n), "cell_step: gates of {n}");
    assert_eq!(kept.len(), cell.n_kept() * n, "cell_step: length of `kept`");
    assert!(cell != Cell::Lstm || c.len() == n, "cell_step: length of `c`");
    isa.run(Step { cell, x, u, h, c, kept });
}

/// The way back through one step.
pub struct CellBack<'a> {
    /// What the step left.
    pub kept: &'a [f32],
    /// The state before the step.
    pub h_before: &'a [f32],
    /// Of LSTM.
    pub c_before: &'a [f32],
    /// Comes as the gradient of the state after the step, and leaves as what reaches the state before it past the gates.
    pub dh: &'a mut [f32],
    /// The same for LSTM's inner state.
    pub dc: &'a mut [f32],
    /// The gradient of what the row gave.
    pub dx: &'a mut [f32],
    /// The gradient of what the state gave.
    pub du: &'a mut [f32],
}

/// The gradients of [`cell_step`].
pub fn cell_step_grad(isa: Isa, cell: Cell, back: CellBack<'_>) {
    let n = back.dh.len();
    assert_eq!(back.kept.len(), cell.n_kept() * n, "cell_step_grad: length of `kept`");
    let lens = (back.dx.len(), back.du.len(), back.h_before.len());
    assert_eq!(lens, (cell.n_gates() * n, cell.n_gates() * n, n), "cell_step_grad: lengths");
    assert!(cell != Cell::Lstm || (back.c_before.len(), back.dc.len()) == (n, n), "cell_step_grad: `c`");
    isa.run(Back { cell, back });
}

struct Step<'a> {
    cell: Cell,
    x: &'a [f32],
    u: &'a [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
    kept: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Step { cell, x, u, h, c, kept } = self;
        let n = h.len();
        for at in (0..n).step_by(LANES) {
            let len = LANES.min(n - at);
            let gate = |i: usize| i * n + at..i * n + at + len;
            macro_rules! sum {
                ($i:expr) => {
                    s.add(load(s, &x[gate($i)]), load(s, &u[gate($i)]))
                };
            }
            match cell {
                Cell::Plain => {
                    let y = math::tanh(s, sum!(0));
                    store(s, y, &mut kept[gate(0)]);
                    store(s, y, &mut h[gate(0)]);
                }
                Cell::Lstm => {
                    let (i, f) = (math::sigmoid(s, sum!(0)), math::sigmoid(s, sum!(1)));
                    let (g, o) = (math::tanh(s, sum!(2)), math::sigmoid(s, sum!(3)));
                    let inner = s.mul_add(f, load(s, &c[gate(0)]), s.mul(i, g));
                    let outer = math::tanh(s, inner);
                    store(s, i, &mut kept[gate(0)]);
                    store(s, f, &mut kept[gate(1)]);
                    store(s, g, &mut kept[gate(2)]);
                    store(s, o, &mut kept[gate(3)]);
                    store(s, outer, &mut kept[gate(4)]);
                    store(s, inner, &mut c[gate(0)]);
                    store(s, s.mul(o, outer), &mut h[gate(0)]);
                }
                Cell::Gru => {
                    let (r, z) = (math::sigmoid(s, sum!(0)), math::sigmoid(s, sum!(1)));
                    let of_state = load(s, &u[gate(2)]);
                    let new = math::tanh(s, s.mul_add(r, of_state, load(s, &x[gate(2)])));
                    store(s, r, &mut kept[gate(0)]);
                    store(s, z, &mut kept[gate(1)]);
                    store(s, new, &mut kept[gate(2)]);
                    store(s, of_state, &mut kept[gate(3)]);
                    let next = s.mul_add(z, s.sub(load(s, &h[gate(0)]), new), new);
                    store(s, next, &mut h[gate(0)]);
                }
            }
        }
    }
}

struct Back<'a> {
    cell: Cell,
    back: CellBack<'a>,
}

impl Kernel for Back<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let CellBack { kept, h_before, c_before, dh, dc, dx, du } = self.back;
        let n = dh.len();
        let one = s.splat(1.0);
        for at in (0..n).step_by(LANES) {
            let len = LANES.min(n - at);
            let gate = |i: usize| i * n + at..i * n + at + len;
            macro_rules! kept {
                ($i:expr) => {
                    load(s, &kept[gate($i)])
                };
            }
            macro_rules! of_sigmoid {
                ($d:expr, $y:expr) => {
                    s.mul($d, s.mul($y, s.sub(one, $y)))
                };
            }
            macro_rules! of_tanh {
                ($d:expr, $y:expr) => {
                    s.mul($d, s.sub(one, s.mul($y, $y)))
                };
            }
            let d = load(s, &dh[gate(0)]);
            match self.cell {
                Cell::Plain => {
                    let d = of_tanh!(d, kept!(0));
                    store(s, d, &mut dx[gate(0)]);
                    store(s, d, &mut du[gate(0)]);
                    store(s, s.splat(0.0), &mut dh[gate(0)]);
                }
                Cell::Lstm => {
                    let (i, f, g, o, outer) = (kept!(0), kept!(1), kept!(2), kept!(3), kept!(4));
                    let inner = s.add(load(s, &dc[gate(0)]), of_tanh!(s.mul(d, o), outer));
                    let gates = [
                        of_sigmoid!(s.mul(inner, g), i),
                        of_sigmoid!(s.mul(inner, load(s, &c_before[gate(0)])), f),
                        of_tanh!(s.mul(inner, i), g),
                        of_sigmoid!(s.mul(d, outer), o),
                    ];
                    for (i, d) in gates.into_iter().enumerate() {
                        store(s, d, &mut dx[gate(i)]);
                        store(s, d, &mut du[gate(i)]);
                    }
                    store(s, s.mul(inner, f), &mut dc[gate(0)]);
                    store(s, s.splat(0.0), &mut dh[gate(0)]);
                }
                Cell::Gru => {
                    let (r, z, new, of_state) = (kept!(0), kept!(1), kept!(2), kept!(3));
                    let before = load(s, &h_before[gate(0)]);
                    let d_new = of_tanh!(s.mul(d, s.sub(one, z)), new);
                    let d_z = of_sigmoid!(s.mul(d, s.sub(before, new)), z);
                    let d_r = of_sigmoid!(s.mul(d_new, of_state), r);
                    let of_u = s.mul(d_new, r);
                    for (i, (of_x, of_u)) in [(d_r, d_r), (d_z, d_z), (d_new, of_u)].into_iter().enumerate() {
                        store(s, of_x, &mut dx[gate(i)]);
                        store(s, of_u, &mut du[gate(i)]);
                    }
                    store(s, s.mul(d, z), &mut dh[gate(0)]);
                }
            }
        }
    }
}

/// Up to sixteen numbers, zeros after them.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::F {
    match x.first_chunk::<LANES>() {
        Some(x) => s.load(x),
        None => s.load_part(x, 0.0),
    }
}

/// Stores up to sixteen numbers.
#[inline(always)]
fn store<S: Simd>(s: S, v: S::F, out: &mut [f32]) {
    match out.first_chunk_mut::<LANES>() {
        Some(out) => s.store(v, out),
        None => s.store_part(v, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    /// The state after a step in f64, and the inner one.
    fn plain(cell: Cell, x: &[f64], u: &[f64], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = h.len();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let sum = |gate: usize, i: usize| x[gate * n + i] + u[gate * n + i];
        let step = |i: usize| match cell {
            Cell::Plain => (sum(0, i).tanh(), 0.0),
            Cell::Lstm => {
                let c = sigmoid(sum(1, i)) * c[i] + sigmoid(sum(0, i)) * sum(2, i).tanh();
                (sigmoid(sum(3, i)) * c.tanh(), c)
            }
            Cell::Gru => {
                let new = (x[2 * n + i] + sigmoid(sum(0, i)) * u[2 * n + i]).tanh();
                let z = sigmoid(sum(1, i));
                ((1.0 - z) * new + z * h[i], 0.0)
            }
        };
        (0..n).map(step).unzip()
    }

    #[test]
    fn a_step_and_its_gradients_agree_with_plain_ones() {
        let mut rng = Rng::seeded(95);
        for cell in [Cell::Plain, Cell::Lstm, Cell::Gru] {
            for n in [1, 16, 37] {
                let gates = cell.n_gates() * n;
                let [x, u] = [(); 2].map(|()| rng.normals(gates));
                let [h, c, dh, dc] = [(); 4].map(|()| rng.normals(n));
                let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
                let (want_h, want_c) = plain(cell, &wide(&x), &wide(&u), &wide(&h), &wide(&c));
                // What the gradients are of.
                let loss = |x: &[f64], u: &[f64], h: &[f64], c: &[f64]| -> f64 {
                    let (h, c) = plain(cell, x, u, h, c);
                    let of_c = if cell == Cell::Lstm { 1.0 } else { 0.0 };
                    (0..n).map(|i| h[i] * f64::from(dh[i]) + of_c * c[i] * f64::from(dc[i])).sum()
                };
                let slopes = |which: usize, len: usize| -> Vec<f32> {
                    let moved = |at: usize, by: f64| {
                        let mut all = [wide(&x), wide(&u), wide(&h), wide(&c)];
                        all[which][at] += by;
                        loss(&all[0], &all[1], &all[2], &all[3])
                    };
                    (0..len).map(|at| ((moved(at, 1e-5) - moved(at, -1e-5)) / 2e-5) as f32).collect()
                };
                for isa in Isa::all_here() {
                    let (mut got_h, mut got_c) = (h.clone(), c.clone());
                    let mut kept = vec![0.0; cell.n_kept() * n];
                    cell_step(isa, cell, &x, &u, &mut got_h, &mut got_c, &mut kept);
                    assert_close(&got_h, &want_h.iter().map(|&x| x as f32).collect::<Vec<_>>(), 1e-6, 1e-5);
                    if cell == Cell::Lstm {
                        assert_close(
                            &got_c,
                            &want_c.iter().map(|&x| x as f32).collect::<Vec<_>>(),
                            1e-6,
                            1e-5,
                        );
                    }
                    let (mut got_dh, mut got_dc) = (dh.clone(), dc.clone());
                    let (mut dx, mut du) = (vec![0.0; gates], vec![0.0; gates]);
                    cell_step_grad(
                        isa,
                        cell,
                        CellBack {
                            kept: &kept,
                            h_before: &h,
                            c_before: &c,
                            dh: &mut got_dh,
                            dc: &mut got_dc,
                            dx: &mut dx,
                            du: &mut du,
                        },
                    );
                    assert_close(&dx, &slopes(0, gates), 2e-6, 2e-5);
                    assert_close(&du, &slopes(1, gates), 2e-6, 2e-5);
                    assert_close(&got_dh, &slopes(2, n), 2e-6, 2e-5);
                    if cell == Cell::Lstm {
                        assert_close(&got_dc, &slopes(3, n), 2e-6, 2e-5);
                    }
                }
            }
        }
    }
}
