//! The best few of many scores, without sorting them all.
//!
//! Where:  top-k, top-p, typical, mirostat, beams, and the likeliest tokens that are reported.
//! Idea:   the k-th largest of the blocks' maxima is a lower bound for the k-th largest score, so a block whose maximum lies
//!         below holds none of the best k. Two passes at memory speed instead of a sort.
//!
//! # Invariants
//! - The order is total: higher score first, lower index first among equals. Scores are not NaN; -0 equals 0.

/// Usually this many hold nearly all probability.
const FEW: usize = 256;

/// Reusable memory for rankings, and the last one made.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    /// Flipped score above, index below, so that whole numbers sort as wanted.
    keys: Vec<u64>,
    maxima: Vec<f32>,
    sorted_maxima: Vec<f32>,
}

/// Scores per block: a block's maximum is 16 SSE instructions.
const BLOCK: usize = 64;

impl Ranking {
    /// Ranks the `k` best of `scores` (all, if there are fewer). O(n) for k below n / 256.
    pub(super) fn best(&mut self, scores: &[f32], k: usize) {
        self.keys.clear();
        // PERF: a token at the usual settings, 128k logits: 0.060 ms; 0.246 ms when all keys are made (benches/sampler.rs).
        if k > 0 && k * 4 <= scores.len() / BLOCK {
            self.push_above_floor(scores, k);
        } else {
            self.push_all(scores);
        }
        if k < self.keys.len() {
            if k > 0 {
                self.keys.select_nth_unstable(k - 1);
            }
            self.keys.truncate(k);
        }
        self.keys.sort_unstable();
    }

    /// Finds the fewest best whose `weight`s reach `target`: at least one if there are any, all if they do not reach it.
    /// Says how many; they come first among [`Self::indices`], in any order. O(n).
    pub(super) fn best_reaching(
        &mut self,
        scores: &[f32],
        target: f64,
        weight: impl Fn(usize) -> f64,
    ) -> usize {
        self.best(scores, FEW);
        let n = first_reaching(&self.keys, target, &weight);
        if n.is_some() || scores.len() <= FEW {
            return n.unwrap_or(scores.len());
        }
        self.best_reaching_of_all(scores, target, weight)
    }

    /// Halves the place where the sum may reach `target` until it is short.
    fn best_reaching_of_all(
        &mut self,
        scores: &[f32],
        mut target: f64,
        weight: impl Fn(usize) -> f64,
    ) -> usize {
        self.push_all(scores);
        let (mut start, mut end) = (0, self.keys.len());
        while end - start > FEW {
            let middle = (start + end) / 2;
            self.keys[start..end].select_nth_unstable(middle - start);
            let upper: f64 = self.keys[start..middle].iter().map(|&key| weight(index(key))).sum();
            if upper >= target {
                end = middle;
            } else {
                (start, target) = (middle, target - upper);
            }
        }
        self.keys[start..end].sort_unstable();
        start + first_reaching(&self.keys[start..end], target, &weight).unwrap_or(end - start)
    }

    /// The ranked indices; best first after [`Self::best`].
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.keys.iter().map(|&key| index(key))
    }

    fn push_all(&mut self, scores: &[f32]) {
        self.keys.clear();
        self.keys.extend(scores.iter().enumerate().map(|(i, &score)| key(score, i)));
    }

    fn push_above_floor(&mut self, scores: &[f32], k: usize) {
        self.maxima.clear();
        self.maxima.extend(scores.chunks(BLOCK).map(largest));
        self.sorted_maxima.clone_from(&self.maxima);
        let (_, &mut floor, _) = self.sorted_maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        for (block_idx, (block, &maximum)) in scores.chunks(BLOCK).zip(&self.maxima).enumerate() {
            if maximum >= floor {
                let keys = block.iter().enumerate().map(|(i, &score)| (score, block_idx * BLOCK + i));
                self.keys.extend(keys.filter(|&(score, _)| score >= floor).map(|(score, i)| key(score, i)));
            }
        }
    }
}

/// The largest of `scores`; negative infinity if there are none. A NaN is passed over.
pub(super) fn largest(scores: &[f32]) -> f32 {
    let (chunks, rest) = scores.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = if score > *lane { score } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &score| if score > max { score } else { max })
}

/// Index of the first of the largest of `scores`, which are not NaN; `None` if there are none above negative infinity.
pub(super) fn first_largest(scores: &[f32]) -> Option<usize> {
    let (mut max, mut max_block) = (f32::NEG_INFINITY, None);
    for (block_idx, block) in scores.chunks(BLOCK).enumerate() {
        let block_max = largest(block);
        if block_max > max {
            (max, max_block) = (block_max, Some(block_idx * BLOCK));
        }
    }
    let start = max_block?;
    scores[start..].iter().position(|&score| score == max).map(|i| start + i)
}

/// How many of `keys` it takes for their weights to reach `target`.
fn first_reaching(keys: &[u64], target: f64, weight: impl Fn(usize) -> f64) -> Option<usize> {
    let mut sum = 0.0;
    let reaches = |&key: &u64| {
        sum += weight(index(key));
        sum >= target
    };
    keys.iter().position(reaches).map(|i| i + 1)
}

fn index(key: u64) -> usize {
    (key & u64::from(u32::MAX)) as usize
}

fn key(score: f32, index: usize) -> u64 {
    let bits = (score + 0.0).to_bits(); // -0 becomes 0
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | index as u64
}

#[cfg(test)]
mod tests {
    use super::super::rng::Rng;
    use super::*;

    /// The plain twin: sort everything.
    fn sorted(scores: &[f32], k: usize) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..scores.len()).collect();
        indices.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap().then(a.cmp(&b)));
        indices.truncate(k);
        indices
    }

    #[test]
    fn the_best_are_those_of_a_full_sort() {
        let mut rng = Rng::new(1, 0);
        let mut ranking = Ranking::default();
        for n in [0, 1, 2, 63, 64, 65, 1000, 20_000] {
            for n_values in [2.0, 50.0, 1e7] {
                rng.seek(n + n_values as usize);
                // Few values: many ties.
                let scores: Vec<f32> =
                    (0..n).map(|_| ((rng.uniform() * n_values) as f32 - 5.0) * 0.25).collect();
                for k in [0, 1, 2, 10, 40, 70, 400, n] {
                    ranking.best(&scores, k);
                    assert_eq!(ranking.indices().collect::<Vec<_>>(), sorted(&scores, k), "n = {n}, k = {k}");
                }
                assert_eq!(first_largest(&scores), sorted(&scores, 1).first().copied());
                let want = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(largest(&scores), want);
            }
        }
    }

    #[test]
    fn zeros_of_both_signs_are_equal() {
        let mut ranking = Ranking::default();
        ranking.best(&[-0.0, 0.0, -1.0, 0.0], 4);
        assert_eq!(ranking.indices().collect::<Vec<_>>(), [0, 1, 3, 2]);
        assert_eq!(first_largest(&[-0.0, 0.0]), Some(0));
    }

    #[test]
    fn as_many_are_ranked_as_the_weights_need() {
        let mut ranking = Ranking::default();
        let scores: Vec<f32> = (0..10_000).map(|i| -(i as f32)).collect();
        for n in [1, 2, 255, 256, 257, 4095, 4096, 4097, 9_999, 10_000] {
            assert_eq!(ranking.best_reaching(&scores, n as f64, |_| 1.0), n);
            let mut indices: Vec<usize> = ranking.indices().take(n).collect();
            indices.sort_unstable();
            assert!(indices.into_iter().eq(0..n));
        }
        assert_eq!(ranking.best_reaching(&scores, 10_001.0, |_| 1.0), 10_000);
        assert_eq!(ranking.best_reaching(&scores, 0.0, |_| 1.0), 1);
        assert_eq!(ranking.best_reaching(&[], 1.0, |_| 1.0), 0);
    }
}
