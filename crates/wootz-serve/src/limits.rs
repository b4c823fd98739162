//! The bounds of a server: bodies, queues, times.

use std::time::Duration;

/// Every bound in one place. The defaults suit one machine with a few dozen users.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body of a request; above it 413. Default 8 MiB.
    pub body_bytes: usize,
    /// Largest file of the files API. Default 128 MiB.
    pub file_bytes: usize,
    /// Largest head of a request (line and headers). Default 32 KiB, and 100 headers.
    pub head_bytes: usize,
    /// Open connections; further ones wait in the system's queue. Default 1024.
    pub connections: usize,
    /// Generations at a time, running and waiting in the engine; above it 429. Default 64.
    pub generations: usize,
    /// Batches of embeddings, scores or rankings at a time, running and waiting; above it 429. Default 16.
    pub batches: usize,
    /// Texts in one embedding, ranking or completion request. Default 2,048.
    pub texts: usize,
    /// Until a request's head has come, and between requests of one connection. Default 30 s.
    pub head_time: Duration,
    /// Until a body has come. Default 60 s.
    pub body_time: Duration,
    /// From start to end of one generation. Default 30 min.
    pub generation_time: Duration,
    /// A client that takes nothing for this long is let go. Default 60 s.
    pub stalled_time: Duration,
    /// From the wish to stop until what still runs is cut off. Default 30 s.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            file_bytes: 128 << 20,
            head_bytes: 32 << 10,
            connections: 1024,
            generations: 64,
            batches: 16,
            texts: 2048,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            generation_time: Duration::from_secs(30 * 60),
            stalled_time: Duration::from_secs(60),
            drain_time: Duration::from_secs(30),
        }
    }
}
