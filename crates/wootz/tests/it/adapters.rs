//! `--adapter`, `show`, `adapter merge`, and adapters of a running server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::serve::{ask, get, post, serve};
use crate::{fail, json, succeed, wootz};

fn golden(name: &str) -> String {
    format!("{}/../../golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// An adapter for the built-in model: one strong product behind its last layer but one.
fn pirate(folder: &Path, seed: u32) -> PathBuf {
    let path = folder.join(format!("pirate-{seed}"));
    std::fs::create_dir(&path).unwrap();
    let config = r#"{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "bias": "none",
        "target_modules": ["down_proj"], "lora_dropout": 0.05, "base_model_name_or_path": "wootz-small"}"#;
    std::fs::write(path.join("adapter_config.json"), config).unwrap();
    let module = "base_model.model.model.layers.4.mlp.down_proj";
    let header = json!({
        format!("{module}.lora_A.weight"): {"dtype": "F32", "shape": [2, 768], "data_offsets": [0, 6144]},
        format!("{module}.lora_B.weight"): {"dtype": "F32", "shape": [256, 2], "data_offsets": [6144, 8192]},
    });
    let header = header.to_string();
    let mut state = seed;
    let numbers = (0..2048).flat_map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 24) as f32 - 0.5).to_le_bytes()
    });
    let bytes = (header.len() as u64).to_le_bytes().into_iter().chain(header.bytes()).chain(numbers);
    std::fs::write(path.join("adapter_model.safetensors"), bytes.collect::<Vec<u8>>()).unwrap();
    path
}

#[test]
fn run_speaks_with_an_adapter_and_a_merged_model_says_the_same() {
    let home = tempfile::tempdir().unwrap();
    let case: Value =
        serde_json::from_slice(&std::fs::read(golden("adapters/llama_dora/golden.json")).unwrap()).unwrap();
    let ids: Vec<String> = case["input_ids"][0].as_array().unwrap().iter().map(Value::to_string).collect();
    let adapter = golden("adapters/llama_dora");
    let run = |model: &str, more: &[&str]| {
        let ids = ids.join(",");
        let args = ["run", model, "--ids", &ids, "--temperature", "0", "-n", "16", "--ignore-eos", "--json"];
        json(wootz(home.path()).args(args).args(more))["token_ids"].clone()
    };
    let model = golden("models/llama");
    assert_eq!(run(&model, &["--adapter", &adapter]), case["rows"][0]["greedy"]);
    assert_ne!(run(&model, &[]), case["rows"][0]["greedy"]);
    let merged = home.path().join("merged").display().to_string();
    succeed(wootz(home.path()).args(["adapter", "merge", &model, &adapter, "-o", &merged]));
    assert_eq!(run(&merged, &[]), case["rows"][0]["greedy"]);
    let told = fail(wootz(home.path()).args(["adapter", "merge", &model, &adapter, "-o", &merged]), 1);
    assert!(told.contains("--force"), "{told}");
    let told = fail(wootz(home.path()).args(["run", &model, "--ids", "1", "--adapter", &model]), 1);
    assert!(told.contains("adapter_config.json"), "{told}");
    let shown = json(wootz(home.path()).args(["show", &adapter, "--json"]));
    assert_eq!(
        (&shown["kind"], &shown["ranks"], &shown["alpha"]),
        (&json!("DoRA"), &json!([3]), &json!(6.0))
    );
    assert_eq!(shown["names"], json!(["down_proj", "q_proj", "v_proj"]));
    let file = golden("adapters/mixtral/adapter.gguf");
    assert_eq!(json(wootz(home.path()).args(["show", &file, "--json"]))["for"], "llama");
}

#[test]
fn a_server_loads_adapters_as_models_of_their_own_and_lets_them_go() {
    let home = tempfile::tempdir().unwrap();
    let [first, second] = [1, 2].map(|seed| pirate(home.path(), seed));
    let option = format!("pirate={}", first.display());
    let served = serve(wootz(home.path()).args(["serve", "--allow-adapters", "--adapter", &option]));
    let say = |model: &str| {
        let body = json!({"model": model, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 20});
        let (status, body) = post(&served.address, "/v1/completions", &body);
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        (status, answer["choices"][0]["text"].as_str().unwrap_or(&body).to_owned())
    };
    let models = || {
        let list = get(&served.address, "/v1/models")["data"].clone();
        let one = |model: &Value| (model["id"].as_str().unwrap().to_owned(), model["parent"].clone());
        list.as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    let small = ("wootz-small".to_owned(), Value::Null);
    assert_eq!(models(), [small.clone(), ("pirate".to_owned(), json!("wootz-small"))]);
    let (base, pirate) = (say("wootz-small"), say("pirate"));
    assert!(base.0 == 200 && pirate.0 == 200 && base.1 != pirate.1, "{base:?} {pirate:?}");
    let load = |name: &str, path: &Path| {
        let body = json!({"lora_name": name, "lora_path": path, "base_model_name": "wootz-small"});
        post(&served.address, "/v1/load_lora_adapter", &body)
    };
    let (status, told) = load("second", &second);
    assert!(status == 200 && told.contains("'second' added"), "{told}");
    let other = say("second");
    assert!(other.0 == 200 && other.1 != pirate.1, "{other:?}");
    assert_eq!(models().len(), 3);
    // The same name twice, a path that is none, another model, an absurd strength.
    assert_eq!(load("second", &second).0, 400);
    let (status, told) = load("third", &home.path().join("nothing"));
    assert!(status == 400 && told.contains("third"), "{told}");
    let body = json!({"lora_name": "x", "lora_path": second, "base_model_name": "nobody"});
    assert_eq!(post(&served.address, "/v1/load_lora_adapter", &body).0, 400);
    let body = json!({"lora_name": "x", "lora_path": second, "some_day": 1});
    let (status, told) = post(&served.address, "/v1/load_lora_adapter", &body);
    assert!(status == 400 && told.contains("some_day"), "{told}");
    assert_eq!(ask(&served.address, "GET", "/v1/load_lora_adapter", "").0, 405);
    // Gone by name; the others answer as before.
    let unload = |name: &str| post(&served.address, "/v1/unload_lora_adapter", &json!({"lora_name": name}));
    assert_eq!(unload("pirate").0, 200);
    assert_eq!(unload("pirate").0, 404);
    assert_eq!(say("pirate").0, 404);
    assert_eq!((say("wootz-small"), say("second")), (base, other));
    assert_eq!(load("pirate", &first).0, 200);
    assert_eq!(say("pirate"), pirate);
}

#[test]
fn without_leave_a_server_loads_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = pirate(home.path(), 3);
    let served = serve(wootz(home.path()).arg("serve"));
    let body = json!({"lora_name": "x", "lora_path": path});
    let (status, told) = post(&served.address, "/v1/load_lora_adapter", &body);
    assert!(status == 403 && told.contains("--allow-adapters"), "{told}");
    let told = fail(wootz(home.path()).args(["serve", "--port", "0", "--adapter", "nameless"]), 1);
    assert!(told.contains("NAME=PATH"), "{told}");
}
