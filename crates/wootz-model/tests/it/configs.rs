//! Settings of `config.json`: honoured or refused by name, and hostile ones are errors.

use std::path::Path;

use serde_json::{Map, Value, json};
use wootz_model::{Hf, Network, config_from_hf};

/// The configuration of a golden model.
fn golden(name: &str) -> Map<String, Value> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    let text = std::fs::read(models.join(name).join("config.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn parse(config: Map<String, Value>) -> Hf {
    Hf::parse("config.json", Value::Object(config).to_string().as_bytes()).unwrap()
}

/// `model` with a key changed is refused with a message that names the key.
fn check_refused(model: &str, key: &str, value: Value) {
    let mut config = golden(model);
    config.insert(key.to_owned(), value);
    let error = config_from_hf(&parse(config)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&format!("`{key}`")), "{model}: {error}");
}

#[test]
fn a_setting_that_is_not_implemented_is_refused_by_name() {
    check_refused("gpt2", "add_cross_attention", json!(true));
    check_refused("gpt2", "activation_function", json!("laplace"));
    check_refused("gemma", "use_bidirectional_attention", json!(true));
    check_refused("gemma2", "use_bidirectional_attention", json!(true));
    check_refused(
        "gemma2",
        "layer_types",
        json!(["sliding_attention", "chunked_attention", "full_attention"]),
    );
    check_refused("gemma3_text", "attn_logit_softcapping", json!(50.0));
    check_refused("gemma3_text", "final_logit_softcapping", json!(30.0));
    check_refused("bloom", "apply_residual_connection_post_layernorm", json!(true));
    check_refused("falcon", "num_ln_in_parallel_attn", json!(2));
    check_refused("phi3", "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}));
    check_refused("smollm3", "no_rope_layers", json!([1, 0]));
    check_refused("llama", "partial_rotary_factor", json!(0.5));
}

#[test]
fn a_key_that_is_missing_takes_the_default_of_transformers() {
    let mut config = golden("mistral");
    config.remove("sliding_window");
    let windowed = config_from_hf(&parse(config.clone())).unwrap();
    config.insert("sliding_window".to_owned(), Value::Null);
    let full = config_from_hf(&parse(config)).unwrap();
    assert!(format!("{windowed:?}").contains("window: Some(4096)"));
    assert!(format!("{full:?}").contains("window: None"));
}

#[test]
fn hostile_values_are_errors_or_sizes_that_no_file_has() {
    let hostile = [json!(0), json!(-1), json!(1), json!(3), json!(1u64 << 31), json!(u64::MAX), json!(1e300)];
    let hostile = hostile.into_iter().chain([json!("x"), json!([]), json!({}), json!(null), json!(true)]);
    let hostile: Vec<Value> = hostile.collect();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    for entry in std::fs::read_dir(models).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let config = golden(&name);
        for key in config.keys() {
            for value in &hostile {
                let mut config = config.clone();
                config.insert(key.clone(), value.clone());
                if let Ok(config) = config_from_hf(&parse(config)) {
                    Network::declare(config);
                }
            }
        }
    }
}
