//! Bad input is an error that names what was expected and what came, on every device, before anything has run.
//!
//! Idea:   one table of spoilt batches, one of graphs that cannot run; a row is a mistake and its message.

use wootz_kernels::TensorType;

use super::case::tokens;
use super::cases::attention_spec;
use crate::ParamKind::{Matrix, Stack, Table, Vector};
use crate::{
    Attention, Axis, Batch, Cpu, Data, Device, Dim, Error, Executor, Graph, Groups, HostTensor,
    LogitTransform, Param, ParamSpec, Params, Plan, PlanOptions, Pooling, Reference, Result, RopeStyle,
    RopeTable, ScanInputs, Sequence, State, StateCapacity, StateKind, StateSpec, Type, Value,
};

const T: Dim = Dim::Rows(Axis::Tokens, 1);
const CAPACITY: StateCapacity =
    StateCapacity { n_blocks: 4, block_len: 16, n_slots: 2, kv_type: TensorType::F32 };

fn devices() -> [Box<dyn Device>; 2] {
    [Box::new(Reference), Box::new(Cpu::new(2))]
}

fn zeros(spec: &ParamSpec) -> Result<HostTensor<'static>> {
    Ok(HostTensor { ty: TensorType::F32, bytes: vec![0; 4 * spec.n_elements()].into() })
}

/// A model with everything that a batch can get wrong: tokens, learned positions, a cache, a recurrence, outputs
/// and targets.
struct Model {
    params: Params,
    states: Vec<StateSpec>,
    plan: Plan,
}

fn model() -> Model {
    let mut params = Params::default();
    let table = params.declare("embed", &[10, 4], Table);
    let positions = params.declare("positions", &[40, 4], Table);
    let taps = params.declare("taps", &[4, 3], Vector);
    let head = params.declare("head", &[7, 4], Matrix);
    let mut g = Graph::new(&params);
    let ids = g.token_ids();
    let x = g.embed(ids, table).unwrap();
    let places = g.positions();
    let p = g.embed(places, positions).unwrap();
    let x = g.add(x, p).unwrap();
    let kind = StateKind::Kv { n_kv_heads: 1, d_k: 4, d_v: 4, v_in_k: false, window: None };
    let cache = g.state(StateSpec { name: "kv".to_owned(), kind });
    let kv = g.append(Some(cache), x, x).unwrap();
    let y = g.attend(x, kv, attention_spec(1, 1, 4, 4)).unwrap();
    let past = g.state(StateSpec { name: "conv".to_owned(), kind: StateKind::Recurrent { len: 8 } });
    let y = g.conv1d(y, taps, None, Some(past)).unwrap();
    let targets = g.targets();
    let transform = LogitTransform { scale: 1.0, softcap: None };
    let logprobs = g.token_logprobs(y, head, None, targets, transform).unwrap();
    let weights = g.loss_weights();
    let loss = g.weighted_sum(logprobs, weights).unwrap();
    let y = g.select_outputs(y).unwrap();
    let plan = Plan::new(&g, &[y, loss], &PlanOptions { capacity: tokens(8) }).unwrap();
    let states = g.states().to_vec();
    Model { params, states, plan }
}

fn executor(device: &dyn Device, model: &Model) -> Box<dyn Executor> {
    device.executor(&device.load(&model.params, &zeros).unwrap(), &model.states, CAPACITY).unwrap()
}

/// Two sequences, of which the first has 14 positions behind it, so that it reaches into a second block.
fn good_batch() -> Batch {
    let mut batch = Batch::new();
    let sequence = |rows, first_position, block_table: &[u32], slot| Sequence {
        rows,
        first_position,
        block_table: block_table.to_vec(),
        slot,
        ..Sequence::default()
    };
    batch.push(sequence(0..3, 14, &[3, 1], 1));
    batch.push(sequence(3..5, 0, &[0], 0));
    batch.set_tokens(vec![9, 0, 4, 5, 6]);
    batch.set_outputs(vec![4, 0]);
    batch.set("targets", Data::U32(vec![6, 0, 1, 2, 3]));
    batch.set("loss_weights", Data::F32(vec![1.0; 5]));
    batch
}

type Spoil = fn(&mut Batch);

#[test]
fn a_bad_batch_is_an_error_that_names_what_is_wrong() {
    let cases: [(&str, Spoil, &str); 18] = [
        (
            "token beyond the vocabulary",
            |b| b.set("token_ids", Data::U32(vec![0, 1, 10, 2, 3])),
            "input `token_ids`: expected ids below 10, got 10",
        ),
        (
            "position beyond the learned ones",
            |b| b.set("positions", Data::U32(vec![0, 1, 2, 40, 3])),
            "input `positions`: expected ids below 40, got 40",
        ),
        (
            "target beyond the vocabulary",
            |b| b.set("targets", Data::U32(vec![7, 0, 0, 0, 0])),
            "input `targets`: expected ids below 7, got 7",
        ),
        (
            "too few tokens",
            |b| b.set("token_ids", Data::U32(vec![1, 2])),
            "input `token_ids`: expected 5 numbers, got 2",
        ),
        (
            "too many weights",
            |b| b.set("loss_weights", Data::F32(vec![0.0; 6])),
            "input `loss_weights`: expected 5 numbers, got 6",
        ),
        (
            "numbers for ids",
            |b| b.set("targets", Data::F32(vec![0.0; 5])),
            "input `targets`: expected ids, got numbers",
        ),
        (
            "ids for numbers",
            |b| b.set("loss_weights", Data::U32(vec![0; 5])),
            "input `loss_weights`: expected numbers, got ids",
        ),
        (
            "no targets",
            |b| b.inputs.retain(|&name, _| name != "targets"),
            "input `targets`: missing from the batch",
        ),
        ("an output of no row", |b| b.set_outputs(vec![5]), "input `outputs`: row 5 of 5 tokens"),
        (
            "numbers for outputs",
            |b| b.set("outputs", Data::F32(vec![0.0, 1.0])),
            "input `outputs`: expected ids, got numbers",
        ),
        (
            "a block that is not there",
            |b| b.sequences[0].block_table[1] = 4,
            "input `block_table`: sequence 0 names block 4 of 4",
        ),
        (
            "too few blocks",
            |b| b.sequences[0].block_table.truncate(1),
            "input `block_table`: sequence 0 has 1 blocks for 17 positions",
        ),
        (
            "no blocks",
            |b| b.sequences[1].block_table.clear(),
            "input `block_table`: sequence 1 has 0 blocks for 2 positions",
        ),
        (
            "endless positions",
            |b| b.sequences[1].first_position = usize::MAX,
            "input `block_table`: sequence 1 has 1 blocks for 18446744073709551615 positions",
        ),
        ("a slot that is not there", |b| b.sequences[0].slot = 2, "input `slot`: slot 2 of 2"),
        ("one slot for two", |b| b.sequences[0].slot = 0, "input `slot`: two sequences share slot 0"),
        (
            "rows that overlap",
            |b| b.sequences[1].rows.start = 2,
            "input `sequences`: sequence 1 has rows 2..5, expected them from 3",
        ),
        (
            "a sequence less",
            |b| b.sequences.truncate(1),
            "input `sequences`: they have Rows { tokens: 3, outputs: 2, sequences: 1, keys: 0 }, but the batch was made \
          with Rows { tokens: 5, outputs: 2, sequences: 2, keys: 0 }",
        ),
    ];
    let model = model();
    for device in devices() {
        let mut executor = executor(&*device, &model);
        executor.run(&model.plan, &good_batch(), None).expect("the batch is good before it is spoilt");
        for (what, spoil, expected) in &cases {
            let mut batch = good_batch();
            spoil(&mut batch);
            let error = executor.run(&model.plan, &batch, None).expect_err(what);
            assert_eq!(&error.to_string(), expected, "{what} on {}", device.name());
        }
        executor.run(&model.plan, &good_batch(), None).expect("errors leave no trace");
    }
}

#[test]
fn an_empty_batch_runs() {
    let model = model();
    for device in devices() {
        let mut executor = executor(&*device, &model);
        let mut batch = Batch::new();
        batch.set_tokens(Vec::new());
        batch.set_outputs(Vec::new());
        batch.set("targets", Data::U32(Vec::new()));
        batch.set("loss_weights", Data::F32(Vec::new()));
        executor.run(&model.plan, &batch, None).unwrap();
        assert!(executor.output(&model.plan, &batch, 0).is_empty());
        assert_eq!(executor.output(&model.plan, &batch, 1), [0.0]);
    }
}

#[test]
fn plans_weights_and_states_of_others_are_errors() {
    let (one, mut other) = (model(), Params::default());
    other.declare("embed", &[9, 4], Table);
    for device in devices() {
        let name = device.name();
        let weights = device.load(&other, &zeros).unwrap();
        let mut executor = device.executor(&weights, &one.states, CAPACITY).unwrap();
        let error = executor.run(&one.plan, &good_batch(), None).unwrap_err().to_string();
        assert_eq!(
            error, "the plan reads weight `embed` of [10, 4], but Some(\"embed\") was loaded in its place",
            "{name}"
        );
        let weights = device.load(&one.params, &zeros).unwrap();
        let mut executor = device.executor(&weights, &one.states[..1], CAPACITY).unwrap();
        let error = executor.run(&one.plan, &good_batch(), None).unwrap_err().to_string();
        assert_eq!(error, "the plan's 2 states are not the 1 that this executor keeps", "{name}");
        let error = executor
            .set_weight(one.params.find("taps").unwrap(), super::F32, &[0.0; 11])
            .unwrap_err()
            .to_string();
        assert_eq!(error, "weight `taps`: expected 12 numbers, got 11", "{name}");
    }
    let of_reference = Reference.load(&one.params, &zeros).unwrap();
    let error = Cpu::new(1).executor(&of_reference, &[], CAPACITY).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "weights of another device");
}

#[test]
fn states_that_no_device_can_keep_are_errors() {
    let model = model();
    let check = |capacity: StateCapacity, expected: &str| {
        for device in devices() {
            let weights = device.load(&model.params, &zeros).unwrap();
            let error = device.executor(&weights, &model.states, capacity).map(|_| ()).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    };
    check(StateCapacity { block_len: 24, ..CAPACITY }, "a block has 16, 32, 64 or 128 positions, not 24");
    check(
        StateCapacity { kv_type: TensorType::Q4_0, ..CAPACITY },
        "states are kept in f32, f16, bf16 or q8_0, not in q4_0",
    );
    check(StateCapacity { n_blocks: usize::MAX / 8, ..CAPACITY }, "states for");
    check(StateCapacity { n_slots: usize::MAX / 8, ..CAPACITY }, "states for");
}

#[test]
fn a_weight_that_does_not_fit_its_declaration_is_an_error() {
    let check = |shape: &[usize], kind, ty: TensorType, n_bytes: usize, expected: &str| {
        let mut params = Params::default();
        params.declare("w", shape, kind);
        for device in devices() {
            let source = |_: &ParamSpec| Ok(HostTensor { ty, bytes: vec![0; n_bytes].into() });
            let error = device.load(&params, &source).map(|_| ()).unwrap_err();
            assert_eq!(error.to_string(), expected, "{}", device.name());
        }
    };
    let f32 = TensorType::F32;
    check(&[3, 4], Matrix, f32, 44, "weight `w`: expected 48 bytes for [3, 4] of `f32`, got 44");
    check(
        &[3, 40],
        Matrix,
        TensorType::Q8_0,
        44,
        "weight `w`: rows of 40 numbers are no whole number of `q8_0` blocks",
    );
    check(&[0, 4], Matrix, f32, 0, "weight `w`: a weight of [0, 4] has no numbers");
    check(&[2, 0, 4], Stack, f32, 0, "weight `w`: a weight of [2, 0, 4] has no numbers");
    let huge = format!("weight `w`: rows of {} numbers are no whole number of `f32` blocks", usize::MAX / 2);
    check(&[usize::MAX / 2], Vector, f32, 8, &huge);
}

/// Weights for graphs that are built wrongly.
struct Handles {
    table: Param,
    matrix: Param,
    vector: Param,
    stack: Param,
}

type Build = fn(&mut Graph, &Handles, Value) -> Result<Value>;

#[test]
fn a_graph_that_cannot_run_is_an_error_when_it_is_built() {
    let cases: [(Build, &str); 24] = [
        (|g, w, x| g.linear(x, w.vector), "weight (8) takes rows of 8 numbers, got (T, 8)"),
        (|g, w, x| g.linear(x, w.table), "input 1: expected Weight([Matrix]), got weight `table`, a Table"),
        (|g, w, x| g.mul_weight(x, w.matrix), "(6, 8) cannot be spread over (T, 8)"),
        (|g, w, x| g.embed(x, w.table), "expected ids (T) and a table (V, C), got (T, 8) and (5, 8)"),
        (
            |g, w, _| {
                let ids = g.token_ids();
                g.linear(ids, w.matrix)
            },
            "weight (6, 8) takes rows of 8 numbers, got (T)",
        ),
        (
            |g, w, _| {
                let ids = g.token_ids();
                g.embed(ids, w.stack)
            },
            "expected ids (T) and a table (V, C), got (T) and (3, 4, 8)",
        ),
        (
            |g, _, _| {
                let ids = g.token_ids();
                g.scale(ids, 2.0)
            },
            "input 0: expected Numbers, got U32 (T)",
        ),
        (|g, _, x| g.columns(x, 8, 0), "columns 8..8 of (T, 8)"),
        (|g, _, x| g.columns(x, 3, 6), "columns 3..9 of (T, 8)"),
        (
            |g, _, x| g.columns(x, usize::MAX, 2),
            "columns 18446744073709551615..18446744073709551615 of (T, 8)",
        ),
        (|g, _, x| g.reshape(x, (T, 3, 3)), "(T, 8) cannot be seen as (T, 3, 3)"),
        (|g, _, x| g.top_k(x, 9, None), "cannot choose 9 of (T, 8)"),
        (
            |g, _, x| g.top_k(x, 2, Some(Groups { n_groups: 0, n_kept: 1, n_summed: 1 })),
            "cannot choose 2 of (T, 8) within Groups { n_groups: 0, n_kept: 1, n_summed: 1 }",
        ),
        (
            |g, w, x| {
                let ids = g.top_k(x, 2, None)?;
                g.expert_linear(x, ids, w.stack)
            },
            "input 1: ids below 8 where 3 is the end",
        ),
        (
            |g, _, x| {
                let kv = g.append(None, x, x)?;
                g.attend(x, kv, attention_spec(3, 2, 4, 4))
            },
            "3 heads over 2, of 4 and 4 numbers",
        ),
        (
            |g, _, x| {
                let kv = g.append(None, x, x)?;
                g.attend(x, kv, attention_spec(0, 0, 4, 4))
            },
            "0 heads over 0, of 4 and 4 numbers",
        ),
        (
            |g, _, x| {
                let kv = g.append(None, x, x)?;
                g.attend(x, kv, Attention { alibi_slopes: Some(vec![1.0]), ..attention_spec(2, 2, 4, 4) })
            },
            "expected 2 slopes, got 1",
        ),
        (|g, _, x| g.append(Some(State(7)), x, x).map(|_| x), "state 7 of 1"),
        (|g, _, x| g.append(Some(State(0)), x, x).map(|_| x), "the state keeps rows (T, 6), got (T, 8)"),
        (
            |g, _, x| g.append_latent(Some(State(0)), x, 4).map(|_| x),
            "expected a latent with values of 4, got Kv { n_kv_heads: 2, d_k: 3, d_v: 3, v_in_k: false, window: None }",
        ),
        (
            |g, w, x| {
                let heads = g.reshape(x, (T, 2, 4))?;
                let inputs = ScanInputs { x: heads, dt: x, b: heads, c: heads, a: w.vector, d: w.vector };
                g.ssd_scan(inputs, Some(State(0)))
            },
            "expected a recurrence of 32 numbers, got Kv { n_kv_heads: 2, d_k: 3, d_v: 3, v_in_k: false, window: None }",
        ),
        (
            |g, _, x| {
                let heads = g.reshape(x, (T, 2, 4))?;
                g.rope(heads, &RopeTable::plain(1e4, 6), RopeStyle::Halves)
            },
            "expected heads (T, H, 6 or wider), got (T, 2, 4)",
        ),
        (
            |g, _, x| {
                let pooled = g.pool(x, Pooling::Mean)?;
                g.pool(pooled, Pooling::Mean)
            },
            "expected rows (T, C), got (B, 8)",
        ),
        (|g, w, x| g.layer_norm(x, None, Some(w.vector), 1e-5), "a norm with a bias has a weight"),
    ];
    for (build, expected) in cases {
        let mut params = Params::default();
        let handles = Handles {
            table: params.declare("table", &[5, 8], Table),
            matrix: params.declare("matrix", &[6, 8], Matrix),
            vector: params.declare("vector", &[8], Vector),
            stack: params.declare("stack", &[3, 4, 8], Stack),
        };
        let mut g = Graph::new(&params);
        let x = g.input("x", Type::f32((T, 8)));
        let kind = StateKind::Kv { n_kv_heads: 2, d_k: 3, d_v: 3, v_in_k: false, window: None };
        g.state(StateSpec { name: "kv".to_owned(), kind });
        match g.at("layers.3", |g| build(g, &handles, x)).expect_err(expected) {
            Error::Operator { path, message, .. } => {
                assert_eq!((&path[..], &message[..]), ("layers.3", expected));
            }
            other => panic!("{other}, expected {expected}"),
        }
    }
}

#[test]
fn weights_that_are_no_numbers_give_no_panic() {
    let mut params = Params::default();
    let router = params.declare("router", &[8, 4], Matrix);
    let experts = params.declare("experts", &[8, 4, 4], Stack);
    let mut g = Graph::new(&params);
    let x = g.input("x", Type::f32((T, 4)));
    let scores = g.linear(x, router).unwrap();
    let groups = Groups { n_groups: 4, n_kept: 2, n_summed: 2 };
    let ids = g.top_k(scores, 3, Some(groups)).unwrap();
    let weights = g.pick(scores, ids).unwrap();
    let y = g.expert_linear(x, ids, experts).unwrap();
    let y = g.combine(y, weights).unwrap();
    let heads = g.append(None, y, y).unwrap();
    let y = g.attend(y, heads, attention_spec(2, 2, 2, 2)).unwrap();
    let y = g.softmax(y).unwrap();
    let plan = Plan::new(&g, &[y], &PlanOptions { capacity: tokens(64) }).unwrap();
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1.0, f32::MAX, -f32::NAN];
    let mut batch = Batch::of_sequences(&[&[0; 50]]);
    batch.set("x", Data::F32((0..200).map(|i| odd[i * i % 7]).collect()));
    for device in devices() {
        let source = |spec: &ParamSpec| {
            let numbers: Vec<f32> = (0..spec.n_elements()).map(|i| odd[i * 3 % 7]).collect();
            Ok(HostTensor {
                ty: TensorType::F32,
                bytes: wootz_kernels::cast::bytes_of(&numbers).to_vec().into(),
            })
        };
        let weights = device.load(&params, &source).unwrap();
        device.executor(&weights, &[], CAPACITY).unwrap().run(&plan, &batch, None).unwrap();
    }
}
