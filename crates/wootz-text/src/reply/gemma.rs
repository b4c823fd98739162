//! Gemma 3: Python calls in a fence, ` ```tool_code `, as Google's guide to function calling asks for.

use super::marker::Markers;
use super::python::tell_calls;
use super::{Body, Deltas};

const OPEN: &str = "```tool_code";
const CLOSE: &str = "```";

pub(super) struct Gemma {
    open: Markers,
    close: Markers,
    /// What stands in an open fence.
    code: Option<String>,
}

impl Gemma {
    pub(super) fn new() -> Self {
        Self { open: Markers::new(&[OPEN]), close: Markers::new(&[CLOSE]), code: None }
    }
}

impl Body for Gemma {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        let Some(code) = &mut self.code else {
            let found = self.open.feed(c);
            out.text(&found.text);
            self.code = found.marker.map(|_| String::new());
            return;
        };
        let found = self.close.feed(c);
        code.push_str(&found.text);
        if found.marker.is_some() {
            let code = self.code.take().expect("a fence is open");
            if !tell_calls(&code, out) {
                out.text(&[OPEN, &code, CLOSE].concat());
            }
        }
    }

    fn finish(&mut self, out: &mut Deltas) {
        let rest = self.open.finish();
        out.text(&rest);
        if let Some(code) = self.code.take() {
            let code = code + &self.close.finish();
            if !tell_calls(&code, out) {
                out.text(&[OPEN, &code].concat());
            }
        }
    }
}
