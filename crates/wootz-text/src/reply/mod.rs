//! What a model's raw text says: thoughts, answer, tool calls.
//!
//! Where:  used by whoever talks to a model that was given tools (serving, agents, evaluation), on text in which special
//!         tokens are spelled out ([`Sampling::keep_special`](crate::Sampling::keep_special)).
//! Idea:   a parser is a state machine that is fed character by character and answers with deltas. So the deltas cannot
//!         depend on how the text was cut, and the whole message is their sum: there is no second parser for it.
//! Elsewhere: writing calls into a prompt (the chat template).
//!
//! # Invariants
//! - Pushing a text in any pieces gives deltas that add up to the same [`Reply`].
//! - Nothing a model wrote is lost but markers and the white space around them; what looked like a call and is none
//!   stays text.

mod calls;
mod command_r;
mod deepseek;
mod form;
mod format;
mod functionary;
mod gemma;
mod granite;
mod hermes;
mod json_value;
mod llama3;
mod marked;
mod marker;
mod mistral;
mod phi;
mod python;
mod reasoning;
#[cfg(test)]
mod tests;

pub use form::{Form, FormRules, Free};
pub use format::{ReplyFormat, ToolFormat};

use reasoning::Reasoning;

/// A piece of what a model says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyDelta {
    /// More of its thoughts.
    Reasoning(String),
    /// More of its answer.
    Text(String),
    /// A tool call begins.
    Call {
        /// What ties the result to the call, where the model says.
        id: Option<String>,
        /// The tool.
        name: String,
    },
    /// More of the arguments of the call that began last: JSON in pieces.
    Arguments(String),
}

/// What a model said, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its thoughts.
    pub reasoning: String,
    /// Its answer.
    pub text: String,
    /// The calls it wants made, in order.
    pub calls: Vec<ReplyCall>,
}

/// A tool call as a model wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyCall {
    /// What ties the result to the call, where the model says.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// Its arguments; JSON unless the model was cut off or made a mistake.
    pub arguments: String,
}

impl Reply {
    /// Adds a delta.
    pub fn add(&mut self, delta: &ReplyDelta) {
        match delta {
            ReplyDelta::Reasoning(text) => self.reasoning.push_str(text),
            ReplyDelta::Text(text) => self.text.push_str(text),
            ReplyDelta::Call { id, name } => {
                self.calls.push(ReplyCall { id: id.clone(), name: name.clone(), arguments: String::new() })
            }
            ReplyDelta::Arguments(json) => {
                let call = self.calls.last_mut().expect("arguments follow the beginning of their call");
                call.arguments.push_str(json);
            }
        }
    }
}

/// Turns a model's text into deltas.
pub struct ReplyParser {
    reasoning: Reasoning,
    body: Box<dyn Body>,
    out: Deltas,
}

impl ReplyParser {
    /// A parser at the beginning of a reply. `tools` are those the model was given; `thinks_already` says that the prompt
    /// ended inside its thoughts ([`ReplyFormat::prompt_opens_reasoning`]).
    pub fn new(format: ReplyFormat, tools: &[crate::ToolSpec], thinks_already: bool) -> Self {
        let names = tools.iter().map(|tool| tool.name.clone()).collect();
        Self {
            reasoning: Reasoning::new(format.reasoning, thinks_already),
            body: format.body(names),
            out: Deltas::default(),
        }
    }

    /// What is certain after more text.
    pub fn push(&mut self, text: &str) -> Vec<ReplyDelta> {
        for c in text.chars() {
            self.reasoning.feed(c, self.body.as_mut(), &mut self.out);
        }
        self.out.take()
    }

    /// The rest, at the end of the reply.
    pub fn finish(&mut self) -> Vec<ReplyDelta> {
        self.reasoning.finish(self.body.as_mut(), &mut self.out);
        self.body.finish(&mut self.out);
        self.out.end();
        self.out.take()
    }
}

/// What stands after the thoughts: answer and calls.
trait Body: Send {
    fn feed(&mut self, c: char, out: &mut Deltas);
    fn finish(&mut self, out: &mut Deltas);
}

/// Text without calls.
struct Plain;

impl Body for Plain {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        out.text_char(c);
    }

    fn finish(&mut self, _out: &mut Deltas) {}
}

/// Collects deltas; equal neighbours become one. White space of the answer is held back until something follows, so that
/// none is left before a first call or between calls and a later answer.
#[derive(Default)]
struct Deltas {
    ready: Vec<ReplyDelta>,
    held_space: String,
    has_calls: bool,
    has_text: bool,
}

impl Deltas {
    fn text_char(&mut self, c: char) {
        if c.is_whitespace() {
            self.held_space.push(c);
            return;
        }
        let mut space = std::mem::take(&mut self.held_space);
        if self.has_calls && !self.has_text {
            space.clear();
        }
        self.has_text = true;
        match self.ready.last_mut() {
            Some(ReplyDelta::Text(text)) => {
                text.push_str(&space);
                text.push(c);
            }
            _ => self.ready.push(ReplyDelta::Text(space + c.encode_utf8(&mut [0; 4]))),
        }
    }

    fn text(&mut self, text: &str) {
        text.chars().for_each(|c| self.text_char(c));
    }

    fn reasoning(&mut self, text: &str) {
        match self.ready.last_mut() {
            _ if text.is_empty() => {}
            Some(ReplyDelta::Reasoning(thoughts)) => thoughts.push_str(text),
            _ => self.ready.push(ReplyDelta::Reasoning(text.to_owned())),
        }
    }

    fn call(&mut self, id: Option<String>, name: &str) {
        self.held_space.clear();
        self.has_calls = true;
        self.ready.push(ReplyDelta::Call { id, name: name.to_owned() });
    }

    fn arguments(&mut self, json: &str) {
        match self.ready.last_mut() {
            _ if json.is_empty() => {}
            Some(ReplyDelta::Arguments(arguments)) => arguments.push_str(json),
            _ => self.ready.push(ReplyDelta::Arguments(json.to_owned())),
        }
    }

    /// At the end, space after the last word of an answer belongs to it; after a call it belongs to nobody.
    fn end(&mut self) {
        let space = std::mem::take(&mut self.held_space);
        if !self.has_calls && !space.is_empty() {
            match self.ready.last_mut() {
                Some(ReplyDelta::Text(text)) => text.push_str(&space),
                _ => self.ready.push(ReplyDelta::Text(space)),
            }
        }
    }

    fn take(&mut self) -> Vec<ReplyDelta> {
        std::mem::take(&mut self.ready)
    }
}
