//! Doing a batch.
//!
//! Where:  a task for each batch in progress; it asks the server's own handlers, so an item means what a request means.
//! Idea:   a few items at a time. An item counts when its line is synced; one whose line is there is never done again.

use std::collections::BTreeSet;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::batch::{Batch, BatchInput, Status};
use super::disk::{Disk, DiskError, Lines, Shelf};
use super::file::StoredFile;
use crate::app::{App, now_s};
use crate::openai;

/// Items of one batch at a time.
const SIDE_BY_SIDE: usize = 4;
/// Largest answer of an item.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Endings of the lists of a batch.
const DONE: &str = "done";
const FAILED: &str = "failed";

/// Goes on with every batch that was in progress when the server stopped.
pub(crate) async fn resume_all(app: App) {
    let Some(disk) = app.disk.clone() else { return };
    let found = tokio::task::spawn_blocking(move || disk.all::<Batch>(Shelf::Batches)).await;
    for batch in found.ok().and_then(Result::ok).unwrap_or_default() {
        if matches!(batch.status, Status::InProgress | Status::Cancelling) {
            start(app.clone(), batch);
        }
    }
}

/// Does a batch in a task of its own.
pub(crate) fn start(app: App, batch: Batch) {
    tokio::spawn(async move {
        let Some(disk) = app.disk.clone() else { return };
        let mut failed = batch.clone();
        if let Err(error) = run(&app, &disk, batch).await {
            failed.status = Status::Failed;
            failed.failed_at = Some(now_s());
            failed.errors = Some(
                json!({"object": "list", "data": [{"code": "storage", "message": error.to_string(), "line": null, "param": null}]}),
            );
            let _ = disk.keep(Shelf::Batches, &failed.id, &failed);
        }
    });
}

/// A batch while it is done.
struct Run<'a> {
    disk: &'a Disk,
    batch: Batch,
    done: Lines,
    failed: Lines,
}

async fn run(app: &App, disk: &Disk, batch: Batch) -> Result<(), DiskError> {
    let text = disk.bytes(Shelf::Files, &batch.input_file_id, StoredFile::CONTENT)?;
    let inputs = BatchInput::read_all(&text, &batch.endpoint, usize::MAX).unwrap_or_default();
    drop(text);
    let done = disk.lines(Shelf::Batches, &batch.id, DONE)?;
    let failed = disk.lines(Shelf::Batches, &batch.id, FAILED)?;
    let finished: BTreeSet<String> =
        done.found.iter().chain(&failed.found).filter_map(|line| id_of(line)).collect();
    let mut run = Run { disk, batch, done, failed };
    run.batch.request_counts.total = inputs.len();
    run.batch.request_counts.completed = run.done.found.len();
    run.batch.request_counts.failed = run.failed.found.len();
    let mut left = inputs.into_iter().filter(|input| !finished.contains(&input.custom_id));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < SIDE_BY_SIDE && !run.is_cancelled() {
            let Some(input) = left.next() else { break };
            tasks.spawn(ask(app.clone(), run.batch.endpoint.clone(), input));
        }
        match tasks.join_next().await {
            // Syncing takes the disk's time, not that of other requests.
            Some(Ok((status, line))) => tokio::task::block_in_place(|| run.take(status, &line))?,
            // The server stops, or an item was lost to a panic: the batch stays in progress and goes on at the next start.
            Some(Err(_)) => return Ok(()),
            None => break,
        }
    }
    tokio::task::block_in_place(|| run.finish(app))
}

fn id_of(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["custom_id"].as_str().map(String::from)
}

impl Run<'_> {
    /// Whether somebody asked to stop; what runs is finished.
    fn is_cancelled(&self) -> bool {
        self.disk.has(Shelf::Batches, &self.batch.id, Batch::CANCEL)
    }

    fn take(&mut self, status: StatusCode, line: &Value) -> Result<(), DiskError> {
        let counts = &mut self.batch.request_counts;
        let (lines, ending) = match status.is_success() {
            true => {
                counts.completed += 1;
                (&mut self.done, DONE)
            }
            false => {
                counts.failed += 1;
                (&mut self.failed, FAILED)
            }
        };
        let path = || self.disk.path(Shelf::Batches, &self.batch.id, ending);
        lines.append(&line.to_string()).map_err(|source| DiskError::Io { path: path(), source })?;
        self.disk.keep(Shelf::Batches, &self.batch.id, &self.batch)
    }

    /// The lists become files, and the batch is over.
    fn finish(mut self, app: &App) -> Result<(), DiskError> {
        let now = now_s();
        let counts = self.batch.request_counts;
        if counts.completed > 0 {
            self.batch.output_file_id = Some(self.publish(app, DONE, "output")?);
        }
        if counts.failed > 0 {
            self.batch.error_file_id = Some(self.publish(app, FAILED, "errors")?);
        }
        if self.is_cancelled() {
            self.batch.status = Status::Cancelled;
            self.batch.cancelled_at = Some(now);
        } else {
            self.batch.status = Status::Completed;
            self.batch.completed_at = Some(now);
        }
        self.disk.keep(Shelf::Batches, &self.batch.id, &self.batch)
    }

    fn publish(&self, app: &App, ending: &str, what: &str) -> Result<String, DiskError> {
        let bytes = self.disk.bytes(Shelf::Batches, &self.batch.id, ending)?;
        let id = app.new_id("file-");
        let name = format!("{}_{what}.jsonl", self.batch.id);
        let file = StoredFile::new(id.clone(), name, "batch_output".into(), bytes.len() as u64, now_s());
        self.disk.keep_bytes(Shelf::Files, &id, StoredFile::CONTENT, &bytes)?;
        self.disk.keep(Shelf::Files, &id, &file)?;
        Ok(id)
    }
}

/// Asks our own handlers; waits while they are busy.
async fn ask(app: App, endpoint: String, input: BatchInput) -> (StatusCode, Value) {
    let service = TowerToHyperService::new(openai::router().with_state(app.clone()));
    let (status, body) = loop {
        let request = Request::builder().method(Method::POST).uri(&endpoint);
        let request = request.body(Body::from(input.body.to_string())).expect("an endpoint is an address");
        let response = service.call(request).await.unwrap_or_else(|never| match never {});
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status()) {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            continue;
        }
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), MAX_ANSWER_BYTES)
            .await
            .unwrap_or_else(|_| Bytes::new());
        break (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null));
    };
    let line = json!({
        "id": app.new_id("batch_req_"),
        "custom_id": input.custom_id,
        "response": {"status_code": status.as_u16(), "request_id": app.new_id("req_"), "body": body},
        "error": null,
    });
    (status, line)
}
