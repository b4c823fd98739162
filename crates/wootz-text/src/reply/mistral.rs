//! Mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}, "id": …}, …]`, and since 2025 `[TOOL_CALLS]name[ARGS]{…}`, each
//! call with its own mark, sometimes `[CALL_ID]id` between them.

use super::calls::{Calls, KEYS, Scan};
use super::json_value::JsonObject;
use super::marker::Markers;
use super::{Body, Deltas};

const OPEN: &str = "[TOOL_CALLS]";

pub(super) struct Mistral {
    open: Markers,
    state: State,
}

enum State {
    Text,
    /// Right after the mark.
    Opened(String),
    List(Box<Calls>),
    /// Name, then perhaps an id, until the arguments begin.
    Header {
        text: String,
    },
    Arguments(JsonObject),
}

impl Mistral {
    pub(super) fn new() -> Self {
        Self { open: Markers::new(&[OPEN]), state: State::Text }
    }

    fn text(&mut self, c: char, out: &mut Deltas) {
        let found = self.open.feed(c);
        out.text(&found.text);
        if found.marker.is_some() {
            self.state = State::Opened(String::new());
        }
    }

    fn list(&mut self, mut calls: Box<Calls>, c: char, out: &mut Deltas) {
        if calls.feed(c, out) == Scan::More {
            self.state = State::List(calls);
            return;
        }
        leave(&mut calls, out);
        self.text(c, out);
    }

    fn header(&mut self, mut text: String, c: char, out: &mut Deltas) {
        if c != '{' {
            text.push(c);
            let too_long = text.len() > 256;
            let is_other = c == '\n' || too_long || text.strip_suffix(OPEN).is_some();
            if is_other {
                out.text(OPEN);
                out.text(&text);
            } else {
                self.state = State::Header { text };
            }
            return;
        }
        let head = text.strip_suffix("[ARGS]").unwrap_or(&text);
        let (name, id) = match head.split_once("[CALL_ID]") {
            Some((name, id)) => (name, Some(id.trim().to_owned())),
            None => (head, None),
        };
        out.call(id, name.trim());
        out.arguments("{");
        let mut object = JsonObject::default();
        object.feed('{');
        self.state = State::Arguments(object);
    }
}

fn leave(calls: &mut Calls, out: &mut Deltas) {
    let rest = calls.take_rest();
    if !calls.has_calls() {
        out.text(OPEN);
    }
    out.text(&rest);
}

impl Body for Mistral {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        match std::mem::replace(&mut self.state, State::Text) {
            State::Text => self.text(c, out),
            State::Opened(space) if c.is_whitespace() => {
                self.state = State::Opened(space + c.encode_utf8(&mut [0; 4]))
            }
            State::Opened(_) if c == '[' || c == '{' => self.list(Box::new(Calls::new(KEYS, None)), c, out),
            State::Opened(space) => self.header(space, c, out),
            State::List(calls) => self.list(calls, c, out),
            State::Header { text } => self.header(text, c, out),
            State::Arguments(mut object) => {
                out.arguments(c.encode_utf8(&mut [0; 4]));
                if !object.feed(c) {
                    self.state = State::Arguments(object);
                }
            }
        }
    }

    fn finish(&mut self, out: &mut Deltas) {
        match std::mem::replace(&mut self.state, State::Text) {
            State::Text => {
                let rest = self.open.finish();
                out.text(&rest);
            }
            State::Opened(text) | State::Header { text } => {
                out.text(OPEN);
                out.text(&text);
            }
            State::List(mut calls) => leave(&mut calls, out),
            State::Arguments(_) => {}
        }
    }
}
