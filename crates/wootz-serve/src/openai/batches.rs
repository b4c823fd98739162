//! `/v1/batches`

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::files::{disk, find as find_file};
use crate::api_error::{ApiError, ApiResult, ErrorKind};
use crate::app::{App, now_s};
use crate::fields::{FieldTable, WireRequest};
use crate::http::body::WireBody;
use crate::http::json::Json;
use crate::jobs::{self, Batch, BatchInput, Counts, Disk, ENDPOINTS, Shelf, Status, StoredFile, is_id};

/// Requests of one batch.
const MAX_REQUESTS: usize = 50_000;

/// The body of a new batch.
#[derive(Debug, Deserialize)]
pub(super) struct BatchRequest {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    metadata: Option<BTreeMap<String, String>>,
}

impl WireRequest for BatchRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/batches",
        honoured: &["input_file_id", "endpoint", "completion_window", "metadata"],
        no_effect: &["output_expires_after"],
        refused: &[],
    };
}

/// Begins a batch.
pub(super) async fn create(
    State(app): State<App>,
    WireBody(request): WireBody<BatchRequest>,
) -> ApiResult<Json<Batch>> {
    let disk = disk(&app)?;
    if !ENDPOINTS.contains(&request.endpoint.as_str()) {
        return Err(ApiError::unsupported("endpoint", format!("expected one of {}", ENDPOINTS.join(", "))));
    }
    if request.completion_window != "24h" {
        return Err(ApiError::invalid("completion_window", "expected `24h`"));
    }
    let id = app.new_id("batch_");
    let batch = app.blocking(move || new_batch(&disk, id, request)).await?;
    if batch.status == Status::InProgress {
        jobs::start(app, batch.clone());
    }
    Ok(Json(batch))
}

fn new_batch(disk: &Disk, id: String, request: BatchRequest) -> ApiResult<Batch> {
    find_file(disk, &request.input_file_id)?;
    let text = disk.bytes(Shelf::Files, &request.input_file_id, StoredFile::CONTENT)?;
    let inputs = BatchInput::read_all(&text, &request.endpoint, MAX_REQUESTS);
    let now = now_s();
    let mut batch = Batch {
        id,
        object: "batch".into(),
        endpoint: request.endpoint,
        errors: None,
        input_file_id: request.input_file_id,
        completion_window: request.completion_window,
        status: Status::InProgress,
        output_file_id: None,
        error_file_id: None,
        created_at: now,
        in_progress_at: Some(now),
        completed_at: None,
        failed_at: None,
        cancelled_at: None,
        request_counts: Counts::default(),
        metadata: request.metadata,
    };
    match inputs {
        Ok(inputs) => batch.request_counts.total = inputs.len(),
        Err(errors) => {
            batch = Batch {
                status: Status::Failed,
                errors: Some(errors),
                failed_at: Some(now),
                in_progress_at: None,
                ..batch
            };
        }
    }
    disk.keep(Shelf::Batches, &batch.id, &batch)?;
    Ok(batch)
}

/// One batch.
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Json<Batch>> {
    let disk = disk(&app)?;
    app.blocking(move || find(&disk, &id).map(Json)).await
}

/// Batches, the newest first.
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<BTreeMap<String, String>>,
) -> ApiResult<Json<Value>> {
    let disk = disk(&app)?;
    let limit: usize = match query.get("limit").map(|limit| limit.parse()) {
        None => 20,
        Some(Ok(limit)) if (1..=100).contains(&limit) => limit,
        Some(_) => return Err(ApiError::invalid("limit", "expected 1 to 100")),
    };
    app.blocking(move || {
        let mut batches: Vec<Batch> = disk.all(Shelf::Batches)?;
        batches.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(b.id.cmp(&a.id)));
        let from = query.get("after").and_then(|after| batches.iter().position(|batch| batch.id == *after));
        let mut page = batches.split_off(from.map_or(0, |at| at + 1));
        let has_more = page.len() > limit;
        page.truncate(limit);
        let (first, last) =
            (page.first().map(|batch| batch.id.clone()), page.last().map(|batch| batch.id.clone()));
        Ok(Json(
            json!({"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": has_more}),
        ))
    })
    .await
}

/// Stops a batch; what runs of it is finished.
pub(super) async fn cancel(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Json<Batch>> {
    let disk = disk(&app)?;
    app.blocking(move || {
        if find(&disk, &id)?.status == Status::InProgress {
            disk.keep_bytes(Shelf::Batches, &id, Batch::CANCEL, b"")?;
        }
        find(&disk, &id).map(Json)
    })
    .await
}

fn find(disk: &Disk, id: &str) -> ApiResult<Batch> {
    let found: Option<Batch> = if is_id(id) { disk.find(Shelf::Batches, id)? } else { None };
    let shown = found.map(|batch| match batch.status {
        Status::InProgress if disk.has(Shelf::Batches, id, Batch::CANCEL) => {
            Batch { status: Status::Cancelling, ..batch }
        }
        _ => batch,
    });
    shown.ok_or_else(|| {
        let id: String = id.chars().take(64).collect();
        ApiError::new(ErrorKind::NotFound, format!("no batch `{id}`"))
    })
}
