//! What holds for the crate as a whole: devices agree, gradients are right, plans are sound, bad input is an error.
//!
//! Where:  compiled for tests only. Tests of one file's own matters close that file.
//! Idea:   [`cases`] is one table of every operator; each property is a loop over it. Adding an operator is adding
//!         a case, and a test counts.

mod adapters;
mod agreement;
mod case;
mod cases;
mod doors;
mod gradients;
mod network;
mod plans;
mod rng;
mod states;
mod taps;
mod training;

const F32: wootz_kernels::TensorType = wootz_kernels::TensorType::F32;

/// Calls `draw` with the graph of a small Llama.
pub(crate) fn drawn_llama<R>(draw: impl FnOnce(&crate::Graph) -> R) -> R {
    let model = network::TinyLlama::declare();
    let (graph, _) = model.hidden_graph();
    draw(&graph)
}
