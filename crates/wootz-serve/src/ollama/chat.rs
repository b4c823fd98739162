//! `POST /api/chat` and `/api/generate`
//!
//! Where:  the conversation's turn is answered by [`answer`](crate::answer), a raw text by the bridge.
//! Idea:   both addresses tell the same deltas, one as `message`, the other as `response`. Calls are told whole.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use wootz_text::{FinishReason, GenerateEvent, Reply, ReplyDelta, Usage};

use super::keep_alive::stay;
use super::plain_name;
use super::wire::{ChatRequest, Generate, GenerateRequest};
use crate::answer::{Answering, Said};
use crate::api_error::ApiResult;
use crate::app::App;
use crate::bridge::{Generation, Place};
use crate::catalog::Stay;
use crate::http::body::WireBody;
use crate::http::json::Json;
use crate::http::{dialect, timestamp};
use crate::sse::{self, Gone, Kind, Writer};

/// Answers a conversation.
pub(super) async fn chat(
    State(app): State<App>,
    place: Place,
    WireBody(request): WireBody<ChatRequest>,
) -> ApiResult<Response> {
    let clock = Clock::start(&request.model);
    let (stream, stay) = (request.stream, stay(request.keep_alive.as_ref())?);
    let name = plain_name(&request.model).to_owned();
    let Some(turn) = request.validate(&app.limits)? else {
        return Ok(Json(load(&app, clock, &name, stay, Shape::Message).await?).into_response());
    };
    let model = app.open_for(&name, stay).await?;
    let clock = clock.loaded();
    let source = Source::Turn(app.answer(&place, &model, turn).await?);
    tell(app, source, clock, Shape::Message, stream).await
}

/// Continues or answers one text.
pub(super) async fn generate(
    State(app): State<App>,
    place: Place,
    WireBody(request): WireBody<GenerateRequest>,
) -> ApiResult<Response> {
    let clock = Clock::start(&request.model);
    let (stream, stay) = (request.stream, stay(request.keep_alive.as_ref())?);
    let name = plain_name(&request.model).to_owned();
    let wanted = request.validate()?;
    if matches!(wanted, Generate::Load) {
        return Ok(Json(load(&app, clock, &name, stay, Shape::Response).await?).into_response());
    }
    let model = app.open_for(&name, stay).await?;
    let clock = clock.loaded();
    let source = match wanted {
        Generate::Load => unreachable!("answered above"),
        Generate::Raw(text, sampling) => {
            let request = wootz_text::GenerateRequest::new(text, sampling);
            Source::Raw(app.generate(&place, &model, request).await?)
        }
        Generate::Turn(turn) => Source::Turn(app.answer(&place, &model, turn).await?),
    };
    tell(app, source, clock, Shape::Response, stream).await
}

/// A request without a text only loads a model, or puts it away.
async fn load(app: &App, clock: Clock, name: &str, stay: Stay, shape: Shape) -> ApiResult<Value> {
    if stay == Stay::For(Duration::ZERO) && app.catalog.list().iter().any(|card| card.name == name) {
        app.catalog.put_away(name);
        return Ok(clock.loaded_answer(shape, "unload"));
    }
    app.open_for(name, stay).await?;
    Ok(clock.loaded_answer(shape, "load"))
}

/// Which of the two addresses answers.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Message,
    Response,
}

impl Shape {
    /// A line's own part.
    fn content(self, reply: Reply) -> (&'static str, Value) {
        match self {
            Self::Response => ("response", reply.text.into()),
            Self::Message => {
                let mut message = json!({"role": "assistant", "content": reply.text});
                if !reply.reasoning.is_empty() {
                    message["thinking"] = reply.reasoning.into();
                }
                if !reply.calls.is_empty() {
                    let call = |call: wootz_text::ReplyCall| {
                        let arguments: Value = serde_json::from_str(&call.arguments)
                            .unwrap_or_else(|_| json!({"_unfinished": call.arguments}));
                        json!({"function": {"name": call.name, "arguments": arguments}})
                    };
                    message["tool_calls"] = reply.calls.into_iter().map(call).collect();
                }
                ("message", message)
            }
        }
    }
}

/// Where deltas come from.
enum Source {
    Turn(Answering),
    Raw(Generation),
}

impl Source {
    async fn next(&mut self) -> ApiResult<Option<Said>> {
        match self {
            Self::Turn(answering) => answering.next().await,
            Self::Raw(generation) => Ok(generation.next().await?.map(|event| match event {
                GenerateEvent::Token(token) => {
                    let deltas =
                        if token.text.is_empty() { Vec::new() } else { vec![ReplyDelta::Text(token.text)] };
                    Said::More { choice: 0, deltas, token: None }
                }
                GenerateEvent::Finished { reason, .. } => Said::End { choice: 0, deltas: Vec::new(), reason },
                GenerateEvent::Usage(usage) => Said::Usage(usage),
                GenerateEvent::Error(_) => unreachable!("the bridge turns error events into errors"),
            })),
        }
    }
}

/// The times that Ollama reports.
struct Clock {
    model: String,
    start: Instant,
    load: Duration,
    first: Option<Duration>,
}

impl Clock {
    fn start(model: &str) -> Self {
        Self { model: model.to_owned(), start: Instant::now(), load: Duration::ZERO, first: None }
    }

    fn loaded(self) -> Self {
        Self { load: self.start.elapsed(), ..self }
    }

    fn line(&self, done: bool) -> Map<String, Value> {
        let line = json!({"model": self.model, "created_at": timestamp::now(), "done": done});
        let Value::Object(line) = line else { unreachable!("an object was written") };
        line
    }

    fn loaded_answer(&self, shape: Shape, done: &str) -> Value {
        let mut line = self.line(true);
        let (key, content) = shape.content(Reply::default());
        line.insert(key.into(), content);
        line.insert("done_reason".into(), done.into());
        Value::Object(line)
    }

    /// The last line's numbers, in nanoseconds.
    fn end(&self, reason: FinishReason, usage: Usage) -> Map<String, Value> {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let total = self.start.elapsed();
        let first = self.first.unwrap_or(total);
        let end = json!({
            "done_reason": match reason { FinishReason::Length => "length", _ => "stop" },
            "total_duration": ns(total),
            "load_duration": ns(self.load),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": ns(first.saturating_sub(self.load)),
            "eval_count": usage.completion_tokens,
            "eval_duration": ns(total.saturating_sub(first)),
        });
        let mut line = self.line(true);
        if let Value::Object(end) = end {
            line.extend(end);
        }
        line
    }
}

async fn tell(app: App, source: Source, clock: Clock, shape: Shape, stream: bool) -> ApiResult<Response> {
    if !stream {
        return Ok(Json(whole(source, clock, shape).await?).into_response());
    }
    Ok(sse::respond(&app, Kind::Lines, move |writer| async move {
        let _ = lines(source, clock, shape, &writer).await;
    }))
}

async fn whole(mut source: Source, mut clock: Clock, shape: Shape) -> ApiResult<Value> {
    let (mut reply, mut ended, mut counted) = (Reply::default(), FinishReason::Stop, Usage::default());
    while let Some(said) = source.next().await? {
        clock.first.get_or_insert_with(|| clock.start.elapsed());
        match said {
            Said::More { deltas, .. } => deltas.iter().for_each(|delta| reply.add(delta)),
            Said::End { deltas, reason, .. } => {
                deltas.iter().for_each(|delta| reply.add(delta));
                ended = reason;
            }
            Said::Usage(usage) => counted = usage,
        }
    }
    let mut line = clock.end(ended, counted);
    if shape == Shape::Response && !reply.reasoning.is_empty() {
        line.insert("thinking".into(), reply.reasoning.clone().into());
    }
    let (key, content) = shape.content(reply);
    line.insert(key.into(), content);
    Ok(Value::Object(line))
}

async fn lines(mut source: Source, mut clock: Clock, shape: Shape, writer: &Writer) -> Result<(), Gone> {
    // Calls are gathered until they are whole.
    let (mut calls, mut ended) = (Reply::default(), FinishReason::Stop);
    loop {
        let said = match source.next().await {
            Ok(Some(said)) => said,
            Ok(None) => return Ok(()),
            Err(error) => return writer.line(&dialect::ollama(&error)).await,
        };
        clock.first.get_or_insert_with(|| clock.start.elapsed());
        match said {
            Said::More { deltas, .. } => write(deltas, &mut calls, &clock, shape, writer).await?,
            Said::End { deltas, reason, .. } => {
                write(deltas, &mut calls, &clock, shape, writer).await?;
                if !calls.calls.is_empty() {
                    write_line(std::mem::take(&mut calls), &clock, shape, writer).await?;
                }
                ended = reason;
            }
            Said::Usage(usage) => {
                let mut line = clock.end(ended, usage);
                let (key, content) = shape.content(Reply::default());
                line.insert(key.into(), content);
                writer.line(&line).await?;
            }
        }
    }
}

async fn write(
    deltas: Vec<ReplyDelta>,
    calls: &mut Reply,
    clock: &Clock,
    shape: Shape,
    writer: &Writer,
) -> Result<(), Gone> {
    let mut now = Reply::default();
    for delta in deltas {
        match delta {
            ReplyDelta::Text(_) | ReplyDelta::Reasoning(_) => now.add(&delta),
            ReplyDelta::Call { .. } | ReplyDelta::Arguments(_) => calls.add(&delta),
        }
    }
    if now == Reply::default() { Ok(()) } else { write_line(now, clock, shape, writer).await }
}

async fn write_line(reply: Reply, clock: &Clock, shape: Shape, writer: &Writer) -> Result<(), Gone> {
    let mut line = clock.line(false);
    if shape == Shape::Response && !reply.reasoning.is_empty() {
        line.insert("thinking".into(), reply.reasoning.clone().into());
    }
    let (key, content) = shape.content(reply);
    line.insert(key.into(), content);
    writer.line(&line).await
}
