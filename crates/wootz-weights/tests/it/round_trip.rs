//! What is written is read again, and by others: `golden/check_weights.py` reads the files that stay here.

use std::path::{Path, PathBuf};

use wootz_kernels::{TensorType, can_quantize, quantize};
use wootz_weights::gguf::{self, Array, Value};
use wootz_weights::{TensorInfo, Weights, safetensors};

/// Where this test leaves its files for other programs.
fn samples() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("weights-samples");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Some numbers without a pattern.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 250.0 - 2.0).collect()
}

fn bytes_of(info: &TensorInfo) -> Vec<u8> {
    let mut bytes = vec![0; info.n_bytes().unwrap()];
    if quantize(info.ty, &numbers(info.n_elements().unwrap()), &mut bytes).is_err() {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (i % 60) as u8; // every f16 scale in it is finite
        }
    }
    bytes
}

fn check(weights: &Weights, infos: &[TensorInfo]) {
    assert_eq!(weights.len(), infos.len());
    for info in infos {
        let tensor = weights.need(&info.name).unwrap();
        assert_eq!((tensor.shape, tensor.ty), (&info.shape[..], info.ty), "{}", info.name);
        assert_eq!(tensor.bytes, bytes_of(info), "{}", info.name);
    }
}

fn metadata() -> Vec<(String, Value<'static>)> {
    [
        ("general.architecture", Value::from("llama")),
        ("general.alignment", Value::from(128u32)),
        ("t.u8", Value::from(255u8)),
        ("t.i8", Value::from(-1i8)),
        ("t.u16", Value::from(1u16)),
        ("t.i16", Value::from(-1i16)),
        ("t.i32", Value::from(i32::MIN)),
        ("t.f32", Value::from(0.1f32)),
        ("t.bool", Value::from(true)),
        ("t.u64", Value::from(u64::MAX)),
        ("t.i64", Value::from(i64::MIN)),
        ("t.f64", Value::from(0.1f64)),
        ("tokenizer.ggml.tokens", Array::strings((0..50_000).map(|i| format!("wörd{i}"))).into()),
        ("tokenizer.ggml.scores", Array::f32s((0..50_000).map(|i| -(i as f32))).into()),
        ("t.flags", Array::bools([true, false]).into()),
        ("t.bytes", Array::u8s([1, 2, 3]).into()),
        ("t.counts", Array::u32s([7, u32::MAX]).into()),
        ("t.nothing", Array::strings([""; 0]).into()),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into()
}

/// A tensor of each type, and of each number of dimensions.
fn every_type() -> Vec<TensorInfo> {
    let mut infos: Vec<TensorInfo> =
        TensorType::ALL.iter().map(|&ty| TensorInfo::new(ty.name(), [3, 512], ty)).collect();
    infos.push(TensorInfo::new("empty", [0, 512], TensorType::Q8_0));
    infos.push(TensorInfo::new("scalar", [], TensorType::F32));
    infos.push(TensorInfo::new("vector", [5], TensorType::F16));
    infos.push(TensorInfo::new("four", [2, 3, 4, 32], TensorType::Q4_0));
    infos
}

fn write_gguf(path: &Path, metadata: &[(String, Value<'_>)], infos: &[TensorInfo]) {
    let mut writer = gguf::Writer::create(path, metadata, infos).unwrap();
    for info in infos {
        bytes_of(info).chunks(1000).for_each(|piece| writer.write(piece).unwrap());
    }
    writer.finish().unwrap();
}

#[test]
fn gguf_keeps_metadata_and_tensors() {
    let (mut metadata, infos) = (metadata(), every_type());
    let path = samples().join("all_types.gguf"); // for ggml's own reader
    write_gguf(&path, &metadata, &infos);
    check(&Weights::open(&path).unwrap(), &infos);

    // The Python package knows no q2_0, and another size of q8_1.
    let known = |info: &&TensorInfo| !matches!(info.ty, TensorType::Q2_0 | TensorType::Q8_1);
    let known: Vec<TensorInfo> = infos.iter().filter(known).cloned().collect();
    write_gguf(&samples().join("python_types.gguf"), &metadata, &known);

    // Neither of them knows arrays of arrays.
    let nested = Array::arrays([Array::i32s([1, 2]), Array::strings(["x", ""]), Array::f32s([])]);
    metadata.push(("t.nested".into(), nested.into()));
    let path = samples().join("nested.gguf");
    write_gguf(&path, &metadata, &infos);
    let weights = Weights::open(&path).unwrap();
    let gguf = weights.gguf().unwrap();
    let read: Vec<(String, Value<'_>)> = gguf.iter().map(|(key, value)| (key.into(), value)).collect();
    assert_eq!(read, metadata);

    // A copy through the reader is the same file.
    let copy = samples().join("copy.gguf");
    let infos: Vec<TensorInfo> = weights.infos().cloned().collect();
    let mut writer = gguf::Writer::create(&copy, &read, &infos).unwrap();
    weights.iter().for_each(|tensor| writer.write(tensor.bytes).unwrap());
    writer.finish().unwrap();
    assert!(std::fs::read(&copy).unwrap() == std::fs::read(&path).unwrap());
}

fn plain_types() -> Vec<TensorInfo> {
    let plain = TensorType::ALL.iter().filter(|ty| ty.is_plain());
    let mut infos: Vec<TensorInfo> = plain.map(|&ty| TensorInfo::new(ty.name(), [3, 5, 7], ty)).collect();
    infos.push(TensorInfo::new("empty", [4, 0], TensorType::F32));
    infos.push(TensorInfo::new("scalar \"quoted\"\n", [], TensorType::BF16));
    infos
}

#[test]
fn safetensors_keeps_tensors_and_aligns_them() {
    let path = samples().join("all_types.safetensors");
    let infos = plain_types();
    let metadata = [("format".to_string(), "pt".to_string()), ("ü".into(), "\"\n".into())];
    let mut writer = safetensors::Writer::create(&path, &metadata, &infos).unwrap();
    for info in &infos {
        bytes_of(info).chunks(11).for_each(|piece| writer.write(piece).unwrap());
    }
    writer.finish().unwrap();
    let weights = Weights::open(&path).unwrap();
    check(&weights, &infos);
    assert_eq!(weights.metadata(), metadata);
    for tensor in weights.iter() {
        assert_eq!(tensor.bytes.as_ptr() as usize % tensor.ty.block_bytes(), 0, "{}", tensor.name);
    }
}

#[test]
fn a_big_model_becomes_several_files_with_an_index() {
    let dir = samples().join("sharded");
    std::fs::create_dir_all(&dir).unwrap();
    let infos = plain_types();
    let mut writer = safetensors::FolderWriter::create(&dir, &[], &infos, 1000).unwrap();
    infos.iter().for_each(|info| writer.write(&bytes_of(info)).unwrap());
    writer.finish().unwrap();
    let weights = Weights::open(&dir).unwrap();
    check(&weights, &infos);
    assert!(weights.files().len() > 2);

    let dir = samples().join("single");
    std::fs::create_dir_all(&dir).unwrap();
    let mut writer = safetensors::FolderWriter::create(&dir, &[], &infos, usize::MAX).unwrap();
    infos.iter().for_each(|info| writer.write(&bytes_of(info)).unwrap());
    writer.finish().unwrap();
    assert_eq!(Weights::open(&dir).unwrap().files().next().unwrap(), dir.join("model.safetensors"));
}

#[test]
fn a_writer_refuses_what_its_format_cannot_hold() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let info = |name: &str, shape: &[usize], ty| TensorInfo::new(name, shape, ty);
    let gguf = |metadata: &[(String, Value<'_>)], infos: &[TensorInfo]| {
        gguf::Writer::create(&path, metadata, infos).unwrap_err().to_string()
    };
    let a = info("a", &[2], TensorType::F32);
    assert!(
        gguf(&[], &[a.clone(), a.clone()])
            .ends_with("tensor `a`: expected one of this name, got a second one")
    );
    assert!(gguf(&[], &[info("a", &[33], TensorType::Q8_0)]).contains("whole q8_0 blocks"));
    assert!(gguf(&[], &[info("a", &[1; 5], TensorType::F32)]).contains("at most 4 dimensions"));
    let key = ("k".to_string(), Value::from(1u32));
    assert!(gguf(&[key.clone(), key], &[]).contains("key `k`: expected one value"));
    assert!(gguf(&[("general.alignment".into(), Value::from(24u32))], &[]).contains("a power of two"));

    let safetensors =
        |infos: &[TensorInfo]| safetensors::Writer::create(&path, &[], infos).unwrap_err().to_string();
    assert!(safetensors(&[info("a", &[32], TensorType::Q8_0)]).contains("tensor `a`: expected `f64`, `f32`"));
    assert!(safetensors(&[info("__metadata__", &[1], TensorType::F32)]).contains("a name of its own"));

    let mut writer = safetensors::Writer::create(&path, &[], std::slice::from_ref(&a)).unwrap();
    assert!(writer.write(&[0; 9]).unwrap_err().to_string().contains("at most 8 more bytes, got 9"));
    writer.write(&[0; 7]).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("tensor `a`: expected 8 bytes, got 7"));
    let mut writer = gguf::Writer::create(&path, &[], &[a]).unwrap();
    writer.write(&[0; 8]).unwrap();
    assert!(writer.write(&[0]).unwrap_err().to_string().contains("after the last tensor"));
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn every_writable_type_was_tried_with_numbers() {
    assert!(every_type().iter().filter(|info| can_quantize(info.ty)).count() >= 12);
}
