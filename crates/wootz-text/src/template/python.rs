//! Values as Python writes them: `str`, `repr` and `json.dumps`.
//!
//! Where:  whatever a template prints, concatenates or turns to JSON; templates were written against Python's Jinja2.
//! Idea:   one recursive writer into a string that pays for every byte before writing it.
//! Source: Python 3, `str()`, `repr()`, `json.dumps` with its default separators.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::budget::{Budget, MAX_DEPTH};

/// `str(value)`
pub(super) fn to_str(value: &Value, budget: &Budget) -> Result<String, Error> {
    let mut out = Writer { text: String::new(), budget };
    match value.as_str() {
        Some(text) => out.push(text)?,
        None if value.is_undefined() => {}
        None => out.repr(value, 0)?,
    }
    Ok(out.text)
}

/// A JSON value for templates, keys in their order.
pub(super) fn from_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (_, Some(number)) => Value::from(number),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(from_json).collect::<Vec<Value>>().into(),
        Json::Object(map) => {
            Value::from_pairs(map.iter().map(|(key, value)| (Value::from(key.as_str()), from_json(value))))
        }
    }
}

/// How JSON is laid out.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonStyle {
    /// What one level is indented by; `None`: everything on one line.
    pub(super) indent: Option<String>,
    /// Escape everything beyond ASCII.
    pub(super) ensure_ascii: bool,
    /// Sort keys.
    pub(super) sort_keys: bool,
    /// Between items and between key and value; `None`: Python's defaults.
    pub(super) separators: Option<(String, String)>,
}

/// `json.dumps(value, …)`
pub(super) fn to_json(value: &Value, style: &JsonStyle, budget: &Budget) -> Result<String, Error> {
    let default = (if style.indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    let (between, colon) = style.separators.clone().unwrap_or(default);
    let mut out = Writer { text: String::new(), budget };
    out.json(value, style, &between, &colon, 0)?;
    Ok(out.text)
}

struct Writer<'a> {
    text: String,
    budget: &'a Budget,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.budget.charge(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "a value is nested too deeply to be written",
            ));
        }
        Ok(())
    }

    fn repr(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.check_depth(depth)?;
        match value.kind() {
            ValueKind::Undefined => Ok(()),
            ValueKind::None => self.push("None"),
            ValueKind::Bool => self.push(if value.is_true() { "True" } else { "False" }),
            ValueKind::Number => self.push(&number(value)),
            ValueKind::String => {
                let text = value.as_str().unwrap_or("");
                self.push(&quote(text))
            }
            ValueKind::Map => self.items(value, ("{", "}"), |out, key, value| {
                out.repr(key, depth + 1)?;
                out.push(": ")?;
                out.repr(value, depth + 1)
            }),
            ValueKind::Seq | ValueKind::Iterable => {
                let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
                self.push(if is_tuple { "(" } else { "[" })?;
                let mut n_items = 0;
                for item in value.try_iter()? {
                    self.push(if n_items > 0 { ", " } else { "" })?;
                    self.repr(&item, depth + 1)?;
                    n_items += 1;
                }
                self.push(match (is_tuple, n_items) {
                    (true, 1) => ",)",
                    (true, _) => ")",
                    (false, _) => "]",
                })
            }
            _ => self.push("<object>"),
        }
    }

    fn items(
        &mut self,
        map: &Value,
        (open, close): (&str, &str),
        mut write: impl FnMut(&mut Self, &Value, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.push(open)?;
        for (i, key) in map.try_iter()?.enumerate() {
            self.push(if i > 0 { ", " } else { "" })?;
            write(self, &key, &map.get_item(&key)?)?;
        }
        self.push(close)
    }

    fn json(
        &mut self,
        value: &Value,
        style: &JsonStyle,
        between: &str,
        colon: &str,
        depth: usize,
    ) -> Result<(), Error> {
        self.check_depth(depth)?;
        match value.kind() {
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&number(value).replace("inf", "Infinity").replace("nan", "NaN")),
            ValueKind::String => self.json_string(value.as_str().unwrap_or(""), style.ensure_ascii),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if style.sort_keys {
                    keys.sort();
                }
                self.push("{")?;
                for (i, key) in keys.iter().enumerate() {
                    self.json_break(i > 0, between, style, depth + 1)?;
                    match key.as_str() {
                        Some(key) => self.json_string(key, style.ensure_ascii)?,
                        None => self.json_string(&json_key(key, self.budget)?, style.ensure_ascii)?,
                    }
                    self.push(colon)?;
                    self.json(&value.get_item(key)?, style, between, colon, depth + 1)?;
                }
                self.json_end(keys.is_empty(), style, depth)?;
                self.push("}")
            }
            ValueKind::Seq | ValueKind::Iterable => {
                self.push("[")?;
                let mut is_empty = true;
                for (i, item) in value.try_iter()?.enumerate() {
                    is_empty = false;
                    self.json_break(i > 0, between, style, depth + 1)?;
                    self.json(&item, style, between, colon, depth + 1)?;
                }
                self.json_end(is_empty, style, depth)?;
                self.push("]")
            }
            kind => {
                Err(Error::new(ErrorKind::BadSerialization, format!("a value of kind {kind} is no JSON")))
            }
        }
    }

    fn json_break(
        &mut self,
        comes_after: bool,
        between: &str,
        style: &JsonStyle,
        depth: usize,
    ) -> Result<(), Error> {
        if comes_after {
            self.push(between)?;
        }
        self.json_line(style, depth)
    }

    fn json_end(&mut self, is_empty: bool, style: &JsonStyle, depth: usize) -> Result<(), Error> {
        if is_empty { Ok(()) } else { self.json_line(style, depth) }
    }

    fn json_line(&mut self, style: &JsonStyle, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &style.indent {
            self.push("\n")?;
            for _ in 0..depth {
                self.push(indent)?;
            }
        }
        Ok(())
    }

    fn json_string(&mut self, text: &str, ensure_ascii: bool) -> Result<(), Error> {
        self.budget.charge(text.len())?;
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\x08' => self.text.push_str("\\b"),
                '\x0c' => self.text.push_str("\\f"),
                '\0'..='\x1f' => self.text.push_str(&format!("\\u{:04x}", c as u32)),
                '\u{80}'.. if ensure_ascii => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
        Ok(())
    }
}

/// Keys that are no strings become what JSON calls them.
fn json_key(key: &Value, budget: &Budget) -> Result<String, Error> {
    match key.kind() {
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        _ => to_str(key, budget),
    }
}

/// Integers as they are; floats with the fewest digits that are read back the same, with Python's exponents.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let x = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    if x.is_nan() || x.is_infinite() {
        return if x.is_nan() {
            "nan".into()
        } else if x > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = x.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// A string as Python's `repr` quotes it.
fn quote(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            '\0'..='\x1f' | '\x7f'..='\u{a0}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        from_json(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn values_look_as_in_python() {
        let check = |json: &str, expected: &str| {
            assert_eq!(to_str(&value(json), &Budget::new(1000)).unwrap(), expected);
        };
        check(r#"[1, 1.0, true, null, "a'b", {"k": ["x"]}]"#, r#"[1, 1.0, True, None, "a'b", {'k': ['x']}]"#);
        check("1e22", "1e+22");
        check("0.1", "0.1");
        check("0.00001", "1e-05");
        check(r#""plain""#, "plain");
    }

    #[test]
    fn json_looks_as_in_python() {
        let data = value(r#"{"b": [1, 2.5, "é\n\"", {}], "a": null, "c": []}"#);
        let budget = Budget::new(10_000);
        let dump = |style: &JsonStyle| to_json(&data, style, &budget).unwrap();
        assert_eq!(dump(&JsonStyle::default()), r#"{"b": [1, 2.5, "é\n\"", {}], "a": null, "c": []}"#);
        let ascii = JsonStyle { ensure_ascii: true, sort_keys: true, ..JsonStyle::default() };
        assert_eq!(dump(&ascii), r#"{"a": null, "b": [1, 2.5, "\u00e9\n\"", {}], "c": []}"#);
        let indented = JsonStyle { indent: Some("  ".into()), ..JsonStyle::default() };
        assert_eq!(
            dump(&indented),
            "{\n  \"b\": [\n    1,\n    2.5,\n    \"é\\n\\\"\",\n    {}\n  ],\n  \"a\": null,\n  \"c\": []\n}"
        );
    }

    #[test]
    fn writing_stops_at_the_budget() {
        assert!(to_str(&value(r#"["aaaaaaaaaaaaaaaaaaaaaaaa"]"#), &Budget::new(10)).is_err());
    }
}
