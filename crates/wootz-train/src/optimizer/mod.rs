//! How a weight follows its gradient: one file for each rule.
//!
//! Where:  the trainer has one rule for each tensor that is trained.
//! Idea:   a rule is arithmetic over three or four rows of numbers of one length. It knows neither names nor shapes nor threads.
//! Elsewhere: rates ([`Schedule`](crate::Schedule)), clipping ([`clip`](crate::clip)).

mod adam;
mod adam8;
mod lamb;
mod lion;
mod rms_prop;
mod schedule_free;
mod sgd;

pub use adam::Adam;
pub use adam8::Adam8;
pub use lamb::Lamb;
pub use lion::Lion;
pub use rms_prop::RmsProp;
pub use schedule_free::ScheduleFree;
pub use sgd::Sgd;

/// One step's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The scheduled rate
    pub lr: f32,
    /// Counted from 1
    pub step: u64,
    /// How much of itself a weight loses, 0 for norms and biases
    pub weight_decay: f32,
}

/// A part of a rule's state, to be saved or filled.
#[derive(Debug)]
pub enum StateMut<'a> {
    /// Numbers
    F32(&'a mut [f32]),
    /// Quantized numbers
    U8(&'a mut [u8]),
}

/// How one tensor is updated.
pub trait Rule: Send {
    /// Changes the weights by one step. O(n), no allocation.
    ///
    /// # Panics
    /// If weights, gradient and state differ in length.
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step);

    /// What has to be saved for a run to go on exactly: the same names in the same order, always.
    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)>;
}

/// Checks that all rows are as long as the weights.
fn check(weights: &[f32], grad: &[f32], n_state: usize) {
    assert_eq!(weights.len(), grad.len(), "one gradient a weight");
    assert_eq!(weights.len(), n_state, "one state a weight");
}

/// 1 − βᵗ, in f64: for large t and β near 1, f32 would lose what matters.
fn correction(beta: f32, step: u64) -> f32 {
    (1.0 - f64::from(beta).powi(step.min(i32::MAX as u64) as i32)) as f32
}
