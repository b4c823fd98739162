//! Why a server cannot start or go on. What a client did wrong is an `ApiError`.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A server's own failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program listens there.
    #[error("port {} of {} is taken by another program\n{}", address.port(), address.ip(), free_hint(*free))]
    Taken {
        /// What was asked for.
        address: SocketAddr,
        /// A port near it that is free.
        free: Option<u16>,
    },
    /// The address is not ours.
    #[error("could not listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Strangers could reach it.
    #[error(
        "`{address}` can be reached from other machines and no API key is set\nhint: --api-key KEY, or listen on 127.0.0.1"
    )]
    PublicWithoutKey {
        /// What was asked for.
        address: SocketAddr,
    },
    /// Certificate or key cannot be used.
    #[error("{path}: no certificate or key for TLS: {why}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Spans cannot be sent there.
    #[error(
        "`{endpoint}` takes no spans: expected http://HOST:PORT/PATH\nhint: a collector on this machine forwards them over TLS"
    )]
    Telemetry {
        /// What was asked for.
        endpoint: String,
    },
    /// Threads or signals could not be had.
    #[error("could not start the server's runtime")]
    Runtime(#[source] std::io::Error),
}

fn free_hint(free: Option<u16>) -> String {
    free.map_or("hint: --port 0 takes a free one".to_owned(), |port| format!("hint: --port {port} is free"))
}
