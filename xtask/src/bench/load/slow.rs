//! Clients that read one byte a second beside others that read at once.
//!
//! Idea:   two servers answer in turn, one of which has such clients, so that what else runs on the machine tells on both.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::client;
use super::super::samples::Samples;
use super::super::server::Running;
use super::Load;
use super::watch::Moment;

/// Clients that read slowly, and how often the others are timed.
const N_SLOW: usize = 4;
const N_TIMED: usize = 20;
/// Until the slow readers' answers must have been computed.
const COMPUTING: Duration = Duration::from_secs(60);

pub(super) fn run(load: &Load) -> Result<String> {
    let home = tempfile::tempdir()?;
    let (calm, server) = (load.start(home.path())?, load.start(home.path())?);
    let (n_reading, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (alone, beside) = std::thread::scope(|scope| {
        for _ in 0..N_SLOW {
            scope.spawn(|| sip(server.address, &n_reading, &is_over));
        }
        let timed = pairs(calm.address, &server, &n_reading);
        is_over.store(true, Ordering::Relaxed);
        timed
    })?;
    let ratio = beside.median() / alone.median();
    let said = format!(
        "an answer takes {:.0} ms alone and {:.0} ms beside {N_SLOW} that read a byte a second ({ratio:.2}×)",
        alone.median(),
        beside.median()
    );
    ensure!(ratio < 1.5, "{said}");
    Ok(said)
}

/// Milliseconds of whole answers in turn: of a server that has nothing else to do, and of one with slow readers.
fn pairs(calm: SocketAddr, server: &Running, n_reading: &AtomicUsize) -> Result<(Samples, Samples)> {
    // The slow readers' answers are computed at once, whatever they read of them: that time is not the readers' fault.
    let begun = Instant::now();
    while n_reading.load(Ordering::Relaxed) < N_SLOW || Moment::of(server)?.n_running > 0.0 {
        ensure!(begun.elapsed() < COMPUTING, "the slow readers' answers were not computed in {COMPUTING:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for i in 0..=N_TIMED {
        let (a, b) = (timed(calm)?, timed(server.address)?);
        // The first answers warm both up.
        if i > 0 {
            alone.push(a);
            beside.push(b);
        }
    }
    ensure!(n_reading.load(Ordering::Relaxed) == N_SLOW, "a slow reader was cut off meanwhile");
    Ok((Samples::new(alone), Samples::new(beside)))
}

/// Asks for a long stream and reads a byte a second of it; counted as long as it reads.
fn sip(address: SocketAddr, n_reading: &AtomicUsize, is_over: &AtomicBool) {
    let body = json!({"model": "wootz-small", "prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": true, "stream": true});
    let Ok(mut stream) = client::connect(address) else { return };
    let _sent = client::send(&mut stream, "POST", "/v1/completions", body.to_string().as_bytes());
    let mut read = || stream.read(&mut [0; 1]).is_ok_and(|n| n == 1);
    if !read() {
        return;
    }
    n_reading.fetch_add(1, Ordering::Relaxed);
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
        if !read() {
            n_reading.fetch_sub(1, Ordering::Relaxed);
            return;
        }
    }
}

/// Milliseconds of a whole answer.
fn timed(address: SocketAddr) -> Result<f64> {
    let body =
        json!({"model": "wootz-small", "prompt": "One day, a cat", "max_tokens": 48, "ignore_eos": true})
            .to_string();
    let start = Instant::now();
    client::ask(address, "POST", "/v1/completions", &body)?.json()?;
    Ok(1e3 * start.elapsed().as_secs_f64())
}
