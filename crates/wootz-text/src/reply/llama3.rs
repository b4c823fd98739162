//! Llama 3.1 to 3.3: a reply that is nothing but `{"name": …, "parameters": {…}}`, several with `;` between them, or, after
//! `<|python_tag|>`, the same, a built-in tool (`brave_search.call(query="…")`), or a program.

use super::calls::{Calls, KEYS, Scan};
use super::marker::Markers;
use super::python::{CodeCall, tell_calls};
use super::{Body, Deltas};

const TAG: &str = "<|python_tag|>";
/// What a program is given to, if there is such a tool.
const INTERPRETERS: &[&str] = &["python", "code_interpreter", "ipython"];

pub(super) struct Llama3 {
    tag: Markers,
    state: State,
    known: Vec<String>,
}

enum State {
    /// Nothing but white space has come.
    Start(String),
    /// The reply is calls so far.
    Bare(Calls),
    Text,
    /// Right after the tag.
    Tagged,
    Json(Calls),
    Code(String),
}

impl Llama3 {
    /// `known` are the tools that the model was given: a bare object that names none of them is an answer.
    pub(super) fn new(known: Vec<String>) -> Self {
        Self { tag: Markers::new(&[TAG]), state: State::Start(String::new()), known }
    }

    fn text(&mut self, c: char, out: &mut Deltas) {
        let found = self.tag.feed(c);
        out.text(&found.text);
        self.state = if found.marker.is_some() { State::Tagged } else { State::Text };
    }

    fn calls(&mut self, mut calls: Calls, is_bare: bool, c: char, out: &mut Deltas) {
        if calls.feed(c, out) == Scan::More {
            self.state = if is_bare { State::Bare(calls) } else { State::Json(calls) };
            return;
        }
        self.leave(calls, is_bare, out);
        self.text(c, out);
    }

    fn leave(&self, mut calls: Calls, is_bare: bool, out: &mut Deltas) {
        let rest = calls.take_rest();
        if !is_bare && !calls.has_calls() {
            out.text(TAG);
        }
        out.text(&rest);
    }

    fn tell_code(&self, code: &str, out: &mut Deltas) {
        if tell_calls(code, out) {
            return;
        }
        match self.known.iter().find(|name| INTERPRETERS.contains(&name.as_str())) {
            Some(name) => {
                let mut call = CodeCall::begin(name, out);
                code.chars().for_each(|c| call.feed(c, out));
                call.end(out);
            }
            None => out.text(&[TAG, code].concat()),
        }
    }
}

impl Body for Llama3 {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        match std::mem::replace(&mut self.state, State::Text) {
            State::Start(space) if c.is_whitespace() => {
                self.state = State::Start(space + c.encode_utf8(&mut [0; 4]))
            }
            State::Start(space) if c == '{' && !self.known.is_empty() => {
                out.text(&space);
                self.calls(Calls::new(KEYS, Some(self.known.clone())), true, c, out);
            }
            State::Start(space) => {
                out.text(&space);
                self.text(c, out);
            }
            State::Bare(calls) => self.calls(calls, true, c, out),
            State::Text => self.text(c, out),
            State::Tagged if c.is_whitespace() => self.state = State::Tagged,
            State::Tagged if c == '{' => self.calls(Calls::new(KEYS, None), false, c, out),
            State::Tagged => self.state = State::Code(c.to_string()),
            State::Json(calls) => self.calls(calls, false, c, out),
            State::Code(code) => self.state = State::Code(code + c.encode_utf8(&mut [0; 4])),
        }
    }

    fn finish(&mut self, out: &mut Deltas) {
        match std::mem::replace(&mut self.state, State::Text) {
            State::Start(space) => out.text(&space),
            State::Bare(calls) => self.leave(calls, true, out),
            State::Text => {
                let rest = self.tag.finish();
                out.text(&rest);
            }
            State::Tagged => out.text(TAG),
            State::Json(calls) => self.leave(calls, false, out),
            State::Code(code) => self.tell_code(&code, out),
        }
    }
}
