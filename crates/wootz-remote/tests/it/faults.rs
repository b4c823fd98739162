//! Connections that break, servers that err, and content that is not what it should be.

use std::time::{Duration, Instant};

use wootz_remote::{Error, Event};
use wootz_testkit::{FakeRepo, Fault, Hop};

use crate::{Scene, tiny, weights};

const MODEL: &str = "model.safetensors";

#[test]
fn a_dropped_connection_goes_on_where_it_stopped() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(300_000));
    scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(200_000));
    let pulled = scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert_eq!(scene.ranges(), [None, Some("bytes=300000-".into()), Some("bytes=500000-".into())]);
    assert_eq!(pulled.files[2].fetched_bytes, 1_000_000, "no byte came twice");
    let requests = scene.server.recorded();
    let last = requests.iter().rfind(|r| r.request.path.starts_with("/files/")).unwrap();
    assert!(
        last.request.header("if-range").is_some_and(|etag| etag.starts_with("\"store-")),
        "the store's own ETag"
    );
}

#[test]
fn a_pull_that_ended_is_resumed_by_the_next_one() {
    let scene = Scene::new(tiny());
    // A drop after some bytes and then a lasting refusal end the first pull.
    scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(400_000));
    scene.server.fault(Hop::Body, MODEL, Fault::Status { status: 403, retry_after_s: None });
    assert!(matches!(scene.pull("hf:org/tiny"), Err(Error::AccessRefused { .. })));
    assert!(!scene.folder().join(MODEL).exists());
    assert_eq!(scene.unfinished().len(), 2);
    let pulled = scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert_eq!(pulled.files[2].fetched_bytes, 600_000);
    assert_eq!(scene.ranges().last().unwrap().as_deref(), Some("bytes=400000-"));
    assert!(scene.unfinished().is_empty());
}

#[test]
fn many_drops_are_borne_while_something_is_gained_and_six_without_are_not() {
    let scene = Scene::new(tiny());
    for _ in 0..9 {
        scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(100_000));
    }
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    let scene = Scene::new(tiny());
    for _ in 0..6 {
        scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(0));
    }
    assert!(matches!(scene.pull("hf:org/tiny"), Err(Error::Network { .. })));
}

#[test]
fn an_unfinished_file_of_another_version_is_started_over() {
    for names_only in [false, true] {
        let repo = if names_only { tiny().names_only() } else { tiny() };
        let scene = Scene::new(repo);
        scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(400_000));
        scene.server.fault(Hop::Body, MODEL, Fault::Status { status: 403, retry_after_s: None });
        scene.pull("hf:org/tiny").unwrap_err();
        let other: Vec<u8> = weights(1_000_000).into_iter().rev().collect();
        scene.server.replace(MODEL, other.clone());
        scene.pull("hf:org/tiny").unwrap();
        assert_eq!(scene.read(MODEL), other, "names only: {names_only}");
    }
}

#[test]
fn an_unfinished_file_that_was_tampered_with_is_noticed() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(400_000));
    scene.server.fault(Hop::Body, MODEL, Fault::Status { status: 403, retry_after_s: None });
    scene.pull("hf:org/tiny").unwrap_err();
    let partial =
        scene.unfinished().into_iter().find(|path| path.extension().unwrap() == "incomplete").unwrap();
    std::fs::write(&partial, vec![7; 400_000]).unwrap();
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert_eq!(scene.ranges().last().unwrap(), &None, "from the start");
}

#[test]
fn an_unfinished_file_that_is_too_long_is_started_over() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(400_000));
    scene.server.fault(Hop::Body, MODEL, Fault::Status { status: 403, retry_after_s: None });
    scene.pull("hf:org/tiny").unwrap_err();
    let partial =
        scene.unfinished().into_iter().find(|path| path.extension().unwrap() == "incomplete").unwrap();
    std::fs::write(&partial, vec![7; 1_200_000]).unwrap();
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let scene = Scene::new(tiny());
    for (hop, status) in
        [(Hop::Api, 503), (Hop::Api, 500), (Hop::Resolve, 429), (Hop::Body, 502), (Hop::Body, 504)]
    {
        scene.server.fault(hop, "", Fault::Status { status, retry_after_s: None });
    }
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert!(scene.happened(|event| matches!(event, Event::Retrying { .. })));
}

#[test]
fn a_wait_that_the_server_asks_for_is_kept_within_reason() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Api, "", Fault::Status { status: 429, retry_after_s: Some(1) });
    let start = Instant::now();
    scene.pull("hf:org/tiny").unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    scene.server.fault(Hop::Api, "", Fault::Status { status: 429, retry_after_s: Some(86_400) });
    let start = Instant::now();
    assert!(matches!(scene.pull("hf:org/tiny"), Err(Error::Busy { wait, .. }) if wait.as_secs() == 86_400));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_server_that_stays_broken_is_an_error_and_a_wrong_request_is_one_at_once() {
    let scene = Scene::new(tiny());
    for _ in 0..20 {
        scene.server.fault(Hop::Api, "", Fault::Status { status: 500, retry_after_s: None });
    }
    assert!(matches!(scene.pull("hf:org/tiny"), Err(Error::Status { status: 500, .. })));
    assert_eq!(scene.n_requests(), 6);
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Api, "", Fault::Status { status: 400, retry_after_s: None });
    assert!(matches!(scene.pull("hf:org/tiny"), Err(Error::Status { status: 400, .. })));
    assert_eq!(scene.n_requests(), 1);
}

#[test]
fn wrong_bytes_are_fetched_once_more_and_then_refused() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::WrongBytes);
    let pulled = scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert_eq!(pulled.files[2].fetched_bytes, 2_000_000);
    for (path, n_faults) in [(MODEL, 2), ("config.json", 2)] {
        let scene = Scene::new(tiny());
        for _ in 0..n_faults {
            scene.server.fault(Hop::Body, path, Fault::WrongBytes);
        }
        let error = scene.pull("hf:org/tiny").unwrap_err();
        assert!(matches!(&error, Error::Digest { path: p, .. } if p == path), "{error}");
        assert!(!scene.folder().join(path).exists(), "a damaged file never gets its name");
    }
}

#[test]
fn a_body_that_ends_early_is_completed() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::Truncated(250_000));
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert_eq!(scene.ranges(), [None, Some("bytes=250000-".into())]);
}

#[test]
fn a_server_that_ignores_ranges_starts_over() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::DropAfter(400_000));
    scene.server.fault(Hop::Body, MODEL, Fault::IgnoreRange);
    let pulled = scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert_eq!(pulled.files[2].fetched_bytes, 1_400_000);
}

#[test]
fn silence_is_a_broken_connection() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::StallAfter(100_000));
    let start = Instant::now();
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.read(MODEL), weights(1_000_000));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(scene.ranges(), [None, Some("bytes=100000-".into())]);
}

#[test]
fn slow_is_not_silent() {
    let scene = Scene::new(FakeRepo::new("org/tiny").lfs(MODEL, weights(1_000)));
    // Longer than the timeout in all, but never silent for as long.
    scene.server.fault(Hop::Body, MODEL, Fault::Slow { chunk_bytes: 100, pause: Duration::from_millis(150) });
    scene.pull("hf:org/tiny").unwrap();
    assert_eq!(scene.ranges().len(), 1);
}

#[test]
fn a_body_without_end_is_cut_off() {
    for (hop, path) in [(Hop::Body, MODEL), (Hop::Body, "config.json"), (Hop::Api, "")] {
        let scene = Scene::new(tiny());
        scene.server.fault(hop, path, Fault::Endless);
        let error = scene.pull("hf:org/tiny").unwrap_err();
        assert!(matches!(error, Error::Size { .. } | Error::Wire { .. }), "{error}");
        assert!(!scene.folder().join("model.safetensors").exists() || path == "config.json");
    }
}

#[test]
fn a_file_that_changes_after_the_listing_is_an_error_that_says_so() {
    let scene = Scene::new(tiny());
    let hub = scene.hub();
    let request = scene.request("hf:org/tiny");
    let (mut listing, files) = hub.plan(&request).unwrap();
    // A mirror without commits: its files are those of the branch, whatever was listed.
    listing.commit = "main".into();
    scene.server.replace(MODEL, weights(1_000_001));
    let error = hub.fetch_all(&listing, &files, &request, &|_, _| {}).unwrap_err();
    assert!(matches!(&error, Error::Changed { path, .. } if path == MODEL), "{error}");
}

#[test]
fn cancelling_is_quick_and_keeps_what_came() {
    let scene = Scene::new(tiny());
    scene.server.fault(Hop::Body, MODEL, Fault::StallAfter(123_456));
    let hub = scene.hub();
    let (took, error) = std::thread::scope(|scope| {
        let pull = scope.spawn(|| scene.pull_with(&hub, &scene.request("hf:org/tiny")).unwrap_err());
        let done = |event: &Event| matches!(event, Event::Progress { done_bytes: 123_456, .. });
        while !scene.happened(done) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        hub.cancel();
        let error = pull.join().unwrap();
        (start.elapsed(), error)
    });
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(took < Duration::from_millis(1000), "{took:?}, before the timeout of the silent connection");
    assert!(matches!(scene.pull_with(&hub, &scene.request("hf:org/tiny")), Err(Error::Cancelled)));
    let pulled = scene.pull("hf:org/tiny").unwrap();
    assert_eq!(pulled.files[2].fetched_bytes, 1_000_000 - 123_456);
}
