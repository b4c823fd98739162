//! Ten times as many requests at once as have a place: the others are told when to come again, and soon all is as before.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::client;
use super::watch::Moment;
use super::{Load, PARALLEL, QUEUE};

/// How much is too much.
const TIMES: usize = 10;
/// Until a server must be as before.
const RECOVERY: Duration = Duration::from_secs(5);

pub(super) fn run(load: &Load) -> Result<String> {
    let home = tempfile::tempdir()?;
    let server = load.start(home.path())?;
    let address = server.address;
    let body = |n: usize| json!({"model": "wootz-small", "prompt": "Once upon a time", "max_tokens": n, "ignore_eos": true});
    client::ask(address, "POST", "/v1/completions", &body(4).to_string())?.json()?;
    let n_requests = TIMES * (PARALLEL + QUEUE);
    let all = Barrier::new(n_requests);
    let (done, refused, unsaid, odd) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..n_requests {
            let one = || {
                all.wait();
                let answer = client::ask(address, "POST", "/v1/completions", &body(100).to_string());
                let count = match &answer {
                    Ok(answer) if answer.status == 200 => &done,
                    Ok(answer) if answer.status == 429 && answer.head.contains("\r\nretry-after: ") => {
                        &refused
                    }
                    Ok(answer) if answer.status == 429 => &unsaid,
                    _ => &odd,
                };
                count.fetch_add(1, Ordering::Relaxed);
            };
            std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, one)?;
        }
        Ok(())
    })?;
    let begun = Instant::now();
    while client::ask(address, "POST", "/v1/completions", &body(4).to_string())?.status != 200 {
        ensure!(begun.elapsed() < RECOVERY, "still refused {RECOVERY:?} after the flood");
        std::thread::sleep(Duration::from_millis(20));
    }
    let recovered = begun.elapsed();
    let (after, _) = Moment::when_idle(&server, RECOVERY)?;
    let [done, refused, unsaid, odd] = [done, refused, unsaid, odd].map(AtomicUsize::into_inner);
    let said = format!(
        "{n_requests} requests at once where {} have a place: {done} answered, {refused} told when to come again, {unsaid} not told, {odd} otherwise; \
         answered again after {:.2} s, {} of {} blocks given back",
        PARALLEL + QUEUE,
        recovered.as_secs_f64(),
        after.n_blocks_given_back,
        after.n_blocks
    );
    ensure!(done >= PARALLEL + QUEUE && refused > 0 && unsaid == 0 && odd == 0, "{said}");
    ensure!(after.n_blocks_given_back == after.n_blocks, "blocks are lost: {said}");
    Ok(said)
}
