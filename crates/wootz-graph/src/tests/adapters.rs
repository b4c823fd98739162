//! Adapters: every sequence gets its own or none, on every device alike, and what is asked of a bank is checked.

use wootz_kernels::{Isa, Precision, TensorType, cast};

use super::case::{NO_STATES, assert_close, plan_for};
use super::rng::Rng;
use crate::ParamKind::{Matrix, Vector};
use crate::{
    Addition, Axis, Bank, Batch, Cpu, Data, Device, Dim, Executor, Graph, HostTensor, MAX_RANK, Params, Plan,
    Reference, Sequence, Site, Type,
};

const C: usize = 24;
const F: usize = 37;
const LENGTHS: [usize; 6] = [3, 1, 0, 5, 2, 9];
const WHOSE: [Option<usize>; 6] = [Some(0), None, Some(5), Some(5), None, Some(1)];

struct Scene {
    params: Params,
    weights: Vec<Vec<f32>>,
    batch: Batch,
    adapters: Vec<(usize, Vec<Addition>)>,
}

/// Two linear layers, the second over some rows alone, and a residual stream.
fn scene() -> Scene {
    let mut rng = Rng::seeded(11);
    let mut params = Params::default();
    let up = params.declare("up", &[F, C], Matrix);
    params.declare("up_b", &[F], Vector);
    let down = params.declare("down", &[C, F], Matrix);
    let weights = params.specs().iter().map(|spec| rng.normals(spec.n_elements())).collect();
    let mut batch = Batch::new();
    let mut end = 0;
    for (len, adapter) in LENGTHS.into_iter().zip(WHOSE) {
        batch.push(Sequence { rows: end..end + len, adapter, ..Sequence::default() });
        end += len;
    }
    batch.set_tokens(vec![0; end]);
    batch.set_outputs(vec![18, 0, 3, 19, 8, 2]);
    batch.set("x", Data::F32(rng.normals(end * C)));
    batch.set("r", Data::F32(rng.normals(6 * C)));
    let mut addition = |site, [n, k]: [usize; 2], rank, ty: TensorType, has_extras: bool| {
        let mut tensor = |n: usize| {
            let numbers = rng.normals(n);
            let mut bytes = vec![0; ty.row_bytes(n).unwrap()];
            wootz_kernels::quantize(ty, &numbers, &mut bytes).unwrap();
            HostTensor { ty, bytes: bytes.into() }
        };
        let (a, b) = (tensor(rank * k), tensor(n * rank));
        let mut extra = || has_extras.then(|| rng.normals(n));
        Addition { site, shape: [n, k], rank, scale: 0.5, a, b, gain: extra(), shift: extra() }
    };
    let (up, down) = (Site::Linear(up), Site::Linear(down));
    let adapters = vec![
        (
            0,
            vec![
                addition(up, [F, C], 4, TensorType::F32, false),
                addition(down, [C, F], 3, TensorType::BF16, true),
            ],
        ),
        (5, vec![addition(up, [F, C], 17, TensorType::F16, true)]),
        (1, vec![Addition::shift(Site::Residual(0), rng.normals(C))]),
    ];
    Scene { params, weights, batch, adapters }
}

impl Scene {
    fn bank() -> Bank {
        let params = scene().params;
        let sites = ["up", "down"].map(|name| Site::Linear(params.find(name).unwrap()));
        Bank { sites: [&sites[..], &[Site::Residual(0)]].concat(), max_rank: 17 }
    }

    /// The rows, and `Σ rows·r`.
    fn plan(&self, bank: Option<Bank>) -> Plan {
        let mut g = Graph::new(&self.params);
        if let Some(bank) = bank {
            g = g.with_bank(bank);
        }
        let [up, up_b, down] = ["up", "up_b", "down"].map(|name| self.params.find(name).unwrap());
        let x = g.input("x", Type::f32((Dim::Rows(Axis::Tokens, 1), C)));
        let y = g.linear_bias(x, up, Some(up_b)).unwrap();
        let y = g.select_outputs(y).unwrap();
        let y = g.linear(y, down).unwrap();
        let y = g.steer(y, 0).unwrap();
        let r = g.input("r", Type::f32((Dim::Rows(Axis::Outputs, 1), C)));
        let loss = g.weighted_sum(y, r).unwrap();
        plan_for(&g, &[y, loss], &self.batch)
    }

    fn executor(&self, device: &dyn Device) -> Box<dyn Executor> {
        let weights = device.load(&self.params, &|spec| {
            let numbers = &self.weights[self.params.find(&spec.name).unwrap().index()];
            Ok(HostTensor { ty: TensorType::F32, bytes: cast::bytes_of(numbers).to_vec().into() })
        });
        let mut executor = device.executor(&weights.unwrap(), &[], NO_STATES).unwrap();
        for (slot, additions) in &self.adapters {
            executor.set_adapter(*slot, Some(additions)).unwrap();
        }
        executor
    }
}

fn cpus() -> Vec<Cpu> {
    Isa::all_here().flat_map(|isa| [1, 2].map(|n| Cpu::with(isa, n, Precision::Exact))).collect()
}

#[test]
fn devices_agree_and_rows_without_an_adapter_keep_their_bits() {
    let scene = scene();
    let (plan, plain) = (scene.plan(Some(Scene::bank())), scene.plan(None));
    let mut reference = scene.executor(&Reference);
    reference.run(&plan, &scene.batch, None).unwrap();
    let mut without = scene.batch.clone();
    without.sequences.iter_mut().for_each(|seq| seq.adapter = None);
    for cpu in cpus() {
        let mut executor = scene.executor(&cpu);
        executor.run(&plan, &scene.batch, None).unwrap();
        let got = executor.output(&plan, &scene.batch, 0);
        for index in 0..plan.output_types().len() {
            let [got, want] = [&executor, &reference].map(|one| one.output(&plan, &scene.batch, index));
            assert_close(&got, &want, 3e-5, &|| format!("output {index}, {:?}", cpu.isa()));
        }
        executor.run(&plain, &without, None).unwrap();
        let base = executor.output(&plain, &without, 0);
        for (i, row) in [18_usize, 0, 3, 19, 8, 2].into_iter().enumerate() {
            let seq = scene.batch.sequences.iter().find(|seq| seq.rows.contains(&row)).unwrap();
            let [got, base] = [&got, &base].map(|rows| &rows[i * C..][..C]);
            assert_eq!(seq.adapter.is_none(), got == base, "row {row}");
        }
        executor.run(&plan, &without, None).unwrap();
        assert_eq!(executor.output(&plan, &without, 0), base);
    }
}

/// The layers themselves: what a loss gives to x through a product, a gain and a shift.
#[test]
fn gradients_agree_with_central_differences() {
    let scene = scene();
    let mut g = Graph::new(&scene.params).with_bank(Scene::bank());
    let [up, up_b, down] = ["up", "up_b", "down"].map(|name| scene.params.find(name).unwrap());
    let x = g.input("x", Type::f32((Dim::Rows(Axis::Tokens, 1), C)));
    let y = g.linear_bias(x, up, Some(up_b)).unwrap();
    let y = g.linear(y, down).unwrap();
    let y = g.steer(y, 0).unwrap();
    let r = g.input("r", Type::f32((Dim::Rows(Axis::Tokens, 1), C)));
    let loss = g.weighted_sum(y, r).unwrap();
    let dx = g.backward(loss, &[x]).unwrap()[0];
    let plan = plan_for(&g, &[loss, dx], &scene.batch);
    let mut batch = scene.batch.clone();
    let mut rng = Rng::seeded(3);
    let x = rng.normals(20 * C);
    batch.set("x", Data::F32(x.clone()));
    batch.set("r", Data::F32(rng.normals(20 * C)));
    let mut reference = scene.executor(&Reference);
    reference.run(&plan, &batch, None).unwrap();
    let grad = reference.output(&plan, &batch, 1);
    for cpu in cpus() {
        let mut executor = scene.executor(&cpu);
        executor.run(&plan, &batch, None).unwrap();
        let got = executor.output(&plan, &batch, 1);
        assert_close(&got, &grad, 1e-4, &|| format!("gradient, {:?}", cpu.isa()));
    }
    for at in (0..20 * C).step_by(7) {
        let mut loss = |by: f32| {
            let mut moved = x.clone();
            moved[at] += by;
            batch.set("x", Data::F32(moved));
            reference.run(&plan, &batch, None).unwrap();
            reference.output(&plan, &batch, 0)[0]
        };
        let slope = (loss(1.0) - loss(-1.0)) / 2.0; // everything here is linear
        assert!((slope - grad[at]).abs() <= 1e-2 * (1.0 + slope.abs()), "{at}: {slope} {}", grad[at]);
    }
}

#[test]
fn what_does_not_fit_a_bank_is_an_error_that_names_it() {
    let scene = scene();
    let plan = scene.plan(Some(Scene::bank()));
    let mut executor = scene.executor(&Cpu::new(1));
    let mut refuse = |slot: usize, additions: &[Addition], expected: &str| {
        let error = executor.set_adapter(slot, Some(additions)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let good = &scene.adapters[0].1[0];
    refuse(64, std::slice::from_ref(good), "slot 64 of a bank of 64");
    refuse(0, &[Addition { shape: [C, F], ..good.clone() }], "weight `up`");
    refuse(0, &[Addition { rank: 5, ..good.clone() }], "bytes");
    refuse(0, &[Addition { rank: MAX_RANK + 1, ..good.clone() }], "rank 1025");
    refuse(0, &[Addition { gain: Some(vec![1.0]), ..good.clone() }], "expected 37 numbers, got 1");
    refuse(0, &[good.clone(), good.clone()], "two additions");
    let of_bias = Site::Linear(scene.params.find("up_b").unwrap());
    refuse(0, &[Addition { site: of_bias, ..good.clone() }], "weight `up_b`");
    // The slots are as they were.
    executor.run(&plan, &scene.batch, None).unwrap();
    let plain = scene.plan(None);
    let error = executor.run(&plain, &scene.batch, None).unwrap_err().to_string();
    assert!(error.contains("which the plan does not"), "{error}");
    executor.set_adapter(5, None).unwrap();
    let error = executor.run(&plan, &scene.batch, None).unwrap_err().to_string();
    assert!(error.contains("slot 5 of 64 is empty"), "{error}");
    let mut batch = scene.batch.clone();
    batch.sequences.iter_mut().for_each(|seq| seq.adapter = Some(usize::MAX));
    executor.run(&plan, &batch, None).unwrap_err();
    executor.set_adapter(0, Some(&[Addition::shift(Site::Residual(0), vec![1.0; C + 1])])).unwrap();
    batch.sequences.iter_mut().for_each(|seq| seq.adapter = Some(0));
    executor.run(&plan, &batch, None).unwrap_err();
}
