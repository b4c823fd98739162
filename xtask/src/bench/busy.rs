//! Another program on one of the cores: a loop that never pauses, as a thread that is pinned there.
//!
//! Where:  the case of [`cases`](super::cases) that takes a core away.
//! Idea:   a thread of this process is as much in the way as a program of its own, and cannot outlive it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;

/// Burns core 0 until it is dropped.
pub(crate) struct BusyCore {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BusyCore {
    /// Starts to burn, and returns when the thread is where it belongs.
    ///
    /// # Errors
    /// Where threads cannot be pinned.
    pub fn start() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, pinned) = std::sync::mpsc::channel();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let is_pinned = pin();
            let goes_on = is_pinned.is_ok();
            let _gone = sender.send(is_pinned);
            while goes_on && !stopped.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        pinned.recv()??;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for BusyCore {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a loop does not panic");
        }
    }
}

/// Pins the calling thread to the first core.
#[cfg(target_os = "linux")]
fn pin() -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(0);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

#[cfg(not(target_os = "linux"))]
fn pin() -> Result<()> {
    anyhow::bail!("a thread is pinned to a core on Linux alone")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_busy_core_stays_busy_until_it_is_dropped() {
        let busy = BusyCore::start().unwrap();
        assert!(busy.thread.as_ref().is_some_and(|thread| !thread.is_finished()));
        drop(busy);
    }
}
