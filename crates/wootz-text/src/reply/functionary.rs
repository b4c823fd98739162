//! Functionary 3.2: every part is addressed, `>>>all` to the user, `>>>name` with JSON to a tool; 3.1 and Llama 3.1 with
//! its custom tools: `<function=name>{…}</function>`.

use super::json_value::JsonObject;
use super::marker::Markers;
use super::python::CodeCall;
use super::{Body, Deltas};

/// Version 3.2: the prompt ends with `>>>`, so a reply begins with an address.
pub(super) struct Addressed {
    markers: Markers,
    state: Address,
}

enum Address {
    /// The line that says to whom.
    Line(String),
    Text,
    /// Arguments have not begun.
    Opened(String),
    Arguments,
    Code(CodeCall),
}

impl Addressed {
    pub(super) fn new() -> Self {
        Self { markers: Markers::new(&[">>>"]), state: Address::Line(String::new()) }
    }

    fn character(&mut self, c: char, out: &mut Deltas) {
        self.state = match std::mem::replace(&mut self.state, Address::Text) {
            Address::Line(line) if c == '\n' => match line.trim() {
                "all" => Address::Text,
                name => Address::Opened(name.to_owned()),
            },
            Address::Line(line) if is_name_char(c) && line.len() < 256 => {
                Address::Line(line + c.encode_utf8(&mut [0; 4]))
            }
            Address::Line(line) => {
                // No address after all.
                out.text(&line);
                out.text_char(c);
                Address::Text
            }
            Address::Text => {
                out.text_char(c);
                Address::Text
            }
            Address::Opened(name) if c.is_whitespace() => Address::Opened(name),
            Address::Opened(name) if c == '{' => {
                out.call(None, &name);
                out.arguments("{");
                Address::Arguments
            }
            Address::Opened(name) => {
                let mut code = CodeCall::begin(&name, out);
                code.feed(c, out);
                Address::Code(code)
            }
            Address::Arguments => {
                out.arguments(c.encode_utf8(&mut [0; 4]));
                Address::Arguments
            }
            Address::Code(mut code) => {
                code.feed(c, out);
                Address::Code(code)
            }
        };
    }

    fn close(&mut self, out: &mut Deltas) {
        match std::mem::replace(&mut self.state, Address::Line(String::new())) {
            Address::Opened(name) => {
                out.call(None, &name);
                out.arguments("{}");
            }
            Address::Code(code) => code.end(out),
            Address::Line(line) => out.text(&line),
            Address::Text | Address::Arguments => {}
        }
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-. ".contains(c)
}

impl Body for Addressed {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        let found = self.markers.feed(c);
        found.text.chars().for_each(|c| self.character(c, out));
        if found.marker.is_some() {
            self.close(out);
        }
    }

    fn finish(&mut self, out: &mut Deltas) {
        let rest = self.markers.finish();
        rest.chars().for_each(|c| self.character(c, out));
        self.close(out);
    }
}

const OPEN: &str = "<function=";
const CLOSE: &str = "</function>";

/// Version 3.1: tags with the name in them.
pub(super) struct Tagged {
    open: Markers,
    close: Markers,
    state: Tag,
}

enum Tag {
    Text,
    Name(String),
    /// After `>`: white space, then the arguments.
    Opened(String),
    Arguments(JsonObject),
    Tail,
}

impl Tagged {
    pub(super) fn new() -> Self {
        Self { open: Markers::new(&[OPEN]), close: Markers::new(&[CLOSE]), state: Tag::Text }
    }

    fn text(&mut self, c: char, out: &mut Deltas) -> Tag {
        let found = self.open.feed(c);
        out.text(&found.text);
        if found.marker.is_some() { Tag::Name(String::new()) } else { Tag::Text }
    }
}

impl Body for Tagged {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        self.state = match std::mem::replace(&mut self.state, Tag::Text) {
            Tag::Text => self.text(c, out),
            Tag::Name(name) if c == '>' => Tag::Opened(name),
            Tag::Name(name) if is_name_char(c) && name.len() < 256 => {
                Tag::Name(name + c.encode_utf8(&mut [0; 4]))
            }
            Tag::Name(name) => {
                out.text(&[OPEN, &name].concat());
                self.text(c, out)
            }
            Tag::Opened(name) if c.is_whitespace() => Tag::Opened(name),
            Tag::Opened(name) if c == '{' => {
                out.call(None, &name);
                out.arguments("{");
                let mut object = JsonObject::default();
                object.feed(c);
                Tag::Arguments(object)
            }
            Tag::Opened(name) => {
                out.text(&[OPEN, &name, ">"].concat());
                self.text(c, out)
            }
            Tag::Arguments(mut object) => {
                out.arguments(c.encode_utf8(&mut [0; 4]));
                if object.feed(c) { Tag::Tail } else { Tag::Arguments(object) }
            }
            Tag::Tail => {
                let found = self.close.feed(c);
                if found.marker.is_some() { Tag::Text } else { Tag::Tail }
            }
        };
    }

    fn finish(&mut self, out: &mut Deltas) {
        match std::mem::replace(&mut self.state, Tag::Text) {
            Tag::Text => {
                let rest = self.open.finish();
                out.text(&rest);
            }
            Tag::Name(name) => out.text(&[OPEN, &name].concat()),
            Tag::Opened(name) => out.text(&[OPEN, &name, ">"].concat()),
            Tag::Arguments(_) | Tag::Tail => {}
        }
    }
}
