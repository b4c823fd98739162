//! `POST /v1/rerank` in the shapes of Cohere and Jina, `/v2/rerank` for Cohere's newer client, and `/v1/score` as vLLM has it.
//!
//! Idea:   one answer that has the fields of both shapes. Models that only make vectors score by their cosine.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use wootz_text::{EmbedKind, ModelError};

use super::embeddings::count;
use super::wire::sampling::OneOrMany;
use crate::api_error::{ApiError, ApiResult};
use crate::app::{App, now_s};
use crate::bridge::{Caller, cannot};
use crate::catalog::ServedModel;
use crate::fields::{FieldTable, WireRequest, refused};
use crate::http::body::WireBody;
use crate::http::json::Json;

/// The body of a ranking.
#[derive(Debug, Deserialize)]
pub(super) struct RerankRequest {
    model: String,
    query: String,
    documents: Vec<Document>,
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: bool,
}

/// A text, or an object with one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

impl WireRequest for RerankRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/rerank",
        honoured: &["model", "query", "documents", "top_n", "return_documents"],
        no_effect: &["priority", "user"],
        refused: &[
            refused("max_tokens_per_doc", &[], "documents are cut at the model's own length only"),
            refused("max_chunks_per_doc", &[], "documents are not split"),
            refused("rank_fields", &["[\"text\"]"], "documents are texts, or objects with `text`"),
        ],
    };
}

/// The body of a scoring.
#[derive(Debug, Deserialize)]
pub(super) struct ScoreRequest {
    model: String,
    text_1: OneOrMany,
    text_2: OneOrMany,
}

impl WireRequest for ScoreRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/score",
        honoured: &["model", "text_1", "text_2"],
        no_effect: &["priority", "user"],
        refused: &[refused("truncate_prompt_tokens", &[], "texts are cut at the model's own length only")],
    };
}

/// Documents by how well they answer a query.
pub(super) async fn rerank(
    State(app): State<App>,
    caller: Caller,
    WireBody(request): WireBody<RerankRequest>,
) -> ApiResult<Json<Value>> {
    let model = app.open(&request.model).await?;
    let n = request.documents.len();
    if n == 0 || n > app.limits.texts {
        let message = format!("expected 1 to {} documents, got {n}", app.limits.texts);
        return Err(ApiError::invalid("documents", message));
    }
    if request.top_n == Some(0) {
        return Err(ApiError::invalid("top_n", "expected at least 1, got 0"));
    }
    let text = |document: Document| match document {
        Document::Text(text) | Document::Object { text } => text,
    };
    let documents: Vec<String> = request.documents.into_iter().map(text).collect();
    let (query, texts) = (request.query, documents.clone());
    let (scores, n_tokens) = scored(&app, &caller, &model, vec![(query, texts)]).await?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let result = |&index: &usize| {
        let mut result = json!({"index": index, "relevance_score": scores[index]});
        if request.return_documents {
            result["document"] = json!({"text": documents[index]});
        }
        result
    };
    let results: Vec<Value> = order.iter().take(request.top_n.unwrap_or(n)).map(result).collect();
    Ok(Json(json!({
        "id": app.new_id("rerank-"),
        "object": "list",
        "model": model.card.name,
        "results": results,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    })))
}

/// Pairs of texts by how near they are: one with many, or side by side.
pub(super) async fn score(
    State(app): State<App>,
    caller: Caller,
    WireBody(request): WireBody<ScoreRequest>,
) -> ApiResult<Json<Value>> {
    let model = app.open(&request.model).await?;
    let (first, second) = (request.text_1.into_vec(), request.text_2.into_vec());
    let pairs: Vec<(String, Vec<String>)> = match (first.len(), second.len()) {
        (0, _) | (_, 0) => {
            return Err(ApiError::invalid("text_1", "expected at least one text on either side"));
        }
        (_, n) if n > app.limits.texts => {
            return Err(ApiError::invalid(
                "text_2",
                format!("expected at most {} texts, got {n}", app.limits.texts),
            ));
        }
        (1, _) => first.into_iter().zip([second]).collect(),
        (n, m) if n == m => first.into_iter().zip(second.into_iter().map(|text| vec![text])).collect(),
        (n, m) => {
            return Err(ApiError::invalid("text_2", format!("expected {n} texts as in `text_1`, got {m}")));
        }
    };
    let (scores, n_tokens) = scored(&app, &caller, &model, pairs).await?;
    let one = |(index, score): (usize, f32)| json!({"index": index, "object": "score", "score": score});
    let data: Vec<Value> = scores.into_iter().enumerate().map(one).collect();
    Ok(Json(json!({
        "id": app.new_id("score-"),
        "object": "list",
        "created": now_s(),
        "model": model.card.name,
        "data": data,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    })))
}

/// One score for each document of each query, and the tokens that were read.
async fn scored(
    app: &App,
    caller: &Caller,
    model: &Arc<ServedModel>,
    pairs: Vec<(String, Vec<String>)>,
) -> ApiResult<(Vec<f32>, usize)> {
    if model.rerank.is_none() && model.embed.is_none() {
        return Err(cannot(model, "rank texts"));
    }
    let reader = model.clone();
    app.batch(caller, model, move || {
        let mut scores = Vec::new();
        let mut n_tokens = 0;
        for (query, documents) in &pairs {
            let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
            n_tokens +=
                documents.iter().map(|text| count(&reader, query) + count(&reader, text)).sum::<usize>();
            scores.extend(near(&reader, query, &documents)?);
        }
        Ok((scores, n_tokens))
    })
    .await
}

fn near(model: &ServedModel, query: &str, documents: &[&str]) -> Result<Vec<f32>, ModelError> {
    if let Some(rerank) = &model.rerank {
        return rerank.rerank(query, documents);
    }
    let Some(embed) = &model.embed else { return Ok(Vec::new()) };
    let query = embed.embed(&[query], EmbedKind::Query)?.remove(0);
    let documents = embed.embed(documents, EmbedKind::Document)?;
    Ok(documents.iter().map(|document| cosine(&query, document)).collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()).max(f32::MIN_POSITIVE)
}
