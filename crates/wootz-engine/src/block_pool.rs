//! Blocks of positions: which are free, and how many hold each.
//!
//! Where:  owned by [`Runner`](crate::Runner), which fills block tables from it.
//! Idea:   a full block is never written again, so sequences with a common beginning share it by counting. The tree of
//!         prefixes holds blocks too; one that it alone holds is idle: kept for later, and given up when blocks run out.
//! Source: Kwon et al. 2023, PagedAttention, arXiv:2309.06180, §4.
//!
//! # Invariants
//! - A block is free, or its count is the number of tables that hold it, and one more if the tree does.

/// A pool of numbered blocks.
#[derive(Debug)]
pub(crate) struct BlockPool {
    free: Vec<u32>,
    ref_counts: Vec<u32>,
    is_kept: Vec<bool>,
    n_idle: usize,
}

impl BlockPool {
    pub(crate) fn new(n_blocks: usize) -> Self {
        Self {
            free: (0..n_blocks as u32).rev().collect(),
            ref_counts: vec![0; n_blocks],
            is_kept: vec![false; n_blocks],
            n_idle: 0,
        }
    }

    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Blocks that the tree alone holds.
    pub(crate) fn n_idle(&self) -> usize {
        self.n_idle
    }

    /// Whether the tree alone holds this block.
    pub(crate) fn is_idle(&self, block: u32) -> bool {
        self.is_kept[block as usize] && self.ref_counts[block as usize] == 1
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
        self.n_idle -= usize::from(self.is_idle(block));
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
        self.n_idle += usize::from(self.is_idle(block));
    }

    /// The tree holds this block too.
    pub(crate) fn keep(&mut self, block: u32) {
        self.share(block);
        assert!(!self.is_kept[block as usize], "the tree holds block {block} already");
        self.is_kept[block as usize] = true;
    }

    /// The tree lets go of an idle block.
    pub(crate) fn drop_idle(&mut self, block: u32) {
        assert!(self.is_idle(block), "block {block} is in use");
        self.is_kept[block as usize] = false;
        self.n_idle -= 1;
        self.give_back(block);
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

    #[test]
    fn a_kept_block_is_idle_while_no_table_holds_it() {
        let mut pool = BlockPool::new(1);
        let block = pool.take().unwrap();
        pool.keep(block);
        assert_eq!((pool.n_free(), pool.n_idle()), (0, 0));
        pool.give_back(block);
        assert_eq!((pool.n_free(), pool.n_idle()), (0, 1));
        pool.share(block);
        assert_eq!(pool.n_idle(), 0);
        pool.give_back(block);
        pool.drop_idle(block);
        assert_eq!((pool.n_free(), pool.n_idle()), (1, 0));
    }
}
