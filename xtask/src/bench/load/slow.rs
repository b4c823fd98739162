//! Clients that read one byte a second beside others that read at once.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::client;
use super::super::samples::Samples;
use super::Load;

/// Clients that read slowly, and how often the others are timed.
const N_SLOW: usize = 4;
const N_TIMED: usize = 12;

pub(super) fn run(load: &Load) -> Result<String> {
    let home = tempfile::tempdir()?;
    let server = load.start(home.path())?;
    let address = server.address;
    timed(address)?;
    let alone = timed(address)?;
    let is_over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| -> Result<Samples> {
        for _ in 0..N_SLOW {
            scope.spawn(|| sip(address, &is_over));
        }
        // Their answers are computed at once, whatever they read of them: that time is not the readers' fault.
        std::thread::sleep(Duration::from_secs(4));
        let beside = timed(address);
        is_over.store(true, Ordering::Relaxed);
        beside
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

/// Asks for a long stream and reads a byte a second of it.
fn sip(address: SocketAddr, is_over: &AtomicBool) {
    let body = json!({"model": "wootz-small", "prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": true, "stream": true});
    let Ok(mut stream) = client::connect(address) else { return };
    let _sent = client::send(&mut stream, "POST", "/v1/completions", body.to_string().as_bytes());
    while !is_over.load(Ordering::Relaxed) && stream.read(&mut [0; 1]).is_ok_and(|n| n == 1) {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Milliseconds of whole answers, one after the other.
fn timed(address: SocketAddr) -> Result<Samples> {
    let body =
        json!({"model": "wootz-small", "prompt": "One day, a cat", "max_tokens": 48, "ignore_eos": true})
            .to_string();
    let one = |_| {
        let start = Instant::now();
        client::ask(address, "POST", "/v1/completions", &body)?.json()?;
        Ok(1e3 * start.elapsed().as_secs_f64())
    };
    Ok(Samples::new((0..N_TIMED).map(one).collect::<Result<_>>()?))
}
