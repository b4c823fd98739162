//! AdamW with both moments in eight bits.
//!
//! Idea:   blocks of 256 numbers have one scale, the largest among them. Codes are spaced like floating-point numbers, fine near
//!         0, so that small moments beside a large one keep their relative size. A block is unpacked, stepped and packed again;
//!         nothing but the packed state stays.
//! Source: Dettmers et al. 2022, arXiv:2110.02861, §2 (block-wise dynamic quantization).

use super::{Rule, StateMut, Step, check, correction};

/// Numbers with one scale.
const BLOCK: usize = 256;

/// AdamW over packed moments: two bytes and 1/32 a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam8 {
    /// β₁, β₂
    pub betas: [f32; 2],
    /// ε
    pub eps: f32,
    mean: Packed,
    square: Packed,
}

impl Adam8 {
    /// For a tensor of `n` weights.
    pub fn new(n: usize, betas: [f32; 2], eps: f32) -> Self {
        Self { betas, eps, mean: Packed::zeros(n, true), square: Packed::zeros(n, false) }
    }
}

impl Rule for Adam8 {
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step) {
        check(weights, grad, self.mean.codes.len());
        let [beta1, beta2] = self.betas;
        let step_size = at.lr / correction(beta1, at.step);
        let root = correction(beta2, at.step).sqrt();
        let kept = 1.0 - at.lr * at.weight_decay;
        for (block, (weights, grad)) in weights.chunks_mut(BLOCK).zip(grad.chunks(BLOCK)).enumerate() {
            let (mut mean, mut square) = ([0.0; BLOCK], [0.0; BLOCK]);
            self.mean.unpack(block, &mut mean);
            self.square.unpack(block, &mut square);
            for ((w, &g), (m, v)) in weights.iter_mut().zip(grad).zip(mean.iter_mut().zip(&mut square)) {
                *m += (1.0 - beta1) * (g - *m);
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *w = *w * kept - step_size * *m / (v.sqrt() / root + self.eps);
            }
            self.mean.pack(block, &mean[..grad.len()]);
            self.square.pack(block, &square[..grad.len()]);
        }
    }

    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)> {
        vec![
            ("mean", StateMut::U8(&mut self.mean.codes)),
            ("mean_scales", StateMut::F32(&mut self.mean.scales)),
            ("square", StateMut::U8(&mut self.square.codes)),
            ("square_scales", StateMut::F32(&mut self.square.scales)),
        ]
    }
}

/// Numbers as codes and scales.
#[derive(Debug, Clone, PartialEq)]
struct Packed {
    codes: Vec<u8>,
    scales: Vec<f32>,
    /// What each code says, from small to large.
    table: Vec<f32>,
}

impl Packed {
    fn zeros(n: usize, signed: bool) -> Self {
        let table = table(signed);
        let zero = nearest(&table, 0.0);
        Self { codes: vec![zero; n], scales: vec![0.0; n.div_ceil(BLOCK)], table }
    }

    fn unpack(&self, block: usize, out: &mut [f32; BLOCK]) {
        let codes = self.codes[block * BLOCK..].iter().take(BLOCK);
        let scale = self.scales[block];
        out.iter_mut().zip(codes).for_each(|(x, &code)| *x = scale * self.table[usize::from(code)]);
    }

    fn pack(&mut self, block: usize, numbers: &[f32]) {
        let scale = numbers.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        self.scales[block] = scale;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let codes = &mut self.codes[block * BLOCK..];
        codes.iter_mut().zip(numbers).for_each(|(code, x)| *code = nearest(&self.table, x * inverse));
    }
}

/// 256 numbers of −1..=1 or 0..=1, from small to large: 0, 1, and for each power of ten from 10⁰ down a row of evenly spaced
/// numbers between a tenth and the whole of it, each row half as long as the one above.
fn table(signed: bool) -> Vec<f32> {
    let mut numbers = vec![0.0, 1.0];
    for power in 0..7 {
        let largest = 10_f64.powi(-power);
        let n = (if signed { 64 } else { 128 }) >> power;
        let row = (0..n).map(|i| largest * (0.1 + 0.9 * (f64::from(i) + 0.5) / f64::from(n)));
        numbers.extend(row.map(|x| x as f32));
        if signed {
            let n_before = numbers.len() - n as usize;
            let negative: Vec<f32> = numbers[n_before..].iter().map(|x| -x).collect();
            numbers.extend(negative);
        }
    }
    numbers.sort_unstable_by(f32::total_cmp);
    assert!(numbers.len() <= 256, "a code is a byte");
    // What is left over repeats the largest.
    numbers.resize(256, 1.0);
    numbers
}

/// The code whose number is nearest; of two the smaller.
fn nearest(table: &[f32], x: f32) -> u8 {
    let above = table.partition_point(|&number| number < x).min(255);
    let below = above.saturating_sub(1);
    (if x - table[below] <= table[above] - x { below } else { above }) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_the_relative_size_of_large_and_small_numbers() {
        for signed in [false, true] {
            let mut packed = Packed::zeros(BLOCK, signed);
            let sign = |i: usize| if signed && i % 2 == 1 { -1.0 } else { 1.0 };
            let numbers: Vec<f32> = (0..BLOCK).map(|i| sign(i) * 3.0 * 0.96_f32.powi(i as i32)).collect();
            packed.pack(0, &numbers);
            let mut back = [0.0; BLOCK];
            packed.unpack(0, &mut back);
            // From power to power there are half as many codes, so they are twice as far apart.
            for (x, y) in numbers.iter().zip(back) {
                let power = (3.0 / x.abs()).log10().floor();
                let allowed = 0.075 * 2_f32.powf(power);
                assert!((x - y).abs() <= allowed * x.abs(), "{x} {y}");
            }
            packed.pack(0, &[0.0; BLOCK]);
            packed.unpack(0, &mut back);
            assert_eq!(back, [0.0; BLOCK]);
        }
    }

    #[test]
    fn steps_are_close_to_those_of_full_moments() {
        let n = 1000;
        let (mut packed, mut full) =
            (Adam8::new(n, [0.9, 0.999], 1e-8), super::super::Adam::adam_w(n, [0.9, 0.999], 1e-8));
        let mut weights = [vec![1.0_f32; n], vec![1.0_f32; n]];
        let mut state = 3_u32;
        for step in 1..=50 {
            let grad: Vec<f32> = (0..n)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 24) as f32 - 0.3 + i as f32 / n as f32
                })
                .collect();
            let at = Step { lr: 1e-2, step, weight_decay: 0.1 };
            packed.step(&mut weights[0], &grad, &at);
            full.step(&mut weights[1], &grad, &at);
        }
        let moved: f32 = weights[1].iter().map(|w| (w - 1.0).abs()).sum();
        let apart: f32 = weights[0].iter().zip(&weights[1]).map(|(a, b)| (a - b).abs()).sum();
        assert!(apart < 0.02 * moved, "{apart} of {moved}");
    }
}
