//! Many connections that ask, leave early, send half a request, read slowly: afterwards everything is where it was.
//!
//! Idea:   one thread a connection, a random mood a request. The same crowd comes for a while before anything is compared,
//!         so that what a server keeps on purpose (plans, threads, cached prefixes, allocator's pages) is there already.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::client;
use super::Load;
use super::watch::Moment;

/// Connections have little to remember.
const STACK: usize = 256 << 10;
/// Memory may move by so much: an allocator keeps what it was given in pieces of its own size.
const SLACK_MIB: f64 = 24.0;

/// What happened to requests.
#[derive(Default)]
struct Counts {
    whole: AtomicUsize,
    left: AtomicUsize,
    refused: AtomicUsize,
    odd: AtomicUsize,
}

pub(super) fn run(load: &Load) -> Result<String> {
    let home = tempfile::tempdir()?;
    let server = load.start(home.path())?;
    let counts = Counts::default();
    let warm = (load.time / 5).clamp(Duration::from_secs(5), Duration::from_secs(40));
    let warmed = Counts::default();
    come(server.address, load.n_connections, warm, &warmed)?;
    let (before, _) = Moment::when_idle(&server, Duration::from_secs(20))?;
    come(server.address, load.n_connections, load.time, &counts)?;
    let (after, idle_after) = Moment::when_idle(&server, Duration::from_secs(20))?;
    let n = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let said = format!(
        "{} connections for {} s: {} answers read whole, {} left early, {} told to come again, {} otherwise; idle {:.1} s after the last; \
         memory {:.0} → {:.0} MiB, file descriptors {} → {}, threads {} → {}, blocks given back {} → {} of {}",
        load.n_connections,
        load.time.as_secs(),
        n(&counts.whole),
        n(&counts.left),
        n(&counts.refused),
        n(&counts.odd),
        idle_after.as_secs_f64(),
        before.resident_mib,
        after.resident_mib,
        before.n_files,
        after.n_files,
        before.n_threads,
        after.n_threads,
        before.n_blocks_given_back,
        after.n_blocks_given_back,
        after.n_blocks
    );
    ensure!(after.n_blocks_given_back == after.n_blocks, "blocks are lost: {said}");
    ensure!(after.n_files <= before.n_files, "file descriptors are lost: {said}");
    ensure!(after.resident_mib <= before.resident_mib + SLACK_MIB, "memory is lost: {said}");
    ensure!(n(&counts.whole) > 0 && n(&counts.odd) == 0, "answers nobody expects: {said}");
    Ok(said)
}

/// So many connections for so long.
fn come(address: SocketAddr, n_connections: usize, time: Duration, counts: &Counts) -> Result<()> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        for i in 0..n_connections as u64 {
            let is_over = &is_over;
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (i + 1).wrapping_mul(0xd134_2543_de82_ef95));
                while !is_over.load(Ordering::Relaxed) {
                    // A connection that cannot be had now is tried again, as clients do.
                    if one(address, &mut dice, counts, is_over).is_err() {
                        std::thread::sleep(Duration::from_millis(20 + dice.up_to(100)));
                    }
                }
            })?;
        }
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::thread::sleep(Duration::from_millis(200));
        }
        is_over.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// One request in some mood.
fn one(address: SocketAddr, dice: &mut Dice, counts: &Counts, is_over: &AtomicBool) -> Result<()> {
    let (path, body) = request(dice);
    let body = body.to_string();
    let mut stream = client::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    if dice.up_to(20) == 0 {
        // Half a request, and gone.
        let half = &body.as_bytes()[..body.len() / 2];
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), half].concat())?;
        std::thread::sleep(Duration::from_millis(dice.up_to(200)));
        counts.left.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    client::send(&mut stream, "POST", path, body.as_bytes())?;
    let mut start = [0; 12];
    if dice.up_to(3) == 0 {
        // Leaves before, while or shortly after the answer begins.
        stream.set_read_timeout(Some(Duration::from_millis(1 + dice.up_to(400))))?;
        let _nothing_yet = stream.read(&mut start);
        counts.left.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    stream.read_exact(&mut start)?;
    let count = match &start[9..] {
        b"200" => &counts.whole,
        b"429" => &counts.refused,
        _ => &counts.odd,
    };
    count.fetch_add(1, Ordering::Relaxed);
    let mut rest = [0; 4096];
    while !is_over.load(Ordering::Relaxed) && stream.read(&mut rest)? > 0 {}
    if &start[9..] == b"429" {
        std::thread::sleep(Duration::from_millis(50 + dice.up_to(200)));
    }
    Ok(())
}

fn request(dice: &mut Dice) -> (&'static str, Value) {
    let n_tokens = 1 + dice.up_to(60);
    let stream = dice.up_to(2) == 0;
    let text =
        ["Once upon a time", "One day, a cat", "Tom and Lily", "The little dog was"][dice.up_to(4) as usize];
    let text = format!("{text} {}", dice.up_to(1000));
    match dice.up_to(6) {
        0 => (
            "/v1/messages",
            json!({"model": "wootz-small", "max_tokens": n_tokens, "stream": stream, "messages": [{"role": "user", "content": text}]}),
        ),
        1 => (
            "/api/generate",
            json!({"model": "wootz-small", "prompt": text, "stream": stream, "options": {"num_predict": n_tokens}}),
        ),
        2 => (
            "/v1/completions",
            json!({"model": "wootz-small", "prompt": [text, "and"], "max_tokens": n_tokens, "n": 2}),
        ),
        3 => (
            "/v1/completions",
            json!({"model": "wootz-small", "prompt": text, "max_tokens": n_tokens, "guided_regex": "[a-z ]{5,80}"}),
        ),
        _ => (
            "/v1/chat/completions",
            json!({"model": "wootz-small", "max_tokens": n_tokens, "stream": stream, "messages": [{"role": "user", "content": text}]}),
        ),
    }
}

/// Chance that is the same every time.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}
