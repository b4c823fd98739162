//! The texts of a corpus, one after the other, whatever its rows look like.
//!
//! Where:  read by [`learn_tokenizer`](crate::learn_tokenizer).
//! Elsewhere: what rows mean for training ([`Examples`](crate::Examples)).

use std::collections::VecDeque;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{Error, Rows};

/// Where a row keeps its text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Field {
    /// `text`; else what is said in `messages` or `conversations`; else the fields of instructions and preferences
    #[default]
    Usual,
    /// This field: a string, or something that contains strings, which are all read
    Named(String),
}

/// An iterator over the texts of files, in their order.
///
/// A text file gives its lines, each with its line break; a row gives the strings of its field.
#[derive(Debug)]
pub struct Documents {
    rows: Rows,
    field: Field,
    /// Texts of the last row that were not given out yet.
    waiting: VecDeque<String>,
}

impl Documents {
    /// Of these files.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub fn open(paths: &[PathBuf], field: Field) -> Result<Self, Error> {
        Ok(Self { rows: Rows::open(paths)?, field, waiting: VecDeque::new() })
    }
}

impl Iterator for Documents {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(text) = self.waiting.pop_front() {
                return Some(Ok(text));
            }
            let texts = self.rows.next()?.and_then(|row| {
                texts_of(row.fields, &self.field).map_err(|message| row.place.error(message))
            });
            match texts {
                Ok(texts) => self.waiting.extend(texts),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The texts of a row.
fn texts_of(mut row: Map<String, Value>, field: &Field) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    let known = names(&row);
    match field {
        Field::Named(name) => match row.remove(name) {
            Some(value) => strings_in(value, &mut texts),
            None => return Err(format!("expected the field `{name}`, got {known}")),
        },
        Field::Usual => {
            if let Some(text) = row.remove("text") {
                strings_in(text, &mut texts);
            } else if let Some(talk) = row.remove("messages").or_else(|| row.remove("conversations")) {
                said_in(talk, &mut texts);
            } else {
                for name in ["instruction", "input", "output", "prompt", "completion", "chosen", "rejected"] {
                    strings_in(row.remove(name).unwrap_or_default(), &mut texts);
                }
                if texts.is_empty() {
                    return Err(format!("expected a field `text`, `messages` or `prompt`, got {known}"));
                }
            }
        }
    }
    Ok(texts)
}

/// The names of a row's fields.
pub(crate) fn names(row: &Map<String, Value>) -> String {
    row.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// All strings in a value.
fn strings_in(value: Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| strings_in(value, texts)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| strings_in(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What messages say, without their roles.
fn said_in(messages: Value, texts: &mut Vec<String>) {
    let Value::Array(messages) = messages else { return };
    for message in messages {
        let Value::Object(mut message) = message else { continue };
        for name in ["content", "value"] {
            strings_in(message.remove(name).unwrap_or_default(), texts);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_give_what_they_say() {
        let named = Field::Named("body".to_owned());
        let parts = json!([{"role": "user", "content": "b"}, {"from": "gpt", "value": "c"}]);
        for (row, field, expected) in [
            (json!({"text": "a", "licence": "x"}), &Field::Usual, &["a"][..]),
            (json!({"messages": parts}), &Field::Usual, &["b", "c"]),
            (json!({"prompt": "d", "chosen": "e", "rejected": "f"}), &Field::Usual, &["d", "e", "f"]),
            (json!({"body": ["g", {"h": "i"}]}), &named, &["g", "i"]),
        ] {
            assert_eq!(texts_of(row.as_object().unwrap().clone(), field).unwrap(), expected);
        }
        let error = texts_of(json!({"a": 1}).as_object().unwrap().clone(), &named).unwrap_err();
        assert_eq!(error, "expected the field `body`, got `a`");
    }
}
