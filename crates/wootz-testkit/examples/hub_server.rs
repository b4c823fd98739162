//! Runs the fake Hub alone: prints its address and the newest commit, and serves until standard input ends.
//!
//! Where:  `check_hub_server.py`, or by hand.
#![forbid(unsafe_code)]

use std::io::Read;

use wootz_testkit::{FakeRepo, Fault, Hop, HubServer};

fn main() {
    let weights: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let repo = FakeRepo::new("forge/tiny")
        .lfs("model.safetensors", &weights[..1_000_000])
        .branch("refs/pr/1")
        .file("config.json", "{\"model_type\": \"llama\"}")
        .file("a folder/notes.txt", "a name with a space")
        .lfs("model.safetensors", weights);
    let server = HubServer::start(repo);
    if std::env::args().any(|arg| arg == "--drop") {
        server.fault(Hop::Body, "model.safetensors", Fault::DropAfter(700_000));
    }
    println!("{} {} {}", server.endpoint(), server.cdn(), server.commit());
    // Nothing is read but the end.
    let _ended = std::io::stdin().read_to_end(&mut Vec::new());
    for recorded in server.recorded() {
        let authorized = recorded.request.header("authorization").is_some();
        println!(
            "{:?} {} {} token={authorized}",
            recorded.host, recorded.request.method, recorded.request.path
        );
    }
}
