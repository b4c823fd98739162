//! `POST /v1/chat/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::wire::chat::ChatRequest;
use super::wire::chat_answer::{ChatCompletion, Chunker, Frame};
use crate::answer::{Answering, Said};
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::bridge::Place;
use crate::catalog::ServedModel;
use crate::http::body::WireBody;
use crate::http::json::Json;
use crate::sse::{self, Gone, Kind, Writer};

/// Answers a conversation, whole or as it is made.
pub(super) async fn chat_completions(
    State(app): State<App>,
    place: Place,
    WireBody(mut request): WireBody<ChatRequest>,
) -> ApiResult<Response> {
    let (stream, with_usage) = (request.stream, request.stream_options.include_usage);
    let model = app.open(&request.model).await?;
    let begins = std::mem::take(&mut request.answer_token_ids);
    let turn = request.validate(&app.limits)?;
    let n = turn.sampling.n;
    let answering = app.answer_from(&place, &model, turn, begins).await?;
    if !stream {
        let frame = Frame::new(&app, &model);
        return Ok(Json(ChatCompletion::new(&app, frame, answering.whole().await?)).into_response());
    }
    let task_app = app.clone();
    Ok(sse::respond(&app, Kind::Events, move |writer| async move {
        let _ = stream_answer(&task_app, &model, answering, &writer, n, with_usage).await;
    }))
}

async fn stream_answer(
    app: &App,
    model: &Arc<ServedModel>,
    mut answering: Answering,
    writer: &Writer,
    n: usize,
    with_usage: bool,
) -> Result<(), Gone> {
    let mut chunker = Chunker::new(Frame::new(app, model), n);
    for choice in 0..n {
        writer.data(&chunker.begin(choice)).await?;
    }
    loop {
        match answering.next().await {
            Ok(Some(Said::More { choice, deltas, token })) => {
                if let Some(chunk) = chunker.more(app, choice, deltas, token) {
                    writer.data(&chunk).await?;
                }
            }
            Ok(Some(Said::End { choice, deltas, reason })) => {
                if let Some(chunk) = chunker.more(app, choice, deltas, None) {
                    writer.data(&chunk).await?;
                }
                writer.data(&chunker.end(choice, reason)).await?;
            }
            Ok(Some(Said::Usage(usage))) => {
                if with_usage {
                    writer.data(&chunker.usage(usage)).await?;
                }
            }
            Ok(None) => return writer.done().await,
            Err(error) => return tell(&error, writer).await,
        }
    }
}

/// An error after the head was sent: the last thing in the stream.
pub(super) async fn tell(error: &ApiError, writer: &Writer) -> Result<(), Gone> {
    writer.data(&error.openai()).await
}
