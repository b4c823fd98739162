//! `POST /v1/messages` and `/v1/messages/count_tokens`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wootz_text::Prompt;

use super::answer::{Events, WireAnswer};
use super::wire::{CountRequest, MessagesRequest};
use crate::answer::{Answering, Said};
use crate::api_error::ApiResult;
use crate::app::App;
use crate::bridge::{Place, cannot};
use crate::http::body::WireBody;
use crate::http::dialect;
use crate::http::json::Json;
use crate::sse::{self, Gone, Kind, Writer};

/// Answers a conversation.
pub(super) async fn messages(
    State(app): State<App>,
    place: Place,
    WireBody(request): WireBody<MessagesRequest>,
) -> ApiResult<Response> {
    let stream = request.stream;
    let model = app.open(&request.model).await?;
    let turn = request.validate(&app.limits)?;
    let stops = turn.sampling.stop.clone();
    let answering = app.answer(&place, &model, turn).await?;
    if !stream {
        let answer = answering.whole().await?;
        return Ok(Json(WireAnswer::new(&app, &model.card.name, &stops, answer)).into_response());
    }
    let task_app = app.clone();
    Ok(sse::respond(&app, Kind::Events, move |writer| async move {
        let _ = stream_answer(&task_app, &model.card.name, &stops, answering, &writer).await;
    }))
}

async fn stream_answer(
    app: &App,
    model: &str,
    stops: &[String],
    mut answering: Answering,
    writer: &Writer,
) -> Result<(), Gone> {
    let mut events = Events::begin(app, writer, model).await?;
    loop {
        match answering.next().await {
            Ok(Some(Said::More { deltas, .. })) => events.add(deltas).await?,
            Ok(Some(Said::End { deltas, reason, .. })) => {
                events.add(deltas).await?;
                events.end(reason, stops).await?;
            }
            Ok(Some(Said::Usage(usage))) => events.usage(usage).await?,
            Ok(None) => return Ok(()),
            Err(error) => return writer.event("error", &dialect::anthropic(&error)).await,
        }
    }
}

/// Counts the tokens that a conversation would be.
pub(super) async fn count_tokens(
    State(app): State<App>,
    WireBody(request): WireBody<CountRequest>,
) -> ApiResult<Json<Value>> {
    let model = app.open(&request.model).await?;
    let turn = request.validate(&app.limits)?;
    app.blocking(move || {
        let tokenize = model.tokenize.as_ref().ok_or_else(|| cannot(&model, "tell its tokens"))?;
        let prompt = Prompt::Chat {
            messages: turn.messages,
            tools: turn.tools,
            variables: turn.variables,
            continues: turn.continues,
        };
        Ok(Json(json!({"input_tokens": tokenize(prompt)?.len()})))
    })
    .await
}
