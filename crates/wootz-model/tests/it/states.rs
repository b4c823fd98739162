//! States: whole sequences at once, and the same sequences in chunks of many sizes side by side, give the same rows.

use std::ops::Range;
use std::sync::Arc;

use wootz_graph::{
    Activation, Batch, Cpu, Device, Executor, Graph, HostTensor, ParamSpec, Plan, PlanOptions, Reference,
    RopeStyle, RopeTable, Rows, Sequence, StateCapacity, Weights,
};
use wootz_kernels::TensorType;
use wootz_model::Network;
use wootz_model::config::{
    AttentionConfig, Config, EmbedConfig, Ffn, Head, LatentConfig, LayerConfig, Mamba2Config, MambaConfig,
    Mixer, Norm, Position, Residual,
};

const C: usize = 32;
const V: usize = 50;
const NORM: Norm = Norm::Rms { eps: 1e-6 };
const BLOCK_LEN: usize = 16;

/// Two sequences, and the rows of each that a step adds; where one has none it is not in the batch.
const LENGTHS: [usize; 2] = [45, 19];
const STEPS: [[usize; 2]; 6] = [[20, 1], [1, 5], [1, 0], [14, 12], [8, 1], [1, 0]];
/// Blocks that are neither in order nor next to each other, and slots other than the sequences' numbers.
const BLOCKS: [&[u32]; 2] = [&[5, 2, 9], &[1, 8]];
const SLOTS: [usize; 2] = [2, 0];

fn attention(window: Option<usize>, position: Position) -> Mixer {
    Mixer::Attention(AttentionConfig {
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        qkv_bias: true,
        out_bias: false,
        qk_norm: None,
        position,
        window,
        causal: true,
        scale: 0.35,
        softcap: None,
        inner_norm: None,
    })
}

fn rope(width: usize) -> Arc<RopeTable> {
    Arc::new(RopeTable::plain(10_000.0, width))
}

fn latent(q_rank: Option<usize>) -> Mixer {
    Mixer::Latent(LatentConfig {
        n_heads: 4,
        q_rank,
        kv_rank: 16,
        d_nope: 8,
        d_rope: 4,
        d_v: 6,
        rope: rope(4),
        rope_style: RopeStyle::Pairs,
        scale: 0.3,
        bias: false,
        norm_eps: 1e-6,
    })
}

fn mamba() -> Mixer {
    Mixer::Mamba(MambaConfig {
        d_inner: 64,
        d_state: 6,
        d_conv: 4,
        dt_rank: 4,
        conv_bias: true,
        proj_bias: false,
    })
}

fn mamba2() -> Mixer {
    Mixer::Mamba2(Mamba2Config {
        n_heads: 8,
        head_dim: 8,
        n_groups: 2,
        d_state: 6,
        d_conv: 3,
        conv_bias: true,
        proj_bias: false,
        norm_eps: 1e-5,
    })
}

/// A network of these mixers, one layer each.
fn network(mixers: Vec<Mixer>) -> Network {
    let layer = |mixer| {
        let is_recurrent = matches!(mixer, Mixer::Mamba(_) | Mixer::Mamba2(_));
        let activation = Activation::Silu;
        let gated = Ffn::Gated { d_ff: 48, activation, bias: false, inner_norm: None };
        let ffn = if is_recurrent { Ffn::None } else { gated };
        LayerConfig { residual: Residual::Pre, norm: NORM, mixer, ffn, residual_scale: 1.0 }
    };
    Network::declare(Config {
        arch: "test",
        vocab_size: V,
        d_model: C,
        max_seq_len: 64,
        embed: EmbedConfig::default(),
        layers: mixers.into_iter().map(layer).collect(),
        final_norm: Some(NORM),
        head: Head::None,
        bos_token: None,
        eos_tokens: Vec::new(),
    })
}

/// SplitMix64; sums of uniform numbers are normal enough.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn normal(&mut self) -> f32 {
        let uniform = |rng: &mut Self| (rng.next() >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..6).map(|_| uniform(self)).sum::<f32>() * 1.414
    }
}

/// Random numbers for a weight: norms near one, decays negative, matrices that keep lengths.
fn numbers(spec: &ParamSpec) -> HostTensor<'static> {
    let mut rng = Rng(spec.name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte)));
    let name = spec.name.rsplit('.').next().unwrap();
    let scale = 1.0 / (*spec.shape.last().unwrap() as f32).sqrt();
    let mut number = || match name {
        "a" => -(0.1 + rng.normal().abs()),
        "d" | "conv" => rng.normal() * 0.5,
        _ if name.ends_with("norm") => 1.0 + 0.1 * rng.normal(),
        _ if spec.shape.len() == 1 => 0.2 * rng.normal(),
        "embed" => rng.normal(),
        _ => rng.normal() * scale,
    };
    let bytes: Vec<u8> = (0..spec.n_elements()).flat_map(|_| number().to_le_bytes()).collect();
    HostTensor { ty: TensorType::F32, bytes: bytes.into() }
}

fn plan(network: &Network, stateful: bool, capacity: Rows) -> Plan {
    let mut g = Graph::new(&network.params);
    let x = network.hidden(&mut g, stateful).unwrap();
    Plan::new(&g, &[x], &PlanOptions { capacity }).unwrap()
}

fn tokens() -> [Vec<u32>; 2] {
    let mut rng = Rng(3);
    LENGTHS.map(|n| (0..n).map(|_| (rng.next() % V as u64) as u32).collect())
}

/// The rows of whole sequences.
fn whole(network: &Network, device: &dyn Device, weights: &Weights) -> [Vec<f32>; 2] {
    let tokens = tokens();
    let batch = Batch::of_sequences(&[&tokens[0], &tokens[1]]);
    let plan = plan(network, false, batch.rows().rounded_up());
    let no_states = StateCapacity { n_blocks: 0, block_len: BLOCK_LEN, n_slots: 0, kv_type: TensorType::F32 };
    let mut executor = device.executor(weights, &[], no_states).unwrap();
    executor.run(&plan, &batch, None).unwrap();
    let mut rows = executor.output(&plan, &batch, 0);
    let second = rows.split_off(LENGTHS[0] * C);
    [rows, second]
}

fn stateful_executor(plan: &Plan, device: &dyn Device, weights: &Weights) -> Box<dyn Executor> {
    let capacity = StateCapacity { n_blocks: 10, block_len: BLOCK_LEN, n_slots: 3, kv_type: TensorType::F32 };
    device.executor(weights, plan.states(), capacity).unwrap()
}

/// A batch of these positions of the two sequences.
fn batch(ranges: &[(usize, Range<usize>)]) -> Batch {
    let tokens = tokens();
    let (mut batch, mut ids) = (Batch::new(), Vec::new());
    for (i, positions) in ranges {
        let rows = ids.len()..ids.len() + positions.len();
        ids.extend_from_slice(&tokens[*i][positions.clone()]);
        batch.push(Sequence {
            key_rows: rows.clone(),
            rows,
            first_position: positions.start,
            block_table: BLOCKS[*i].to_vec(),
            slot: SLOTS[*i],
            planned_len: LENGTHS[*i],
            adapter: None,
        });
    }
    batch.set_outputs(vec![ids.len() as u32 - 1]);
    batch.set_tokens(ids);
    batch
}

/// The rows of the two sequences, step by step.
fn in_chunks(network: &Network, device: &dyn Device, weights: &Weights) -> [Vec<f32>; 2] {
    let plan = plan(network, true, Rows { tokens: 32, outputs: 1, sequences: 2, keys: 32 });
    let mut executor = stateful_executor(&plan, device, weights);
    let (mut rows, mut done) = ([Vec::new(), Vec::new()], [0, 0]);
    for step in STEPS {
        let ranges: Vec<(usize, Range<usize>)> =
            (0..2).filter(|&i| step[i] > 0).map(|i| (i, done[i]..done[i] + step[i])).collect();
        let batch = batch(&ranges);
        executor.run(&plan, &batch, None).unwrap();
        let out = executor.output(&plan, &batch, 0);
        for ((i, positions), seq) in ranges.into_iter().zip(&batch.sequences) {
            rows[i].extend_from_slice(&out[seq.rows.start * C..seq.rows.end * C]);
            done[i] = positions.end;
        }
    }
    assert_eq!(done, LENGTHS);
    rows
}

fn check(mixers: Vec<Mixer>) {
    let network = network(mixers);
    for (device, atol) in [(&Reference as &dyn Device, 1e-6), (&Cpu::new(2), 2e-5)] {
        let weights = device.load(&network.params, &|spec| Ok(numbers(spec))).unwrap();
        let (want, got) = (whole(&network, device, &weights), in_chunks(&network, device, &weights));
        for (want, got) in want.iter().zip(&got) {
            assert_eq!(want.len(), got.len());
            assert!(want.iter().any(|x| x.abs() > 0.5), "rows that say something");
            let worst = want.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= atol, "{}: {worst:e}", device.name());
        }
    }
}

#[test]
fn attention_with_rotation_in_chunks_is_attention() {
    check(vec![attention(None, Position::Rope(rope(8), RopeStyle::Halves)); 2]);
}

#[test]
fn attention_with_alibi_in_chunks_is_attention() {
    check(vec![attention(None, Position::Alibi(vec![0.5, 0.25, 0.125, 0.0625])); 2]);
}

#[test]
fn windowed_attention_in_chunks_is_windowed_attention() {
    check(vec![attention(Some(5), Position::Rope(rope(8), RopeStyle::Pairs)); 2]);
}

#[test]
fn latent_attention_in_chunks_is_latent_attention() {
    check(vec![latent(Some(12)), latent(None)]);
}

#[test]
fn mamba_in_chunks_is_mamba() {
    check(vec![mamba(); 2]);
}

#[test]
fn mamba2_in_chunks_is_mamba2() {
    check(vec![mamba2(); 2]);
}

#[test]
fn all_of_them_in_one_model() {
    let position = Position::Rope(rope(8), RopeStyle::Halves);
    check(vec![
        mamba(),
        attention(Some(7), position.clone()),
        mamba2(),
        latent(None),
        attention(None, position),
    ]);
}

/// Speculation goes back to a snapshot; a new sequence in a used slot starts from nothing.
#[test]
fn a_recurrence_goes_on_from_a_snapshot_and_starts_from_zero() {
    let network = network(vec![mamba(), mamba2()]);
    for device in [&Reference as &dyn Device, &Cpu::new(2)] {
        let weights = device.load(&network.params, &|spec| Ok(numbers(spec))).unwrap();
        let plan = plan(&network, true, Rows { tokens: 32, outputs: 1, sequences: 2, keys: 32 });
        let mut executor = stateful_executor(&plan, device, &weights);
        let run = |positions: Range<usize>, executor: &mut Box<dyn Executor>| {
            let batch = batch(&[(0, positions)]);
            executor.run(&plan, &batch, None).unwrap();
            executor.output(&plan, &batch, 0)
        };
        let first = run(0..6, &mut executor);
        let snapshot = executor.slot(SLOTS[0]);
        let next = run(6..10, &mut executor);
        executor.set_slot(SLOTS[0], &snapshot);
        let again = run(6..10, &mut executor);
        executor.set_slot(SLOTS[0], &[]);
        let anew = run(0..6, &mut executor);
        let worst = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst(&next, &again) <= 1e-6, "{}", device.name()); // the reference keeps f64, a snapshot f32
        assert_eq!(first, anew, "{}", device.name());
    }
}
