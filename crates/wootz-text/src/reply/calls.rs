//! Tool calls written as JSON objects: `{"name": "f", "arguments": {…}}`, alone, in a row, or in a list.
//!
//! Where:  inside the markers of most families.
//! Idea:   the scanner knows JSON's outline, not its details: strings, brackets, and the keys of the outermost object.
//!         So arguments stream as they are written, before anybody knows whether they are complete.

use super::Deltas;

/// Which keys a family uses.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub name: &'static [&'static str],
    pub arguments: &'static [&'static str],
    pub id: &'static [&'static str],
}

/// What most families write.
pub(super) const KEYS: Keys = Keys { name: &["name"], arguments: &["arguments", "parameters"], id: &["id"] };

/// Scans any number of call objects with brackets, commas, semicolons and white space between them.
pub(super) struct Calls {
    keys: Keys,
    /// Only these names count; `None`: any.
    known: Option<Vec<String>>,
    object: Option<Object>,
    /// What was read of a list or object that has not become a call.
    raw: String,
    has_calls: bool,
}

/// Whether a scanner goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// It wants more.
    More,
    /// This character belongs to no call; it was not taken.
    Refused,
}

impl Calls {
    pub(super) fn new(keys: Keys, known: Option<Vec<String>>) -> Self {
        Self { keys, known, object: None, raw: String::new(), has_calls: false }
    }

    /// Whether an object is open.
    pub(super) fn is_inside(&self) -> bool {
        self.object.is_some()
    }

    pub(super) fn feed(&mut self, c: char, out: &mut Deltas) -> Scan {
        let Some(object) = &mut self.object else {
            return match c {
                '{' => {
                    self.raw.push(c);
                    self.object = Some(Object::default());
                    Scan::More
                }
                '[' | ']' | ',' | ';' => {
                    self.raw.push(c);
                    Scan::More
                }
                c if c.is_whitespace() => {
                    self.raw.push(c);
                    Scan::More
                }
                _ => Scan::Refused,
            };
        };
        if !object.has_begun {
            self.raw.push(c);
        }
        match object.feed(c, &self.keys, self.known.as_deref(), out) {
            Progress::More => {}
            Progress::Begun => {
                self.raw.clear();
                self.has_calls = true;
            }
            Progress::Done => {
                let object = self.object.take().expect("an object is open");
                if !object.has_begun {
                    return self.refuse(c);
                }
                self.raw.clear();
                self.has_calls = true;
            }
            Progress::Broken => return self.refuse(c),
        }
        Scan::More
    }

    /// The open object is no call. What was not yet told stays in `raw`, without `c`.
    fn refuse(&mut self, c: char) -> Scan {
        self.object = None;
        if self.raw.ends_with(c) {
            self.raw.pop();
        }
        Scan::Refused
    }

    /// Whether a call was told.
    pub(super) fn has_calls(&self) -> bool {
        self.has_calls
    }

    /// What was read and is no call: text, for the caller to tell. Brackets and spaces around calls are nothing.
    pub(super) fn take_rest(&mut self) -> String {
        let raw = std::mem::take(&mut self.raw);
        let is_only_frame = raw.chars().all(|c| c.is_whitespace() || "[],;".contains(c));
        if self.has_calls && is_only_frame { String::new() } else { raw }
    }
}

/// One object, character by character.
#[derive(Default)]
struct Object {
    state: State,
    key: String,
    /// A string that is being read, with its quotes.
    string: String,
    name: Option<String>,
    id: Option<String>,
    /// Arguments that came before the name.
    held: String,
    has_arguments: bool,
    has_begun: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    /// Before a key or the end.
    #[default]
    Key,
    InKey {
        escaped: bool,
    },
    Colon,
    Value,
    /// A string that is kept (name, id, or arguments in a string).
    Kept {
        escaped: bool,
    },
    /// Any other value; told as arguments if the key says so.
    Inner {
        depth: usize,
        in_string: bool,
        escaped: bool,
    },
    /// After a value.
    Comma,
}

enum Progress {
    More,
    /// Name and the beginning of arguments are there: the call was told.
    Begun,
    Done,
    Broken,
}

impl Object {
    fn feed(&mut self, c: char, keys: &Keys, known: Option<&[String]>, out: &mut Deltas) -> Progress {
        match self.state {
            State::Key if c == '"' => {
                self.string = String::from('"');
                self.state = State::InKey { escaped: false };
            }
            State::Key | State::Comma if c == '}' => return self.close(known, out),
            State::InKey { escaped } => {
                self.string.push(c);
                if c == '"' && !escaped {
                    self.key = unquote(&self.string);
                    self.state = State::Colon;
                } else {
                    self.state = State::InKey { escaped: c == '\\' && !escaped };
                }
            }
            State::Colon if c == ':' => self.state = State::Value,
            State::Comma if c == ',' => self.state = State::Key,
            State::Value if !c.is_whitespace() => return self.value_begins(c, keys, known, out),
            State::Kept { escaped } => {
                self.string.push(c);
                if c == '"' && !escaped {
                    return self.kept(keys, known, out);
                }
                self.state = State::Kept { escaped: c == '\\' && !escaped };
            }
            State::Inner { depth, in_string, escaped } => {
                return self.inner(c, depth, in_string, escaped, keys, known, out);
            }
            _ if c.is_whitespace() => {}
            _ => return Progress::Broken,
        }
        Progress::More
    }

    fn is_arguments(&self, keys: &Keys) -> bool {
        keys.arguments.contains(&self.key.as_str())
    }

    fn value_begins(&mut self, c: char, keys: &Keys, known: Option<&[String]>, out: &mut Deltas) -> Progress {
        let is_wanted = |names: &[&str]| names.contains(&self.key.as_str());
        let is_arguments = is_wanted(keys.arguments);
        if c == '"' && (is_wanted(keys.name) || is_wanted(keys.id) || is_arguments) {
            self.string = String::from('"');
            self.state = State::Kept { escaped: false };
            return Progress::More;
        }
        match c {
            '{' => {}
            'n' if is_arguments => self.key.clear(), // `null`: no arguments
            _ if is_arguments => return Progress::Broken,
            _ => {}
        }
        self.state = State::Inner { depth: 0, in_string: false, escaped: false };
        self.inner(c, 0, false, false, keys, known, out)
    }

    /// One character of a value that is not kept.
    #[expect(clippy::too_many_arguments, reason = "the fields of one state, taken apart by its caller")]
    fn inner(
        &mut self,
        c: char,
        depth: usize,
        in_string: bool,
        escaped: bool,
        keys: &Keys,
        known: Option<&[String]>,
        out: &mut Deltas,
    ) -> Progress {
        let is_outer_end = !in_string && depth == 0 && (c == ',' || c == '}');
        if is_outer_end {
            // A number or a word ends at what follows it.
            self.state = State::Comma;
            return self.feed(c, keys, known, out);
        }
        let progress = if self.is_arguments(keys) { self.argue(c, known, out) } else { Progress::More };
        let depth = match c {
            '{' | '[' if !in_string => depth + 1,
            '}' | ']' if !in_string && depth == 0 => return Progress::Broken,
            '}' | ']' if !in_string => depth - 1,
            _ => depth,
        };
        let in_string = in_string != (c == '"' && !escaped);
        let is_end = depth == 0 && !in_string && matches!(c, '}' | ']' | '"');
        self.state = match is_end {
            true => State::Comma,
            false => State::Inner { depth, in_string, escaped: c == '\\' && !escaped },
        };
        progress
    }

    /// A character of the arguments.
    fn argue(&mut self, c: char, known: Option<&[String]>, out: &mut Deltas) -> Progress {
        self.has_arguments = true;
        self.held.push(c);
        self.tell(known, out)
    }

    /// Tells the call and what of its arguments is there, once it has a name and arguments.
    fn tell(&mut self, known: Option<&[String]>, out: &mut Deltas) -> Progress {
        let Some(name) = &self.name else { return Progress::More };
        if !self.has_arguments {
            return Progress::More;
        }
        let mut progress = Progress::More;
        if !self.has_begun {
            if known.is_some_and(|known| !known.contains(name)) {
                return Progress::Broken;
            }
            out.call(self.id.take(), name);
            self.has_begun = true;
            progress = Progress::Begun;
        }
        out.arguments(&std::mem::take(&mut self.held));
        progress
    }

    /// A kept string is complete.
    fn kept(&mut self, keys: &Keys, known: Option<&[String]>, out: &mut Deltas) -> Progress {
        self.state = State::Comma;
        let text = unquote(&self.string);
        if self.is_arguments(keys) {
            self.has_arguments = true;
            self.held = text;
        } else if keys.name.contains(&self.key.as_str()) {
            self.name.get_or_insert(text);
        } else {
            self.id.get_or_insert(text);
            return Progress::More;
        }
        self.tell(known, out)
    }

    /// The object's end. A call without arguments has none: `{}`.
    fn close(&mut self, known: Option<&[String]>, out: &mut Deltas) -> Progress {
        let may_lack = known.is_none() && self.name.is_some();
        if !self.has_begun && may_lack {
            self.has_arguments = true;
            self.held = "{}".to_owned();
            self.tell(known, out);
        }
        Progress::Done
    }
}

/// The text of a JSON string; as it stands where its escapes are broken.
fn unquote(string: &str) -> String {
    serde_json::from_str(string).unwrap_or_else(|_| string.trim_matches('"').to_owned())
}
