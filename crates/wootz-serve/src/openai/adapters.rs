//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`, as vLLM has them.
//!
//! Where:  for keys with the scope `admin`; the catalogue decides whether it may be done at all.

use axum::extract::State;
use serde::Deserialize;

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::catalog::NewAdapter;
use crate::fields::{FieldTable, WireRequest};
use crate::http::body::WireBody;

/// The longest name.
const MAX_NAME_LEN: usize = 256;

/// `POST /v1/load_lora_adapter`
#[derive(Debug, Deserialize)]
pub(super) struct LoadRequest {
    lora_name: String,
    lora_path: String,
    base_model_name: Option<String>,
    strength: Option<f32>,
}

impl WireRequest for LoadRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/load_lora_adapter",
        honoured: &["lora_name", "lora_path", "base_model_name", "strength"],
        no_effect: &[],
        refused: &[],
    };
}

/// `POST /v1/unload_lora_adapter`
#[derive(Debug, Deserialize)]
pub(super) struct UnloadRequest {
    lora_name: String,
}

impl WireRequest for UnloadRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/unload_lora_adapter",
        honoured: &["lora_name"],
        no_effect: &["lora_int_id"],
        refused: &[],
    };
}

/// Serves an adapter under its name from now on.
pub(super) async fn load(
    State(app): State<App>,
    WireBody(request): WireBody<LoadRequest>,
) -> ApiResult<String> {
    let LoadRequest { lora_name: name, lora_path, base_model_name: base, strength } = request;
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return Err(ApiError::invalid("lora_name", format!("expected 1 to {MAX_NAME_LEN} bytes")));
    }
    let strength = strength.unwrap_or(1.0);
    if !strength.is_finite() {
        return Err(ApiError::invalid("strength", "expected a finite number"));
    }
    let said = format!("Success: LoRA adapter '{name}' added successfully.");
    let catalog = app.catalog.clone();
    app.blocking(move || {
        Ok(catalog.load_adapter(NewAdapter { name, path: lora_path.into(), base, strength })?)
    })
    .await?;
    Ok(said)
}

/// Takes a name back; what runs with the adapter ends undisturbed.
pub(super) async fn unload(
    State(app): State<App>,
    WireBody(request): WireBody<UnloadRequest>,
) -> ApiResult<String> {
    app.catalog.unload_adapter(&request.lora_name)?;
    Ok(format!("Success: LoRA adapter '{}' removed successfully.", request.lora_name))
}
