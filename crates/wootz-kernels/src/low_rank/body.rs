//! The two products' bodies: dot products over a row's inputs, sums over ranks for sixteen outputs at a time.

use crate::isa::Kernel;
use crate::simd::{LANES, Simd};

/// A stored number; `F` says how: 0 f32, 1 f16, 2 bf16.
pub(super) trait Loads<const F: u8>: Copy + Default {
    fn load<S: Simd>(s: S, numbers: &[Self; LANES]) -> S::F;
}

impl Loads<0> for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, numbers: &[f32; LANES]) -> S::F {
        s.load(numbers)
    }
}

impl Loads<1> for u16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, numbers: &[u16; LANES]) -> S::F {
        s.load_f16(numbers)
    }
}

impl Loads<2> for u16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, numbers: &[u16; LANES]) -> S::F {
        s.load_bf16(numbers)
    }
}

/// The first numbers of a vector, the others zero; zero is all bits zero in each way to store numbers.
#[inline(always)]
fn load_part<T: Loads<F>, S: Simd, const F: u8>(s: S, numbers: &[T]) -> S::F {
    let mut whole = [T::default(); LANES];
    whole[..numbers.len()].copy_from_slice(numbers);
    T::load(s, &whole)
}

/// `z[r] = scale·(a·x[rows[r]])` for up to four rows.
pub(super) struct Down<'a, T, const F: u8> {
    /// (k): one row of `A`.
    pub a: &'a [T],
    /// (T, k).
    pub x: &'a [f32],
    pub k: usize,
    pub rows: &'a [usize],
    pub scale: f32,
    /// (rows).
    pub z: &'a mut [f32],
}

impl<T: Loads<F>, const F: u8> Kernel for Down<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match *self.rows {
            [a, b, c, d] => self.rows(s, [a, b, c, d]),
            ref rows => {
                for (i, &row) in rows.iter().enumerate() {
                    let Self { a, x, k, rows, scale, .. } = self;
                    Down::<T, F> { a, x, k, rows, scale, z: &mut self.z[i..=i] }.rows(s, [row]);
                }
            }
        }
    }
}

impl<T: Loads<F>, const F: u8> Down<'_, T, F> {
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(self, s: S, rows: [usize; M]) {
        let x = rows.map(|row| &self.x[row * self.k..][..self.k]);
        let mut acc = [s.splat(0.0); M];
        let (body, tail) = self.a.as_chunks::<LANES>();
        for (i, a) in body.iter().enumerate() {
            let a = T::load(s, a);
            for r in 0..M {
                let x = s.load(x[r][i * LANES..].first_chunk().expect("a whole vector"));
                acc[r] = s.mul_add(a, x, acc[r]);
            }
        }
        if !tail.is_empty() {
            let a = load_part(s, tail);
            for r in 0..M {
                let x = s.load_part(&x[r][body.len() * LANES..], 0.0);
                acc[r] = s.mul_add(a, x, acc[r]);
            }
        }
        for r in 0..M {
            self.z[r] = self.scale * s.sum(acc[r]);
        }
    }
}

/// `outs[r] = gain ⊙ (outs[r] + Σⱼ z[j, r]·b[j]) + shift` for up to four rows, over some outputs.
pub(super) struct Up<'a, 'o, T, const F: u8> {
    /// These outputs' panels: [outputs / 16][rank][16].
    pub b: &'a [T],
    pub rank: usize,
    /// (rank, rows).
    pub z: &'a [f32],
    pub gain: Option<&'a [f32]>,
    pub shift: Option<&'a [f32]>,
    pub outs: &'a mut [&'o mut [f32]],
}

impl<T: Loads<F>, const F: u8> Kernel for Up<'_, '_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        match self.outs.len() {
            4 => self.rows::<S, 4>(s, 0),
            n_rows => (0..n_rows).for_each(|row| self.rows::<S, 1>(s, row)),
        }
    }
}

impl<T: Loads<F>, const F: u8> Up<'_, '_, T, F> {
    /// `M` rows from `first` on.
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(&mut self, s: S, first: usize) {
        let (n_rows, n_outputs) = (self.outs.len(), self.outs[0].len());
        for (panel, at) in (0..n_outputs).step_by(LANES).enumerate() {
            let panel = &self.b[panel * self.rank * LANES..][..self.rank * LANES];
            let mut acc = [s.splat(0.0); M];
            for (b, z) in panel.as_chunks::<LANES>().0.iter().zip(self.z.chunks_exact(n_rows)) {
                let b = T::load(s, b);
                for r in 0..M {
                    acc[r] = s.mul_add(s.splat(z[first + r]), b, acc[r]);
                }
            }
            let end = n_outputs.min(at + LANES);
            for r in 0..M {
                let out = &mut self.outs[first + r][at..end];
                let mut y = s.load_part(out, 0.0);
                if self.rank > 0 {
                    y = s.add(y, acc[r]);
                }
                if let Some(gain) = self.gain {
                    y = s.mul(y, s.load_part(&gain[at..end], 1.0));
                }
                if let Some(shift) = self.shift {
                    y = s.add(y, s.load_part(&shift[at..end], 0.0));
                }
                s.store_part(y, out);
            }
        }
    }
}
