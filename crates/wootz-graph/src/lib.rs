//! Operators, autodiff, planning, devices: what a model computes, apart from where it runs.
//!
//! Where:  above the kernels, below everything that knows what a layer is.
//! Idea:   a [`Graph`] is a list of nodes over ragged rows; a [`Plan`] gives every buffer its place before the
//!         first step; a [`Device`] executes plans. The f64 [`Reference`] is a device like any other.
//! Elsewhere: kernels (`wootz-kernels`), weight files (`wootz-weights`), architectures (`wootz-model`).
#![forbid(unsafe_code)]

mod bank;
mod batch;
mod change;
mod cost;
mod device;
mod draw;
mod draws;
mod error;
mod grad;
mod graph;
mod ops;
mod param;
mod plan;
mod shape;
mod state;
#[cfg(test)]
mod tests;

pub use bank::{Addition, Bank, MAX_ADAPTERS, MAX_RANK, Site};
pub use batch::{Batch, Data, Rows, Sequence};
pub use change::{LowRankChange, LowRankChanges};
pub use cost::Cost;
pub use device::cpu::Cpu;
pub use device::reference::Reference;
pub use device::{Device, Executor, HostTensor, Source, StepTime, Taps, Weights};
pub use draw::draw_svg;
pub use error::{Error, Result};
pub use graph::{Graph, Node, Value};
pub use ops::activation::Activation;
pub use ops::append::Kv;
pub use ops::attend::Attention;
pub use ops::noise::Randomness;
pub use ops::pool::Pooling;
pub use ops::relative_attend::RelativeBuckets;
pub use ops::rope::{RopeScale, RopeStyle, RopeTable};
pub use ops::selective_scan::ScanInputs;
pub use ops::token_logprobs::LogitTransform;
pub use ops::top_k::Groups;
pub use param::{Param, ParamKind, ParamSpec, Params};
pub use plan::{Plan, PlanOptions};
pub use shape::{Axis, DType, Dim, Shape, Type};
pub use state::{State, StateCapacity, StateKind, StateSpec};
pub use wootz_kernels::Cell;
