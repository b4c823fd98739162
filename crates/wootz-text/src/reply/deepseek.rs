//! DeepSeek V3 and R1: `<｜tool▁calls▁begin｜>`, per call `<｜tool▁call▁begin｜>function<｜tool▁sep｜>name`, a fence with JSON,
//! `<｜tool▁call▁end｜>`; V3.1: `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`.

use super::json_value::JsonObject;
use super::marker::Markers;
use super::{Body, Deltas};

const BEGIN: usize = 0;
const SEPARATOR: usize = 1;
const MARKS: &[&str] = &[
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
];

pub(super) struct DeepSeek {
    markers: Markers,
    state: State,
}

enum State {
    Text,
    /// Between the beginning of a call and its separator: a type, or the name.
    Header(String),
    /// After the separator, before the arguments; the header again.
    Name(String, String),
    Arguments(JsonObject),
    /// After the arguments, until the call's end.
    Tail,
}

impl DeepSeek {
    pub(super) fn new() -> Self {
        Self { markers: Markers::new(MARKS), state: State::Text }
    }

    fn mark(&mut self, mark: usize, out: &mut Deltas) {
        self.state = match (std::mem::replace(&mut self.state, State::Text), mark) {
            (_, BEGIN) => State::Header(String::new()),
            (State::Header(header), SEPARATOR) => State::Name(header, String::new()),
            (State::Name(header, name), _) => {
                // A call without arguments.
                tell(&header, &name, out);
                out.arguments("{}");
                State::Text
            }
            _ => State::Text,
        };
    }

    fn character(&mut self, c: char, out: &mut Deltas) {
        self.state = match std::mem::replace(&mut self.state, State::Text) {
            State::Text => {
                out.text_char(c);
                State::Text
            }
            State::Header(header) => State::Header(header + c.encode_utf8(&mut [0; 4])),
            State::Name(header, name) if c == '{' => {
                tell(&header, &name, out);
                out.arguments("{");
                let mut object = JsonObject::default();
                object.feed(c);
                State::Arguments(object)
            }
            State::Name(header, name) => State::Name(header, name + c.encode_utf8(&mut [0; 4])),
            State::Arguments(mut object) => {
                out.arguments(c.encode_utf8(&mut [0; 4]));
                if object.feed(c) { State::Tail } else { State::Arguments(object) }
            }
            State::Tail => State::Tail,
        };
    }
}

/// The name stands before the separator or after it, there followed by the opening of a fence.
fn tell(header: &str, name: &str, out: &mut Deltas) {
    let after = name.trim().trim_end_matches("```json").trim_end_matches("```").trim();
    out.call(None, if after.is_empty() { header.trim() } else { after });
}

impl Body for DeepSeek {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        // Arguments are JSON to their last bracket, whatever stands in their strings.
        if matches!(self.state, State::Arguments(_)) {
            return self.character(c, out);
        }
        let found = self.markers.feed(c);
        found.text.chars().for_each(|c| self.character(c, out));
        if let Some(mark) = found.marker {
            self.mark(mark, out);
        }
    }

    fn finish(&mut self, out: &mut Deltas) {
        let rest = self.markers.finish();
        rest.chars().for_each(|c| self.character(c, out));
        match std::mem::replace(&mut self.state, State::Text) {
            State::Header(header) => out.text(&(MARKS[BEGIN].to_owned() + &header)),
            State::Name(header, name) => {
                out.text(&[MARKS[BEGIN], &header, MARKS[SEPARATOR], &name].concat());
            }
            State::Text | State::Arguments(_) | State::Tail => {}
        }
    }
}
