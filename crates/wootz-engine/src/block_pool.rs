//! Blocks of positions: which are free, and how many sequences read each.
//!
//! Where:  owned by [`Runner`](crate::Runner), which fills block tables from it.
//! Idea:   a full block is never written again, so sequences with a common beginning share it by counting.
//! Source: Kwon et al. 2023, PagedAttention, arXiv:2309.06180, §4.
//!
//! # Invariants
//! - A block is free, or its count is the number of tables that hold it.

/// A pool of numbered blocks.
#[derive(Debug)]
pub(crate) struct BlockPool {
    free: Vec<u32>,
    ref_counts: Vec<u32>,
}

impl BlockPool {
    pub(crate) fn new(n_blocks: usize) -> Self {
        Self { free: (0..n_blocks as u32).rev().collect(), ref_counts: vec![0; n_blocks] }
    }

    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// A free block, now held once.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.ref_counts[block as usize] = 1;
        Some(block)
    }

    /// Another table holds this block.
    pub(crate) fn share(&mut self, block: u32) {
        assert!(self.ref_counts[block as usize] > 0, "block {block} is free");
        self.ref_counts[block as usize] += 1;
    }

    /// A table lets go of this block.
    pub(crate) fn give_back(&mut self, block: u32) {
        let count = &mut self.ref_counts[block as usize];
        assert!(*count > 0, "block {block} is free already");
        *count -= 1;
        if *count == 0 {
            self.free.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_block_is_free_only_after_the_last_holder() {
        let mut pool = BlockPool::new(2);
        let block = pool.take().unwrap();
        pool.share(block);
        pool.give_back(block);
        assert_eq!(pool.n_free(), 1);
        pool.give_back(block);
        assert_eq!(pool.n_free(), 2);
        assert_eq!((pool.take(), pool.take(), pool.take()), (Some(block), Some(1 - block), None));
    }
}
