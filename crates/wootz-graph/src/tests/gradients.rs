//! Gradients against central differences, in f64 on the reference device.
//!
//! Idea:   a case's graph ends in `loss = Σ y·r` and its gradients. Each number of each input and weight is moved a
//!         little to both sides; the slope of the loss between them is the gradient, or the rule is wrong.

use super::case::{Case, NO_STATES, each_case};
use crate::batch::Data;
use crate::device::Executor;
use crate::device::reference::ReferenceExecutor;
use crate::{Param, Reference};

/// How far a number is moved. The error of the slope is of the order of its square.
const STEP: f32 = 1e-4;

#[test]
fn gradients_agree_with_central_differences() {
    each_case(|case| {
        for (seed, lengths) in [&[2, 0, 3][..], &[1]].into_iter().enumerate() {
            if case.straight_through {
                check_identity(&case, lengths, seed as u64 + 5);
            } else if case.has_gradient() {
                check(&case, lengths, seed as u64 + 5);
            }
        }
    });
}

fn check_identity(case: &Case, lengths: &[usize], seed: u64) {
    let (scene, plan) = case.planned(lengths, seed);
    let mut executor = scene.executor(&Reference);
    executor.run(&plan, &scene.batch, None).unwrap();
    assert_eq!(Data::F32(executor.output(&plan, &scene.batch, 1)), scene.batch.inputs["r"], "{}", case.name);
}

fn check(case: &Case, lengths: &[usize], seed: u64) {
    let (mut scene, plan) = case.planned(lengths, seed);
    let weights = scene.load(&Reference);
    let mut executor = ReferenceExecutor::new(&weights, &[], NO_STATES).expect("an executor");
    executor.run(&plan, &scene.batch, None).unwrap();
    let (inputs, params) = &case.grads;
    let n_grads = inputs.len() + params.len();
    let grads: Vec<Vec<f64>> = (1..=n_grads).map(|i| executor.output_f64(&plan, i).to_vec()).collect();
    let loss = |executor: &mut ReferenceExecutor, batch: &_| {
        executor.run(&plan, batch, None).unwrap();
        executor.output_f64(&plan, n_grads + 1)[0]
    };
    let compare = |grad: f64, slope: f64, what: &str, at: usize| {
        let close = (grad - slope).abs() <= 1e-5 * (1.0 + slope.abs());
        assert!(close, "{} {lengths:?}: d loss / d {what}[{at}] is {slope}, got {grad}", case.name);
    };
    for (grad, &input) in grads.iter().zip(inputs) {
        let name = case.input_name(input);
        let Data::F32(numbers) = scene.batch.inputs[name].clone() else { unreachable!("numbers") };
        assert_eq!(grad.len(), numbers.len(), "{}: gradient of {name}", case.name);
        for at in 0..numbers.len() {
            let mut moved = |by: f32| {
                let mut numbers = numbers.clone();
                numbers[at] += by;
                let now = numbers[at];
                scene.batch.set(name, Data::F32(numbers));
                (f64::from(now), loss(&mut executor, &scene.batch))
            };
            let ((x1, y1), (x0, y0)) = (moved(STEP), moved(-STEP));
            compare(grad[at], (y1 - y0) / (x1 - x0), name, at);
        }
        scene.batch.set(name, Data::F32(numbers));
    }
    for (grad, &index) in grads[inputs.len()..].iter().zip(params) {
        let param: Param = scene.params.iter().nth(index).expect("declared").0;
        assert_eq!(grad.len(), scene.params.spec(param).n_elements(), "{}: gradient of a weight", case.name);
        for (at, &grad) in grad.iter().enumerate() {
            let mut moved = |by: f64| {
                executor.nudge(param, at, by);
                let y = loss(&mut executor, &scene.batch);
                executor.nudge(param, at, -by);
                y
            };
            let step = f64::from(STEP);
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            compare(grad, slope, &format!("w{index}"), at);
        }
    }
}
