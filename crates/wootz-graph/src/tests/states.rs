//! Layers that keep something between steps: in chunks, in any blocks and slots, beside any neighbours, they
//! compute what they compute over whole sequences without a state.
//!
//! Idea:   one table of layers. Each is run whole on the reference, then in random chunks on every device.

use wootz_kernels::{Isa, Precision, TensorType};

use super::case::{Draw, assert_close, tokens};
use super::cases::{attention_spec, attention_specs};
use super::rng::Rng;
use crate::ParamKind::{Matrix, Vector};
use crate::{
    Attention, Axis, Batch, Cell, Cpu, Data, Device, Dim, Executor, Graph, HostTensor, Param, ParamSpec,
    Params, Plan, PlanOptions, Reference, Result, ScanInputs, Sequence, State, StateCapacity, StateKind,
    StateSpec, Type, Value,
};

const NAMES: [&str; 4] = ["x0", "x1", "x2", "x3"];
const BLOCK_LEN: usize = 16;
const LENGTHS: [usize; 5] = [37, 1, 20, 70, 16];

type Build = dyn Fn(&mut Graph, &[Value], &[Param], Option<State>) -> Result<Value>;

/// A layer with one state, or without.
struct Layer {
    name: String,
    inputs: Vec<(Vec<usize>, Draw)>,
    weights: Vec<(Vec<usize>, Draw)>,
    kind: StateKind,
    build: Box<Build>,
}

/// Numbers that f16 and bf16 hold exactly, so that a cache of those loses nothing.
const EXACT: Draw = Draw::Grid;

fn layers() -> Vec<Layer> {
    let mut layers = Vec::new();
    for (name, spec) in attention_specs().into_iter().filter(|(_, spec)| spec.ahead == Some(0)) {
        let Attention { n_heads, n_kv_heads, d_k, d_v, back, .. } = spec;
        let window = back.map(|back| back + 1);
        layers.push(Layer {
            name: format!("attend {name}"),
            inputs: [n_heads * d_k, n_kv_heads * d_k, n_kv_heads * d_v].map(|n| (vec![n], EXACT)).to_vec(),
            weights: Vec::new(),
            kind: StateKind::Kv { n_kv_heads, d_k, d_v, v_in_k: false, window },
            build: Box::new(move |g, x, _, state| {
                let kv = g.append(state, x[1], x[2])?;
                g.attend(x[0], kv, spec.clone())
            }),
        });
    }
    for (n_heads, d_k, d_v) in [(3, 10, 6), (4, 40, 32), (1, 8, 8)] {
        layers.push(Layer {
            name: format!("attend over a latent {n_heads} × {d_k}, {d_v}"),
            inputs: vec![(vec![n_heads * d_k], EXACT), (vec![d_k], EXACT)],
            weights: Vec::new(),
            kind: StateKind::Kv { n_kv_heads: 1, d_k, d_v, v_in_k: true, window: None },
            build: Box::new(move |g, x, _, state| {
                let kv = g.append_latent(state, x[1], d_v)?;
                g.attend(x[0], kv, attention_spec(n_heads, 1, d_k, d_v))
            }),
        });
    }
    for (c, width) in [(5, 4), (40, 2), (3, 1)] {
        layers.push(Layer {
            name: format!("conv1d {c} × {width}"),
            inputs: vec![(vec![c], Draw::Normal)],
            weights: vec![(vec![c, width], Draw::Normal), (vec![c], Draw::Normal)],
            kind: StateKind::Recurrent { len: (width - 1) * c },
            build: Box::new(|g, x, w, state| g.conv1d(x[0], w[0], Some(w[1]), state)),
        });
    }
    let (dt, a) = (Draw::Between(0.01, 0.5), Draw::Between(-4.0, -0.1));
    for (c, n) in [(3, 4), (33, 16)] {
        layers.push(Layer {
            name: format!("selective_scan {c} × {n}"),
            inputs: vec![
                (vec![c], Draw::Normal),
                (vec![c], dt),
                (vec![n], Draw::Normal),
                (vec![n], Draw::Normal),
            ],
            weights: vec![(vec![c, n], a), (vec![c], Draw::Normal)],
            kind: StateKind::Recurrent { len: c * n },
            build: Box::new(|g, x, w, state| {
                g.selective_scan(ScanInputs { x: x[0], dt: x[1], b: x[2], c: x[3], a: w[0], d: w[1] }, state)
            }),
        });
    }
    for (h, p, groups, n) in [(4, 3, 2, 5), (2, 16, 1, 16)] {
        let narrow = (vec![groups, n], Draw::Normal);
        layers.push(Layer {
            name: format!("ssd_scan {h} × {p}, {groups} × {n}"),
            inputs: vec![(vec![h, p], Draw::Normal), (vec![h], dt), narrow.clone(), narrow],
            weights: vec![(vec![h], a), (vec![h], Draw::Normal)],
            kind: StateKind::Recurrent { len: h * p * n },
            build: Box::new(|g, x, w, state| {
                g.ssd_scan(ScanInputs { x: x[0], dt: x[1], b: x[2], c: x[3], a: w[0], d: w[1] }, state)
            }),
        });
    }
    for c in [1, 18] {
        layers.push(Layer {
            name: format!("decay_scan {c}"),
            inputs: vec![(vec![c], Draw::Between(0.0, 1.0)), (vec![c], Draw::Normal)],
            weights: Vec::new(),
            kind: StateKind::Recurrent { len: c },
            build: Box::new(|g, x, _, state| g.decay_scan(x[0], x[1], state)),
        });
        for cell in [Cell::Plain, Cell::Lstm, Cell::Gru] {
            let gates = cell.n_gates() * c;
            layers.push(Layer {
                name: format!("recurrent {cell:?} {c}"),
                inputs: vec![(vec![gates], Draw::Normal)],
                weights: vec![(vec![gates, c], Draw::Between(-0.5, 0.5)), (vec![gates], Draw::Normal)],
                kind: StateKind::Recurrent { len: if cell == Cell::Lstm { 2 * c } else { c } },
                build: Box::new(move |g, x, w, state| g.recurrent(cell, x[0], w[0], Some(w[1]), state)),
            });
        }
    }
    layers
}

/// A layer over drawn weights and whole sequences.
struct World {
    params: Params,
    weights: Vec<Vec<f32>>,
    /// `[sequence][input]`, rows one after the other.
    inputs: Vec<Vec<Vec<f32>>>,
    states: Vec<StateSpec>,
    stateful: Plan,
    stateless: Plan,
    /// Where the state's blocks and slots of each sequence are.
    tables: Vec<Vec<u32>>,
    slots: Vec<usize>,
}

const N_BLOCKS: usize = 24;
const N_SLOTS: usize = 9;

impl World {
    fn draw(layer: &Layer, seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let mut params = Params::default();
        let mut weights = Vec::new();
        for (i, (shape, draw)) in layer.weights.iter().enumerate() {
            // Cells multiply their state by a matrix; the others have vectors alone.
            let kind = if i == 0 && layer.name.starts_with("recurrent") { Matrix } else { Vector };
            params.declare(format!("w{i}"), shape, kind);
            weights.push(draw.numbers(&mut rng, shape.iter().product()));
        }
        let widths: Vec<usize> = layer.inputs.iter().map(|(dims, _)| dims.iter().product()).collect();
        let of_sequence = |rng: &mut Rng, len: usize| {
            layer
                .inputs
                .iter()
                .zip(&widths)
                .map(|((_, draw), width)| draw.numbers(rng, len * width))
                .collect()
        };
        let inputs = LENGTHS.iter().map(|&len| of_sequence(&mut rng, len)).collect();
        let plan = |stateful: bool| {
            let mut g = Graph::new(&params);
            let x: Vec<Value> = NAMES
                .iter()
                .zip(&layer.inputs)
                .map(|(name, (dims, _))| {
                    let mut shape = vec![Dim::Rows(Axis::Tokens, 1)];
                    shape.extend(dims.iter().map(|&size| Dim::Fixed(size)));
                    g.input(name, Type::f32(crate::Shape::new(&shape)))
                })
                .collect();
            let w: Vec<Param> = params.iter().map(|(param, _)| param).collect();
            let state = stateful.then(|| g.state(StateSpec { name: "state".to_owned(), kind: layer.kind }));
            let y = (layer.build)(&mut g, &x, &w, state)
                .unwrap_or_else(|error| panic!("{}: {error}", layer.name));
            let plan = Plan::new(&g, &[y], &PlanOptions { capacity: tokens(256) }).unwrap();
            (plan, g.states().to_vec())
        };
        let ((stateless, _), (stateful, states)) = (plan(false), plan(true));
        let mut free = rng.order(N_BLOCKS).into_iter().map(|block| block as u32);
        let tables =
            LENGTHS.iter().map(|len| free.by_ref().take(len.div_ceil(BLOCK_LEN)).collect()).collect();
        let slots = rng.order(N_SLOTS)[..LENGTHS.len()].to_vec();
        World { params, weights, inputs, states, stateful, stateless, tables, slots }
    }

    fn executor(&self, device: &dyn Device, kv_type: TensorType) -> Box<dyn Executor> {
        let source = |spec: &ParamSpec| {
            let param = self.params.find(&spec.name).expect("declared");
            let bytes = wootz_kernels::cast::bytes_of(&self.weights[param.index()]).to_vec();
            Ok(HostTensor { ty: TensorType::F32, bytes: bytes.into() })
        };
        let weights = device.load(&self.params, &source).unwrap();
        let capacity = StateCapacity { n_blocks: N_BLOCKS, block_len: BLOCK_LEN, n_slots: N_SLOTS, kv_type };
        let mut executor = device.executor(&weights, &self.states, capacity).unwrap();
        // Whatever earlier sequences left in a slot: a new sequence starts from zeros.
        for slot in 0..N_SLOTS {
            let len = executor.slot(slot).len();
            executor.set_slot(slot, &vec![3.5; len]);
        }
        self.slots.iter().for_each(|&slot| executor.set_slot(slot, &[]));
        executor
    }

    /// `(sequence, first, n)` side by side.
    fn batch(&self, chunks: &[(usize, usize, usize)]) -> Batch {
        let mut batch = Batch::new();
        let mut end = 0;
        for &(seq, first, n) in chunks {
            batch.push(Sequence {
                rows: end..end + n,
                first_position: first,
                block_table: self.tables[seq].clone(),
                slot: self.slots[seq],
                ..Sequence::default()
            });
            end += n;
        }
        for (i, name) in NAMES.into_iter().enumerate().take(self.inputs[0].len()) {
            let rows = chunks.iter().flat_map(|&(seq, first, n)| {
                let width = self.inputs[seq][i].len() / LENGTHS[seq];
                &self.inputs[seq][i][first * width..(first + n) * width]
            });
            batch.set(name, Data::F32(rows.copied().collect()));
        }
        batch
    }

    /// What whole sequences give without a state, by sequence.
    fn whole(&self) -> Vec<Vec<f32>> {
        let chunks: Vec<_> = LENGTHS.iter().enumerate().map(|(seq, &len)| (seq, 0, len)).collect();
        let mut executor = self.executor(&Reference, TensorType::F32);
        let batch = self.batch(&chunks);
        executor.run(&self.stateless, &batch, None).unwrap();
        let mut y = vec![Vec::new(); LENGTHS.len()];
        deal_out(&executor.output(&self.stateless, &batch, 0), &chunks, &mut y);
        y
    }

    /// What the same sequences give in steps of random chunks, in random order, some empty.
    fn in_chunks(&self, executor: &mut dyn Executor, longest: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut rng = Rng::seeded(seed);
        let mut done = [0; LENGTHS.len()];
        let mut y = vec![Vec::new(); LENGTHS.len()];
        while done != LENGTHS {
            let mut chunks = Vec::new();
            for seq in rng.order(LENGTHS.len()) {
                let n = (LENGTHS[seq] - done[seq]).min(rng.below(longest + 1));
                if n > 0 || rng.below(3) == 0 {
                    chunks.push((seq, done[seq], n));
                    done[seq] += n;
                }
            }
            let batch = self.batch(&chunks);
            executor.run(&self.stateful, &batch, None).unwrap();
            deal_out(&executor.output(&self.stateful, &batch, 0), &chunks, &mut y);
        }
        y
    }
}

/// Gives rows of a batch back to their sequences.
fn deal_out(rows: &[f32], chunks: &[(usize, usize, usize)], to: &mut [Vec<f32>]) {
    let n: usize = chunks.iter().map(|chunk| chunk.2).sum();
    let width = rows.len() / n.max(1);
    let mut rest = rows;
    for &(seq, _, n) in chunks {
        let (rows, others) = rest.split_at(n * width);
        to[seq].extend_from_slice(rows);
        rest = others;
    }
}

fn cpus() -> Vec<Cpu> {
    Isa::all_here().flat_map(|isa| [1, 2].map(|threads| Cpu::with(isa, threads, Precision::Exact))).collect()
}

#[test]
fn chunks_of_sequences_give_what_whole_sequences_give() {
    let cpus = cpus();
    for (seed, layer) in layers().iter().enumerate() {
        let world = World::draw(layer, seed as u64);
        let whole = world.whole();
        for longest in [1, 7, 40] {
            let mut devices: Vec<&dyn Device> = vec![&Reference];
            devices.extend(cpus.iter().map(|cpu| cpu as &dyn Device));
            for device in devices {
                for (kv_type, tolerance) in [
                    (TensorType::F32, 1e-5),
                    (TensorType::F16, 1e-5),
                    (TensorType::BF16, 1e-5),
                    // Half a step of 127 of the largest of 32 numbers, in keys and in values.
                    (TensorType::Q8_0, 5e-2),
                ] {
                    let mut executor = world.executor(device, kv_type);
                    let got = world.in_chunks(&mut *executor, longest, seed as u64);
                    for (seq, (got, want)) in got.iter().zip(&whole).enumerate() {
                        let what = || {
                            format!(
                                "{} {kv_type} on {}, sequence {seq}, ≤ {longest}",
                                layer.name,
                                device.name()
                            )
                        };
                        assert_close(got, want, tolerance, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn on_one_instruction_set_chunks_neighbours_and_threads_change_no_bit() {
    for (seed, layer) in layers().iter().enumerate() {
        let world = World::draw(layer, seed as u64);
        for isa in Isa::all_here() {
            for kv_type in [TensorType::F16, TensorType::Q8_0] {
                let run = |threads: usize, longest: usize, seed: u64| {
                    let cpu = Cpu::with(isa, threads, Precision::Exact);
                    let mut executor = world.executor(&cpu, kv_type);
                    world.in_chunks(&mut *executor, longest, seed)
                };
                let first = run(1, 200, 1);
                for (threads, longest, seed) in [(2, 200, 2), (1, 1, 3), (2, 9, 4)] {
                    let same = run(threads, longest, seed) == first;
                    assert!(same, "{} {kv_type} on {isa:?}, ≤ {longest}", layer.name);
                }
            }
        }
    }
}

#[test]
fn blocks_behind_a_window_are_never_read() {
    let window = |layer: &Layer| matches!(layer.kind, StateKind::Kv { window: Some(_), .. });
    for layer in layers().iter().filter(|layer| window(layer)) {
        let StateKind::Kv { window: Some(window), .. } = layer.kind else { unreachable!() };
        let mut world = World::draw(layer, 3);
        let whole = world.whole();
        let (seq, n) = (3, LENGTHS[3]);
        for device in [&Reference as &dyn Device, &Cpu::new(2)] {
            let mut executor = world.executor(device, TensorType::F32);
            let first = world.batch(&[(seq, 0, n - 1)]);
            executor.run(&world.stateful, &first, None).unwrap();
            let kept = world.tables[seq].clone();
            let n_behind = (n - window) / BLOCK_LEN;
            let unused =
                (0..N_BLOCKS as u32).find(|b| !world.tables.iter().flatten().any(|t| t == b)).unwrap();
            world.tables[seq][..n_behind].fill(unused);
            let last = world.batch(&[(seq, n - 1, 1)]);
            executor.run(&world.stateful, &last, None).unwrap();
            let got = executor.output(&world.stateful, &last, 0);
            let want = &whole[seq][whole[seq].len() - got.len()..];
            assert_close(&got, want, 1e-5, &|| format!("{} on {}", layer.name, device.name()));
            world.tables[seq] = kept;
        }
    }
}

#[test]
fn a_copied_block_and_a_restored_slot_continue_as_the_original() {
    for (seed, layer) in layers().iter().enumerate() {
        let mut world = World::draw(layer, seed as u64);
        let unused = (0..N_BLOCKS as u32).find(|b| !world.tables.iter().flatten().any(|t| t == b)).unwrap();
        for device in [&Reference as &dyn Device, &Cpu::new(2)] {
            let mut executor = world.executor(device, TensorType::F16);
            executor.run(&world.stateful, &world.batch(&[(0, 0, 20)]), None).unwrap();
            let saved = executor.slot(world.slots[0]);
            let go_on = |world: &World, executor: &mut dyn Executor| {
                let batch = world.batch(&[(0, 20, 17)]);
                executor.run(&world.stateful, &batch, None).unwrap();
                executor.output(&world.stateful, &batch, 0)
            };
            let want = go_on(&world, &mut *executor);
            // The fork: a copy of the half-filled block, and the recurrence as it was.
            let original = world.tables[0][1];
            executor.copy_block(original, unused);
            world.tables[0][1] = unused;
            executor.set_slot(world.slots[0], &saved);
            let got = go_on(&world, &mut *executor);
            // The reference computes in f64, but a slot is saved in f32.
            assert_close(&got, &want, 1e-6, &|| format!("{} on {}", layer.name, device.name()));
            world.tables[0][1] = original;
        }
    }
}
