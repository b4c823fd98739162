//! `/v1/files`

use std::collections::BTreeMap;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::multipart;
use crate::api_error::{ApiError, ApiResult, ErrorKind};
use crate::app::{App, now_s};
use crate::http::body;
use crate::http::json::Json;
use crate::jobs::{Disk, DiskError, Shelf, StoredFile, is_id};

impl From<DiskError> for ApiError {
    fn from(error: DiskError) -> Self {
        Self::internal(error.to_string())
    }
}

/// The folder, or why there is none.
pub(super) fn disk(app: &App) -> ApiResult<Disk> {
    let none = || {
        ApiError::new(ErrorKind::Unsupported, "this server keeps no files: it was given no folder for them")
    };
    app.disk.clone().ok_or_else(none)
}

/// Takes a file in.
pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    request: Request,
) -> ApiResult<Json<StoredFile>> {
    let disk = disk(&app)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let boundary = multipart::boundary(content_type)
        .ok_or_else(|| ApiError::new(ErrorKind::Invalid, "expected `multipart/form-data` with a boundary"))?;
    let bytes = body::read(request, app.limits.file_bytes, app.limits.body_time).await?;
    app.clone()
        .blocking(move || {
            let parts = multipart::parts(&bytes, &boundary).ok_or_else(|| {
                ApiError::new(ErrorKind::Invalid, "the parts of the body cannot be told apart")
            })?;
            let (mut content, mut purpose) = (None, None);
            for part in parts {
                match part.name.as_str() {
                    "file" => content = Some(part),
                    "purpose" => purpose = Some(String::from_utf8_lossy(part.content).into_owned()),
                    other => {
                        let other: String = other.chars().take(50).collect();
                        return Err(ApiError::unsupported(other, "expected `file` and `purpose`"));
                    }
                }
            }
            let content = content.ok_or_else(|| ApiError::invalid("file", "required and missing"))?;
            let purpose = purpose.ok_or_else(|| ApiError::invalid("purpose", "required and missing"))?;
            if !["batch", "user_data"].contains(&purpose.as_str()) {
                return Err(ApiError::unsupported("purpose", "expected `batch` or `user_data`"));
            }
            let id = app.new_id("file-");
            let name = content.filename.unwrap_or_else(|| "file".into());
            let file = StoredFile::new(id.clone(), name, purpose, content.content.len() as u64, now_s());
            disk.keep_bytes(Shelf::Files, &id, StoredFile::CONTENT, content.content)?;
            disk.keep(Shelf::Files, &id, &file)?;
            Ok(Json(file))
        })
        .await
}

/// All files, the newest first.
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<BTreeMap<String, String>>,
) -> ApiResult<Json<Value>> {
    let disk = disk(&app)?;
    app.blocking(move || {
        let mut files: Vec<StoredFile> = disk.all(Shelf::Files)?;
        files.retain(|file| query.get("purpose").is_none_or(|purpose| *purpose == file.purpose));
        files.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(b.id.cmp(&a.id)));
        Ok(Json(json!({"object": "list", "data": files, "has_more": false})))
    })
    .await
}

/// One file's metadata.
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Json<StoredFile>> {
    let disk = disk(&app)?;
    app.blocking(move || find(&disk, &id).map(Json)).await
}

/// One file's content.
pub(super) async fn content(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Response> {
    let disk = disk(&app)?;
    let bytes = app
        .blocking(move || {
            find(&disk, &id)?;
            Ok(disk.bytes(Shelf::Files, &id, StoredFile::CONTENT)?)
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Forgets a file.
pub(super) async fn delete(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let disk = disk(&app)?;
    app.blocking(move || {
        find(&disk, &id)?;
        disk.remove(Shelf::Files, &id, &["json", StoredFile::CONTENT])?;
        Ok(Json(json!({"id": id, "object": "file", "deleted": true})))
    })
    .await
}

/// A file, or 404.
pub(super) fn find(disk: &Disk, id: &str) -> ApiResult<StoredFile> {
    let found = if is_id(id) { disk.find(Shelf::Files, id)? } else { None };
    found.ok_or_else(|| {
        let id: String = id.chars().take(64).collect();
        ApiError::new(ErrorKind::NotFound, format!("no file `{id}`"))
    })
}
