//! Plans are sound: no two live values share a place, capacity changes nothing, costs are the closed formulas.
//!
//! Idea:   random graphs of a few dozen nodes reach what nobody would write down. The checker knows nothing of how
//!         places were chosen: it walks the steps and asks which values are still to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use wootz_kernels::{Isa, Precision};

use super::case::{NO_STATES, assert_close, case, each_case, tokens};
use super::network::{TinyLlama, sequences};
use super::rng::Rng;
use crate::ParamKind::{Matrix, Table, Vector};
use crate::plan::{Place, Step};
use crate::{
    Activation, Axis, Batch, Cost, Cpu, Data, Device, Dim, Error, Executor, Graph, HostTensor, Param,
    ParamSpec, Params, Plan, PlanOptions, Reference, Rows, Type, Value,
};

const WIDTHS: [usize; 3] = [4, 8, 12];

/// Weights for random graphs: between all widths a matrix, for each a vector.
struct Weights {
    params: Params,
    matrices: BTreeMap<(usize, usize), Param>,
    vectors: BTreeMap<usize, Param>,
}

fn declare() -> Weights {
    let mut params = Params::default();
    let (mut matrices, mut vectors) = (BTreeMap::new(), BTreeMap::new());
    params.declare("table", &[10, 8], Table);
    for n in WIDTHS {
        vectors.insert(n, params.declare(format!("v{n}"), &[n], Vector));
        for k in WIDTHS {
            matrices.insert((n, k), params.declare(format!("m{n}.{k}"), &[n, k], Matrix));
        }
    }
    Weights { params, matrices, vectors }
}

/// A random graph and some of its values.
fn random_graph<'p>(weights: &'p Weights, rng: &mut Rng) -> (Graph<'p>, Vec<Value>) {
    let Weights { params, matrices, vectors } = weights;
    let mut g = Graph::new(params);
    let t = Dim::Rows(Axis::Tokens, 1);
    let ids = g.token_ids();
    let mut values = vec![g.embed(ids, params.find("table").unwrap()).unwrap()];
    values.push(g.input("x0", Type::f32((t, 12))));
    for _ in 0..rng.below(40) {
        let x = values[rng.below(values.len())];
        let width = g.width(x);
        let same: Vec<Value> = values.iter().copied().filter(|&y| g.width(y) == width).collect();
        let other = same[rng.below(same.len())];
        let n = WIDTHS[rng.below(3)];
        let y = match rng.below(11) {
            0 => g.add(x, other),
            1 => g.mul(x, other),
            2 => g.linear(x, matrices[&(n, width)]),
            3 => g.linear_bias(x, matrices[&(n, width)], Some(vectors[&n])),
            4 => g.rms_norm(x, vectors[&width], 1e-5),
            5 => g.gated(x, other, Activation::Silu),
            6 => g.softmax(x),
            7 if width == 4 => g.concat(x, other),
            8 if width == 12 => g.columns(x, 3, 8),
            9 => {
                let halves = g.reshape(x, (t, 2, width / 2)).unwrap();
                let halves = g.activate(halves, Activation::Tanh).unwrap();
                g.reshape(halves, (t, width))
            }
            10 if width == 8 => {
                let halves = g.reshape(x, (Dim::Rows(Axis::Tokens, 2), 4)).unwrap();
                let halves = g.linear(halves, matrices[&(4, 4)]).unwrap();
                g.reshape(halves, (t, 8))
            }
            _ => g.scale(x, 0.5),
        };
        values.push(y.unwrap());
    }
    let outputs = (0..1 + rng.below(3)).map(|_| values[rng.below(values.len())]).collect();
    (g, outputs)
}

/// The places of values that are still to be read, after every step.
fn check_places(plan: &Plan) {
    let words = |node: usize| {
        let shape = plan.nodes[node].ty.shape;
        shape.rows().map_or(1, |(axis, times)| plan.capacity().of(axis) * times) * shape.inner()
    };
    let place = |node: usize| match plan.places[node] {
        Place::Arena(at) => at..at + words(node),
        other => panic!("node {node} is computed, but stands {other:?}"),
    };
    let read_from = |step: usize| -> BTreeSet<usize> {
        let reads =
            plan.steps[step..].iter().flat_map(Step::nodes).flat_map(|&node| &plan.nodes[node].inputs);
        reads.map(|read| plan.root(read.index())).chain(plan.outputs.iter().map(|&o| plan.root(o))).collect()
    };
    let apart = |a: &Range<usize>, b: &Range<usize>| {
        a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
    };
    let mut computed: BTreeMap<usize, Range<usize>> = BTreeMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        // What this step or a later one reads must outlive what this step writes.
        let needed = read_from(at);
        for &node in step.nodes() {
            let written = place(node);
            assert_eq!(written.start % 16, 0, "offsets are multiples of 64 bytes");
            assert!(4 * written.end <= plan.arena_bytes(), "a value ends past the arena");
            for (other, there) in computed.iter().filter(|(other, _)| needed.contains(other)) {
                assert!(apart(&written, there), "step {at}: node {node} overwrites {other}");
            }
            computed.insert(node, written);
        }
        for read in step.nodes().iter().flat_map(|&node| &plan.nodes[node].inputs) {
            let read = plan.root(read.index());
            let is_leaf = matches!(plan.places[read], Place::Input(_) | Place::Weight(_));
            assert!(
                is_leaf || computed.contains_key(&read),
                "step {at} reads node {read} before it is there"
            );
        }
    }
}

fn load(device: &dyn Device, params: &Params) -> Box<dyn Executor> {
    let source = |spec: &ParamSpec| {
        let numbers = Rng::seeded(spec.name.len() as u64 + spec.shape[0] as u64).normals(spec.n_elements());
        Ok(HostTensor { ty: super::F32, bytes: wootz_kernels::cast::bytes_of(&numbers).to_vec().into() })
    };
    device.executor(&device.load(params, &source).unwrap(), &[], NO_STATES).unwrap()
}

fn random_batch(n: usize, rng: &mut Rng) -> Batch {
    let ids: Vec<u32> = (0..n).map(|_| rng.below(10) as u32).collect();
    let mut batch = Batch::of_sequences(&[&ids]);
    batch.set("x0", Data::F32(rng.normals(n * 12)));
    batch
}

#[test]
fn no_two_live_values_of_a_random_graph_overlap() {
    let weights = declare();
    let cpu = Cpu::with(Isa::detect(), 2, Precision::Exact);
    let (mut on_cpu, mut on_reference) = (load(&cpu, &weights.params), load(&Reference, &weights.params));
    for seed in 0..300 {
        let mut rng = Rng::seeded(seed);
        let (g, outputs) = random_graph(&weights, &mut rng);
        let capacity = tokens(1 << rng.below(4));
        let plan = Plan::new(&g, &outputs, &PlanOptions { capacity }).unwrap();
        check_places(&plan);
        let batch = random_batch(1 + rng.below(capacity.tokens), &mut rng);
        on_cpu.run(&plan, &batch, None).unwrap();
        on_reference.run(&plan, &batch, None).unwrap();
        for index in 0..outputs.len() {
            let (got, want) =
                (on_cpu.output(&plan, &batch, index), on_reference.output(&plan, &batch, index));
            // Dozens of operators on top of each other.
            assert_close(&got, &want, 1e-3, &|| format!("graph {seed}, output {index}"));
        }
    }
}

#[test]
fn no_two_live_values_of_a_backward_pass_overlap() {
    each_case(|case| check_places(&case.planned(&[3, 0, 2], 1).1));
    let model = TinyLlama::declare();
    let (g, outputs) = model.training_graph();
    check_places(&Plan::new(&g, &outputs, &PlanOptions { capacity: tokens(16) }).unwrap());
}

#[test]
fn a_capacity_runs_every_smaller_number_of_rows_with_the_same_results() {
    let weights = declare();
    for device in [&Reference as &dyn Device, &Cpu::new(2)] {
        let mut executor = load(device, &weights.params);
        for seed in 0..20 {
            let mut rng = Rng::seeded(seed);
            let (g, outputs) = random_graph(&weights, &mut rng);
            let plan_for = |n: usize| Plan::new(&g, &outputs, &PlanOptions { capacity: tokens(n) }).unwrap();
            let of_eight = plan_for(8);
            for n in 1..=8 {
                let batch = random_batch(n, &mut rng);
                let exact = plan_for(n);
                executor.run(&exact, &batch, None).unwrap();
                let want: Vec<_> = (0..outputs.len()).map(|i| executor.output(&exact, &batch, i)).collect();
                executor.run(&of_eight, &batch, None).unwrap();
                for (index, want) in want.iter().enumerate() {
                    assert_eq!(executor.output(&of_eight, &batch, index), *want, "{n} rows of 8");
                }
            }
            let error = executor.run(&of_eight, &random_batch(9, &mut rng), None).unwrap_err();
            assert!(matches!(error, Error::Mismatch(_)), "{error}");
        }
    }
}

#[test]
fn a_plan_depends_on_capacity_and_says_its_memory_before_the_first_step() {
    let model = TinyLlama::declare();
    let (g, outputs) = model.training_graph();
    let bytes = |n: usize| {
        let plan = Plan::new(&g, &outputs, &PlanOptions { capacity: tokens(n) }).unwrap();
        plan.arena_bytes()
    };
    assert_eq!(bytes(16), bytes(16));
    assert!(bytes(32) > bytes(16) && bytes(32) < 2 * bytes(16), "weight gradients do not grow with the rows");
    let huge = Rows { tokens: usize::MAX / 2, ..tokens(1) };
    let error = Plan::new(&g, &outputs, &PlanOptions { capacity: huge }).unwrap_err();
    assert!(error.to_string().contains("fits into no memory"), "{error}");
}

#[test]
fn values_that_lead_to_no_wanted_gradient_cost_nothing() {
    let model = TinyLlama::declare();
    let steps_of = |wanted: &[&str]| {
        let (g, outputs) = model.gradients_of(wanted);
        let plan = Plan::new(&g, &outputs, &PlanOptions { capacity: tokens(16) }).unwrap();
        let names: Vec<&str> =
            plan.steps.iter().flat_map(Step::nodes).map(|&node| plan.nodes[node].op_name()).collect();
        names.iter().filter(|name| name.contains("grad")).count()
    };
    // The last norm's gradient goes through the head alone.
    assert_eq!(steps_of(&["final_norm"]), 2);
    assert!(steps_of(&["layers.1.wq"]) < steps_of(&["layers.0.wq"]));
}

#[test]
fn linear_layers_over_the_same_rows_are_one_step_only_where_they_may_be() {
    let same_rows =
        case("").rows(&[12]).weight(Matrix, &[5, 12]).weight(Matrix, &[7, 12]).weight(Matrix, &[3, 6]);
    let same_rows = same_rows.build(|g, x, w| {
        let t = Dim::Rows(Axis::Tokens, 1);
        let a = g.at("layers.0", |g| g.linear(x[0], w[0]))?;
        let b = g.at("layers.0", |g| g.at("ffn", |g| g.linear(x[0], w[1])))?;
        let halves = g.reshape(x[0], (t, 2, 6))?;
        let c = g.at("layers.0", |g| g.linear(halves, w[2]))?;
        let c = g.reshape(c, (t, 6))?;
        let d = g.at("layers.1", |g| g.linear(x[0], w[0]))?;
        let y = g.concat(a, b)?;
        let y = g.concat(y, c)?;
        g.concat(y, d)
    });
    let (_, plan) = same_rows.planned(&[2], 1);
    let groups: Vec<usize> = plan.steps.iter().map(|step| step.nodes().len()).collect();
    assert_eq!(groups, [2, 1, 1, 1, 1, 1], "a and b together; another width, another layer, three concats");
}

#[test]
fn the_cost_of_a_llama_layer_is_the_closed_formula() {
    let model = TinyLlama::declare();
    let (g, hidden) = model.hidden_graph();
    let plan = Plan::new(&g, &[hidden], &PlanOptions { capacity: tokens(16) }).unwrap();
    let batch = sequences(&[5, 9], 1);
    let cost = |name: &str| -> Cost {
        plan.cost(&batch).into_iter().find(|(op, _)| *op == name).map_or(Cost::default(), |(_, cost)| cost)
    };
    let TinyLlama { d_model: c, d_ff: f, n_heads: h, n_kv_heads: k, head_dim: d, n_layers, .. } = model;
    let t = 14;
    let per_token = 2 * (c * h * d + 2 * c * k * d + h * d * c) + 2 * 3 * c * f;
    assert_eq!(cost("linear").flops, (n_layers * t * per_token) as f64);
    let pairs = 5 * 6 / 2 + 9 * 10 / 2;
    assert_eq!(cost("attend").flops, (n_layers * pairs * h * 4 * d) as f64);
    let weights = n_layers * (c * h * d * 2 + 2 * c * k * d + 3 * c * f);
    let activations = n_layers * t * (3 * c + h * d + 2 * k * d + h * d + c + 2 * c + 2 * f + f + c);
    assert_eq!(cost("linear").bytes, 4.0 * (weights + activations) as f64);
    assert_eq!(cost("reshape"), Cost::default());
}
