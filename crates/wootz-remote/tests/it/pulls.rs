//! Pulls that go well, and what a second pull does.

use wootz_remote::{Event, Manifest};
use wootz_testkit::{FakeRepo, Fault, Hop, Host};

use crate::{Scene, tiny, weights};

#[test]
fn a_model_comes_whole_and_verified_with_its_token_kept_at_home() {
    let scene = Scene::new(tiny());
    let pulled = scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read("model.safetensors"), weights(1_000_000));
    assert_eq!(scene.read("1_Pooling/config.json"), b"{\"pooling\": true}");
    let names: Vec<&str> = pulled.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["1_Pooling/config.json", "config.json", "model.safetensors"]);
    assert!(pulled.files.iter().all(|file| file.digest.is_some() && !file.was_present));
    assert_eq!(pulled.files[2].fetched_bytes, 1_000_000);
    assert_eq!(pulled.commit, scene.server.commit());
    assert!(scene.unfinished().is_empty());
    let manifest = Manifest::read(scene.folder());
    assert_eq!((manifest.repo.as_str(), manifest.revision.as_str()), ("org/tiny", "main"));
    assert_eq!(manifest.files.len(), 3);

    let recorded = scene.server.recorded();
    let at_hub = recorded.iter().filter(|r| r.host == Host::Hub);
    assert!(at_hub.clone().all(|r| r.request.header("authorization") == Some("Bearer hf_secret")));
    assert_eq!(recorded.iter().filter(|r| r.host == Host::Cdn).count(), 1);
    assert!(at_hub.clone().any(|r| r.request.path.starts_with("/api/resolve-cache/")), "a relative redirect");
}

#[test]
fn a_second_pull_fetches_only_what_is_missing_or_changed() {
    let scene = Scene::new(tiny());
    scene.pull("hf:org/tiny").unwrap();
    let n_requests = scene.n_requests();
    let again = scene.pull("hf:org/tiny").unwrap();
    assert!(again.files.iter().all(|file| file.was_present && file.fetched_bytes == 0));
    assert_eq!(scene.n_requests(), n_requests + 1, "the listing alone");

    std::fs::remove_file(scene.folder().join("config.json")).unwrap();
    scene.server.replace("model.safetensors", weights(900_000));
    let changed = scene.pull("hf:org/tiny").unwrap();
    let fetched: Vec<&str> =
        changed.files.iter().filter(|f| !f.was_present).map(|f| f.path.as_str()).collect();
    assert_eq!(fetched, ["config.json", "model.safetensors"]);
    assert_eq!(scene.read("model.safetensors"), weights(900_000));
}

#[test]
fn a_file_that_someone_put_there_is_read_and_kept_only_when_it_is_the_right_one() {
    let scene = Scene::new(tiny());
    std::fs::write(scene.folder().join("model.safetensors"), weights(1_000_000)).unwrap();
    std::fs::write(scene.folder().join("config.json"), "[]").unwrap();
    let pulled = scene.pull("hf:org/tiny").unwrap();
    let present: Vec<bool> = pulled.files.iter().map(|file| file.was_present).collect();
    assert_eq!(present, [false, false, true]);
    assert_eq!(scene.read("config.json"), b"{}");
    assert!(scene.happened(|event| *event == Event::Checking));
}

#[test]
fn a_revision_is_pulled_as_it_was() {
    let repo = FakeRepo::new("org/tiny").lfs("model.safetensors", weights(1000)).branch("refs/pr/1");
    let scene = Scene::new(repo.lfs("model.safetensors", weights(2000)));
    let pulled = scene.pull("hf:org/tiny@refs/pr/1").unwrap();
    assert_eq!(scene.read("model.safetensors"), weights(1000));
    assert_ne!(pulled.commit, scene.server.commit());
}

#[test]
fn patterns_alone_decide_when_there_are_any() {
    let scene = Scene::new(tiny().file("a folder/ü#?.txt", "odd"));
    let mut request = scene.request("hf:org/tiny");
    request.include = vec!["*.txt".into(), "README.md".into()];
    let pulled = scene.pull_with(&scene.hub(), &request).unwrap();
    let names: Vec<&str> = pulled.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["README.md", "a folder/ü#?.txt"]);
    assert_eq!(scene.read("a folder/ü#?.txt"), b"odd");
}

#[test]
fn one_quantization_is_pulled_by_its_name() {
    let repo = FakeRepo::new("org/quants").lfs("m-Q4_K_M.gguf", weights(10)).lfs("m-Q8_0.gguf", weights(20));
    let scene = Scene::new(repo);
    scene.pull("hf:org/quants:Q8_0").unwrap();
    assert_eq!(scene.read("m-Q8_0.gguf"), weights(20));
    assert!(!scene.folder().join("m-Q4_K_M.gguf").exists());
    let error = scene.pull("hf:org/quants:Q2_K").unwrap_err().to_string();
    assert!(error.contains("Q2_K") && error.contains("m-Q4_K_M.gguf"), "{error}");
}

#[test]
fn a_server_that_lists_names_alone_is_verified_by_its_etags() {
    let scene = Scene::new(tiny().names_only());
    scene.server.fault(Hop::Body, "model.safetensors", Fault::DropAfter(300_000));
    let pulled = scene.pull("hf:org/tiny").unwrap();
    assert!(pulled.files.iter().all(|file| file.digest.is_some()));
    assert_eq!(scene.read("model.safetensors"), weights(1_000_000));
    assert_eq!(scene.ranges(), [None, Some("bytes=300000-".into())]);
}

#[test]
fn an_empty_file_is_a_file() {
    let scene =
        Scene::new(FakeRepo::new("org/tiny").file("config.json", "").lfs("model.safetensors", weights(0)));
    scene.pull("hf:org/tiny").unwrap();
    assert!(scene.read("config.json").is_empty() && scene.read("model.safetensors").is_empty());
}

#[test]
fn two_pulls_of_one_model_at_a_time_do_not_disturb_each_other() {
    let scene = Scene::new(tiny());
    let slow = || Fault::Slow { chunk_bytes: 50_000, pause: std::time::Duration::from_millis(10) };
    scene.server.fault(Hop::Body, "model.safetensors", slow());
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..3).map(|_| scope.spawn(|| scene.pull("hf:org/tiny").unwrap())).collect();
        let pulled: Vec<_> = pulls.into_iter().map(|pull| pull.join().unwrap()).collect();
        let fetched: u64 = pulled.iter().map(|pulled| pulled.files[2].fetched_bytes).sum();
        assert_eq!(fetched, 1_000_000, "one of them fetched it, the others waited");
    });
    assert_eq!(scene.read("model.safetensors"), weights(1_000_000));
    assert_eq!(scene.ranges().len(), 1);
    assert!(scene.happened(|event| *event == Event::Waiting));
}
