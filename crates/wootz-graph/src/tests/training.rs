//! One packed training step: a Llama's gradients are right, a step against them lowers the loss, and sequences in
//! one row do not know of each other.

use wootz_kernels::{Isa, Precision};

use super::case::{NO_STATES, assert_close, tokens};
use super::network::{TinyLlama, sequences};
use crate::device::Executor;
use crate::device::reference::ReferenceExecutor;
use crate::{
    Axis, Batch, Cpu, Data, Device, Dim, Graph, Param, Plan, PlanOptions, Reference, Shape, Taps, Type,
};

const LENGTHS: [usize; 2] = [6, 9];

fn plan(model: &TinyLlama) -> Plan {
    let (g, outputs) = model.training_graph();
    Plan::new(&g, &outputs, &PlanOptions { capacity: tokens(16) }).unwrap()
}

#[test]
fn gradients_of_a_llama_agree_with_central_differences() {
    let model = TinyLlama::declare();
    let plan = plan(&model);
    let batch = sequences(&LENGTHS, 1);
    let weights = Reference.load(&model.params, &|spec| {
        let executor = model.executor(&Reference, NO_STATES, &[]);
        let numbers = executor.weight(model.param(&spec.name));
        let bytes = wootz_kernels::cast::bytes_of(&numbers).to_vec().into();
        Ok(crate::HostTensor { ty: super::F32, bytes })
    });
    let mut executor = ReferenceExecutor::new(&weights.unwrap(), &[], NO_STATES).unwrap();
    executor.run(&plan, &batch, None).unwrap();
    let grads: Vec<Vec<f64>> =
        (1..=model.params.specs().len()).map(|i| executor.output_f64(&plan, i).to_vec()).collect();
    let mut checked = 0;
    for ((param, spec), grad) in model.params.iter().zip(grads) {
        // Every weight, a few numbers of each.
        for at in (0..grad.len()).step_by(grad.len() / 7 + 1) {
            let mut loss_at = |by: f64| {
                executor.nudge(param, at, by);
                executor.run(&plan, &batch, None).unwrap();
                executor.nudge(param, at, -by);
                executor.output_f64(&plan, 0)[0]
            };
            let slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
            let close = (grad[at] - slope).abs() <= 1e-6 * (1.0 + slope.abs());
            assert!(close, "d loss / d {}[{at}] is {slope}, got {}", spec.name, grad[at]);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} numbers were checked");
}

/// The losses of a few steps of plain gradient descent.
fn descend(device: &dyn Device, n_steps: usize) -> Vec<f32> {
    let model = TinyLlama::declare();
    let plan = plan(&model);
    let batch = sequences(&LENGTHS, 1);
    let mut executor = model.executor(device, NO_STATES, &[]);
    let mut losses = Vec::new();
    for _ in 0..n_steps {
        executor.run(&plan, &batch, None).unwrap();
        losses.push(executor.output(&plan, &batch, 0)[0]);
        let grads: Vec<Vec<f32>> =
            (1..=model.params.specs().len()).map(|i| executor.output(&plan, &batch, i)).collect();
        for ((param, _), grad) in model.params.iter().zip(grads) {
            let stepped: Vec<f32> =
                executor.weight(param).iter().zip(grad).map(|(w, g)| w - 0.1 * g).collect();
            executor.set_weight(param, super::F32, &stepped).unwrap();
        }
    }
    losses
}

#[test]
fn a_packed_training_step_lowers_the_loss_alike_on_every_device() {
    let reference = descend(&Reference, 5);
    assert!(reference.windows(2).all(|pair| pair[1] < pair[0]), "{reference:?}");
    for isa in Isa::all_here() {
        let losses = descend(&Cpu::with(isa, 2, Precision::Exact), 5);
        assert_close(&losses, &reference, 1e-4, &|| format!("losses on {isa:?}"));
    }
}

/// A loss that is worked out outside of the graph: the sum of squares of the log-probabilities.
#[derive(Default)]
struct SumOfSquares {
    logprobs: Vec<f32>,
}

impl Taps for SumOfSquares {
    fn tap(&mut self, name: &str, _shape: &Shape, numbers: &mut [f32]) {
        match name {
            "logprobs" => self.logprobs = numbers.to_vec(),
            "slope" => numbers.iter_mut().zip(&self.logprobs).for_each(|(slope, y)| *slope = 2.0 * y),
            _ => {}
        }
    }
}

#[test]
fn runs_add_to_the_gradients_of_trained_weights_from_a_slope_given_meanwhile() {
    let model = TinyLlama::declare();
    let trained: Vec<Param> = ["embed", "layers.0.wq", "layers.1.attn_norm", "head"]
        .into_iter()
        .map(|name| model.param(name))
        .collect();
    let batch = sequences(&LENGTHS, 1);
    let capacity = tokens(16);
    // The same loss by operators.
    let mut g = Graph::new(&model.params);
    let ids = g.token_ids();
    let x = g.embed(ids, model.param("embed")).unwrap();
    let logprobs = model.logprobs(&mut g, x).unwrap();
    let squares = g.mul(logprobs, logprobs).unwrap();
    let weights = g.loss_weights();
    let loss = g.weighted_sum(squares, weights).unwrap();
    let wrt: Vec<_> = trained.iter().map(|&param| g.weight(param)).collect();
    let grads = g.backward(loss, &wrt).unwrap();
    let plan = Plan::new(&g, &grads, &PlanOptions { capacity }).unwrap();
    let mut ones = batch.clone();
    ones.set("loss_weights", Data::F32(vec![1.0; LENGTHS.iter().sum()]));
    let mut reference = model.executor(&Reference, NO_STATES, &[]);
    reference.run(&plan, &ones, None).unwrap();
    // The loss outside.
    let mut g = Graph::new(&model.params);
    let ids = g.token_ids();
    let x = g.embed(ids, model.param("embed")).unwrap();
    let logprobs = model.logprobs(&mut g, x).unwrap();
    g.name(logprobs, "logprobs");
    let slope = g.slope(logprobs, "slope").unwrap();
    g.backward_to(&[(logprobs, slope)], &trained).unwrap();
    let outside = Plan::new(&g, &[], &PlanOptions { capacity }).unwrap();
    for device in [&Reference as &dyn Device, &Cpu::with(Isa::detect(), 2, Precision::Exact)] {
        let mut executor = model.executor(device, NO_STATES, &[]);
        for n_runs in [1.0, 2.0] {
            executor.run(&outside, &batch, Some(&mut SumOfSquares::default())).unwrap();
            for (i, &param) in trained.iter().enumerate() {
                let want: Vec<f32> =
                    reference.output(&plan, &ones, i).iter().map(|grad| n_runs * grad).collect();
                let mut got = Vec::new();
                executor.with_gradient(param, &mut |grad| got = grad.to_vec());
                assert_close(&got, &want, 1e-4, &|| format!("{}: {n_runs} runs", device.name()));
            }
        }
        executor
            .with_gradient(model.param("layers.0.wk"), &mut |_| panic!("a frozen weight has no gradient"));
        executor.clear_gradients();
        executor.with_gradient(trained[1], &mut |grad| assert!(grad.iter().all(|g| *g == 0.0)));
    }
}

/// Slopes of one.
struct Ones;

impl Taps for Ones {
    fn tap(&mut self, name: &str, _shape: &Shape, numbers: &mut [f32]) {
        if name == "slope" {
            numbers.fill(1.0);
        }
    }
}

#[test]
fn recomputed_layers_give_the_same_bits_in_a_smaller_arena() {
    let model = TinyLlama::of_layers(12);
    let batch = sequences(&[40, 60, 28], 1);
    let plan = |g: Graph| {
        let mut g = g;
        let ids = g.token_ids();
        let x = g.embed(ids, model.param("embed")).unwrap();
        // Within the first layer, and read there again on the way back.
        let x = g.at("layers.0", |g| {
            let y = g.dropout(x, 0.1).unwrap();
            g.mul(y, y).unwrap()
        });
        let logprobs = model.logprobs(&mut g, x).unwrap();
        let slope = g.slope(logprobs, "slope").unwrap();
        let all: Vec<Param> = model.params.iter().map(|(param, _)| param).collect();
        g.backward_to(&[(logprobs, slope)], &all).unwrap();
        Plan::new(&g, &[logprobs], &PlanOptions { capacity: tokens(128) }).unwrap()
    };
    let mut seeded = batch.clone();
    seeded.set("noise_seed", Data::U32(vec![1, 2]));
    let kept = plan(Graph::new(&model.params));
    let recomputed = plan(Graph::new(&model.params).with_recomputed_layers());
    let (kept_bytes, bytes) = (kept.arena_bytes(), recomputed.arena_bytes());
    assert!(bytes * 3 < kept_bytes, "{bytes} of {kept_bytes} bytes");
    for device in [&Reference as &dyn Device, &Cpu::with(Isa::detect(), 2, Precision::Exact)] {
        let mut executor = model.executor(device, NO_STATES, &[]);
        let mut gradients = |plan: &Plan| -> Vec<Vec<u32>> {
            executor.clear_gradients();
            executor.run(plan, &seeded, Some(&mut Ones)).unwrap();
            let mut all = vec![executor.output(plan, &seeded, 0)];
            for (param, _) in model.params.iter() {
                executor.with_gradient(param, &mut |grad| all.push(grad.to_vec()));
            }
            all.iter().map(|grad| grad.iter().map(|x| x.to_bits()).collect()).collect()
        };
        let want = gradients(&kept);
        assert_eq!(want.len(), model.params.specs().len() + 1);
        assert!(want.iter().all(|grad| grad.iter().any(|bits| *bits != 0)));
        assert!(gradients(&recomputed) == want, "{}", device.name());
    }
}

#[test]
fn dropout_drops_the_share_it_says_and_another_choice_each_step() {
    let model = TinyLlama::declare();
    let mut g = Graph::new(&model.params);
    let rows = Type::f32((Dim::Rows(Axis::Tokens, 1), 64));
    let x = g.input("x", rows);
    assert_eq!(g.dropout(x, 0.0).unwrap(), x);
    assert_eq!(g.noise(x, 0.0).unwrap(), x);
    assert!(g.dropout(x, 1.0).is_err() && g.dropout(x, f32::NAN).is_err() && g.dropout(x, -0.5).is_err());
    let outputs = [g.dropout(x, 0.25).unwrap(), g.dropout(x, 0.25).unwrap(), g.noise(x, 3.0).unwrap()];
    let plan = Plan::new(&g, &outputs, &PlanOptions { capacity: tokens(128) }).unwrap();
    let mut batch = sequences(&[100, 25], 1);
    batch.set("x", Data::F32(vec![1.0; 125 * 64]));
    let mut executor = model.executor(&Cpu::new(2), NO_STATES, &[]);
    let mut run = |seed: [u32; 2]| {
        batch.set("noise_seed", Data::U32(seed.to_vec()));
        executor.run(&plan, &batch, None).unwrap();
        [0, 1, 2].map(|index| executor.output(&plan, &batch, index))
    };
    let [first, second, noisy] = run([1, 1]);
    assert!(first.iter().all(|y| *y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-6));
    let n_dropped = first.iter().filter(|y| **y == 0.0).count() as f32 / 8000.0;
    assert!((0.22..0.28).contains(&n_dropped), "{n_dropped}");
    assert_ne!(first, second, "two operators drop alike");
    assert_eq!(run([1, 1]), [first.clone(), second, noisy.clone()]);
    assert_ne!(run([1, 2])[0], first, "two steps drop alike");
    assert_ne!(run([2, 1])[0], first, "two seeds drop alike");
    // Noise is bounded by alpha/√(L·C), and of mean 0.
    for (rows, len) in [(0..100, 100.0_f32), (100..125, 25.0)] {
        let noise: Vec<f32> = noisy[rows.start * 64..rows.end * 64].iter().map(|y| y - 1.0).collect();
        let bound = 3.0 / (len * 64.0).sqrt();
        assert!(noise.iter().all(|x| x.abs() < bound * 1.0001));
        let mean = noise.iter().sum::<f32>() / noise.len() as f32;
        assert!(mean.abs() < bound * 0.1, "{mean} of {bound}");
        assert!(noise.iter().any(|x| x.abs() > bound * 0.95));
    }
}

/// Log-probabilities, and the gradient of their sum in one sequence, over embeddings that the batch brings.
fn packed(device: &dyn Device, of_sequence: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let model = TinyLlama::declare();
    let mut g = Graph::new(&model.params);
    let x = g.input("x", Type::f32((Dim::Rows(Axis::Tokens, 1), model.d_model)));
    let logprobs = model.logprobs(&mut g, x).unwrap();
    let weights = g.loss_weights();
    let loss = g.weighted_sum(logprobs, weights).unwrap();
    let dx = g.backward(loss, &[x]).unwrap()[0];
    let plan = Plan::new(&g, &[logprobs, dx], &PlanOptions { capacity: tokens(16) }).unwrap();
    let mut batch: Batch = sequences(&LENGTHS, 1);
    let mut numbers = super::rng::Rng::seeded(9).normals(LENGTHS[0] * model.d_model);
    numbers.extend(super::rng::Rng::seeded(seed).normals(LENGTHS[1] * model.d_model));
    batch.set("x", Data::F32(numbers));
    let rows = batch.sequences[of_sequence].rows.clone();
    let is_in = |row: usize| f32::from(u8::from(rows.contains(&row)));
    batch.set("loss_weights", Data::F32((0..LENGTHS.iter().sum()).map(is_in).collect()));
    let mut executor = model.executor(device, NO_STATES, &[]);
    executor.run(&plan, &batch, None).unwrap();
    (executor.output(&plan, &batch, 0), executor.output(&plan, &batch, 1))
}

#[test]
fn packed_sequences_do_not_influence_each_other() {
    let width = TinyLlama::declare().d_model;
    for device in [&Reference as &dyn Device, &Cpu::new(2)] {
        let (logprobs, dx) = packed(device, 0, 5);
        let (own, others) = dx.split_at(LENGTHS[0] * width);
        assert!(own.iter().any(|d| *d != 0.0));
        assert!(others.iter().all(|d| *d == 0.0), "the second sequence moves the first one's loss");
        let (_, dx) = packed(device, 1, 5);
        let (others, own) = dx.split_at(LENGTHS[0] * width);
        assert!(own.iter().any(|d| *d != 0.0));
        assert!(others.iter().all(|d| *d == 0.0), "the first sequence moves the second one's loss");
        // Another neighbour, the same bits.
        let (with_another, _) = packed(device, 0, 6);
        assert_eq!(logprobs[..LENGTHS[0]], with_another[..LENGTHS[0]]);
        assert_ne!(logprobs[LENGTHS[0]..], with_another[LENGTHS[0]..]);
    }
}

#[test]
fn a_loss_that_is_more_than_one_number_is_an_error() {
    let model = TinyLlama::declare();
    let mut g = Graph::new(&model.params);
    let x = g.input("x", Type::f32((Dim::Rows(Axis::Tokens, 1), model.d_model)));
    let logprobs = model.logprobs(&mut g, x).unwrap();
    let error = g.backward(logprobs, &[x]).unwrap_err();
    assert_eq!(error.to_string(), "`backward` at ``: expected a loss (1), got F32 (T)");
}
