//! What runs plans: the traits, and what passes between host and device.
//!
//! Where:  the engine and the trainer hold a [`Device`], load [`Weights`] once, and keep an [`Executor`] each.
//! Idea:   devices differ in how they store and compute, never in what: any device must agree with
//!         [`Reference`](crate::Reference) operator by operator.

pub(crate) mod cpu;
mod door;
pub(crate) mod reference;

use std::any::Any;
use std::borrow::Cow;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use wootz_kernels::TensorType;

use crate::bank::Addition;
use crate::batch::Batch;
use crate::param::{Param, ParamSpec, Params};
use crate::plan::Plan;
use crate::shape::Shape;
use crate::state::{StateCapacity, StateSpec};
use crate::{Error, Result};

/// A weight's numbers as they stand in a file, row-major.
#[derive(Clone, Debug)]
pub struct HostTensor<'a> {
    /// How the numbers are stored.
    pub ty: TensorType,
    /// All of them.
    pub bytes: Cow<'a, [u8]>,
}

/// Gives the numbers of a declared weight. Who asks for the next one is done with the one before.
pub type Source<'s> = dyn Fn(&ParamSpec) -> Result<HostTensor<'s>> + 's;

/// The loaded weights of one model on one device. Cloning shares them.
#[derive(Clone)]
pub struct Weights(Arc<dyn Any + Send + Sync>);

/// What [`Weights`] are: the declarations, and the numbers as one device keeps them.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    specs: Vec<ParamSpec>,
    numbers: RwLock<Vec<T>>,
}

impl<T: Send + Sync + 'static> Loaded<T> {
    fn load(
        params: &Params,
        source: &Source,
        keep: impl Fn(&ParamSpec, &HostTensor) -> T,
    ) -> Result<Weights> {
        let read = |spec: &ParamSpec| {
            let tensor = source(spec)?;
            check_tensor(spec, &tensor)?;
            Ok(keep(spec, &tensor))
        };
        let numbers = params.specs().iter().map(read).collect::<Result<_>>()?;
        Ok(Weights(Arc::new(Loaded { specs: params.specs().to_vec(), numbers: RwLock::new(numbers) })))
    }

    fn of(weights: &Weights) -> Result<Arc<Self>> {
        let loaded = weights.0.clone().downcast::<Self>();
        loaded.map_err(|_| Error::Mismatch("weights of another device".to_owned()))
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<T>> {
        self.numbers.read().expect("lengths are checked before anything is written")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<T>> {
        self.numbers.write().expect("lengths are checked before anything is written")
    }
}

/// Something that stores weights and runs plans.
pub trait Device: Send + Sync {
    /// `cpu`, `reference`.
    fn name(&self) -> &'static str;

    /// Loads every declared weight, packed as this device wants it.
    fn load(&self, params: &Params, source: &Source) -> Result<Weights>;

    /// Something that runs plans over these weights, with states of its own.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the weights are another device's or `capacity` cannot be kept.
    fn executor(
        &self,
        weights: &Weights,
        states: &[StateSpec],
        capacity: StateCapacity,
    ) -> Result<Box<dyn Executor>>;
}

/// What all steps of one kind have taken.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The operator.
    pub name: &'static str,
    /// The shape of its result.
    pub shape: Shape,
    /// Layers that one step computes together.
    pub n_parts: usize,
    /// How often.
    pub n_calls: usize,
    /// How long, all together.
    pub time: Duration,
}

/// Runs plans over one model's weights. Keeps the states of the sequences and the arena of the plans.
pub trait Executor: Send {
    /// Runs every step of `plan`. With `taps`, named values are shown after they were computed.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan was made over other weights or states or for fewer rows,
    /// [`Error::Input`] if the batch lacks an input or has a wrong one: too long, ids that nothing stands behind,
    /// blocks or slots that do not exist. Nothing has happened then.
    fn run(&mut self, plan: &Plan, batch: &Batch, taps: Option<&mut dyn Taps>) -> Result<()>;

    /// What steps have taken since the last call; from the first call on they are timed. Empty where a device does not.
    fn take_times(&mut self) -> Vec<StepTime> {
        Vec::new()
    }

    /// Output number `index` of the plan that ran last: as many rows as the batch had. Ids come as numbers.
    fn output(&self, plan: &Plan, batch: &Batch, index: usize) -> Vec<f32>;

    /// Calls `read` with output number `index` of the plan that ran last, without a copy where the device has none
    /// to make.
    fn with_output(&self, plan: &Plan, batch: &Batch, index: usize, read: &mut dyn FnMut(&[f32])) {
        read(&self.output(plan, batch, index));
    }

    /// Copies the keys and values of one block to another, in all states.
    fn copy_block(&mut self, from: u32, to: u32);

    /// The keys and values of a block, of all states one after the other, as this device keeps them.
    fn block(&self, block: u32) -> Vec<u8>;

    /// Puts back what [`block`](Self::block) of an executor over the same states gave.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is not as long.
    fn set_block(&mut self, block: u32, bytes: &[u8]) -> Result<()>;

    /// The recurrences of a slot, of all states one after the other.
    fn slot(&self, slot: usize) -> Vec<f32>;

    /// Sets the recurrences of a slot; an empty slice sets them to zero, as a new sequence starts.
    fn set_slot(&mut self, slot: usize, numbers: &[f32]);

    /// Fills a slot of the bank of adapters, or empties it. Sequences that name the slot get these additions; their plans
    /// must have the sites.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a slot that a bank does not have; [`Error::Weight`] for additions whose shape is not the
    /// weight's, whose rank is above [`MAX_RANK`](crate::MAX_RANK), or whose numbers are not as many. The slot is then as it was.
    fn set_adapter(&mut self, slot: usize, additions: Option<&[Addition]>) -> Result<()>;

    /// Replaces a weight's numbers, from now on kept in `ty` where the device has such weights; its shape stays.
    ///
    /// # Errors
    /// [`Error::Weight`] if it has another number of them, or if numbers are not rounded to that type here.
    fn set_weight(&mut self, param: Param, ty: TensorType, numbers: &[f32]) -> Result<()>;

    /// Calls `use_it` with the gradient of a weight: what runs have added since it was cleared, in the order of the weight's
    /// numbers. Not at all if no plan that ran adds to it.
    fn with_gradient(&mut self, param: Param, use_it: &mut dyn FnMut(&mut [f32]));

    /// Sets all gradients to zero.
    fn clear_gradients(&mut self);

    /// A weight's numbers.
    fn weight(&self, param: Param) -> Vec<f32>;
}

/// Reads and replaces named values while a plan runs.
pub trait Taps {
    /// Called after `name` was computed, What is left in `numbers` is what the model goes on with; other names
    /// that show the same value through another shape see it too. Ids come as numbers and cannot be replaced.
    fn tap(&mut self, name: &str, shape: &Shape, numbers: &mut [f32]);
}

/// Checks that a source gave as many bytes as the declaration asks for.
pub(crate) fn check_tensor(spec: &ParamSpec, tensor: &HostTensor) -> Result<()> {
    let fail = |message| Error::Weight { name: spec.name.clone(), message };
    let width = spec.shape.last().copied().unwrap_or(1);
    let rows = spec.n_elements() / width.max(1);
    if spec.shape.contains(&0) {
        return Err(fail(format!("a weight of {:?} has no numbers", spec.shape)));
    }
    let expected = tensor.ty.row_bytes(width).and_then(|bytes| bytes.checked_mul(rows));
    match expected {
        None => Err(fail(format!("rows of {width} numbers are no whole number of `{}` blocks", tensor.ty))),
        Some(expected) if expected != tensor.bytes.len() => Err(fail(format!(
            "expected {expected} bytes for {:?} of `{}`, got {}",
            spec.shape,
            tensor.ty,
            tensor.bytes.len()
        ))),
        Some(_) => Ok(()),
    }
}
