//! Every device computes what the reference computes, whatever its instruction set and number of threads.

use std::collections::BTreeSet;

use wootz_kernels::{Isa, Precision, TensorType};

use super::case::{Case, assert_close, each_case};
use super::cases::cases;
use crate::device::Executor;
use crate::ops::Op;
use crate::{Batch, Cpu, DType, Error, Graph, Params, Plan, PlanOptions, Reference, Rows, Type};

/// Lengths of the sequences of a batch: single rows, empty sequences at every end, more rows than a tile.
const BATCHES: &[&[usize]] =
    &[&[1], &[0, 3, 1], &[5, 0, 0, 7, 0], &[17, 16, 1, 0, 31], &[33, 2], &[70], &[], &[0, 0]];

#[test]
fn every_operator_has_a_case() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        let scene = case.scene(&[2, 1], 1);
        let (g, _) = case.graph(&scene.params).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        seen.extend(g.nodes().iter().map(|node| node.op.variant()));
    }
    // Tried in `states` and in `adapters`.
    let stateful = ["Append", "Adapt", "AdaptBaseGrad", "AdaptInputGrad"];
    let missing: Vec<&&str> =
        Op::VARIANTS.iter().filter(|op| !seen.contains(*op) && !stateful.contains(op)).collect();
    assert!(missing.is_empty(), "operators without a case: {missing:?}");
}

#[test]
fn a_case_without_gradients_is_of_an_operator_that_has_none() {
    each_case(|case| {
        if case.has_gradient() || case.stored != TensorType::F32 {
            return;
        }
        let scene = case.scene(&[2, 1], 1);
        let (g, outputs) = case.graph(&scene.params).expect("the graph");
        if g.ty(outputs[0]).dtype == DType::U32 {
            return;
        }
        let case = case.grad();
        let result = case.graph(&scene.params).map(|_| ());
        let refused = matches!(result, Err(Error::NoGradient { .. }));
        assert!(!case.has_gradient() || refused, "it has a gradient that nothing checks: {result:?}");
    });
}

#[test]
fn cpu_agrees_with_reference_forward_and_backward() {
    let cpus: Vec<Cpu> = Isa::all_here()
        .flat_map(|isa| [1, 2].map(|n_threads| Cpu::with(isa, n_threads, Precision::Exact)))
        .collect();
    each_case(|case| {
        for (seed, lengths) in BATCHES.iter().enumerate() {
            agree(&case, &cpus, lengths, seed as u64);
        }
    });
}

fn agree(case: &Case, cpus: &[Cpu], lengths: &[usize], seed: u64) {
    let (scene, plan) = case.planned(lengths, seed);
    let mut reference = scene.executor(&Reference);
    reference.run(&plan, &scene.batch, None).expect("the reference runs");
    for cpu in cpus {
        let mut executor = scene.executor(cpu);
        poison(&mut *executor, plan.arena_bytes());
        executor.run(&plan, &scene.batch, None).expect("runs where the reference runs");
        for index in 0..plan.output_types().len() {
            let what = || format!("{lengths:?} output {index}, {:?} × {}", cpu.isa(), cpu.pool().threads());
            let got = executor.output(&plan, &scene.batch, index);
            let want = reference.output(&plan, &scene.batch, index);
            assert_close(&got, &want, case.tolerance, &what);
        }
    }
}

/// Leaves NaN in every place of the arena, so that a number that nobody writes is noticed.
fn poison(executor: &mut dyn Executor, n_bytes: usize) {
    let params = Params::default();
    let mut g = Graph::new(&params);
    let nan = g.fill(f32::NAN, Type::f32((n_bytes / 4 + 1,))).expect("a constant");
    let plan = Plan::new(&g, &[nan], &PlanOptions { capacity: Rows::default() }).expect("a plan");
    executor.run(&plan, &Batch::new(), None).expect("it reads nothing");
}

#[test]
fn fast_products_round_activations_to_8_bits_and_no_further() {
    let cpus: Vec<Cpu> = Isa::all_here().map(|isa| Cpu::with(isa, 2, Precision::Fast)).collect();
    each_case(|case| {
        // Gradients of quantized weights are those of `Exact`; a router may choose others where scores are close.
        if case.stored == TensorType::F32 || case.name.contains("expert") {
            return;
        }
        let (scene, plan) = case.planned(&[5, 0, 12], 3);
        let mut reference = scene.executor(&Reference);
        reference.run(&plan, &scene.batch, None).expect("the reference runs");
        let want = reference.output(&plan, &scene.batch, 0);
        let rms = (want.iter().map(|y| y * y).sum::<f32>() / want.len() as f32).sqrt();
        for cpu in &cpus {
            let mut executor = scene.executor(cpu);
            executor.run(&plan, &scene.batch, None).expect("runs where the reference runs");
            let got = executor.output(&plan, &scene.batch, 0);
            let worst = got.iter().zip(&want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
            // Each activation is off by at most 1/254 of the largest of its block, in either direction.
            assert!(worst <= 0.03 * rms, "{:?}: off by {worst} where numbers are {rms}", cpu.isa());
        }
    });
}
