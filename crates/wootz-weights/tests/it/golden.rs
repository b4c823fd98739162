//! Files written by safetensors, PyTorch and gguf, with what they hold (`golden/weights.py`).

use serde_json::Value as Json;
use wootz_kernels::TensorType;
use wootz_weights::gguf::{Gguf, Value};
use wootz_weights::{Format, Weights};

use crate::golden;

fn expected() -> Json {
    serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap()
}

#[test]
fn files_of_other_programs_are_read_as_they_were_meant() {
    for (name, expected) in expected()["files"].as_object().unwrap() {
        let weights = Weights::open(golden(name));
        if let Some(part) = expected.get("error") {
            let error = weights.expect_err(name).to_string();
            assert!(error.contains(part.as_str().unwrap()) && error.contains(name), "{name}: {error}");
            continue;
        }
        let weights = weights.unwrap_or_else(|e| panic!("{e}"));
        let tensors = expected["tensors"].as_object().unwrap();
        assert_eq!(weights.len(), tensors.len(), "{name}");
        for (tensor, expected) in tensors {
            check_tensor(&weights, tensor, expected);
        }
        if let Some(keys) = expected.get("keys") {
            check_keys(weights.gguf().unwrap(), keys);
        }
        if let Some(metadata) = expected.get("metadata").and_then(Json::as_object) {
            assert_eq!(weights.metadata().len(), metadata.len());
            for (key, value) in weights.metadata() {
                assert_eq!(Some(&**value), metadata[key].as_str());
            }
        }
    }
}

fn check_tensor(weights: &Weights, name: &str, expected: &Json) {
    let tensor = weights.need(name).unwrap();
    let context = format!("{}, {name}", weights.path().display());
    assert_eq!(Json::from(tensor.shape), expected["shape"], "{context}");
    assert_eq!(TensorType::from_name(expected["type"].as_str().unwrap()), Some(tensor.ty), "{context}");
    let expected: Vec<f32> =
        expected["numbers"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    assert_eq!(tensor.to_f32(), expected, "{context}");
}

fn check_keys(gguf: Gguf<'_>, expected: &Json) {
    for (key, expected) in expected.as_object().unwrap() {
        let value = gguf.get(key).unwrap_or_else(|| panic!("no key {key}"));
        assert_eq!(json(&value), *expected, "{key}");
    }
}

/// A metadata value as JSON says it; f32 are compared as f32.
fn json(value: &Value<'_>) -> Json {
    match value {
        Value::F32(x) => x.to_string().parse::<f64>().unwrap().into(),
        Value::F64(x) => (*x).into(),
        Value::Bool(x) => (*x).into(),
        Value::Str(x) => Json::from(&**x),
        Value::Array(array) => array.items().map(|item| json(&item)).collect(),
        Value::U64(x) => (*x).into(),
        integer => Json::from(i64::try_from(integer.as_integer().unwrap()).unwrap()),
    }
}

#[test]
fn a_key_is_asked_for_by_type() {
    let weights = Weights::open(golden("v3.gguf")).unwrap();
    let gguf = weights.gguf().unwrap();
    assert_eq!(weights.format(), Format::Gguf);
    assert_eq!((gguf.u32("t.u8").unwrap(), gguf.usize("t.u16").unwrap()), (200, 60000));
    assert_eq!(gguf.strs("t.words").unwrap(), ["", "a", "üüüüüüüüü", "<|end|>"]);
    assert_eq!(gguf.i32s("t.ints").unwrap(), [1, -2, 3]);
    assert_eq!(gguf.find::<Vec<bool>>("t.flags").unwrap(), Some(vec![true, false, true]));
    assert_eq!(gguf.find::<u32>("t.none").unwrap(), None);
    let path = golden("v3.gguf").display().to_string();
    let message = |error: wootz_weights::Error| error.to_string();
    assert_eq!(message(gguf.u32("t.none").unwrap_err()), format!("{path}: no metadata key `t.none`"));
    assert_eq!(
        message(gguf.u32("t.i8").unwrap_err()),
        format!("{path}: key `t.i8`: expected an integer that fits u32, got i8 I8(-100)")
    );
    assert_eq!(
        message(gguf.str("t.words").unwrap_err()),
        format!("{path}: key `t.words`: expected a string, got an array of 4 string")
    );
}

#[test]
fn a_folder_with_an_index_opens_from_the_index_too() {
    let index = golden("sharded_safetensors/model.safetensors.index.json");
    let weights = Weights::open(index).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a.bias", "a.weight", "b.weight"]);
    assert_eq!(weights.files().len(), 2);
    let weights = Weights::open(golden("split_gguf/m-00002-of-00003.gguf")).unwrap();
    assert_eq!(weights.gguf().unwrap().str("general.architecture").unwrap(), "llama");
}
