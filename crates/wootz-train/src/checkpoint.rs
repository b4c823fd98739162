//! A run's state as one safetensors file: weights that learn, what the optimizer knows, and how far the run is.
//!
//! Idea:   everything that the next step depends on is in it, bit by bit, so a run that is killed and goes on ends at the same
//!         bytes as one that was not. The order of data is a function of the step, so no position is stored.
//! Elsewhere: models and adapters as others read them (`wootz-model`).

use std::path::Path;

use wootz_kernels::{TensorType, cast};
use wootz_weights::{TensorInfo, Weights, safetensors};

use crate::optimizer::StateMut;
use crate::trainer::Progress;
use crate::update::Update;
use crate::{Error, Learner, Result};

/// Changes when files of before are no longer read.
const FORMAT: &str = "wootz-training-1";

pub(crate) fn save(
    path: &Path,
    learner: &mut Learner,
    update: &mut Update,
    progress: &Progress,
) -> Result<()> {
    let mut infos = Vec::new();
    for &param in learner.trained() {
        let spec = learner.params().spec(param);
        infos.push(TensorInfo::new(spec.name.clone(), spec.shape.clone(), TensorType::F32));
    }
    update.each_state(|name, numbers| {
        let (len, ty) = match numbers {
            StateMut::F32(numbers) => (numbers.len(), TensorType::F32),
            StateMut::U8(numbers) => (numbers.len(), TensorType::I8),
        };
        infos.push(TensorInfo::new(name.to_owned(), vec![len], ty));
    });
    let number = |name: &str, number: u64| (name.to_owned(), number.to_string());
    let metadata = [
        ("format".to_owned(), FORMAT.to_owned()),
        number("step", progress.step),
        number("n_tokens", progress.n_tokens),
        number("n_supervised", progress.n_supervised),
    ];
    let mut writer = safetensors::Writer::create(path, &metadata, &infos)?;
    for param in learner.trained().to_vec() {
        writer.write(cast::bytes_of(&learner.weight(param)))?;
    }
    let mut result = Ok(());
    update.each_state(|_, numbers| {
        if result.is_ok() {
            result = match numbers {
                StateMut::F32(numbers) => writer.write(cast::bytes_of(numbers)),
                StateMut::U8(numbers) => writer.write(numbers),
            };
        }
    });
    result?;
    Ok(writer.finish()?)
}

pub(crate) fn restore(path: &Path, learner: &mut Learner, update: &mut Update) -> Result<Progress> {
    let file = Weights::open(path)?;
    let fail = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    let metadata = |name: &str| {
        let pair = file.metadata().iter().find(|(key, _)| key == name);
        pair.map(|(_, text)| text.clone())
    };
    match metadata("format") {
        Some(format) if format == FORMAT => {}
        format => return Err(fail(format!("expected a checkpoint of format `{FORMAT}`, got {format:?}"))),
    }
    let number = |name: &str| {
        let text = metadata(name);
        text.as_deref()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| fail(format!("`{name}`: expected a number, got {text:?}")))
    };
    let progress = Progress {
        step: number("step")?,
        n_tokens: number("n_tokens")?,
        n_supervised: number("n_supervised")?,
    };
    let tensor = |name: &str, n: usize, ty: TensorType| match file.get(name) {
        Some(tensor) if tensor.ty == ty && tensor.n_elements() == n => Ok(tensor),
        Some(tensor) => {
            let message = format!(
                "`{name}`: expected {n} numbers of `{ty}`, got {:?} of `{}`",
                tensor.shape, tensor.ty
            );
            Err(fail(message))
        }
        None => Err(fail(format!("`{name}` is missing: is it of another model, adapter or optimizer?"))),
    };
    // Everything is checked before anything is changed.
    let mut problem = None;
    update.each_state(|name, numbers| {
        let found = match numbers {
            StateMut::F32(numbers) => tensor(name, numbers.len(), TensorType::F32),
            StateMut::U8(numbers) => tensor(name, numbers.len(), TensorType::I8),
        };
        problem = problem.take().or(found.err());
    });
    for &param in learner.trained() {
        let spec = learner.params().spec(param);
        problem = problem.or(tensor(&spec.name, spec.n_elements(), TensorType::F32).err());
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    update.each_state(|name, numbers| match numbers {
        StateMut::F32(numbers) => numbers.copy_from_slice(&file.get(name).expect("checked above").to_f32()),
        StateMut::U8(numbers) => numbers.copy_from_slice(file.get(name).expect("checked above").bytes),
    });
    for param in learner.trained().to_vec() {
        let (name, ty) = (learner.params().spec(param).name.clone(), learner.kept_in(param));
        let numbers = file.get(&name).expect("checked above").to_f32();
        learner.executor().set_weight(param, ty, &numbers)?;
    }
    Ok(progress)
}
