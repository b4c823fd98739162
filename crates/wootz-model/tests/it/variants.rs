//! Settings that the recorded models leave at their defaults, against transformers, from what `golden/variants.py` made.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wootz_graph::{Batch, Cpu, Data, Device, Graph, Plan, PlanOptions, Reference, StateCapacity, Weights};
use wootz_kernels::TensorType;
use wootz_model::Model;
use wootz_model::config::Head;

const ATOL: f32 = 1e-5;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/variants");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// All numbers, however deep they are nested.
fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as u32
}

/// What the model's head gives: logits or hidden rows of every token, or scores of every sequence.
fn run(model: &Model, device: &dyn Device, weights: &Weights, batch: &Batch) -> Vec<f32> {
    let network = &model.network;
    let mut g = Graph::new(&network.params);
    let mut x = network.hidden(&mut g, false).unwrap();
    match network.config.head {
        Head::None => {}
        Head::Lm { .. } => x = network.logits(&mut g, x).unwrap(),
        Head::Classifier(_) => x = network.classify(&mut g, x).unwrap(),
    }
    let plan = Plan::new(&g, &[x], &PlanOptions { capacity: batch.rows().rounded_up() }).unwrap();
    let no_states = StateCapacity { n_blocks: 0, block_len: 64, n_slots: 0, kv_type: TensorType::F32 };
    let mut executor = device.executor(weights, &[], no_states).unwrap();
    executor.run(&plan, batch, None).unwrap();
    executor.output(&plan, batch, 0)
}

fn check(folder: &Path, device: &dyn Device) {
    let name = format!("{} on {}", folder.file_name().unwrap().display(), device.name());
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let model = Model::open(folder).unwrap();
    let weights = model.load(device).unwrap();
    let inputs: Vec<Vec<u32>> = golden["input_ids"].as_array().unwrap().iter().map(ids).collect();
    let mut batch = Batch::of_sequences(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    if let Some(types) = golden.get("token_types") {
        let types = types.as_array().unwrap().iter().flat_map(ids).collect();
        batch.set("token_types", Data::U32(types));
    }
    let out = run(&model, device, &weights, &batch);
    let mut rest = &out[..];
    for (row, ids) in golden["rows"].as_array().unwrap().iter().zip(&inputs) {
        let per_token = if row.get("scores").is_some() { 1 } else { ids.len() };
        let (got, later) = rest.split_at(per_token * (out.len() / rows_of(&golden, &inputs)));
        rest = later;
        if row.get("logits").is_none() {
            let want = row.get("hidden").unwrap_or(&row["scores"]);
            assert_close(&name, got, &numbers(want));
            continue;
        }
        let vocab_size = model.network.config.vocab_size;
        assert_close(&name, &got[got.len() - vocab_size..], &numbers(&row["logits"]));
        let best: Vec<u32> = got.chunks_exact(vocab_size).map(argmax).collect();
        assert_eq!(best, self::ids(&row["argmax"]), "{name}");
        let mut greedy = ids.clone();
        let wanted = self::ids(&row["greedy"]);
        for _ in &wanted {
            let out = run(&model, device, &weights, &Batch::of_sequences(&[&greedy]));
            greedy.push(argmax(&out[out.len() - vocab_size..]));
        }
        assert_eq!(greedy[ids.len()..], wanted, "{name}");
    }
}

/// Rows of the output: of every token, or of every sequence where sequences have scores.
fn rows_of(golden: &Value, inputs: &[Vec<u32>]) -> usize {
    match golden["rows"][0].get("scores") {
        Some(_) => inputs.len(),
        None => inputs.iter().map(Vec::len).sum(),
    }
}

fn assert_close(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: worst {worst:e}");
    assert!(worst <= ATOL, "{name}: {worst:e}");
}

#[test]
fn every_variant_agrees_with_transformers() {
    let folders = folders();
    assert!(folders.len() >= 17, "{folders:?}");
    for folder in folders {
        check(&folder, &Reference);
        check(&folder, &Cpu::new(2));
    }
}
