//! What a row teaches: a text, a conversation, an answer, a preference.
//!
//! Where:  made from [`Rows`](crate::Rows); encoded by [`encode_chat`](crate::encode_chat) and its kin.
//! Idea:   the shapes that people's data sets have become a handful of domain types. The shape is read off the names of a
//!         row's fields, unless it is said; other fields are there for people and are left alone.
//! Source: Stanford Alpaca, ShareGPT, OpenAI's fine-tuning format, TRL's data set formats (prompt-completion, preference with
//!         explicit and implicit prompt, unpaired preference).

use serde_json::{Map, Value};
use wootz_text::{Message, Role, ToolSpec};

use crate::documents::names;
use crate::{Error, Row, Rows};

/// What rows look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `text`
    Text,
    /// `messages` with `role` and `content`, perhaps `tools`; a message may say `train` or `weight`
    Messages,
    /// `conversations` with `from` and `value`
    ShareGpt,
    /// `instruction`, perhaps `input` and `system`, and `output`
    Alpaca,
    /// `prompt` and `completion`, as texts or as messages
    Completion,
    /// `chosen` and `rejected` with `prompt`, or as messages that begin alike
    Preference,
    /// `prompt`, `completion` and `label`, true or false
    Label,
    /// `prompt` alone, for rollouts; `answer` may say what is right
    Prompt,
}

/// Something that one side says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// As plain text
    Text(String),
    /// As turns
    Turns(Vec<Message>),
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who says what
    pub message: Message,
    /// Whether the row says that it is to be learned, or not to be
    pub train: Option<bool>,
}

/// A conversation and the tools in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// In order
    pub turns: Vec<Turn>,
    /// Tools that the model may call
    pub tools: Vec<ToolSpec>,
}

/// What a row teaches.
#[derive(Debug, Clone, PartialEq)]
pub enum Example {
    /// All of it is learned
    Text(String),
    /// Some turns are learned
    Chat(Conversation),
    /// The completion is learned
    Completion {
        /// What comes before
        prompt: Said,
        /// What is learned
        completion: Said,
    },
    /// One answer is better than another
    Preference {
        /// What comes before both
        prompt: Said,
        /// The better one
        chosen: Said,
        /// The worse one
        rejected: Said,
    },
    /// An answer is good, or not
    Label {
        /// What comes before
        prompt: Said,
        /// The answer
        completion: Said,
        /// Whether it is good
        is_good: bool,
    },
    /// Something to answer
    Prompt {
        /// What comes before the answer
        prompt: Said,
        /// What is right, for rewards that compare
        answer: Option<String>,
    },
}

impl Shape {
    /// All shapes with their names.
    pub const NAMES: [(&str, Shape); 8] = [
        ("text", Shape::Text),
        ("messages", Shape::Messages),
        ("sharegpt", Shape::ShareGpt),
        ("alpaca", Shape::Alpaca),
        ("completion", Shape::Completion),
        ("preference", Shape::Preference),
        ("label", Shape::Label),
        ("prompt", Shape::Prompt),
    ];

    /// The shape that a row's fields speak of.
    pub fn of(row: &Map<String, Value>) -> Option<Self> {
        let has = |name: &str| row.get(name).is_some_and(|value| !value.is_null());
        Some(match () {
            () if has("chosen") && has("rejected") => Self::Preference,
            () if has("messages") => Self::Messages,
            () if has("conversations") => Self::ShareGpt,
            () if has("prompt") && has("completion") && has("label") => Self::Label,
            () if has("prompt") && has("completion") => Self::Completion,
            () if has("instruction") && has("output") => Self::Alpaca,
            () if has("prompt") => Self::Prompt,
            () if has("text") => Self::Text,
            () => return None,
        })
    }
}

impl Example {
    /// Reads a row.
    ///
    /// # Errors
    /// A field that is missing or of the wrong type, by name.
    pub fn of(row: &Row, shape: Option<Shape>) -> Result<Self, Error> {
        let read = || {
            let Some(shape) = shape.or_else(|| Shape::of(&row.fields)) else {
                let known = names(&row.fields);
                return Err(format!("expected `text`, `messages`, `prompt` or their kin, got {known}"));
            };
            Fields(&row.fields).example(shape)
        };
        read().map_err(|message| row.place.error(message))
    }
}

/// An iterator over the examples of files.
#[derive(Debug)]
pub struct Examples {
    rows: Rows,
    shape: Option<Shape>,
    /// Fields and what they are read as
    renamed: Vec<(String, &'static str)>,
}

impl Examples {
    /// Of rows; without `shape`, each row's fields tell its own.
    pub fn new(rows: Rows, shape: Option<Shape>) -> Self {
        Self { rows, shape, renamed: Vec::new() }
    }

    /// Plain texts stand in the field `text`, conversations in the field `messages`; unset is the usual name.
    #[must_use]
    pub fn with_fields(mut self, text: Option<&str>, messages: Option<&str>) -> Self {
        let named = [(text, "text"), (messages, "messages")];
        self.renamed =
            named.into_iter().filter_map(|(field, usual)| Some((field?.to_owned(), usual))).collect();
        self
    }
}

/// Reads a field as another one, which it replaces. Turns that say `from` are ShareGPT's, whose field has another name.
fn rename(row: &mut Row, field: &str, usual: &str) -> Result<(), Error> {
    let Some(value) = row.fields.shift_remove(field) else {
        return Err(row.place.error(format!("expected the field `{field}`, got {}", names(&row.fields))));
    };
    let is_sharegpt = usual == "messages" && value.get(0).is_some_and(|turn| turn.get("from").is_some());
    row.fields.insert(if is_sharegpt { "conversations" } else { usual }.to_owned(), value);
    Ok(())
}

impl Iterator for Examples {
    type Item = Result<(Row, Example), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?.and_then(|mut row| {
            self.renamed.iter().try_for_each(|(field, usual)| rename(&mut row, field, usual))?;
            Ok(row)
        });
        Some(row.and_then(|row| Example::of(&row, self.shape).map(|example| (row, example))))
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn example(&self, shape: Shape) -> Result<Example, String> {
        Ok(match shape {
            Shape::Text => Example::Text(self.text("text")?),
            Shape::Messages => {
                Example::Chat(Conversation { turns: self.turns("messages")?, tools: self.tools()? })
            }
            Shape::ShareGpt => Example::Chat(Conversation { turns: self.sharegpt()?, tools: self.tools()? }),
            Shape::Alpaca => Example::Chat(self.alpaca()?),
            Shape::Completion => {
                Example::Completion { prompt: self.said("prompt")?, completion: self.said("completion")? }
            }
            Shape::Preference => self.preference()?,
            Shape::Label => Example::Label {
                prompt: self.said("prompt")?,
                completion: self.said("completion")?,
                is_good: match self.value("label")? {
                    Value::Bool(label) => *label,
                    Value::Number(label) if label.as_f64() == Some(1.0) => true,
                    Value::Number(label) if label.as_f64() == Some(0.0) => false,
                    other => return Err(format!("`label`: expected true or false, got {}", short(other))),
                },
            },
            Shape::Prompt => Example::Prompt {
                prompt: self.said("prompt")?,
                answer: match self.0.get("answer") {
                    None | Some(Value::Null) => None,
                    Some(Value::String(answer)) => Some(answer.clone()),
                    Some(Value::Number(answer)) => Some(answer.to_string()),
                    Some(other) => return Err(format!("`answer`: expected a text, got {}", short(other))),
                },
            },
        })
    }

    fn value(&self, name: &str) -> Result<&Value, String> {
        let missing = || format!("expected the field `{name}`, got {}", names(self.0));
        self.0.get(name).filter(|value| !value.is_null()).ok_or_else(missing)
    }

    fn text(&self, name: &str) -> Result<String, String> {
        match self.value(name)? {
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("`{name}`: expected a text, got {}", short(other))),
        }
    }

    fn list(&self, name: &str) -> Result<&Vec<Value>, String> {
        match self.value(name)? {
            Value::Array(values) => Ok(values),
            other => Err(format!("`{name}`: expected a list, got {}", short(other))),
        }
    }

    fn turns(&self, name: &str) -> Result<Vec<Turn>, String> {
        let turns = self.list(name)?.iter().enumerate();
        turns.map(|(i, value)| turn(value).map_err(|why| format!("`{name}[{i}]`: {why}"))).collect()
    }

    fn tools(&self) -> Result<Vec<ToolSpec>, String> {
        match self.0.get("tools") {
            None | Some(Value::Null) => Ok(Vec::new()),
            // Columnar files keep them as a text.
            Some(Value::String(text)) => match serde_json::from_str::<Vec<Value>>(text) {
                Ok(tools) => tools.iter().map(ToolSpec::from_json).collect(),
                Err(error) => Err(format!("`tools`: expected a list: {error}")),
            },
            Some(_) => self.list("tools")?.iter().map(ToolSpec::from_json).collect(),
        }
    }

    fn sharegpt(&self) -> Result<Vec<Turn>, String> {
        let turns = self.list("conversations")?.iter().enumerate();
        turns
            .map(|(i, value)| {
                let text = |name: &str| {
                    let found = value.get(name).and_then(Value::as_str);
                    found.ok_or_else(|| format!("`conversations[{i}].{name}`: expected a text"))
                };
                let role = match text("from")? {
                    "human" | "user" => Role::User,
                    "gpt" | "chatgpt" | "assistant" | "model" => Role::Assistant,
                    "system" => Role::System,
                    "tool" | "function_response" | "observation" => Role::Tool,
                    other => return Err(format!("`conversations[{i}].from`: unknown speaker `{other}`")),
                };
                Ok(Turn { message: Message::new(role, text("value")?), train: train(value)? })
            })
            .collect()
    }

    /// Instruction and input are one message, with an empty line between, as the template of the model says the rest.
    fn alpaca(&self) -> Result<Conversation, String> {
        let optional = |name: &str| match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(name).map(|text| Some(text).filter(|text| !text.is_empty())),
        };
        let mut asked = self.text("instruction")?;
        if let Some(input) = optional("input")? {
            asked = format!("{asked}\n\n{input}");
        }
        let system = optional("system")?.map(Message::system);
        let turns =
            system.into_iter().chain([Message::user(asked), Message::assistant(self.text("output")?)]);
        Ok(Conversation {
            turns: turns.map(|message| Turn { message, train: None }).collect(),
            tools: Vec::new(),
        })
    }

    fn said(&self, name: &str) -> Result<Said, String> {
        match self.value(name)? {
            Value::String(text) => Ok(Said::Text(text.clone())),
            Value::Array(_) => {
                let turns = self.turns(name)?.into_iter();
                Ok(Said::Turns(turns.map(|turn| turn.message).collect()))
            }
            other => Err(format!("`{name}`: expected a text or messages, got {}", short(other))),
        }
    }

    fn preference(&self) -> Result<Example, String> {
        let (chosen, rejected) = (self.said("chosen")?, self.said("rejected")?);
        if self.value("prompt").is_ok() {
            return Ok(Example::Preference { prompt: self.said("prompt")?, chosen, rejected });
        }
        let (Said::Turns(mut chosen), Said::Turns(mut rejected)) = (chosen, rejected) else {
            return Err("expected the field `prompt` beside texts `chosen` and `rejected`".to_owned());
        };
        let n_alike = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
        if n_alike == 0 || n_alike == chosen.len() || n_alike == rejected.len() {
            let message = "expected `chosen` and `rejected` to begin alike and to end differently";
            return Err(message.to_owned());
        }
        let prompt = chosen.drain(..n_alike).collect();
        rejected.drain(..n_alike);
        Ok(Example::Preference {
            prompt: Said::Turns(prompt),
            chosen: Said::Turns(chosen),
            rejected: Said::Turns(rejected),
        })
    }
}

fn turn(value: &Value) -> Result<Turn, String> {
    let train = train(value)?;
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.remove("train");
        fields.remove("weight");
    }
    Ok(Turn { message: Message::from_json(&value)?, train })
}

/// `train` says true or false, OpenAI's `weight` 1 or 0.
fn train(value: &Value) -> Result<Option<bool>, String> {
    let said = value.get("train").or_else(|| value.get("weight"));
    match said {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(train)) => Ok(Some(*train)),
        Some(Value::Number(weight)) if weight.as_f64() == Some(1.0) => Ok(Some(true)),
        Some(Value::Number(weight)) if weight.as_f64() == Some(0.0) => Ok(Some(false)),
        Some(other) => {
            Err(format!("`train` or `weight`: expected true, false, 1 or 0, got {}", short(other)))
        }
    }
}

/// A value, short enough for a message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::Place;

    fn example(row: Value) -> Result<Example, String> {
        let place = Place { path: Arc::from(Path::new("rows.jsonl")), line: 7 };
        let row = Row { fields: row.as_object().unwrap().clone(), place };
        Example::of(&row, None).map_err(|error| error.to_string())
    }

    fn turns(example: Example) -> Vec<(Message, Option<bool>)> {
        match example {
            Example::Chat(chat) => chat.turns.into_iter().map(|turn| (turn.message, turn.train)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn conversations_in_three_shapes_are_the_same() {
        let expected = [(Message::user("a"), None), (Message::assistant("b"), None)];
        for row in [
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
            json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
            json!({"instruction": "a", "input": "", "output": "b"}),
        ] {
            assert_eq!(turns(example(row).unwrap()), expected);
        }
        let row = json!({"messages": [{"role": "assistant", "content": "b", "weight": 0}], "tools": "[]"});
        assert_eq!(turns(example(row).unwrap()), [(Message::assistant("b"), Some(false))]);
    }

    #[test]
    fn fields_of_other_names_are_read_where_they_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let read = |row: Value, text: Option<&str>, messages: Option<&str>| {
            std::fs::write(&path, row.to_string()).unwrap();
            let rows = Rows::open(std::slice::from_ref(&path)).unwrap();
            let mut examples = Examples::new(rows, None).with_fields(text, messages);
            examples.next().unwrap().map(|found| found.1).map_err(|error| error.to_string())
        };
        let row = json!({"body": "a", "text": "other"});
        assert_eq!(read(row.clone(), Some("body"), None), Ok(Example::Text("a".to_owned())));
        let error = read(row, Some("content"), None).unwrap_err();
        assert!(error.contains("line 1: expected the field `content`, got `body`, `text`"), "{error}");
        for talk in [json!([{"role": "assistant", "content": "b"}]), json!([{"from": "gpt", "value": "b"}])] {
            let example = read(json!({"talk": talk}), None, Some("talk")).unwrap();
            assert_eq!(turns(example), [(Message::assistant("b"), None)]);
        }
    }

    #[test]
    fn a_prompt_that_is_not_said_is_what_both_begin_with() {
        let say = |texts: &[&str]| -> Value {
            let roles = ["user", "assistant"].iter().cycle();
            texts.iter().zip(roles).map(|(text, role)| json!({"role": role, "content": text})).collect()
        };
        let row = json!({"chosen": say(&["a", "b"]), "rejected": say(&["a", "c"])});
        let expected = Example::Preference {
            prompt: Said::Turns(vec![Message::user("a")]),
            chosen: Said::Turns(vec![Message::assistant("b")]),
            rejected: Said::Turns(vec![Message::assistant("c")]),
        };
        assert_eq!(example(row).unwrap(), expected);
        let error = example(json!({"chosen": say(&["a"]), "rejected": say(&["a"])})).unwrap_err();
        assert!(error.contains("to begin alike and to end differently"), "{error}");
    }

    #[test]
    fn errors_name_row_and_field() {
        for (row, said) in [
            (
                json!({"a": 1}),
                "rows.jsonl, line 7: expected `text`, `messages`, `prompt` or their kin, got `a`",
            ),
            (json!({"text": 5}), "`text`: expected a text, got 5"),
            (json!({"messages": [{"content": "a"}]}), "`messages[0]`: message.role: missing"),
            (json!({"messages": [{"role": "user", "content": "a", "train": "x"}]}), "expected true, false"),
            (json!({"conversations": [{"from": "bot", "value": "a"}]}), "unknown speaker `bot`"),
            (json!({"prompt": "a", "completion": "b", "label": 2}), "`label`: expected true or false, got 2"),
            (json!({"chosen": "a", "rejected": "b"}), "expected the field `prompt`"),
        ] {
            let error = example(row).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
