//! A tree of prefixes: which full block holds which tokens behind which others.
//!
//! Where:  owned by [`Runner`](crate::Runner); sequences adopt from it and publish to it.
//! Idea:   an edge is a block's worth of tokens, so a path from the root spells a prefix and names its blocks. Leaves that
//!         nobody uses are given up, the one that was used longest ago first.
//! Source: Zheng et al. 2024, SGLang (RadixAttention), arXiv:2312.07104, §3; in whole blocks, as vLLM keeps them.
//! Elsewhere: counting ([`BlockPool`](crate::block_pool::BlockPool)).
//!
//! # Invariants
//! - A table that holds a node's block holds those of all nodes above it: an idle node has idle nodes below it alone.

use std::collections::{BTreeSet, HashMap};

use wootz_text::TokenId;

use crate::adapters::AdapterId;

/// A node's number.
pub(crate) type NodeId = usize;

/// Children by the tokens of their block.
type Children = HashMap<Box<[TokenId]>, NodeId>;

/// Prefixes and their blocks.
#[derive(Debug, Default)]
pub(crate) struct PrefixTree {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    /// First blocks by the space that they belong to: what else than tokens decides over their numbers.
    roots: HashMap<Space, Children>,
    /// Nodes without children by the time of their last use.
    leaves: BTreeSet<(u64, NodeId)>,
    clock: u64,
}

#[derive(Debug)]
struct Node {
    place: Place,
    tokens: Box<[TokenId]>,
    block: u32,
    children: Children,
    last_used: u64,
}

/// What else than tokens decides over a sequence's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Space {
    /// Positions that it is planned for, where rotation depends on that.
    pub planned_len: usize,
    /// Its adapter.
    pub adapter: Option<AdapterId>,
}

/// Behind which prefix a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// At the beginning of a sequence of this space.
    Root(Space),
    /// Behind a node.
    Behind(NodeId),
}

impl PrefixTree {
    /// The node with these tokens at `place`; finding it is using it.
    pub(crate) fn find(&mut self, place: Place, tokens: &[TokenId]) -> Option<NodeId> {
        let children = match place {
            Place::Root(space) => self.roots.get(&space)?,
            Place::Behind(parent) => &self.node(parent).children,
        };
        let id = *children.get(tokens)?;
        self.clock += 1;
        let now = self.clock;
        let node = self.nodes[id].as_mut().expect("children exist");
        let was = std::mem::replace(&mut node.last_used, now);
        if self.leaves.remove(&(was, id)) {
            self.leaves.insert((now, id));
        }
        Some(id)
    }

    /// Adds a block with these tokens, which are not at `place` yet.
    pub(crate) fn insert(&mut self, place: Place, tokens: &[TokenId], block: u32) -> NodeId {
        self.clock += 1;
        let last_used = self.clock;
        let children = Children::new();
        let node = Node { place, tokens: tokens.into(), block, children, last_used };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        };
        if let Place::Behind(parent) = place {
            let parent_node = self.node(parent);
            self.leaves.remove(&(parent_node.last_used, parent));
        }
        let was = self.siblings(place).insert(tokens.into(), id);
        assert!(was.is_none(), "these tokens are there already");
        self.leaves.insert((last_used, id));
        id
    }

    /// A node's block.
    pub(crate) fn block(&self, id: NodeId) -> u32 {
        self.node(id).block
    }

    /// Removes the leaf that was used longest ago among those whose block is idle, and gives its block.
    pub(crate) fn evict(&mut self, is_idle: impl Fn(u32) -> bool) -> Option<u32> {
        let oldest = self.leaves.iter().find(|(_, id)| is_idle(self.node(*id).block));
        let &(last_used, id) = oldest?;
        self.leaves.remove(&(last_used, id));
        let node = self.nodes[id].take().expect("leaves exist");
        self.free.push(id);
        self.siblings(node.place).remove(&node.tokens);
        match node.place {
            Place::Root(space) if self.roots[&space].is_empty() => drop(self.roots.remove(&space)),
            Place::Behind(parent) if self.node(parent).children.is_empty() => {
                self.leaves.insert((self.node(parent).last_used, parent));
            }
            _ => {}
        }
        Some(node.block)
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id].as_ref().expect("a node that is named exists")
    }

    fn siblings(&mut self, place: Place) -> &mut Children {
        match place {
            Place::Root(space) => self.roots.entry(space).or_default(),
            Place::Behind(parent) => &mut self.nodes[parent].as_mut().expect("parents exist").children,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spaces differ by their plan or by their adapter.
    fn root(n: usize) -> Place {
        let adapter = n.is_multiple_of(2).then_some(AdapterId(n as u64));
        Place::Root(Space { planned_len: n / 8, adapter })
    }

    #[test]
    fn the_oldest_leaf_goes_first_and_parents_after_their_children() {
        let mut tree = PrefixTree::default();
        let a = tree.insert(root(0), &[1, 2], 10);
        let b = tree.insert(Place::Behind(a), &[3, 4], 11);
        tree.insert(Place::Behind(a), &[5, 6], 12);
        let other = tree.insert(root(7), &[1, 2], 13);
        assert_eq!(tree.find(Place::Behind(a), &[3, 4]), Some(b));
        assert_eq!(tree.find(root(7), &[1, 2]), Some(other));
        assert_eq!(tree.find(root(7), &[3, 4]), None);
        assert_eq!(tree.find(root(9), &[1, 2]), None);
        let mut order = Vec::new();
        while let Some(block) = tree.evict(|block| block != 11 || order.len() == 2) {
            order.push(block);
        }
        assert_eq!(order, [12, 13, 11, 10], "11 was in use at first");
        assert_eq!(tree.find(root(0), &[1, 2]), None);
        assert!(tree.roots.is_empty() && tree.leaves.is_empty());
    }
}
