//! Why a server cannot start or go on. What a client did wrong is an `ApiError`.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A server's own failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
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
