//! Calls written as Python: `f(a=1, b="x")`, and whole programs as the one argument of a tool.
//!
//! Where:  Gemma's `tool_code` fences, Llama 3's built-in tools.
//! Source: the Python language reference, §6.3.4 calls and §2.4 literals, as far as models write them.

use serde_json::{Map, Number, Value};

use super::Deltas;

/// Code that streams as `{"code": "…"}`.
pub(super) struct CodeCall;

impl CodeCall {
    pub(super) fn begin(name: &str, out: &mut Deltas) -> Self {
        out.call(None, name);
        out.arguments("{\"code\": \"");
        Self
    }

    pub(super) fn feed(&mut self, c: char, out: &mut Deltas) {
        let quoted = serde_json::to_string(c.encode_utf8(&mut [0; 4])).expect("a character is a JSON string");
        out.arguments(&quoted[1..quoted.len() - 1]);
    }

    pub(super) fn end(self, out: &mut Deltas) {
        out.arguments("\"}");
    }
}

/// Tells the calls of a snippet, if it is nothing but calls: `f(a=1)`, `[f(a=1), g()]`, `print(f(a=1))`, one per line.
pub(super) fn tell_calls(code: &str, out: &mut Deltas) -> bool {
    let mut parser = Parser { rest: code.trim() };
    let Some(calls) = parser.calls() else { return false };
    for (name, arguments) in &calls {
        out.call(None, name);
        out.arguments(&Value::Object(arguments.clone()).to_string());
    }
    !calls.is_empty()
}

/// Brackets within brackets that are followed.
const MAX_DEPTH: usize = 32;

struct Parser<'a> {
    rest: &'a str,
}

type Call = (String, Map<String, Value>);

impl<'a> Parser<'a> {
    fn calls(&mut self) -> Option<Vec<Call>> {
        let in_list = self.take('[');
        let mut calls = Vec::new();
        while !self.rest.is_empty() {
            if in_list && self.rest.starts_with(']') {
                break;
            }
            calls.push(self.statement(0)?);
            while self.take(',') || self.take(';') {}
        }
        if in_list && !self.take(']') {
            return None;
        }
        self.rest.is_empty().then_some(calls)
    }

    /// A call, perhaps printed or assigned.
    fn statement(&mut self, depth: usize) -> Option<Call> {
        let name = self.name().filter(|_| depth <= MAX_DEPTH)?;
        if self.rest.starts_with('=') && !self.rest.starts_with("==") {
            self.take('=');
            return self.statement(depth + 1);
        }
        if name == "print" {
            let inner = self.take('(').then(|| self.statement(depth + 1))??;
            return self.take(')').then_some(inner);
        }
        let name = name.strip_prefix("default_api.").unwrap_or(name);
        let name = name.strip_suffix(".call").unwrap_or(name);
        self.arguments().map(|arguments| (name.to_owned(), arguments))
    }

    fn arguments(&mut self) -> Option<Map<String, Value>> {
        if !self.take('(') {
            return None;
        }
        let mut arguments = Map::new();
        while !self.take(')') {
            let key = self.name()?.to_owned();
            if !self.take('=') {
                return None;
            }
            arguments.insert(key, self.value(0)?);
            if !self.take(',') && !self.rest.starts_with(')') {
                return None;
            }
        }
        Some(arguments)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.rest.chars().next()? {
            '"' | '\'' => self.string().map(Value::String),
            '[' => self.list(depth),
            '{' => self.dictionary(depth),
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.take('[');
        let mut items = Vec::new();
        while !self.take(']') {
            items.push(self.value(depth + 1)?);
            if !self.take(',') && !self.rest.starts_with(']') {
                return None;
            }
        }
        Some(Value::Array(items))
    }

    fn dictionary(&mut self, depth: usize) -> Option<Value> {
        self.take('{');
        let mut entries = Map::new();
        while !self.take('}') {
            let key = self.string()?;
            if !self.take(':') {
                return None;
            }
            entries.insert(key, self.value(depth + 1)?);
            if !self.take(',') && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(entries))
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| "\"'".contains(*c))?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    other => text.push(other),
                },
                c if c == quote => {
                    self.rest = self.rest[at + 1..].trim_start();
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    /// A number, `True`, `False` or `None`.
    fn word(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        match word {
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            "None" | "null" => Some(Value::Null),
            number => match number.parse::<i64>() {
                Ok(number) => Some(number.into()),
                Err(_) => number.parse().ok().and_then(Number::from_f64).map(Value::Number),
            },
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let end =
            self.rest.find(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        self.rest = rest.trim_start();
        is_name.then_some(name)
    }

    /// Takes a character and the space after it, if it comes next.
    fn take(&mut self, c: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(c) else { return false };
        self.rest = rest.trim_start();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_calls_become_json() {
        let check = |code: &str, expected: Option<&str>| {
            let calls = Parser { rest: code.trim() }.calls();
            let told = calls.map(|calls| {
                let one = |(name, arguments): &Call| format!("{name}{}", Value::Object(arguments.clone()));
                calls.iter().map(one).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(told.as_deref(), expected, "{code}");
        };
        check(
            "f(a=1, b='x\\'y', c=[1.5, True, None], d={\"k\": -2})",
            Some(r#"f{"a":1,"b":"x'y","c":[1.5,true,null],"d":{"k":-2}}"#),
        );
        check("[f(), g(x = \"1\")]", Some(r#"f{} g{"x":"1"}"#));
        check("print(default_api.f(a=1))", Some(r#"f{"a":1}"#));
        check("r = f(a=1)\ng()", Some(r#"f{"a":1} g{}"#));
        check("brave_search.call(query=\"x\")", Some(r#"brave_search{"query":"x"}"#));
        check("f(1)", None);
        check("x = 1 + 2", None);
        check("f(a=", None);
        check(&format!("f(a={}", "[".repeat(100_000)), None);
        check(&"a=".repeat(100_000), None);
    }
}
