//! GGUF files on the level of models: there and back, nothing lost, and what is broken is refused by file and key.

use std::path::{Path, PathBuf};

use wootz_kernels::TensorType;
use wootz_model::{ConvertOptions, Error, Model, convert};
use wootz_weights::gguf::{Array, Value, Writer};
use wootz_weights::{TensorInfo, Weights};

type Metadata = Vec<(String, Value<'static>)>;
type Tensors = Vec<(TensorInfo, Vec<u8>)>;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)
}

fn all_recorded() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        recorded("").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn to(dtype: Option<TensorType>) -> ConvertOptions {
    ConvertOptions { dtype, force: false }
}

fn write(source: &Path, target: &Path, options: &ConvertOptions) -> Result<(), Error> {
    convert(&Model::open(source)?, target, options, &mut |_| {})
}

/// Name, type, shape and bytes of every tensor, by name.
fn tensors_of(path: &Path) -> Vec<(String, TensorType, Vec<usize>, Vec<u8>)> {
    let weights = Weights::open(path).unwrap();
    // Of an encoder's pooler nothing is read here, and it is not kept.
    let all = weights.iter().filter(|tensor| !tensor.name.starts_with("pooler."));
    let mut all: Vec<_> =
        all.map(|t| (t.name.to_owned(), t.ty, t.shape.to_vec(), t.bytes.to_vec())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn assert_same_folder(got: &Path, expected: &Path, context: &str) {
    for file in ["config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"] {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).ok();
        assert_eq!(read(got), read(expected), "{context}: {file}");
    }
    let (got, expected) = (tensors_of(got), tensors_of(expected));
    let names = |tensors: &[(String, TensorType, Vec<usize>, Vec<u8>)]| -> Vec<String> {
        tensors.iter().map(|t| format!("{} {} {:?}", t.0, t.1, t.2)).collect()
    };
    assert_eq!(names(&got), names(&expected), "{context}");
    for (a, b) in got.iter().zip(&expected) {
        assert!(a.3 == b.3, "{context}: `{}` has other numbers", a.0);
    }
}

#[test]
fn there_and_back_is_the_same_folder_for_every_architecture() {
    let dir = tempfile::tempdir().unwrap();
    let mut n = 0;
    for source in all_recorded() {
        let name = source.file_name().unwrap().to_str().unwrap().to_owned();
        // As recorded, in f32, and as most models are published, in bf16.
        let published = dir.path().join(format!("{name}-bf16"));
        write(&source, &published, &to(Some(TensorType::BF16))).unwrap();
        for folder in [&source, &published] {
            let (file, again) =
                (dir.path().join(format!("{name}.{n}.gguf")), dir.path().join(format!("{name}.{n}")));
            match write(folder, &file, &to(None)) {
                Err(Error::NoGguf(_)) if name == "opt" => continue,
                result => result.unwrap(),
            }
            write(&file, &again, &to(None)).unwrap();
            assert_same_folder(&again, folder, &name);
            n += 1;
        }
    }
    assert_eq!(n, 60);
}

#[test]
fn another_type_on_the_way_is_said_in_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let (file, again) = (dir.path().join("x.gguf"), dir.path().join("again"));
    write(&recorded("llama"), &file, &to(Some(TensorType::F16))).unwrap();
    write(&file, &again, &to(None)).unwrap();
    let config = std::fs::read_to_string(again.join("config.json")).unwrap();
    assert!(config.contains("\"float16\""), "{config}");
    for (name, ty, shape, _) in tensors_of(&again) {
        assert_eq!(ty, if shape.len() > 1 { TensorType::F16 } else { TensorType::F32 }, "{name}");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_stays() {
    let dir = tempfile::tempdir().unwrap();
    let list = || dir.path().read_dir().unwrap().count();
    for target in [dir.path().join("x.gguf"), dir.path().join("x")] {
        let quantized = to(Some(TensorType::Q8_0)); // which a conversion cannot make, as it finds out while writing
        let error = write(&recorded("llama"), &target, &quantized).expect_err("nothing here quantizes");
        assert!(error.to_string().contains("q8_0"), "{error}");
        assert_eq!(list(), 0, "something stayed for {}", target.display());
    }
    for target in [dir.path().join("x.gguf"), dir.path().join("x")] {
        write(&recorded("llama"), &target, &to(None)).unwrap();
        let before = tensors_of(&target);
        assert!(matches!(write(&recorded("qwen2"), &target, &to(None)), Err(Error::Exists(_))));
        assert!(tensors_of(&target) == before);
        let forced = ConvertOptions { force: true, ..to(None) };
        write(&recorded("qwen2"), &target, &forced).unwrap();
        assert!(
            tensors_of(&target).iter().any(|t| t.0.ends_with("q_proj.bias") || t.0.ends_with("attn_q.bias"))
        );
    }
    assert_eq!(list(), 2);
}

/// A recorded model as a GGUF that says nothing of where it came from, changed.
fn changed(dir: &Path, name: &str, change: impl Fn(&mut Metadata, &mut Tensors)) -> Result<Model, Error> {
    let source = dir.join(format!("{name}.source.gguf"));
    if !source.exists() {
        write(&recorded(name), &source, &to(None)).unwrap();
    }
    let weights = Weights::open(&source).unwrap();
    let own = |(key, value): (&str, Value<'_>)| (key.to_owned(), value.into_owned());
    let mut metadata: Metadata = weights.gguf().unwrap().iter().map(own).collect();
    metadata.retain(|(key, _)| !key.starts_with("wootz."));
    let mut tensors: Tensors =
        weights.iter().map(|t| (TensorInfo::new(t.name, t.shape, t.ty), t.bytes.to_vec())).collect();
    change(&mut metadata, &mut tensors);
    let target = dir.join("hostile.gguf");
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let mut writer = Writer::create(&target, &metadata, &infos).unwrap();
    for (_, bytes) in &tensors {
        writer.write(bytes).unwrap();
    }
    writer.finish().unwrap();
    Model::open(&target)
}

#[test]
fn a_file_that_says_no_config_opens_by_its_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let mut n = 0;
    for folder in all_recorded() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "opt" {
            changed(dir.path(), &name, |_, _| {}).unwrap_or_else(|error| panic!("{name}: {error}"));
            n += 1;
        }
    }
    assert_eq!(n, 30);
}

#[test]
fn absurd_metadata_is_refused_by_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, key: &str, value: Option<Value<'static>>, said: &str| {
        let error = changed(dir.path(), name, |metadata, _| {
            metadata.retain(|(there, _)| there != key);
            metadata.extend(value.clone().map(|value| (key.to_owned(), value)));
        });
        let Err(error) = error else { panic!("{name}: `{key}` = {value:?} was taken") };
        let error = error.to_string();
        assert!(error.contains(said), "{name}: `{key}` = {value:?}: {error}");
        assert!(said != key || error.contains("hostile.gguf"), "no file: {error}");
    };
    let same = |name: &str, key: &str, value: Value<'static>| check(name, key, Some(value), key);
    for key in ["llama.block_count", "llama.embedding_length", "llama.attention.head_count"] {
        check("llama", key, None, key);
        for value in [Value::U32(u32::MAX), Value::U64(u64::MAX), Value::I32(-1), Value::F32(3.0)] {
            same("llama", key, value);
        }
        same("llama", key, Value::from("3"));
        same("llama", key, Value::Array(Array::u32s([3, 4])));
        same("llama", key, Value::U32(0));
    }
    for key in ["llama.feed_forward_length", "llama.attention.head_count_kv", "llama.attention.key_length"] {
        for value in [Value::U64(u64::MAX), Value::I64(-1), Value::from("x"), Value::U32(0)] {
            same("llama", key, value);
        }
    }
    same("llama", "llama.attention.head_count_kv", Value::U32(3));
    same("llama", "llama.context_length", Value::U64(1 << 40));
    for value in [Value::U32(7), Value::U32(18), Value::I32(-2), Value::from("all")] {
        same("llama", "llama.rope.dimension_count", value);
    }
    for value in [Value::F32(f32::NAN), Value::F32(f32::INFINITY), Value::F32(-1.0), Value::from("x")] {
        same("llama", "llama.rope.freq_base", value);
    }
    check("llama", "llama.attention.layer_norm_rms_epsilon", None, "llama.attention.layer_norm_rms_epsilon");
    same("llama", "llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN));
    same("llama", "llama.rope.scaling.type", Value::from("spiral"));
    same("llama", "llama.attention.value_length", Value::U32(6));
    check("llama", "general.architecture", None, "general.architecture");
    check("llama", "general.architecture", Some(Value::U32(7)), "general.architecture");
    check("llama", "general.architecture", Some(Value::from("wave")), "architecture `wave`");
    same("llama", "tokenizer.ggml.eos_token_id", Value::from("last"));
    check("gpt2", "gpt2.context_length", Some(Value::U32(1 << 30)), "position_embd.weight");
    same("mixtral", "llama.expert_count", Value::U32(u32::MAX));
    check("mixtral", "llama.expert_used_count", Some(Value::U32(u32::MAX)), "llama.expert_used_count");
    same("mamba", "mamba.ssm.inner_size", Value::U32(100));
    same("mamba", "mamba.ssm.conv_kernel", Value::U32(0));
    same("mamba2", "mamba2.ssm.time_step_rank", Value::U32(0));
    same("mamba2", "mamba2.ssm.group_count", Value::U32(3));
    same("deepseek_v3", "deepseek2.attention.key_length_mla", Value::U32(4));
    same("deepseek_v3", "deepseek2.rope.dimension_count", Value::U32(7));
}

#[test]
fn tensors_that_are_missing_wrong_or_too_many_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let check = |change: fn(&mut Tensors), said: &str| {
        let Err(error) = changed(dir.path(), "llama", |_, tensors| change(tensors)) else {
            panic!("`{said}` was taken")
        };
        assert!(error.to_string().contains(said), "{error}");
    };
    check(|tensors| tensors.retain(|t| t.0.name != "token_embd.weight"), "token_embd.weight");
    check(|tensors| tensors.retain(|t| t.0.name != "blk.2.attn_q.weight"), "blk.2.attn_q.weight");
    check(|tensors| tensors.retain(|t| t.0.name != "output_norm.weight"), "output_norm.weight");
    let add = |tensors: &mut Tensors| {
        tensors.push((TensorInfo::new("blk.0.ssm_a", vec![2], TensorType::F32), vec![0; 8]));
    };
    check(add, "blk.0.ssm_a");
    let cut = |tensors: &mut Tensors| {
        let at = tensors.iter().position(|t| t.0.name == "blk.1.ffn_up.weight").unwrap();
        tensors[at].0.shape[0] -= 1;
        let n = tensors[at].0.n_bytes().unwrap();
        tensors[at].1.truncate(n);
    };
    check(cut, "blk.1.ffn_up.weight");
}
