//! `POST /v1/responses`
//!
//! Where:  the turn is answered by [`answer`](crate::answer).
//! Idea:   an answer is a list of items (thoughts, message, calls). A stream opens one item at a time; the whole answer is
//!         the items that the same writer would have closed, so both are made by one type.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wootz_text::{FinishReason, ReplyDelta, Usage};

use super::wire::response::ResponseRequest;
use crate::answer::{Answering, Said};
use crate::api_error::ApiResult;
use crate::app::{App, now_s};
use crate::bridge::Place;
use crate::http::body::WireBody;
use crate::http::json::Json;
use crate::sse::{self, Gone, Kind, Writer};

/// Answers a list of items.
pub(super) async fn responses(
    State(app): State<App>,
    place: Place,
    WireBody(request): WireBody<ResponseRequest>,
) -> ApiResult<Response> {
    let stream = request.stream;
    let model = app.open(&request.model).await?;
    let head = json!({
        "id": app.new_id("resp_"),
        "object": "response",
        "created_at": now_s(),
        "model": model.card.name,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature.unwrap_or(1.0),
        "top_p": request.top_p.unwrap_or(1.0),
        "error": null,
        "incomplete_details": null,
        "metadata": {},
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "store": false,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
    });
    let turn = request.validate(&app.limits)?;
    let answering = app.answer(&place, &model, turn).await?;
    let task_app = app.clone();
    if !stream {
        let mut items = Items::new(task_app, head, None);
        return items.fill(answering).await.map(|()| Json(items.response()).into_response());
    }
    Ok(sse::respond(&app, Kind::Events, move |writer| async move {
        let mut items = Items::new(task_app, head, Some(Arc::new(writer)));
        items.stream(answering).await;
    }))
}

/// The items of an answer while it grows; told as events where there is a writer.
struct Items {
    app: App,
    head: Value,
    writer: Option<Arc<Writer>>,
    n_events: u64,
    done: Vec<Value>,
    open: Option<Item>,
    reason: FinishReason,
    usage: Option<Usage>,
    is_gone: bool,
}

/// An item that is not complete.
struct Item {
    kind: ItemKind,
    id: String,
    text: String,
    call: Value,
}

#[derive(Clone, Copy, PartialEq)]
enum ItemKind {
    Reasoning,
    Message,
    Call,
}

impl Item {
    /// As it stands in `output`.
    fn shown(&self, status: &str) -> Value {
        match self.kind {
            ItemKind::Reasoning => json!({
                "id": self.id, "type": "reasoning", "status": status, "summary": [],
                "content": [{"type": "reasoning_text", "text": self.text}],
            }),
            ItemKind::Message => json!({
                "id": self.id, "type": "message", "role": "assistant", "status": status,
                "content": [part(&self.text)],
            }),
            ItemKind::Call => {
                let mut call = self.call.clone();
                call["arguments"] = self.text.clone().into();
                call["status"] = status.into();
                call
            }
        }
    }

    /// As it is when nothing was said of it.
    fn opened(&self) -> Value {
        let mut item = self.shown("in_progress");
        if self.kind != ItemKind::Call {
            item["content"] = json!([]);
        }
        item
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

impl Items {
    fn new(app: App, head: Value, writer: Option<Arc<Writer>>) -> Self {
        let reason = FinishReason::Stop;
        Self {
            app,
            head,
            writer,
            n_events: 0,
            done: Vec::new(),
            open: None,
            reason,
            usage: None,
            is_gone: false,
        }
    }

    async fn fill(&mut self, mut answering: Answering) -> ApiResult<()> {
        while let Some(said) = answering.next().await? {
            self.take(said).await;
            if self.is_gone {
                break;
            }
        }
        Ok(())
    }

    async fn stream(&mut self, answering: Answering) {
        self.tell("response.created", json!({"response": self.response()})).await;
        self.tell("response.in_progress", json!({"response": self.response()})).await;
        match self.fill(answering).await {
            Ok(()) => {
                let response = self.response();
                let name = if self.is_cut() { "response.incomplete" } else { "response.completed" };
                self.tell(name, json!({"response": response})).await;
            }
            Err(error) => {
                let code = error.openai()["error"]["code"].clone();
                self.tell("error", json!({"code": code, "message": error.message, "param": error.param}))
                    .await;
            }
        }
    }

    async fn take(&mut self, said: Said) {
        match said {
            Said::More { deltas, .. } => self.add(deltas).await,
            Said::End { deltas, reason, .. } => {
                self.add(deltas).await;
                self.close().await;
                self.reason = reason;
            }
            Said::Usage(usage) => self.usage = Some(usage),
        }
    }

    async fn add(&mut self, deltas: Vec<ReplyDelta>) {
        for delta in deltas {
            match delta {
                ReplyDelta::Reasoning(text) => self.say(ItemKind::Reasoning, text).await,
                ReplyDelta::Text(text) => self.say(ItemKind::Message, text).await,
                ReplyDelta::Arguments(text) => self.say(ItemKind::Call, text).await,
                ReplyDelta::Call { id, name } => {
                    self.close().await;
                    let call_id = id.unwrap_or_else(|| self.app.new_id("call_"));
                    let id = self.app.new_id("fc_");
                    let call = json!({"id": id, "type": "function_call", "call_id": call_id, "name": name});
                    self.begin(Item { kind: ItemKind::Call, id, text: String::new(), call }).await;
                }
            }
        }
    }

    /// More of an item of this kind, which is opened if need be.
    async fn say(&mut self, kind: ItemKind, text: String) {
        if self.open.as_ref().is_none_or(|item| item.kind != kind) {
            self.close().await;
            let id = self.app.new_id(if kind == ItemKind::Reasoning { "rs_" } else { "msg_" });
            self.begin(Item { kind, id, text: String::new(), call: Value::Null }).await;
        }
        let item = self.open.as_mut().expect("an item was opened");
        item.text.push_str(&text);
        let (name, mut event) = match kind {
            ItemKind::Reasoning => ("response.reasoning_text.delta", json!({"content_index": 0})),
            ItemKind::Message => ("response.output_text.delta", json!({"content_index": 0, "logprobs": []})),
            ItemKind::Call => ("response.function_call_arguments.delta", json!({})),
        };
        event["item_id"] = item.id.clone().into();
        event["output_index"] = self.done.len().into();
        event["delta"] = text.into();
        self.tell(name, event).await;
    }

    async fn begin(&mut self, item: Item) {
        let index = self.done.len();
        self.tell("response.output_item.added", json!({"output_index": index, "item": item.opened()})).await;
        if item.kind == ItemKind::Message {
            let event =
                json!({"item_id": item.id, "output_index": index, "content_index": 0, "part": part("")});
            self.tell("response.content_part.added", event).await;
        }
        self.open = Some(item);
    }

    async fn close(&mut self) {
        let Some(item) = self.open.take() else { return };
        let index = self.done.len();
        let at = json!({"item_id": item.id, "output_index": index});
        let with = |more: Value| {
            let mut event = at.clone();
            for (key, value) in more.as_object().into_iter().flatten() {
                event[key] = value.clone();
            }
            event
        };
        match item.kind {
            ItemKind::Reasoning => {
                let event = with(json!({"content_index": 0, "text": item.text}));
                self.tell("response.reasoning_text.done", event).await;
            }
            ItemKind::Message => {
                let event = with(json!({"content_index": 0, "text": item.text, "logprobs": []}));
                self.tell("response.output_text.done", event).await;
                let event = with(json!({"content_index": 0, "part": part(&item.text)}));
                self.tell("response.content_part.done", event).await;
            }
            ItemKind::Call => {
                let event = with(json!({"arguments": item.text, "name": item.call["name"]}));
                self.tell("response.function_call_arguments.done", event).await;
            }
        }
        let shown = item.shown("completed");
        self.tell("response.output_item.done", json!({"output_index": index, "item": shown})).await;
        self.done.push(shown);
    }

    async fn tell(&mut self, name: &str, mut event: Value) {
        let Some(writer) = self.writer.clone().filter(|_| !self.is_gone) else { return };
        event["type"] = name.into();
        event["sequence_number"] = self.n_events.into();
        self.n_events += 1;
        let sent: Result<(), Gone> = writer.event(name, &event).await;
        self.is_gone = sent.is_err();
    }

    fn is_cut(&self) -> bool {
        self.reason == FinishReason::Length
    }

    /// `response`, as far as it is.
    fn response(&self) -> Value {
        let mut response = self.head.clone();
        let status = match self.usage {
            None => "in_progress",
            Some(_) if self.is_cut() => "incomplete",
            Some(_) => "completed",
        };
        response["status"] = status.into();
        response["output"] = self.done.clone().into();
        response["usage"] = self.usage.map_or(Value::Null, |usage| {
            json!({
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            })
        });
        if status == "incomplete" {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response
    }
}
