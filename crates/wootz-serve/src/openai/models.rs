//! `GET /v1/models`

use axum::extract::{Path, State};
use serde::Serialize;

use crate::api_error::ApiResult;
use crate::app::App;
use crate::catalog::{CatalogError, ModelCard};
use crate::http::json::Json;

/// A model as OpenAI's API shows it, with its context as vLLM does.
#[derive(Debug, Serialize)]
pub(super) struct WireModel {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    max_model_len: usize,
    /// Of an adapter: the model that it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct WireModels {
    object: &'static str,
    data: Vec<WireModel>,
}

impl From<ModelCard> for WireModel {
    fn from(card: ModelCard) -> Self {
        Self {
            id: card.name,
            object: "model",
            created: card.created_s,
            owned_by: "wootz",
            max_model_len: card.max_seq_len,
            parent: card.parent,
        }
    }
}

/// All models.
pub(super) async fn list(State(app): State<App>) -> Json<WireModels> {
    let data = app.catalog.list().into_iter().map(WireModel::from).collect();
    Json(WireModels { object: "list", data })
}

/// One model, without loading it.
pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> ApiResult<Json<WireModel>> {
    let cards = app.catalog.list();
    let known = cards.iter().map(|card| card.name.clone()).collect();
    let card = cards.into_iter().find(|card| card.name == name);
    Ok(Json(card.ok_or(CatalogError::NotFound { name, known })?.into()))
}
