//! Gemma 3: Python calls in a fence, ` ```tool_code `, as Google's guide to function calling asks for; or the same as
//! `{"name": …, "parameters": {…}}`, which a form can hold to a schema.

use super::calls::{Calls, KEYS, Scan};
use super::marker::Markers;
use super::python::tell_calls;
use super::{Body, Deltas};

const OPEN: &str = "```tool_code";
const CLOSE: &str = "```";

pub(super) struct Gemma {
    open: Markers,
    close: Markers,
    state: State,
}

enum State {
    Text,
    /// What stands in an open fence, which is no JSON.
    Code(String),
    /// JSON in an open fence, behind this white space.
    Json(String, Box<Calls>),
    /// Calls were told; the fence is open.
    Tail(String),
}

impl Gemma {
    pub(super) fn new() -> Self {
        Self { open: Markers::new(&[OPEN]), close: Markers::new(&[CLOSE]), state: State::Text }
    }

    fn text(&mut self, c: char, out: &mut Deltas) {
        let found = self.open.feed(c);
        out.text(&found.text);
        self.state = if found.marker.is_some() { State::Code(String::new()) } else { State::Text };
    }

    fn code(&mut self, mut code: String, c: char, out: &mut Deltas) {
        if c == '{' && code.trim().is_empty() {
            return self.json(code, Box::new(Calls::new(KEYS, None)), c, out);
        }
        let found = self.close.feed(c);
        code.push_str(&found.text);
        if found.marker.is_none() {
            self.state = State::Code(code);
        } else if !tell_calls(&code, out) {
            out.text(&[OPEN, &code, CLOSE].concat());
        }
    }

    fn json(&mut self, space: String, mut calls: Box<Calls>, c: char, out: &mut Deltas) {
        if calls.feed(c, out) == Scan::More {
            self.state = State::Json(space, calls);
            return;
        }
        let rest = calls.take_rest();
        self.state = State::Tail(String::new());
        if !calls.has_calls() {
            self.state = State::Code(space + &rest);
        }
        self.feed(c, out);
    }
}

impl Body for Gemma {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        match std::mem::replace(&mut self.state, State::Text) {
            State::Text => self.text(c, out),
            State::Code(code) => self.code(code, c, out),
            State::Json(space, calls) => self.json(space, calls, c, out),
            State::Tail(mut rest) => {
                let found = self.close.feed(c);
                rest.push_str(&found.text);
                match found.marker {
                    Some(_) => out.text(rest.trim()),
                    None => self.state = State::Tail(rest),
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
            State::Code(code) => {
                let code = code + &self.close.finish();
                if !tell_calls(&code, out) {
                    out.text(&[OPEN, &code].concat());
                }
            }
            State::Json(space, mut calls) => {
                let rest = calls.take_rest();
                if !calls.has_calls() {
                    out.text(&[OPEN, &space].concat());
                }
                out.text(&rest);
            }
            State::Tail(rest) => out.text(&[rest.trim(), &self.close.finish()].concat()),
        }
    }
}
