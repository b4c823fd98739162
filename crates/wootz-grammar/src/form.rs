//! Forms of replies, written as Lark for one vocabulary.
//!
//! Where:  one step before [`Grammar`](crate::Grammar)s are compiled.
//! Idea:   free text up to a mark is a lexeme that ends with the mark wherever it first can, so text can never pass one. A
//!         mark that is a special token cannot stand in text at all: it stands between two lexemes.
//! Source: `llguidance`'s Lark, `[lazy]` and `<[id]>`.

use std::fmt::Write;

use serde_json::Value;
use wootz_text::{Form, Free, TokenId, Tokenizer};

use crate::schema;

/// Special tokens with their spelling; those that end an answer are not among them.
pub(crate) struct Specials(Vec<(String, TokenId)>);

impl Specials {
    pub(crate) fn new(tokenizer: &Tokenizer, vocab_size: usize, end_tokens: &[TokenId]) -> Self {
        let size = tokenizer.vocab_size().min(vocab_size) as TokenId;
        let ids = (0..size).filter(|id| tokenizer.is_special(*id) && !end_tokens.contains(id));
        let spelled = ids.filter_map(|id| Some((tokenizer.token_text(id)?.to_owned(), id)));
        Self(spelled.filter(|(text, _)| !text.is_empty()).collect())
    }

    /// Text in front of the first special token in a text, that token, and what is behind it.
    fn first<'a>(&self, text: &'a str) -> Option<(&'a str, TokenId, &'a str)> {
        let starts = text.char_indices().map(|(at, _)| at);
        starts.into_iter().find_map(|at| {
            let here = self.0.iter().filter(|(special, _)| text[at..].starts_with(special.as_str()));
            let (special, id) = here.max_by_key(|(special, _)| special.len())?;
            Some((&text[..at], *id, &text[at + special.len()..]))
        })
    }
}

/// A form as Lark with the rule `start`.
pub(crate) fn to_lark(form: &Form, specials: &Specials) -> String {
    let mut named = Vec::new();
    name_specials(form, specials, &mut named);
    let mut writer = Writer { specials, named, rules: Vec::new() };
    let start = writer.form(form);
    let mut lark = format!("start: {start}\n");
    for (i, rule) in writer.rules.iter().enumerate() {
        let _ = writeln!(lark, "mark_{i}[lazy]: {rule}");
    }
    lark + TERMINALS
}

/// Free text; text that does not begin like JSON; a little white space; letters and digits.
const TERMINALS: &str = "TEXT: /(?s:.+)/\nUNBRACED: /[ \\t\\r\\n]*[^ \\t\\r\\n{](?s:.*)/\nBLANK: /[ \\t\\r\\n]+/\nSPACE: /[ \\n]{1,2}/\nWORD: /[a-zA-Z0-9]{1,40}/\n";

/// Special tokens that a form itself names are not a part of its free text.
fn name_specials(form: &Form, specials: &Specials, into: &mut Vec<TokenId>) {
    let mut literal = |mut text: &str| {
        while let Some((_, id, rest)) = specials.first(text) {
            into.push(id);
            text = rest;
        }
    };
    match form {
        Form::Literal(text) => literal(text),
        Form::Json(_) | Form::Space | Form::Word => {}
        Form::Text { until, .. } => {
            until.iter().for_each(|(mark, _)| literal(mark));
            until.iter().for_each(|(_, next)| name_specials(next, specials, into));
        }
        Form::All(forms) | Form::OneOf(forms) => {
            forms.iter().for_each(|form| name_specials(form, specials, into))
        }
        Form::Many(form) => name_specials(form, specials, into),
    }
}

struct Writer<'a> {
    specials: &'a Specials,
    /// Special tokens that the form names.
    named: Vec<TokenId>,
    /// Free text that ends with a mark.
    rules: Vec<String>,
}

impl Writer<'_> {
    fn form(&mut self, form: &Form) -> String {
        match form {
            Form::Literal(text) => self.literal(text),
            Form::Json(schema) => format!("%json {}", schema::prepared(schema)),
            Form::Space => "SPACE?".to_owned(),
            Form::Word => "WORD".to_owned(),
            Form::Text { free, until } => self.text(*free, until),
            Form::All(forms) if forms.is_empty() => "\"\"".to_owned(),
            Form::All(forms) => self.joined(forms, " "),
            Form::OneOf(forms) => self.joined(forms, " | "),
            Form::Many(form) => format!("({})*", self.form(form)),
        }
    }

    fn joined(&mut self, forms: &[Form], separator: &str) -> String {
        let parts: Vec<String> = forms.iter().map(|form| self.form(form)).collect();
        format!("({})", parts.join(separator))
    }

    fn literal(&self, mut text: &str) -> String {
        let mut parts = Vec::new();
        while let Some((before, id, rest)) = self.specials.first(text) {
            parts.extend((!before.is_empty()).then(|| quoted(before)));
            parts.push(format!("<[{id}]>"));
            text = rest;
        }
        parts.extend((!text.is_empty() || parts.is_empty()).then(|| quoted(text)));
        parts.join(" ")
    }

    /// Free text has special tokens between its stretches; the first stretch is what it may begin with.
    fn text(&mut self, free: Free, until: &[(String, Form)]) -> String {
        let (first, before_mark) = match free {
            Free::Answer | Free::Thoughts => ("TEXT", "(?s:.*)"),
            Free::AnswerWithoutBrace => ("UNBRACED", "([ \\t\\r\\n]*[^ \\t\\r\\n{](?s:.*))?"),
            Free::Blank => ("BLANK", "[ \\t\\r\\n]*"),
        };
        let (free, to_special) = match self.others(free, until) {
            Some(others) => (
                format!("({first}? ({others} TEXT?)*)"),
                Some(format!("({first}? {others} (TEXT? {others})*)")),
            ),
            None => (format!("{first}?"), None),
        };
        let mut ways = vec![free.clone()];
        for (mark, next) in until {
            let next = self.form(next);
            match self.specials.first(mark) {
                Some(("", id, rest)) => {
                    let rest = if rest.is_empty() { String::new() } else { self.literal(rest) };
                    ways.push(format!("{free} <[{id}]> {rest} {next}"));
                }
                _ => {
                    let mark = escaped(mark);
                    self.rules.push(format!("/{before_mark}{mark}/"));
                    ways.push(format!("mark_{} {next}", self.rules.len() - 1));
                    if let Some(to_special) = &to_special {
                        self.rules.push(format!("/(?s:.*){mark}/"));
                        ways.push(format!("{to_special} mark_{} {next}", self.rules.len() - 1));
                    }
                }
            }
        }
        format!("({})", ways.join(" | "))
    }

    /// Special tokens that may stand in a text, if there are any.
    fn others(&self, free: Free, until: &[(String, Form)]) -> Option<String> {
        let is_mark = |id| {
            until
                .iter()
                .any(|(mark, _)| matches!(self.specials.first(mark), Some((_, first, _)) if first == id))
        };
        let all = self.specials.0.iter().map(|(_, id)| *id);
        match free {
            Free::Answer | Free::AnswerWithoutBrace => tokens(all.filter(|id| !self.named.contains(id))),
            Free::Thoughts => tokens(all.filter(|id| !is_mark(*id))),
            Free::Blank => None,
        }
    }
}

/// Ids as ranges.
fn tokens(ids: impl Iterator<Item = TokenId>) -> Option<String> {
    let mut ranges: Vec<(TokenId, TokenId)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    let ranges: Vec<String> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    (!ranges.is_empty()).then(|| format!("<[{}]>", ranges.join(",")))
}

/// A Lark string is a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// As a regular expression, which stands between slashes.
fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => format!("\\x{:02x}", c as u32),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}
