//! Models that come and go while a server runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wootz_testkit::{FakeRepo, HubServer};

use crate::serve::{ask, get, post, serve};
use crate::{fail, wootz};

/// The small model as a file.
fn small() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/wootz-small.gguf")).unwrap()
}

/// A home with models `a` and `b`.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("models");
    fs::create_dir_all(&models).unwrap();
    for name in ["a.gguf", "b.gguf"] {
        fs::write(models.join(name), small()).unwrap();
    }
    home
}

/// A server with room for one small model at a time.
fn narrow(home: &Path) -> std::process::Command {
    let mut command = wootz(home);
    command.args(["serve", "--ctx", "256", "--parallel", "2", "--memory", "24M"]);
    command
}

fn say(address: &str, model: &str, extra: Value) -> (u16, Value) {
    let mut request =
        json!({"model": model, "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (status, body) = post(address, "/v1/completions", &request);
    (status, serde_json::from_str(&body).unwrap())
}

fn loaded(address: &str) -> Vec<String> {
    let here = get(address, "/api/ps");
    here["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn models_are_loaded_when_asked_for_and_make_room_for_each_other() {
    let home = home();
    let served = serve(narrow(home.path()).args(["a", "b"]));
    let address = served.address.as_str();
    let names = |list: &Value| list.as_array().unwrap().iter().map(|m| m["id"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&get(address, "/v1/models")["data"]), ["a", "b"]);
    assert_eq!(loaded(address), ["a"], "there is no room for both");
    let text = |answer: &Value| answer["choices"][0]["text"].clone();
    let (status, from_b) = say(address, "b", json!({}));
    assert_eq!((status, loaded(address)), (200, vec!["b".to_owned()]), "{from_b}");
    let (_, from_a) = say(address, "a", json!({}));
    assert_eq!(text(&from_a), text(&from_b), "they are the same model");
    assert_eq!(loaded(address), ["a"]);
    // What runs is not put away for another.
    let ps = get(address, "/api/ps");
    assert!(ps["models"][0]["size"].as_u64().unwrap() > small().len() as u64 / 2, "{ps}");
    assert!(ps["models"][0]["expires_at"].as_str().unwrap().starts_with("23"), "{ps}");
    let unknown = say(address, "../a", json!({})).1;
    assert_eq!(unknown["error"]["code"], "model_not_found", "{unknown}");
}

#[test]
fn a_model_stays_as_long_as_a_request_says() {
    let home = home();
    let served = serve(narrow(home.path()).args(["a"]));
    let address = served.address.as_str();
    let load = |keep: Value| {
        let (status, body) = post(address, "/api/generate", &json!({"model": "a", "keep_alive": keep}));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["done_reason"].clone()
    };
    assert_eq!((load(json!(0)), loaded(address)), (json!("unload"), vec![]));
    assert_eq!((load(json!("5m")), loaded(address)), (json!("load"), vec!["a".to_owned()]));
    let expires = get(address, "/api/ps")["models"][0]["expires_at"].as_str().unwrap().to_owned();
    assert!(!expires.starts_with("23"), "{expires}");
    load(json!("200ms"));
    let begun = Instant::now();
    while !loaded(address).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still here");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (status, body) = post(address, "/api/generate", &json!({"model": "a", "keep_alive": "soon"}));
    assert!(status == 400 && body.contains("keep_alive"), "{body}");
}

#[test]
fn models_of_the_home_are_served_where_that_is_wanted() {
    let home = home();
    fs::write(home.path().join("models/broken.gguf"), b"GGUF and no more").unwrap();
    let served = serve(narrow(home.path()).arg("--all"));
    let address = served.address.as_str();
    assert!(loaded(address).is_empty());
    assert_eq!(
        get(address, "/api/tags")["models"].as_array().unwrap().len(),
        2,
        "what is broken is no model"
    );
    assert_eq!(say(address, "a", json!({})).0, 200);
    assert_eq!(loaded(address), ["a"]);
    fs::remove_file(home.path().join("models/b.gguf")).unwrap();
    assert_eq!(say(address, "b", json!({})).0, 404);
}

#[test]
fn a_model_is_fetched_and_served() {
    let hub = HubServer::start(FakeRepo::new("org/tiny").file("README.md", "x").lfs("tiny.gguf", small()));
    let home = tempfile::tempdir().unwrap();
    let served =
        serve(narrow(home.path()).env("HF_ENDPOINT", hub.endpoint()).args(["--all", "--allow-pull"]));
    let address = served.address.as_str();
    let (status, body) = post(address, "/api/pull", &json!({"model": "org/tiny:latest"}));
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("pulling tiny.gguf") && body.contains("\"status\":\"success\""), "{body}");
    assert!(body.contains(&format!("\"total\":{}", small().len())), "{body}");
    let (status, answer) = say(address, "org/tiny", json!({}));
    assert_eq!(status, 200, "{answer}");
    let (_, body) = post(address, "/api/pull", &json!({"model": "org/none", "stream": false}));
    assert!(body.contains("error"), "{body}");
    drop(served);

    let served = serve(&mut narrow(home.path()));
    let (status, body) = post(&served.address, "/api/pull", &json!({"model": "org/tiny", "stream": false}));
    assert!(status == 403 && body.contains("--allow-pull"), "{status} {body}");
    drop(served);
    let mut offline = narrow(home.path());
    offline.env("HF_ENDPOINT", hub.endpoint()).args(["--offline", "--allow-pull"]);
    let served = serve(&mut offline);
    let (status, body) = post(&served.address, "/api/pull", &json!({"model": "org/tiny", "stream": false}));
    assert!(status == 403 && body.contains("offline"), "{status} {body}");
}

#[test]
fn what_guesses_changes_no_answer() {
    let home = home();
    let prompt =
        json!({"prompt": "One day, a cat and a dog. One day, a cat", "max_tokens": 150, "ignore_eos": true});
    let answer = |draft: &str, extra: Value| {
        let served = serve(wootz(home.path()).args(["serve", "a", "--ctx", "256", "--draft", draft]));
        let mut request = prompt.clone();
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (status, answer) = say(&served.address, "a", request);
        assert_eq!(status, 200, "{answer}");
        // The answer's last event comes a moment before the step that it belongs to is counted.
        let number = |name: &str| {
            let (_, page) = ask(&served.address, "GET", "/metrics", "");
            let start = format!("wootz_{name}{{model=\"a\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok()).unwrap()
        };
        while number("running_requests") > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        (answer["choices"][0]["text"].as_str().unwrap().to_owned(), number("guessed_tokens_total"))
    };
    let (plain, n_guessed) = answer("off", json!({}));
    assert_eq!(n_guessed, 0);
    assert_eq!(answer("lookup", json!({})).0, plain);
    let (text, n_guessed) = answer("layers:2", json!({}));
    assert!(text == plain && n_guessed > 0, "{n_guessed}");
    assert_eq!(answer("layers:2", json!({"speculation": false})), (plain.clone(), 0));
    let (text, n_guessed) = answer("b", json!({}));
    assert!(text == plain && n_guessed > 0, "{n_guessed}");
    let told = fail(wootz(home.path()).args(["serve", "a", "--port", "0", "--draft", "layers:99"]), 1);
    assert!(told.contains("99 first layers"), "{told}");
    let told = fail(wootz(home.path()).args(["serve", "a", "--port", "0", "--draft", "nobody"]), 1);
    assert!(told.contains("--draft") && told.contains("nobody"), "{told}");
    let told = fail(wootz(home.path()).args(["serve", "a", "--port", "0", "--memory", "1M"]), 1);
    assert!(told.contains("--memory"), "{told}");
}
