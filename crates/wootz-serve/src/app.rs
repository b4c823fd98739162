//! What all handlers share, and the table of addresses.
//!
//! Where:  made once by [`Server`](crate::Server), cloned into every handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;

use crate::api_error::{ApiError, ApiResult, ErrorKind};
use crate::catalog::{Catalog, Loaded, ServedModel, Stay};
use crate::http::{dialect, guard, json::Json};
use crate::jobs::Disk;
use crate::keys::Holder;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::telemetry::Telemetry;
use crate::{anthropic, ollama, openai, studio};

/// A handle on everything that handlers share.
pub(crate) type App = Arc<Shared>;

/// What handlers share.
pub(crate) struct Shared {
    pub catalog: Arc<dyn Catalog>,
    pub limits: Limits,
    pub keys: Vec<Arc<Holder>>,
    pub metrics: Metrics,
    pub telemetry: Telemetry,
    /// Origins whose pages may ask, `http://localhost:3000`.
    pub origins: Vec<String>,
    /// Whether only this machine can reach us, which decides what a `Host` header may say.
    pub is_loopback: bool,
    /// Places for generations.
    pub generations: Arc<Semaphore>,
    /// Places for embeddings, scores and rankings.
    pub batches: Arc<Semaphore>,
    /// Where files and batches are kept, if they are.
    pub disk: Option<Disk>,
    /// Whether the server is about to stop.
    pub is_draining: AtomicBool,
    pub random: SystemRandom,
}

impl Shared {
    /// The model of that name, loaded if need be.
    pub(crate) async fn open(self: &Arc<Self>, name: &str) -> ApiResult<Arc<ServedModel>> {
        self.open_for(name, Stay::Usual).await
    }

    /// The same, to stay for some time.
    pub(crate) async fn open_for(self: &Arc<Self>, name: &str, stay: Stay) -> ApiResult<Arc<ServedModel>> {
        let (app, name) = (self.clone(), name.to_owned());
        let opened = tokio::task::spawn_blocking(move || app.catalog.open(&name, stay)).await;
        Ok(opened.map_err(|error| ApiError::internal(error.to_string()))??)
    }

    /// Whether nothing new is taken.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// `prefix` and 24 random hexadecimal digits.
    pub(crate) fn new_id(&self, prefix: &str) -> String {
        let mut bytes = [0; 12];
        self.random.fill(&mut bytes).expect("the system has random numbers");
        bytes.iter().fold(prefix.to_owned(), |id, byte| id + &format!("{byte:02x}"))
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Every address of the server.
pub(crate) fn router(app: App) -> Router {
    let open = Router::new().route("/health", get(health)).route("/ready", get(ready));
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .merge(openai::router())
        .merge(anthropic::router())
        .merge(ollama::router());
    let guarded = guarded.layer(from_fn_with_state(app.clone(), guard::only_with_key));
    Router::new()
        .merge(open)
        .merge(studio::router())
        .merge(guarded)
        .fallback(no_such_address)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app.clone(), guard::only_own_pages))
        .layer(from_fn_with_state(app.clone(), counted))
        .layer(from_fn(dialect::speak))
        .with_state(app)
}

/// `GET /health`: the process answers.
async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({"status": "ok"}))
}

/// `GET /ready`: requests are taken.
async fn ready(State(app): State<App>) -> ApiResult<Json<serde_json::Value>> {
    if app.is_draining() {
        return Err(ApiError::new(ErrorKind::Unavailable, "the server is about to stop"));
    }
    Ok(Json(serde_json::json!({"status": "ready"})))
}

/// `GET /metrics`: numbers for Prometheus.
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let loaded = app.catalog.loaded().into_iter();
    let numbers = loaded.filter_map(|Loaded { model, .. }| {
        let numbers = model.numbers.as_ref()?();
        Some((model.card.name.clone(), numbers))
    });
    let own: Vec<_> = numbers.collect();
    let in_progress = app.limits.generations - app.generations.available_permits();
    let text = app.metrics.text(in_progress, &own);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Counts requests by the address as routed and by status.
async fn counted(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    app.metrics.request(&route, response.status().as_u16());
    response
}

async fn no_such_address(uri: Uri) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("no such address: {}", uri.path()))
}

async fn no_such_method(method: axum::http::Method, uri: Uri) -> ApiError {
    ApiError::new(ErrorKind::Method, format!("{} does not answer {method}", uri.path()))
}
