//! `pull`, `list` and `doctor`, against a Hub on this machine.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use wootz_testkit::{FakeRepo, Fault, Hop, HubServer};

use crate::{fail, json, succeed, wootz};

/// A safetensors file of one f16 matrix.
fn safetensors() -> Vec<u8> {
    let header = r#"{"w":{"dtype":"F16","shape":[64,32],"data_offsets":[0,4096]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4096]].concat()
}

fn tiny() -> FakeRepo {
    FakeRepo::new("org/tiny")
        .file("config.json", r#"{"architectures": ["LlamaForCausalLM"]}"#)
        .file("tokenizer.json", "{}")
        .lfs("model.safetensors", safetensors())
}

#[test]
fn a_model_is_pulled_and_then_listed() {
    let home = tempfile::tempdir().unwrap();
    let server = HubServer::start(tiny().gated("hf_secret"));
    server.fault(Hop::Body, "model.safetensors", Fault::DropAfter(1000));
    let mut pull = wootz(home.path());
    pull.env("HF_ENDPOINT", server.endpoint()).env("HF_TOKEN", "hf_secret").args([
        "pull",
        "hf:org/tiny",
        "--json",
    ]);
    let pulled = json(&mut pull);
    assert_eq!(pulled["commit"], server.commit());
    assert_eq!(pulled["files"].as_array().unwrap().len(), 3);
    assert_eq!(pulled["fetched_bytes"], safetensors().len() + 39 + 2);
    let folder = home.path().join("models/hf/org/tiny");
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), safetensors());
    assert_eq!(json(&mut pull)["fetched_bytes"], 0, "the second time");

    let listed = json(wootz(home.path()).args(["list", "--json"]));
    let model = &listed["models"][0];
    assert_eq!(model["name"], "hf:org/tiny");
    assert_eq!(model["architecture"], "LlamaForCausalLM");
    assert_eq!(model["quantization"], "f16");
    assert_eq!(model["commit"], server.commit());
    let table = succeed(wootz(home.path()).arg("list"));
    assert!(table.contains("hf:org/tiny") && table.contains("4.2 kB") && table.contains("home"), "{table}");
}

#[test]
fn what_the_hugging_face_cache_holds_is_used_where_it_is() {
    let home = tempfile::tempdir().unwrap();
    let server = HubServer::start(tiny());
    let repo = home.path().join("huggingface/hub/models--org--tiny");
    let snapshot = repo.join("snapshots").join(server.commit());
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), server.commit()).unwrap();
    fs::write(snapshot.join("model.safetensors"), safetensors()).unwrap();
    let pulled =
        json(wootz(home.path()).env("HF_ENDPOINT", server.endpoint()).args(["pull", "org/tiny", "--json"]));
    assert_eq!(pulled["folder"], snapshot.to_str().unwrap());
    assert_eq!(pulled["fetched_bytes"], 0);
    assert!(!home.path().join("models").exists(), "nothing was copied");
    let listed = json(wootz(home.path()).args(["list", "--json"]));
    assert_eq!(listed["models"][0]["place"], "hf cache");
    server.replace("config.json", "{}");
    let pulled =
        json(wootz(home.path()).env("HF_ENDPOINT", server.endpoint()).args(["pull", "org/tiny", "--json"]));
    assert_eq!(
        pulled["folder"],
        home.path().join("models/hf/org/tiny").to_str().unwrap(),
        "the cache is older"
    );
}

#[test]
fn patterns_and_revisions_choose_files() {
    let home = tempfile::tempdir().unwrap();
    let server = HubServer::start(tiny().branch("v1").file("config.json", "{}"));
    let args = ["pull", "hf:org/tiny", "--revision", "v1", "--include", "*.json", "--json"];
    let pulled = json(wootz(home.path()).env("HF_ENDPOINT", server.endpoint()).args(args));
    assert_eq!(pulled["files"].as_array().unwrap().len(), 2);
    let config = fs::read_to_string(home.path().join("models/hf/org/tiny@v1/config.json")).unwrap();
    assert!(config.contains("Llama"), "{config}");
}

#[test]
fn what_goes_wrong_is_told_on_stderr_with_an_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let server = HubServer::start(tiny());
    let check = |args: &[&str], code: i32, expected: &str| {
        let error = fail(wootz(home.path()).env("HF_ENDPOINT", server.endpoint()).args(args), code);
        assert!(error.contains(expected), "{args:?}: {error}");
    };
    check(&["pull", "hf:../x"], 1, "hint: expected hf:org/name");
    check(&["pull", "hf:org/none"], 1, "not found");
    check(&["pull", "hf:org/tiny:Q4_K_M"], 1, "model.safetensors");
    check(&["pull", "hf:org/tiny", "--offline"], 1, "offline");
    check(&["pull", "hf:org/tiny", "--include", "*.txt"], 1, "no file fits `*.txt`");
    check(&["pull"], 2, "Usage");
    check(&["pul", "hf:org/tiny"], 2, "pull");
    assert!(!home.path().join("models").exists(), "nothing was begun");
    assert!(succeed(wootz(home.path()).arg("list")).contains("no models"));
}

#[test]
fn a_model_that_cannot_be_read_is_listed_with_its_fault() {
    let home = tempfile::tempdir().unwrap();
    let broken = home.path().join("models/broken.gguf");
    fs::create_dir_all(broken.parent().unwrap()).unwrap();
    fs::write(broken, b"GGUF, or so it says").unwrap();
    let listed = json(wootz(home.path()).args(["list", "--json"]));
    assert!(listed["models"][0]["error"].is_string(), "{listed}");
}

#[test]
fn the_doctor_says_what_is_here() {
    let home = tempfile::tempdir().unwrap();
    let report = json(wootz(home.path()).args(["doctor", "--json"]));
    assert!(report["uses"]["threads"].as_u64().unwrap() >= 1);
    assert!(report["memory"]["read_bytes_per_s"].as_f64().unwrap() > 1e8);
    assert_eq!(Path::new(report["folders"]["home"].as_str().unwrap()), home.path());
    assert_eq!(report["hub"]["has_token"], false);
    let text = succeed(wootz(home.path()).env("HF_TOKEN", "hf_secret").arg("doctor"));
    assert!(
        text.contains("wootz uses") && text.contains("with a token") && !text.contains("hf_secret"),
        "{text}"
    );
}

#[test]
fn a_pulled_model_answers_as_the_same_one_inside_the_program_does() {
    let home = tempfile::tempdir().unwrap();
    let small = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/wootz-small.gguf")).unwrap();
    let server = HubServer::start(
        FakeRepo::new("org/small-GGUF").lfs("small-F16.gguf", small).lfs("small-Q4_0.gguf", "?"),
    );
    server.fault(Hop::Body, "small-F16.gguf", Fault::DropAfter(5_000_000));
    let run = |model: &[&str]| {
        let args = ["--ids", "5,6,7", "--max-tokens", "4", "--temperature", "0", "--json"];
        json(wootz(home.path()).arg("run").args(model).args(args))["token_ids"].clone()
    };
    let not_here = ["run", "-m", "hf:org/small-GGUF:F16", "--ids", "5"];
    assert!(fail(wootz(home.path()).args(not_here), 1).contains("wootz pull"));
    succeed(wootz(home.path()).env("HF_ENDPOINT", server.endpoint()).args(["pull", "hf:org/small-GGUF:F16"]));
    assert_eq!(run(&["-m", "hf:org/small-GGUF:F16"]), run(&[]));
    let listed = json(wootz(home.path()).args(["list", "--json"]));
    assert_eq!(
        run(&["-m", listed["models"][0]["name"].as_str().unwrap()]),
        run(&[]),
        "by its name in the list"
    );
}

#[test]
fn a_pull_that_was_killed_goes_on_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let weights: Vec<u8> = (0..2_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let server = HubServer::start(FakeRepo::new("org/big").lfs("model.safetensors", weights.as_slice()));
    server.fault(Hop::Body, "model.safetensors", Fault::StallAfter(1_500_000));
    let mut pull = wootz(home.path());
    pull.env("HF_ENDPOINT", server.endpoint()).args(["pull", "hf:org/big", "--json"]);
    let mut child = pull.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = home.path().join("models/hf/org/big/.pull/model.safetensors.incomplete");
    while fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 1_500_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.path().join("models/hf/org/big/model.safetensors").exists());
    let pulled =
        json(wootz(home.path()).env("HF_ENDPOINT", server.endpoint()).args(["pull", "hf:org/big", "--json"]));
    assert_eq!(pulled["fetched_bytes"], 500_000);
    assert_eq!(fs::read(home.path().join("models/hf/org/big/model.safetensors")).unwrap(), weights);
}
