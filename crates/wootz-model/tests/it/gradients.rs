//! Every architecture can be trained: the gradients of whole models agree with central differences, in f64.
//!
//! Idea:   a loss (log-probabilities, scores or hidden rows times random numbers) minus what it was before a weight moved, so that the
//!         little that it moves by is not rounded away; the reference device computes in f64.

use std::path::{Path, PathBuf};

use wootz_graph::{
    Batch, Cpu, Data, Device, Graph, Plan, PlanOptions, Randomness, Reference, Shape, StateCapacity, Type,
    Value,
};
use wootz_kernels::TensorType;
use wootz_model::config::{Config, Head};
use wootz_model::{Model, Network};

/// Two sequences of different lengths.
const LENGTHS: [usize; 2] = [3, 5];
/// How far a number is moved.
const STEP: f32 = 1.0 / 4096.0;
/// Numbers of each weight.
const N_NUMBERS: usize = 3;

fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let mut folders: Vec<PathBuf> = ["models", "variants"]
        .iter()
        .flat_map(|kind| std::fs::read_dir(golden.join(kind)).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.join("config.json").exists())
        .collect();
    folders.sort();
    folders
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `Σ y·r − before`, where `y` is what the model's head gives.
fn loss(network: &Network, g: &mut Graph) -> (Value, Type) {
    let x = network.hidden(g, false).unwrap();
    let y = match network.config.head {
        Head::None => x,
        Head::Lm { .. } => {
            let targets = g.targets();
            network.token_logprobs(g, x, targets).unwrap()
        }
        Head::Classifier(_) => network.classify(g, x).unwrap(),
    };
    let ty = g.ty(y);
    let r = g.input("r", ty);
    let sum = g.weighted_sum(y, r).unwrap();
    let before = g.input("before", Type::f32(Shape::fixed(&[1])));
    (g.add(sum, before).unwrap(), ty)
}

/// Random tokens and targets; `r` for a `y` with this many numbers a row of its axis.
fn batch(config: &Config, ty: Type) -> Batch {
    let mut state = 5;
    let mut ids = |n: usize| (0..n).map(|_| (random(&mut state) % config.vocab_size as u64) as u32).collect();
    let sequences: Vec<Vec<u32>> = LENGTHS.iter().map(|&n| ids(n)).collect();
    let mut batch = Batch::of_sequences(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
    batch.set("targets", Data::U32(ids(LENGTHS.iter().sum())));
    let (axis, times) = ty.shape.rows().unwrap();
    let n = batch.rows().of(axis) * times * ty.shape.inner();
    let numbers = (0..n).map(|_| (random(&mut state) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect();
    batch.set("r", Data::F32(numbers));
    batch.set("before", Data::F32(vec![0.0]));
    batch
}

/// Checks a few numbers of every weight of a model; how many.
fn check(folder: &Path) -> usize {
    let name = folder.file_name().unwrap().display();
    let model = Model::open(folder).unwrap();
    let network = &model.network;
    let mut g = Graph::new(&network.params);
    let (difference, ty) = loss(network, &mut g);
    let mut batch = batch(&network.config, ty);
    let options = PlanOptions { capacity: batch.rows().rounded_up() };
    let forward = Plan::new(&g, &[difference], &options).unwrap();
    let one = g.slope(difference, "one").unwrap();
    let params: Vec<_> = network.params.iter().map(|(param, _)| param).collect();
    g.backward_to(&[(difference, one)], &params).unwrap_or_else(|error| panic!("{name}: {error}"));
    let backward = Plan::new(&g, &[difference], &options).unwrap();

    let weights = model.load(&Reference).unwrap();
    let no_states = StateCapacity { n_blocks: 0, block_len: 64, n_slots: 0, kv_type: TensorType::F32 };
    let mut executor = Reference.executor(&weights, &[], no_states).unwrap();
    executor.run(&backward, &batch, Some(&mut Ones)).unwrap();
    let before = executor.output(&backward, &batch, 0)[0];
    batch.set("before", Data::F32(vec![-before]));
    let (mut state, mut n_checked, mut n_slopes) = (9, 0, 0);
    for (&param, spec) in params.iter().zip(network.params.specs()) {
        let mut grad = Vec::new();
        executor.with_gradient(param, &mut |numbers| grad = numbers.to_vec());
        let numbers = executor.weight(param);
        assert!(grad.is_empty() || grad.len() == numbers.len(), "{name}: the gradient of `{}`", spec.name);
        for _ in 0..N_NUMBERS.min(numbers.len()) {
            let at = random(&mut state) as usize % numbers.len();
            let mut loss_at = |by: f32| {
                let mut moved = numbers.clone();
                moved[at] += by;
                executor.set_weight(param, TensorType::F32, &moved).unwrap();
                executor.run(&forward, &batch, None).unwrap();
                (f64::from(moved[at]), f64::from(executor.output(&forward, &batch, 0)[0]))
            };
            let ((x1, y1), (x0, y0)) = (loss_at(STEP), loss_at(-STEP));
            let slope = (y1 - y0) / (x1 - x0);
            let got = f64::from(grad.get(at).copied().unwrap_or(0.0));
            let close = (got - slope).abs() <= 2e-5 * (1.0 + slope.abs());
            assert!(close, "{name}: d loss / d {}[{at}] is {slope}, got {got}", spec.name);
            n_checked += 1;
            n_slopes += usize::from(slope.abs() > 1e-3);
        }
        executor.set_weight(param, TensorType::F32, &numbers).unwrap();
    }
    assert!(n_slopes * 4 > n_checked, "{name}: {n_slopes} of {n_checked} numbers move the loss");
    n_checked
}

#[test]
fn a_model_that_is_random_and_recomputed_has_the_same_gradients_twice() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama");
    let model = Model::open(&folder).unwrap();
    let network = &model.network;
    let params: Vec<_> = network.params.iter().map(|(param, _)| param).collect();
    let gradients = |recomputed: bool, seed: [u32; 2]| {
        let randomness = Randomness { embeddings: 5.0, residuals: 0.1, changes: 0.1 };
        let mut g = Graph::new(&network.params).with_randomness(randomness);
        if recomputed {
            g = g.with_recomputed_layers();
        }
        let (difference, ty) = loss(network, &mut g);
        let mut batch = batch(&network.config, ty);
        batch.set("noise_seed", Data::U32(seed.to_vec()));
        let one = g.slope(difference, "one").unwrap();
        g.backward_to(&[(difference, one)], &params).unwrap();
        let n_dropouts = g.nodes().iter().filter(|node| node.op_name() == "dropout").count();
        assert!(n_dropouts > 2 * network.config.layers.len(), "{n_dropouts} times something is dropped");
        let plan = Plan::new(&g, &[], &PlanOptions { capacity: batch.rows().rounded_up() }).unwrap();
        let cpu = Cpu::new(2);
        let no_states = StateCapacity { n_blocks: 0, block_len: 64, n_slots: 0, kv_type: TensorType::F32 };
        let mut executor = cpu.executor(&model.load(&cpu).unwrap(), &[], no_states).unwrap();
        executor.run(&plan, &batch, Some(&mut Ones)).unwrap();
        let mut all = Vec::new();
        for &param in &params {
            executor.with_gradient(param, &mut |numbers| all.extend_from_slice(numbers));
        }
        all
    };
    let first = gradients(false, [1, 1]);
    assert!(first == gradients(true, [1, 1]), "recomputed layers draw other numbers");
    assert!(first != gradients(false, [1, 2]), "another step draws the same");
}

/// A loss is its own slope's one.
struct Ones;

impl wootz_graph::Taps for Ones {
    fn tap(&mut self, name: &str, _shape: &Shape, numbers: &mut [f32]) {
        if name == "one" {
            numbers.fill(1.0);
        }
    }
}

#[test]
fn gradients_of_every_architecture_agree_with_central_differences() {
    // BitNet rounds activations to 8 bits: its gradient is declared to be that of the identity, not a slope.
    let is_rounded = |folder: &PathBuf| folder.to_string_lossy().contains("bitnet");
    let folders: Vec<PathBuf> = folders().into_iter().filter(|folder| !is_rounded(folder)).collect();
    assert!(folders.len() >= 30, "{} models", folders.len());
    let (first, second) = folders.split_at(folders.len() / 2);
    let n_checked: usize = std::thread::scope(|scope| {
        let halves = [first, second]
            .map(|half| scope.spawn(|| half.iter().map(|folder| check(folder)).sum::<usize>()));
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert!(n_checked > 2000, "{n_checked} numbers were checked");
}
