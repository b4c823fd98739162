//! A YAML text as a tree that remembers its lines.
//!
//! Where:  read by [`TrainConfig::parse`](super::TrainConfig::parse).
//! Idea:   the parser's events become a tree of bounded size and depth. Aliases are refused, so a short text cannot become a
//!         large tree; so are tags, because a recipe is data.
//! Source: YAML 1.2.2, <https://yaml.org/spec/1.2.2/>; plain scalars are typed by whoever asks for a type.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use super::ConfigError;

/// Bounds of what is read.
const MAX_BYTES: usize = 256 << 10;
const MAX_DEPTH: usize = 12;

/// A place in the tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Counted from 1
    pub line: usize,
    /// What stands there
    pub value: Value,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, `null` or `~`
    Null,
    /// A word or a text
    Scalar { text: String, is_plain: bool },
    /// In order
    List(Vec<Node>),
    /// In order; no key comes twice
    Map(Vec<Entry>),
}

/// A key and what it says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub line: usize,
    pub node: Node,
}

impl Node {
    /// What stands there, as an error message says it.
    pub fn said(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar { text, .. } if text.chars().count() > 40 => {
                format!("`{}…`", text.chars().take(40).collect::<String>())
            }
            Value::Scalar { text, .. } => format!("`{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "keys of its own".to_owned(),
        }
    }
}

/// Reads a text that holds one document.
pub(super) fn read(text: &str) -> Result<Node, ConfigError> {
    if text.len() > MAX_BYTES {
        let message = format!("expected at most {} KiB, got {}", MAX_BYTES >> 10, text.len() >> 10);
        return Err(ConfigError::Yaml { line: 1, message });
    }
    let mut events = Events { parser: Parser::new_from_str(text), line: 1 };
    let root = events.document()?;
    match events.next()? {
        Event::StreamEnd => Ok(root),
        _ => Err(events.error("expected the end, got a second document")),
    }
}

struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Of the last event
    line: usize,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Event<'a>, ConfigError> {
        loop {
            match self.parser.next_event() {
                None => return Ok(Event::StreamEnd),
                Some(Err(error)) => {
                    let line = error.marker().line().max(1);
                    return Err(ConfigError::Yaml { line, message: error.info().to_owned() });
                }
                Some(Ok((Event::Nothing | Event::StreamStart | Event::DocumentEnd, _))) => {}
                Some(Ok((event, span))) => {
                    self.line = span.start.line().max(1);
                    return Ok(event);
                }
            }
        }
    }

    fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::Yaml { line: self.line, message: message.into() }
    }

    fn document(&mut self) -> Result<Node, ConfigError> {
        match self.next()? {
            Event::StreamEnd => Ok(Node { line: 1, value: Value::Null }),
            Event::DocumentStart(_) => {
                let first = self.next()?;
                self.node(first, 0)
            }
            _ => Err(self.error("expected a document")),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, ConfigError> {
        let line = self.line;
        if depth > MAX_DEPTH {
            return Err(self.error(format!("expected at most {MAX_DEPTH} levels")));
        }
        let tag = match &event {
            Event::Scalar(.., tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) => {
                tag.as_deref()
            }
            _ => None,
        };
        if let Some(tag) = tag {
            return Err(self.error(format!("expected plain YAML, got the tag `{tag}`")));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => {
                let is_plain = style == ScalarStyle::Plain;
                match &*text {
                    "" | "~" | "null" | "Null" | "NULL" if is_plain => Value::Null,
                    _ => Value::Scalar { text: text.into_owned(), is_plain },
                }
            }
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Map(self.map(depth)?),
            Event::Alias(_) => {
                return Err(self.error("expected plain YAML, got an alias (`*name`)\nhint: write it out"));
            }
            _ => return Err(self.error("expected a value")),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, ConfigError> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(nodes),
                event => nodes.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, ConfigError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::BTreeMap::new();
        loop {
            let event = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let line = self.line;
            let Node { value: Value::Scalar { text: key, .. }, .. } = self.node(event, depth + 1)? else {
                return Err(ConfigError::Yaml { line, message: "expected a name as key".to_owned() });
            };
            if let Some(first) = seen.insert(key.clone(), line) {
                let message = format!("`{key}` stands there twice, first in line {first}");
                return Err(ConfigError::Yaml { line, message });
            }
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            entries.push(Entry { key, line, node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_remembers_its_lines() {
        let node = read("# why\na: 1\nb:\n  - x: 'null'\n  - ~\n").unwrap();
        let Value::Map(entries) = node.value else { panic!("keys") };
        let lines: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 3)]);
        let Value::List(list) = &entries[1].node.value else { panic!("a list") };
        assert_eq!((list[0].line, &list[1].value), (4, &Value::Null));
        assert_eq!(read("").unwrap().value, Value::Null);
    }

    #[test]
    fn what_is_no_plain_data_is_refused_with_its_line() {
        let deep = "[".repeat(40);
        let blocks = "- ".repeat(40);
        let long = "a: 1\n".repeat(60_000);
        for (text, said) in [
            ("a: 1\nb: &x [1]\nc: *x\n", "line 3: expected plain YAML, got an alias"),
            ("a: !!python/object:os.system x\n", "line 1: expected plain YAML, got the tag"),
            ("a: 1\n\na: 2\n", "line 3: `a` stands there twice, first in line 1"),
            ("a: 1\n---\nb: 2\n", "a second document"),
            ("[a]: 1\n", "expected a name as key"),
            ("a: [1\n", "line"),
            (&deep, "expected at most 12 levels"),
            (&blocks, "expected at most 12 levels"),
            (&long, "expected at most 256 KiB, got 292"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
