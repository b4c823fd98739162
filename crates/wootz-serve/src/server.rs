//! Listening, serving, and stopping.
//!
//! Where:  the one thing that the command line calls; it blocks until the server has drained.
//! Idea:   the async runtime lives and dies inside [`Server::run`]. Stopping has three parts: no new connections, no new
//!         requests on old ones, then time for what runs; after that time it is cut off.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ring::rand::SystemRandom;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::app::{self, App, Shared};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::jobs::{self, Disk};
use crate::keys::{ApiKey, Holder};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::telemetry::{Telemetry, TelemetryOptions};
use crate::tls::{self, TlsFiles};

/// Until the last spans must have been taken.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Headers of one request.
const MAX_HEADERS: usize = 100;

/// How many ports behind a taken one are tried.
const TRIED_PORTS: u16 = 20;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whose requests are served; none: everyone's who can reach a loopback address.
    pub keys: Vec<ApiKey>,
    /// Origins whose web pages may ask. Default none but the server's own.
    pub origins: Vec<String>,
    /// Every bound.
    pub limits: Limits,
    /// Certificate and key; without them, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where files and batches are kept; without it there are none.
    pub folder: Option<PathBuf>,
    /// Where spans of generations go; without it there are none.
    pub telemetry: Option<TelemetryOptions>,
    /// Whether SIGTERM and SIGINT stop the server.
    pub handle_signals: bool,
}

impl ServerOptions {
    /// The defaults, at `address`.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            keys: Vec::new(),
            origins: Vec::new(),
            limits: Limits::default(),
            tls: None,
            folder: None,
            telemetry: None,
            handle_signals: false,
        }
    }
}

/// A server that listens.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    options: ServerOptions,
    catalog: Arc<dyn Catalog>,
    stop: watch::Sender<bool>,
    tls: Option<TlsAcceptor>,
}

/// Stops a server from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Begins to drain.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Listens; nothing is answered before [`run`](Self::run).
    ///
    /// # Errors
    /// A public address without a key, or one that cannot be had.
    pub fn bind(options: ServerOptions, catalog: Arc<dyn Catalog>) -> Result<Self, Error> {
        let address = options.address;
        if !address.ip().is_loopback() && options.keys.is_empty() {
            return Err(Error::PublicWithoutKey { address });
        }
        if let Some(telemetry) = options.telemetry.as_ref().filter(|telemetry| !telemetry.is_valid()) {
            return Err(Error::Telemetry { endpoint: telemetry.endpoint.clone() });
        }
        let listen = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => Error::Taken { address, free: free_port(address) },
            _ => Error::Listen { address, source },
        };
        let listener = std::net::TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        Ok(Self { listener, address, options, catalog, stop: watch::Sender::new(false), tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Serves until it is stopped and drained.
    ///
    /// # Errors
    /// When threads or signals cannot be had.
    pub fn run(self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("wootz-http")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let served = runtime.block_on(self.serve());
        // A load or a batch that still runs is not waited for: it holds nothing that must be put in order.
        runtime.shutdown_timeout(Duration::from_millis(100));
        served
    }

    async fn serve(self) -> Result<(), Error> {
        let listener = TcpListener::from_std(self.listener).map_err(Error::Runtime)?;
        if self.options.handle_signals {
            stop_on_signals(self.stop.clone())?;
        }
        let limits = self.options.limits.clone();
        let now = Instant::now();
        let keys = self.options.keys.into_iter().map(|key| Arc::new(Holder::new(key, now)));
        let (telemetry, exporting) = Telemetry::new(self.options.telemetry);
        let over = watch::Sender::new(false);
        let exporting = exporting.map(|exporting| tokio::spawn(exporting.run(over.subscribe())));
        let app = Arc::new(Shared {
            catalog: self.catalog,
            keys: keys.collect(),
            metrics: Metrics::default(),
            telemetry,
            origins: self.options.origins,
            is_loopback: self.address.ip().is_loopback(),
            generations: Arc::new(Semaphore::new(limits.generations)),
            batches: Arc::new(Semaphore::new(limits.batches)),
            disk: self.options.folder.map(Disk::new),
            is_draining: AtomicBool::new(false),
            random: SystemRandom::new(),
            limits,
        });
        jobs::resume_all(app.clone()).await;
        let connections = Arc::new(Semaphore::new(app.limits.connections));
        let tls = self.tls;
        accept(&listener, &app, &connections, tls.as_ref(), self.stop.subscribe()).await;
        drop(listener);
        app.is_draining.store(true, Ordering::Release);
        let all = u32::try_from(app.limits.connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(app.limits.drain_time, connections.acquire_many(all)).await;
        if let Some(exporting) = exporting {
            over.send_replace(true);
            let _ = tokio::time::timeout(LAST_SPANS, exporting).await;
        }
        Ok(())
    }
}

/// Takes connections until the server is to stop.
async fn accept(
    listener: &TcpListener,
    app: &App,
    places: &Arc<Semaphore>,
    tls: Option<&TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let router = app::router(app.clone());
    loop {
        let accepted = tokio::select! {
            accepted = connection(listener, places) => accepted,
            () = stopped(&mut stop) => return,
        };
        let (stream, place) = accepted;
        let (router, app, stop) = (router.clone(), app.clone(), stop.clone());
        // Tokens are small and wanted at once.
        let _ = stream.set_nodelay(true);
        match tls.cloned() {
            None => drop(tokio::spawn(converse(stream, place, router, app, stop))),
            Some(tls) => drop(tokio::spawn(async move {
                let shaken = tokio::time::timeout(app.limits.head_time, tls.accept(stream)).await;
                if let Ok(Ok(stream)) = shaken {
                    converse(stream, place, router, app, stop).await;
                }
            })),
        }
    }
}

/// Returns when the server is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stopped| stopped).await;
}

/// The next connection with a place for it.
async fn connection(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the places are never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            // Out of file descriptors, or the client left already: neither is a reason to stop.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// All requests of one connection.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    place: OwnedSemaphorePermit,
    router: Router,
    app: App,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.head_time)
        .max_buf_size(app.limits.head_bytes)
        .max_headers(MAX_HEADERS);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(place);
}

/// A port behind a taken one that can be had now.
fn free_port(taken: SocketAddr) -> Option<u16> {
    let next = (1..=TRIED_PORTS).filter_map(|n| taken.port().checked_add(n));
    next.into_iter().find(|&port| std::net::TcpListener::bind(SocketAddr::new(taken.ip(), port)).is_ok())
}

/// SIGTERM and SIGINT begin to drain.
fn stop_on_signals(stop: watch::Sender<bool>) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.send_replace(true);
            // A second signal means now.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.send_replace(true);
        }
    });
    Ok(())
}
