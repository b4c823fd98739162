//! What those who run a server need: numbers, scoped keys, TLS.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use wootz_serve::{ApiKey, Error, FixedCatalog, Server, ServerOptions, TlsFiles};
use wootz_testkit::ScriptedModel;

use crate::client::head;
use crate::rig::Rig;

/// `printf %s embedding-key | sha256sum`, and of `generating-key`.
const KEYS: [&str; 2] = [
    "sha256:602b9e0c60806cbe22190aa2fc35b52b1db7298cdedd2bf852f314b26b7fd13d scopes=embed,metrics",
    "sha256:70b9adb2a03e16e6ed02e10990c28161442c55b4e4c8db41df05f49653aa2f67 scopes=generate rpm=3 tpm=1000000",
];

#[test]
fn numbers_are_counted() {
    let rig = Rig::start(ScriptedModel::default());
    for _ in 0..2 {
        rig.post("/v1/completions", &json!({"model": "scripted", "prompt": "abc"}));
    }
    rig.post("/v1/completions", &json!({"model": "none", "prompt": "abc"}));
    let page = rig.get("/metrics");
    let has = |line: &str| assert!(page.body.lines().any(|l| l == line), "{line}\n{}", page.body);
    has("wootz_http_requests_total{route=\"/v1/completions\",status=\"200\"} 2");
    has("wootz_http_requests_total{route=\"/v1/completions\",status=\"404\"} 1");
    has("wootz_time_to_first_token_seconds_count{model=\"scripted\"} 2");
    has("wootz_inter_token_seconds_count{model=\"scripted\"} 4");
    has("wootz_completion_tokens_total{model=\"scripted\"} 6");
    has("wootz_generations_in_progress 0");
}

#[test]
fn a_key_opens_what_it_is_for_and_not_too_often() {
    let keys = KEYS.map(|line| ApiKey::from_line(line).unwrap().unwrap()).to_vec();
    let rig = Rig::with(ScriptedModel::default(), |options| options.keys = keys);
    let embedding = [("authorization", "Bearer embedding-key")];
    let generating = [("authorization", "Bearer generating-key")];
    let vectors = json!({"model": "vectors", "input": "x"}).to_string();
    let text = json!({"model": "scripted", "prompt": "x"}).to_string();
    let post = |path: &str, key: &[(&str, &str)], body: &str| rig.send("POST", path, key, body.as_bytes());
    assert_eq!(post("/v1/embeddings", &embedding, &vectors).status, 200);
    let refused = post("/v1/completions", &embedding, &text);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("no scope `generate`"), "{}", refused.body);
    assert_eq!(rig.send("GET", "/metrics", &embedding, b"").status, 200);
    assert_eq!(rig.send("GET", "/metrics", &generating, b"").status, 403);
    assert_eq!(post("/v1/completions", &generating, &text).status, 200);
    assert_eq!(post("/v1/completions", &generating, &text).status, 200);
    assert_eq!(post("/v1/completions", &generating, &text).status, 200);
    let refused = post("/v1/completions", &generating, &text);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert!(
        refused.headers.contains("retry-after: 20") || refused.headers.contains("retry-after: 19"),
        "{}",
        refused.headers
    );
}

fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

#[test]
fn connections_can_be_encrypted() {
    let files = TlsFiles { certificate: tls_file("certificate.pem"), key: tls_file("key.pem") };
    let rig = Rig::with(ScriptedModel::default(), |options| options.tls = Some(files));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls_file("certificate.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(rig.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = StreamOwned::new(client, stream);
    stream.write_all(&head("GET", "/health", &[], 0)).unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"));
    // Plain HTTP is no TLS.
    assert_eq!(rig.get("/health").status, 0);
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let mut options = ServerOptions::at("127.0.0.1:0".parse().unwrap());
    options.tls = Some(TlsFiles { certificate: tls_file("key.pem"), key: tls_file("key.pem") });
    let bound = Server::bind(options, Arc::new(FixedCatalog::default()));
    let Err(Error::Tls { path, .. }) = bound else { panic!("it was taken") };
    assert!(path.ends_with("key.pem"));
}

#[test]
fn a_taken_port_is_told_with_a_free_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ServerOptions::at(taken.local_addr().unwrap());
    let error = Server::bind(options, Arc::new(FixedCatalog::new([]))).err().unwrap().to_string();
    let port = taken.local_addr().unwrap().port();
    assert!(error.starts_with(&format!("port {port} of 127.0.0.1 is taken")), "{error}");
    assert!(error.contains("\nhint: --port "), "{error}");
}
