//! Who may read, where redirects lead, and servers that mean harm.

use wootz_remote::{Error, Hub, HubOptions};
use wootz_testkit::{FakeRepo, Fault, Hop, HubServer};

use crate::{Scene, TOKEN, tiny, weights};

#[test]
fn a_gated_model_needs_the_token() {
    let scene = Scene::new(tiny().gated(TOKEN));
    let anonymous = Hub::new(HubOptions { token: None, ..scene.options() }).unwrap();
    let error = scene.pull_with(&anonymous, &scene.request("hf:org/tiny")).unwrap_err();
    assert!(matches!(error, Error::AccessRefused { .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN") && !error.to_string().contains(TOKEN), "{error}");
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read("model.safetensors"), weights(1_000_000));
}

#[test]
fn what_does_not_exist_is_named() {
    let scene = Scene::new(tiny());
    for (name, message) in [
        ("hf:org/other", "/api/models/org/other"),
        ("hf:org/tiny@none", "RevisionNotFound"),
        ("hf:org/tiny:none.safetensors", "none.safetensors"),
    ] {
        let error = scene.pull(name).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn offline_nothing_is_asked() {
    let scene = Scene::new(tiny());
    let hub = Hub::new(HubOptions { offline: true, ..scene.options() }).unwrap();
    let error = scene.pull_with(&hub, &scene.request("hf:org/tiny")).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
    assert_eq!(scene.n_requests(), 0);
}

#[test]
fn no_name_from_a_server_leaves_the_folder() {
    for name in [
        "../evil",
        "/etc/evil",
        "a/../../evil",
        "C:\\evil",
        "a\\..\\evil",
        ".pull/manifest.json",
        "a\u{0}b",
        "",
    ] {
        let scene = Scene::new(tiny().file(name, "evil"));
        let error = scene.pull("hf:org/tiny").unwrap_err();
        assert!(matches!(error, Error::HostileName { .. }), "{name:?}: {error}");
        assert_eq!(std::fs::read_dir(scene.folder()).unwrap().count(), 0, "nothing was written");
    }
}

#[test]
fn a_listing_that_is_none_is_an_error() {
    for body in [
        "",
        "<html>",
        "[]",
        "{\"siblings\": 3}",
        "{\"sha\": \"../../x\", \"siblings\": []}",
        "{\"sha\": \"\", \"siblings\": []}",
        "{\"sha\": \"abc\", \"siblings\": [{\"rfilename\": 5}]}",
        "{\"sha\": \"abc\", \"siblings\": [{\"rfilename\": \"a\", \"size\": -1}]}",
    ] {
        let scene = Scene::new(tiny());
        scene.server.fault(Hop::Api, "", Fault::Answer(body.into()));
        let error = scene.pull("hf:org/tiny").unwrap_err();
        assert!(matches!(error, Error::Wire { .. }), "{body}: {error}");
    }
    let deep = Scene::new(tiny());
    deep.server.fault(Hop::Api, "", Fault::Answer("[".repeat(1_000_000)));
    assert!(matches!(deep.pull("hf:org/tiny"), Err(Error::Wire { .. })));
}

#[test]
fn redirects_without_end_and_into_files_are_refused() {
    let scene = Scene::new(tiny());
    let endpoint = scene.server.endpoint();
    let circle = format!("{endpoint}/org/tiny/resolve/main/model.safetensors");
    for _ in 0..12 {
        scene.server.fault(Hop::Resolve, "model.safetensors", Fault::RedirectTo(circle.clone()));
    }
    assert!(matches!(scene.pull("hf:org/tiny"), Err(Error::Redirect { .. })));
    for url in ["file:///etc/passwd", "ftp://127.0.0.1/x", "http:///x", "http://[/"] {
        let scene = Scene::new(tiny());
        scene.server.fault(Hop::Resolve, "model.safetensors", Fault::RedirectTo(url.into()));
        assert!(matches!(scene.pull("hf:org/tiny"), Err(Error::Redirect { .. })), "{url}");
    }
}

#[test]
fn the_token_does_not_follow_a_redirect_of_the_listing_either() {
    let other = HubServer::start(tiny());
    let scene = Scene::new(tiny());
    let url = format!("{}/api/models/org/tiny?blobs=true", other.endpoint());
    scene.server.fault(Hop::Api, "", Fault::RedirectTo(url));
    scene.pull("hf:org/tiny").unwrap();
    let recorded = other.recorded();
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].request.header("authorization"), None);
}

#[test]
fn what_a_server_says_reaches_the_terminal_without_control_characters() {
    let scene = Scene::new(FakeRepo::new("org/tiny"));
    let listing = "{\"sha\": \"abc\", \"siblings\": [{\"rfilename\": \"../\\u001b[2J\"}]}";
    scene.server.fault(Hop::Api, "", Fault::Answer(listing.into()));
    let error = scene.pull("hf:org/tiny").unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
}
