//! Named values can be read and replaced while a graph runs, alike on every device.

use super::case::{NO_STATES, assert_close, tokens};
use super::network::{TinyLlama, sequences};
use super::rng::Rng;
use crate::ParamKind::{Matrix, Stack};
use crate::{
    Axis, Batch, Cpu, Data, Device, Dim, Graph, HostTensor, ParamSpec, Params, Plan, PlanOptions, Reference,
    Shape, Taps, Type,
};

type Change = dyn Fn(&str, &mut [f32]);

/// Remembers what it was shown and changes it as it is told.
struct Watch<'a> {
    seen: Vec<(String, String, Vec<f32>)>,
    change: &'a Change,
}

impl Taps for Watch<'_> {
    fn tap(&mut self, name: &str, shape: &Shape, numbers: &mut [f32]) {
        self.seen.push((name.to_owned(), shape.to_string(), numbers.to_vec()));
        (self.change)(name, numbers);
    }
}

type Seen = Vec<(String, String, Vec<f32>)>;

fn hidden(device: &dyn Device, change: Option<&Change>) -> (Vec<f32>, Seen) {
    let model = TinyLlama::declare();
    let (g, hidden) = model.hidden_graph();
    let plan = Plan::new(&g, &[hidden], &PlanOptions { capacity: tokens(16) }).unwrap();
    let batch = sequences(&[4, 7], 3);
    let mut executor = model.executor(device, NO_STATES, &[]);
    let mut watch = Watch { seen: Vec::new(), change: change.unwrap_or(&|_, _| {}) };
    let taps = change.map(|_| &mut watch as &mut dyn Taps);
    executor.run(&plan, &batch, taps).unwrap();
    (executor.output(&plan, &batch, 0), watch.seen)
}

#[test]
fn a_named_value_is_read_and_replaced_on_every_device() {
    let cpu = Cpu::new(2);
    let devices = [&Reference as &dyn Device, &cpu];
    for device in devices {
        let (plain, _) = hidden(device, None);
        let (watched, seen) = hidden(device, Some(&|_, _| {}));
        assert_eq!(plain, watched, "looking changes nothing on {}", device.name());
        let names: Vec<(&str, &str, usize)> =
            seen.iter().map(|(name, shape, numbers)| (&name[..], &shape[..], numbers.len())).collect();
        assert_eq!(names, [("layers.0.resid", "(T, 12)", 11 * 12), ("layers.1.resid", "(T, 12)", 11 * 12)]);
    }
    let replace = |name: &str, numbers: &mut [f32]| {
        if name == "layers.0.resid" {
            numbers.iter_mut().for_each(|x| *x = -0.5 * *x + 0.25);
        }
    };
    let [on_reference, on_cpu] = devices.map(|device| hidden(device, Some(&replace)));
    assert_close(&on_cpu.0, &on_reference.0, 1e-4, &|| "with a value replaced".to_owned());
    for (got, want) in on_cpu.1.iter().zip(&on_reference.1) {
        assert_eq!((&got.0, &got.1), (&want.0, &want.1));
        assert_close(&got.2, &want.2, 1e-4, &|| got.0.clone());
    }
    assert!(hidden(&cpu, None).0.iter().zip(&on_cpu.0).any(|(a, b)| (a - b).abs() > 0.01));
}

#[test]
fn values_seen_through_a_shape_and_ids_have_names_too() {
    let mut params = Params::default();
    let router = params.declare("router", &[4, 6], Matrix);
    let experts = params.declare("experts", &[4, 6, 6], Stack);
    let mut g = Graph::new(&params);
    let t = Dim::Rows(Axis::Tokens, 1);
    let x = g.input("x", Type::f32((t, 6)));
    let scores = g.linear(x, router).unwrap();
    let scores = g.name(scores, "scores");
    let ids = g.top_k(scores, 2, None).unwrap();
    let ids = g.name(ids, "experts");
    let y = g.expert_linear(x, ids, experts).unwrap();
    let halves = g.reshape(y, (Dim::Rows(Axis::Tokens, 2), 2, 3)).unwrap();
    let halves = g.name(halves, "halves");
    let y = g.scale(halves, 2.0).unwrap();
    let plan = Plan::new(&g, &[y, ids, x], &PlanOptions { capacity: tokens(4) }).unwrap();
    let mut batch = Batch::of_sequences(&[&[0, 0, 0]]);
    batch.set("x", Data::F32(Rng::seeded(4).normals(18)));
    let source = |spec: &ParamSpec| {
        let numbers = Rng::seeded(spec.shape.len() as u64).normals(spec.n_elements());
        Ok(HostTensor { ty: super::F32, bytes: wootz_kernels::cast::bytes_of(&numbers).to_vec().into() })
    };
    let run = |device: &dyn Device| {
        let mut executor = device.executor(&device.load(&params, &source).unwrap(), &[], NO_STATES).unwrap();
        let change = |name: &str, numbers: &mut [f32]| match name {
            "halves" => numbers[0] = 8.0,
            "experts" => numbers.fill(3.0), // ids can be read, not replaced
            _ => {}
        };
        let mut watch = Watch { seen: Vec::new(), change: &change };
        executor.run(&plan, &batch, Some(&mut watch)).unwrap();
        let outputs = [0, 1, 2].map(|index| executor.output(&plan, &batch, index));
        (watch.seen, outputs)
    };
    let (seen, outputs) = run(&Cpu::new(1));
    let (on_reference, from_reference) = run(&Reference);
    let names: Vec<(&str, &str)> = seen.iter().map(|(name, shape, _)| (&name[..], &shape[..])).collect();
    assert_eq!(names, [("scores", "(T, 4)"), ("experts", "(T, 2)"), ("halves", "(T·2, 2, 3)")]);
    assert_eq!(seen[1].2, on_reference[1].2);
    assert!(outputs[1].iter().all(|id| id.fract() == 0.0 && (0.0..4.0).contains(id)), "{:?}", outputs[1]);
    assert_eq!(outputs[0][0], 16.0);
    for (index, (got, want)) in outputs.iter().zip(&from_reference).enumerate() {
        assert_close(got, want, 1e-5, &|| format!("output {index}"));
    }
}
