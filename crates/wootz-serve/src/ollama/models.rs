//! `GET /api/tags`, `/api/ps`, `/api/version`, `POST /api/show`, `/api/pull`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::plain_name;
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::catalog::{CatalogError, Loaded, ModelCard, PullProgress};
use crate::fields::{FieldTable, WireRequest, refused};
use crate::http::body::WireBody;
use crate::http::json::Json;
use crate::http::{dialect, timestamp};
use crate::sse::{self, Kind};

/// `POST /api/show`
#[derive(Debug, Deserialize)]
pub(super) struct ShowRequest {
    model: String,
}

impl WireRequest for ShowRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /api/show",
        honoured: &["model"],
        no_effect: &["verbose", "name"],
        refused: &[],
    };
}

/// `POST /api/pull`
#[derive(Debug, Deserialize)]
pub(super) struct PullRequest {
    model: String,
    #[serde(default = "yes")]
    stream: bool,
}

fn yes() -> bool {
    true
}

impl WireRequest for PullRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /api/pull",
        honoured: &["model", "stream"],
        no_effect: &["name"],
        refused: &[refused("insecure", &["false"], "connections are checked")],
    };
}

/// When a model expires that never does.
const FOR_EVER: &str = "2318-01-01T00:00:00.000000Z";

/// What can be named.
pub(super) async fn tags(State(app): State<App>) -> Json<Value> {
    Json(json!({"models": app.catalog.list().iter().map(listed).collect::<Vec<_>>()}))
}

/// What is loaded.
pub(super) async fn ps(State(app): State<App>) -> Json<Value> {
    let shown = |loaded: Loaded| {
        let card = &loaded.model.card;
        let mut model = listed(card);
        // What stays until room is needed ends beyond anybody's time, as Ollama shows it.
        let expires = loaded.expires.map_or(FOR_EVER.to_owned(), timestamp::of);
        model["expires_at"] = expires.into();
        model["size"] = loaded.n_bytes.into();
        model["size_vram"] = 0.into();
        model["context_length"] = card.max_seq_len.into();
        model
    };
    Json(json!({"models": app.catalog.loaded().into_iter().map(shown).collect::<Vec<_>>()}))
}

/// Which program this is.
pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

fn listed(card: &ModelCard) -> Value {
    json!({
        "name": card.name,
        "model": card.name,
        "modified_at": timestamp::rfc3339(card.created_s, 0),
        "size": card.size_bytes,
        "digest": "",
        "details": details(card),
    })
}

fn details(card: &ModelCard) -> Value {
    json!({
        "parent_model": "",
        "format": "",
        "family": card.architecture,
        "families": [card.architecture],
        "parameter_size": parameter_size(card.n_params),
        "quantization_level": card.weight_type.to_uppercase(),
    })
}

/// `6.3M`, `7.2B`
fn parameter_size(n_params: u64) -> String {
    match n_params {
        n if n >= 1_000_000_000 => format!("{:.1}B", n as f64 / 1e9),
        n if n >= 1_000_000 => format!("{:.1}M", n as f64 / 1e6),
        n => format!("{:.1}K", n as f64 / 1e3),
    }
}

/// One model, loaded if need be.
pub(super) async fn show(
    State(app): State<App>,
    WireBody(request): WireBody<ShowRequest>,
) -> ApiResult<Json<Value>> {
    let model = app.open(plain_name(&request.model)).await?;
    let card = &model.card;
    let mut capabilities = Vec::new();
    if model.generate.is_some() {
        capabilities.push("completion");
    }
    if model.knows_tools() {
        capabilities.push("tools");
    }
    if model.reply_format().has_reasoning() {
        capabilities.push("thinking");
    }
    if model.generate.is_none() && model.embed.is_some() {
        capabilities.push("embedding");
    }
    let template = model.template.as_ref().and_then(|template| template.source("default")).unwrap_or("");
    let arch = &card.architecture;
    let info = json!({
        "general.architecture": arch,
        "general.parameter_count": card.n_params,
        format!("{arch}.context_length"): card.max_seq_len,
    });
    Ok(Json(json!({
        "modelfile": "",
        "parameters": "",
        "template": template,
        "details": details(card),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": timestamp::rfc3339(card.created_s, 0),
    })))
}

/// Fetches a model, telling how far it is.
pub(super) async fn pull(
    State(app): State<App>,
    WireBody(request): WireBody<PullRequest>,
) -> ApiResult<Response> {
    let (sender, mut progress) = mpsc::unbounded_channel();
    let (catalog, name) = (app.catalog.clone(), plain_name(&request.model).to_owned());
    let pulling =
        tokio::task::spawn_blocking(move || catalog.pull(&name, &|progress| drop(sender.send(progress))));
    let finished = async move {
        let done: Result<Result<(), CatalogError>, _> = pulling.await;
        done.map_err(|error| ApiError::internal(error.to_string()))?.map_err(ApiError::from)
    };
    if !request.stream {
        finished.await?;
        return Ok(Json(json!({"status": "success"})).into_response());
    }
    Ok(sse::respond(&app, Kind::Lines, move |writer| async move {
        let _ = writer.line(&json!({"status": "pulling manifest"})).await;
        while let Some(PullProgress { file, total_bytes, done_bytes }) = progress.recv().await {
            let line = json!({"status": format!("pulling {file}"), "digest": file, "total": total_bytes, "completed": done_bytes});
            if writer.line(&line).await.is_err() {
                return;
            }
        }
        let last = match finished.await {
            Ok(()) => json!({"status": "success"}),
            Err(error) => dialect::ollama(&error),
        };
        let _ = writer.line(&last).await;
    }))
}
