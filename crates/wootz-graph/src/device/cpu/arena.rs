//! The arena of one run: what a step writes, and everything around it that it may read.
//!
//! Idea:   the outputs of a step are cut out of the arena, so that reading and writing are disjoint slices without
//!         a copy and without `unsafe`. That they are disjoint is the plan's promise.

use std::ops::Range;

use crate::batch::Batch;
use crate::cost::n_elements;
use crate::plan::{Place, Plan};

/// Where in the arena a node's value lies in this batch.
pub(super) fn span(plan: &Plan, batch: &Batch, index: usize) -> Range<usize> {
    let Place::Arena(offset) = plan.place(index) else {
        panic!("`{}` has no place", plan.nodes[index].op_name())
    };
    offset..offset + n_elements(&plan.nodes[index].ty, batch)
}

/// The arena with the outputs of a step cut out: what is left can only be read.
pub(super) struct Rest<'a> {
    gaps: Vec<(usize, &'a [f32])>,
}

impl<'a> Rest<'a> {
    /// Cuts `spans` (disjoint) out of the arena and returns them in the order given.
    pub(super) fn cut(mut arena: &'a mut [f32], spans: &[Range<usize>]) -> (Self, Vec<&'a mut [f32]>) {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|&i| (spans[i].start, spans[i].end));
        let mut cut: Vec<Option<&mut [f32]>> = spans.iter().map(|_| None).collect();
        let (mut gaps, mut at) = (Vec::new(), 0);
        for i in order {
            let (gap, rest) = arena.split_at_mut(spans[i].start - at);
            let (out, rest) = rest.split_at_mut(spans[i].len());
            gaps.push((at, &*gap));
            cut[i] = Some(out);
            arena = rest;
            at = spans[i].end;
        }
        gaps.push((at, &*arena));
        (Self { gaps }, cut.into_iter().map(|out| out.expect("every span was cut")).collect())
    }

    /// What lies at a place that no step output covers.
    pub(super) fn get(&self, span: Range<usize>) -> &'a [f32] {
        if span.is_empty() {
            return &[];
        }
        let (start, gap) = self.gaps[self.gaps.partition_point(|gap| gap.0 <= span.start) - 1];
        &gap[span.start - start..span.end - start]
    }
}
