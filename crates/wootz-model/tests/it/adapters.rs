//! Adapters against PEFT: the same logits on tiny models, from folders and from GGUF, and what is refused.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wootz_graph::{
    Addition, Bank, Batch, Cpu, Device, Executor, Graph, Plan, PlanOptions, Rows, Sequence, StateCapacity,
};
use wootz_kernels::{Isa, Precision, TensorType};
use wootz_model::{AdapterFile, ConvertOptions, Model, convert};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden")
}

fn cases() -> Vec<String> {
    let folders = std::fs::read_dir(golden().join("adapters")).unwrap();
    let mut names: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

struct Golden {
    model: PathBuf,
    rows: Vec<Row>,
}

struct Row {
    token_ids: Vec<u32>,
    logits: Vec<f32>,
    base_logits: Vec<f32>,
}

impl Golden {
    fn of(case: &str) -> Self {
        let text = std::fs::read(golden().join("adapters").join(case).join("golden.json")).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        let floats = |value: &Value| {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<_>>()
        };
        let rows = json["input_ids"].as_array().unwrap().iter().zip(json["rows"].as_array().unwrap());
        let row = |(ids, row): (&Value, &Value)| Row {
            token_ids: ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect(),
            logits: floats(&row["logits"]),
            base_logits: floats(&row["base_logits"]),
        };
        let model = golden().join("models").join(json["model"].as_str().unwrap());
        Self { model, rows: rows.map(row).collect() }
    }
}

/// The last logits of whole sequences, each with its slot.
fn logits(model: &Model, adapters: &[Vec<Addition>], rows: &[(&[u32], Option<usize>)]) -> Vec<Vec<f32>> {
    let network = &model.network;
    let device = Cpu::with(Isa::detect(), 1, Precision::Exact);
    let mut sites: Vec<_> = adapters.iter().flatten().map(|addition| addition.site).collect();
    sites.sort_unstable();
    sites.dedup();
    let max_rank = adapters.iter().flatten().map(|addition| addition.rank).max().unwrap_or(0);
    let mut g = Graph::new(&network.params).with_bank(Bank { sites, max_rank });
    let x = network.hidden(&mut g, false).unwrap();
    let x = g.select_outputs(x).unwrap();
    let y = network.logits(&mut g, x).unwrap();
    let mut batch = Batch::new();
    let (mut ids, mut outputs) = (Vec::new(), Vec::new());
    for (row, adapter) in rows {
        let rows = ids.len()..ids.len() + row.len();
        ids.extend_from_slice(row);
        outputs.push(ids.len() as u32 - 1);
        batch.push(Sequence {
            key_rows: rows.clone(),
            rows,
            planned_len: row.len(),
            adapter: *adapter,
            ..Sequence::default()
        });
    }
    batch.set_tokens(ids);
    batch.set_outputs(outputs);
    let capacity: Rows = batch.rows().rounded_up();
    let plan = Plan::new(&g, &[y], &PlanOptions { capacity }).unwrap();
    let weights = model.load(&device).unwrap();
    let none = StateCapacity { n_blocks: 0, block_len: 16, n_slots: 0, kv_type: TensorType::F32 };
    let mut executor: Box<dyn Executor> = device.executor(&weights, &[], none).unwrap();
    for (slot, additions) in adapters.iter().enumerate() {
        executor.set_adapter(slot, Some(additions)).unwrap();
    }
    executor.run(&plan, &batch, None).unwrap();
    let all = executor.output(&plan, &batch, 0);
    all.chunks_exact(network.config.vocab_size).map(<[f32]>::to_vec).collect()
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f32], what: &str) {
    let worst = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
    assert!(got.len() == want.len() && worst <= 2e-5, "{what}: off by {worst}");
}

/// Rows with the adapter, the same without, all in one batch.
fn check(model: &Model, adapter: &Path, golden: &Golden, what: &str) {
    let additions = AdapterFile::open(adapter).unwrap().over(model, 1.0);
    let additions = additions.unwrap_or_else(|error| panic!("{what}: {error}"));
    let rows: Vec<(&[u32], Option<usize>)> = golden
        .rows
        .iter()
        .flat_map(|row| [(&row.token_ids[..], Some(0)), (&row.token_ids[..], None)])
        .collect();
    let got = logits(model, &[additions], &rows);
    for (row, got) in golden.rows.iter().zip(got.chunks_exact(2)) {
        assert_close(&got[0], &row.logits, what);
        assert_close(&got[1], &row.base_logits, what);
    }
}

#[test]
fn models_with_adapters_compute_what_peft_computes() {
    assert_eq!(cases().len(), 13);
    for case in cases() {
        let golden_row = Golden::of(&case);
        let model = Model::open(&golden_row.model).unwrap();
        check(&model, &golden().join("adapters").join(&case), &golden_row, &case);
    }
}

#[test]
fn adapters_of_either_format_fit_models_of_either_format() {
    let folder = tempfile::tempdir().unwrap();
    let mut n_files = 0;
    for case in cases() {
        let golden_row = Golden::of(&case);
        let source = Model::open(&golden_row.model).unwrap();
        let path = folder.path().join(format!("{case}.gguf"));
        convert(&source, &path, &ConvertOptions { dtype: None, force: false }, &mut |_| {}).unwrap();
        let model = Model::open(&path).unwrap();
        let adapter = golden().join("adapters").join(&case);
        check(&model, &adapter, &golden_row, &format!("{case} over a GGUF"));
        let file = adapter.join("adapter.gguf");
        if file.is_file() {
            n_files += 1;
            check(&model, &file, &golden_row, &format!("{case}.gguf over a GGUF"));
            check(&source, &file, &golden_row, &format!("{case}.gguf over a folder"));
        }
    }
    assert_eq!(n_files, 3);
}

#[test]
fn a_merged_model_computes_what_the_adapter_did() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = Vec::new();
    for case in cases() {
        let golden_row = Golden::of(&case);
        let model = Model::open(&golden_row.model).unwrap();
        let file = AdapterFile::open(&golden().join("adapters").join(&case)).unwrap();
        let additions = file.over(&model, 1.0).unwrap();
        let merged = match model.merged(additions) {
            Ok(merged) => merged,
            Err(error) => {
                refused.push(format!("{case}: {error}"));
                continue;
            }
        };
        for target in [folder.path().join(&case), folder.path().join(format!("{case}.gguf"))] {
            convert(&merged, &target, &ConvertOptions { dtype: None, force: false }, &mut |_| {}).unwrap();
            let rows: Vec<(&[u32], Option<usize>)> =
                golden_row.rows.iter().map(|row| (&row.token_ids[..], None)).collect();
            let got = logits(&Model::open(&target).unwrap(), &[], &rows);
            for (row, got) in golden_row.rows.iter().zip(&got) {
                assert_close(got, &row.logits, &format!("{case} merged"));
            }
        }
    }
    assert_eq!(refused, ["llama_lora_bias: `layers.0.w_up` has no bias to hold the adapter's"]);
}

#[test]
fn strength_scales_and_a_row_does_not_depend_on_others() {
    let golden_row = Golden::of("llama");
    let model = Model::open(&golden_row.model).unwrap();
    let file = |case: &str| AdapterFile::open(&golden().join("adapters").join(case)).unwrap();
    let over = |case: &str, strength: f32| file(case).over(&model, strength).unwrap();
    let adapters =
        [over("llama", 1.0), over("llama", 0.0), over("llama_dora", 1.0), over("llama_lora_bias", 0.5)];
    let ids = &golden_row.rows[0].token_ids[..];
    let alone: Vec<Vec<f32>> =
        (0..4).map(|slot| logits(&model, &adapters, &[(ids, Some(slot))]).remove(0)).collect();
    let together = logits(&model, &adapters, &[2, 0, 3, 1, 0].map(|slot| (ids, Some(slot))));
    for (slot, got) in [2, 0, 3, 1, 0].into_iter().zip(&together) {
        assert_eq!(got, &alone[slot], "slot {slot}");
    }
    assert_close(&alone[1], &golden_row.rows[0].base_logits, "strength 0");
    let error = file("llama_dora").over(&model, 0.5).unwrap_err().to_string();
    assert!(error.contains("use_dora"), "{error}");
}

#[test]
fn what_does_not_fit_a_model_is_refused_by_name() {
    let model = |name: &str| Model::open(&golden().join("models").join(name)).unwrap();
    let refuse = |case: &str, name: &str, expected: &[&str]| {
        let file = AdapterFile::open(&golden().join("adapters").join(case)).unwrap();
        let error = file.over(&model(name), 1.0).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    refuse("llama", "gpt2", &["adapter_model.safetensors", "lora_A.weight", "a linear layer of this `gpt2`"]);
    refuse("llama", "mixtral", &["mlp", "a linear layer of this `mixtral`"]);
    refuse("llama_dora", "qwen3", &["q_proj", "[64, 3]", "[32, 3]"]);
    refuse("qwen3/adapter.gguf", "llama", &["general.architecture", "`llama`", "`qwen3`"]);
    // A folder with a tensor that nobody knows, and one whose rank is another.
    let folder = tempfile::tempdir().unwrap();
    let source = golden().join("adapters/llama_plain");
    let config = std::fs::read_to_string(source.join("adapter_config.json")).unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    write("adapter_config.json", config.replace("\"r\": 4", "\"r\": 5").as_bytes());
    let weights = std::fs::read(source.join("adapter_model.safetensors")).unwrap();
    write("adapter_model.safetensors", &weights);
    let error = AdapterFile::open(folder.path()).unwrap().over(&model("llama"), 1.0).unwrap_err().to_string();
    assert!(error.contains("rank 5, got 4"), "{error}");
    let text = String::from_utf8_lossy(&weights[..8000.min(weights.len())]).into_owned();
    assert!(text.contains("lora_A"));
    let at = weights.windows(6).position(|bytes| bytes == b"lora_A").unwrap();
    let mut changed = weights.clone();
    changed[at..at + 6].copy_from_slice(b"lora_X");
    write("adapter_model.safetensors", &changed);
    let error = AdapterFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("lora_X") && error.contains("not supported"), "{error}");
    write("adapter_model.safetensors", &weights[..weights.len() / 2]);
    AdapterFile::open(folder.path()).unwrap_err();
}
