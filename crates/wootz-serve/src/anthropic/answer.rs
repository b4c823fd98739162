//! Anthropic's answers: whole, or as the events of a stream.
//!
//! Where:  made by the handlers beside this file.
//! Idea:   an answer is a list of blocks; in a stream one block is open at a time and a delta of another kind closes it.

use serde::Serialize;
use serde_json::{Value, json};
use wootz_text::{FinishReason, Reply, ReplyDelta, Usage};

use crate::answer::Answer;
use crate::app::Shared;
use crate::sse::{Gone, Writer};

/// `message`
#[derive(Debug, Serialize)]
pub(super) struct WireAnswer {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: String,
    content: Vec<Value>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<String>,
    usage: Value,
}

impl WireAnswer {
    pub(super) fn new(app: &Shared, model: &str, stops: &[String], mut answer: Answer) -> Self {
        let choice = answer.choices.swap_remove(0);
        let (stop_reason, stop_sequence) = end(choice.reason, stops);
        Self {
            content: blocks(app, choice.reply),
            stop_reason: Some(stop_reason),
            stop_sequence,
            usage: usage(answer.usage),
            ..Self::begun(app, model)
        }
    }

    fn begun(app: &Shared, model: &str) -> Self {
        Self {
            id: app.new_id("msg_"),
            kind: "message",
            role: "assistant",
            model: model.to_owned(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: usage(Usage::default()),
        }
    }
}

fn blocks(app: &Shared, reply: Reply) -> Vec<Value> {
    let mut blocks = Vec::new();
    if !reply.reasoning.is_empty() {
        blocks.push(json!({"type": "thinking", "thinking": reply.reasoning, "signature": ""}));
    }
    if !reply.text.is_empty() || (blocks.is_empty() && reply.calls.is_empty()) {
        blocks.push(json!({"type": "text", "text": reply.text, "citations": null}));
    }
    for call in reply.calls {
        let id = call.id.unwrap_or_else(|| app.new_id("toolu_"));
        // A call that was cut off is not lost: what there is of it stands in one field.
        let input = serde_json::from_str(&call.arguments).ok().filter(Value::is_object);
        let input = input.unwrap_or_else(|| json!({"_unfinished": call.arguments}));
        blocks.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": input}));
    }
    blocks
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens),
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    })
}

fn end(reason: FinishReason, stops: &[String]) -> (&'static str, Option<String>) {
    match reason {
        FinishReason::Stop => ("end_turn", None),
        FinishReason::StopString(i) => ("stop_sequence", stops.get(usize::from(i)).cloned()),
        FinishReason::Length => ("max_tokens", None),
        FinishReason::ToolCalls => ("tool_use", None),
        FinishReason::ContentFilter => ("refusal", None),
    }
}

/// Writes the events of a stream.
pub(super) struct Events<'a> {
    app: &'a Shared,
    writer: &'a Writer,
    open: Option<Kind>,
    n_blocks: usize,
    ended: Option<(FinishReason, Vec<String>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Thinking,
    Text,
    Call,
}

impl<'a> Events<'a> {
    pub(super) async fn begin(app: &'a Shared, writer: &'a Writer, model: &str) -> Result<Self, Gone> {
        let message = WireAnswer::begun(app, model);
        writer.event("message_start", &json!({"type": "message_start", "message": message})).await?;
        writer.event("ping", &json!({"type": "ping"})).await?;
        Ok(Self { app, writer, open: None, n_blocks: 0, ended: None })
    }

    pub(super) async fn add(&mut self, deltas: Vec<ReplyDelta>) -> Result<(), Gone> {
        for delta in deltas {
            match delta {
                ReplyDelta::Reasoning(text) => {
                    self.inside(
                        Kind::Thinking,
                        || json!({"type": "thinking", "thinking": "", "signature": ""}),
                    )
                    .await?;
                    self.delta(json!({"type": "thinking_delta", "thinking": text})).await?;
                }
                ReplyDelta::Text(text) => {
                    self.inside(Kind::Text, || json!({"type": "text", "text": ""})).await?;
                    self.delta(json!({"type": "text_delta", "text": text})).await?;
                }
                ReplyDelta::Call { id, name } => {
                    self.close().await?;
                    let id = id.unwrap_or_else(|| self.app.new_id("toolu_"));
                    let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                    self.inside(Kind::Call, || block).await?;
                }
                ReplyDelta::Arguments(json) => {
                    self.delta(json!({"type": "input_json_delta", "partial_json": json})).await?;
                }
            }
        }
        Ok(())
    }

    /// Opens a block of this kind unless it is open.
    async fn inside(&mut self, kind: Kind, block: impl FnOnce() -> Value) -> Result<(), Gone> {
        if self.open == Some(kind) {
            return Ok(());
        }
        self.close().await?;
        self.open = Some(kind);
        let event = json!({"type": "content_block_start", "index": self.n_blocks, "content_block": block()});
        self.writer.event("content_block_start", &event).await
    }

    async fn delta(&self, delta: Value) -> Result<(), Gone> {
        let event = json!({"type": "content_block_delta", "index": self.n_blocks, "delta": delta});
        self.writer.event("content_block_delta", &event).await
    }

    async fn close(&mut self) -> Result<(), Gone> {
        if self.open.take().is_none() {
            return Ok(());
        }
        let event = json!({"type": "content_block_stop", "index": self.n_blocks});
        self.n_blocks += 1;
        self.writer.event("content_block_stop", &event).await
    }

    /// The answer is complete; the numbers come later.
    pub(super) async fn end(&mut self, reason: FinishReason, stops: &[String]) -> Result<(), Gone> {
        self.close().await?;
        self.ended = Some((reason, stops.to_vec()));
        Ok(())
    }

    pub(super) async fn usage(&mut self, counted: Usage) -> Result<(), Gone> {
        let (reason, stops) = self.ended.take().unwrap_or((FinishReason::Stop, Vec::new()));
        let (stop_reason, stop_sequence) = end(reason, &stops);
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
        let event = json!({"type": "message_delta", "delta": delta, "usage": usage(counted)});
        self.writer.event("message_delta", &event).await?;
        self.writer.event("message_stop", &json!({"type": "message_stop"})).await
    }
}
