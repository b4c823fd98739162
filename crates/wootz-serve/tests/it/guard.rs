//! Keys, origins, and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use wootz_serve::{ApiKey, Error, FixedCatalog, Server, ServerOptions};
use wootz_testkit::ScriptedModel;

use crate::client::{head, read_answer};
use crate::rig::Rig;

#[test]
fn a_key_is_asked_for() {
    let keys = vec![ApiKey::new("first-key").unwrap(), ApiKey::new("second-key").unwrap()];
    let rig = Rig::with(ScriptedModel::default(), |options| options.keys = keys);
    assert_eq!(rig.get("/health").status, 200);
    let status = |headers: &[(&str, &str)]| rig.send("GET", "/v1/models", headers, b"").status;
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("authorization", "Bearer third-key")]), 401);
    assert_eq!(status(&[("authorization", "Bearer second-key")]), 200);
    assert_eq!(status(&[("x-api-key", "first-key")]), 200);
}

#[test]
fn pages_of_strangers_may_not_ask() {
    let rig =
        Rig::with(ScriptedModel::default(), |options| options.origins = vec!["http://friend.example".into()]);
    let answer = |headers: &[(&str, &str)]| rig.send("GET", "/v1/models", headers, b"");
    assert_eq!(answer(&[("origin", "http://evil.example")]).status, 403);
    assert_eq!(answer(&[("host", "evil.example")]).status, 403);
    assert_eq!(answer(&[("origin", "http://localhost")]).status, 200);
    let friend = answer(&[("origin", "http://friend.example")]);
    assert!(
        friend.status == 200 && friend.headers.contains("access-control-allow-origin: http://friend.example")
    );
    let preflight = [("origin", "http://friend.example"), ("access-control-request-method", "POST")];
    assert_eq!(rig.send("OPTIONS", "/v1/models", &preflight, b"").status, 204);
}

#[test]
fn a_public_address_needs_a_key() {
    let options = ServerOptions::at(SocketAddr::from(([0, 0, 0, 0], 0)));
    let bound = Server::bind(options, Arc::new(FixedCatalog::default()));
    assert!(matches!(bound, Err(Error::PublicWithoutKey { .. })));
}

#[test]
fn stopping_lets_what_runs_finish() {
    let model = ScriptedModel::new(["a slow answer"]).with_pause(Duration::from_millis(30));
    let mut rig = Rig::start(model);
    let body = json!({"model": "scripted", "prompt": "x"}).to_string();
    let mut stream = rig.connect();
    std::io::Write::write_all(&mut stream, &head("POST", "/v1/completions", &[], body.len())).unwrap();
    std::io::Write::write_all(&mut stream, body.as_bytes()).unwrap();
    let begun = Instant::now();
    while rig.model.requests().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    rig.stop();
    let answer = read_answer(&mut stream);
    assert_eq!(answer.json()["choices"][0]["text"], "a slow answer");
    rig.join();
    assert!(std::net::TcpStream::connect(rig.address).is_err());
}
