//! A template cut into text and tags, with Jinja's whitespace control resolved.
//!
//! Where:  the first half of reading a template; [`rewrite`](super::rewrite) does the second.
//! Idea:   after this, text is exactly what will be written, and a tag is a row of tokens with their lines.
//! Source: Jinja2 3.1, `lexer.py`, with `trim_blocks` and `lstrip_blocks` on and `keep_trailing_newline` off.

use super::TemplateError;

/// A stretch of the template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Segment<'a> {
    /// Written as it is.
    Text(&'a str),
    /// `{{ … }}`
    Print(Vec<Token<'a>>),
    /// `{% … %}`
    Block(Vec<Token<'a>>),
}

/// One token of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) kind: Kind,
    /// Counts from 1.
    pub(super) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    String,
    Operator,
}

/// Cuts a template whose newlines are all `\n`; each segment with its line.
pub(super) fn segments(source: &str) -> Result<Vec<(usize, Segment<'_>)>, TemplateError> {
    // COMPAT: Jinja drops one newline at the end of a template.
    let source = source.strip_suffix('\n').unwrap_or(source);
    Lexer { source, at: 0, line: 1, starts_line: true, segments: Vec::new() }.run()
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    /// Whether the text that follows begins a line.
    starts_line: bool,
    segments: Vec<(usize, Segment<'a>)>,
}

impl<'a> Lexer<'a> {
    fn run(mut self) -> Result<Vec<(usize, Segment<'a>)>, TemplateError> {
        loop {
            let rest = &self.source[self.at..];
            let is_open = |&(at, _): &(usize, _)| rest[at + 1..].starts_with(['{', '%', '#']);
            let Some((text_len, _)) = rest.match_indices('{').find(is_open) else {
                self.push_text(rest);
                return Ok(self.segments);
            };
            let open = &rest[text_len..text_len + 2];
            self.text_before_tag(&rest[..text_len], open, &rest[text_len + 2..]);
            self.advance(text_len + 2);
            if self.source[self.at..].starts_with(['-', '+']) {
                self.advance(1);
            }
            match open {
                "{#" => self.comment()?,
                "{{" => self.tag("}}")?,
                _ => self.tag("%}")?,
            }
        }
    }

    /// Pushes the text before a tag without the whitespace that the tag takes away.
    fn text_before_tag(&mut self, text: &'a str, open: &str, after: &str) {
        let kept = if after.starts_with('-') {
            text.trim_end()
        } else if open != "{{" && !after.starts_with('+') {
            let line_start = text.rfind('\n').map_or(0, |newline| newline + 1);
            let is_indent = text[line_start..].chars().all(char::is_whitespace);
            if is_indent && (line_start > 0 || self.starts_line) { &text[..line_start] } else { text }
        } else {
            text
        };
        self.push_text(kept);
    }

    fn push_text(&mut self, text: &'a str) {
        if !text.is_empty() {
            self.segments.push((self.line, Segment::Text(text)));
        }
    }

    fn advance(&mut self, len: usize) {
        self.line += self.source[self.at..self.at + len].matches('\n').count();
        self.at += len;
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::at(self.line, message)
    }

    fn comment(&mut self) -> Result<(), TemplateError> {
        let rest = &self.source[self.at..];
        let end = rest.find("#}").ok_or_else(|| self.error("expected `#}` at the end of the comment"))?;
        let modifier = rest[..end].chars().next_back();
        self.advance(end + 2);
        self.after_tag(modifier.filter(|c| matches!(c, '-' | '+')), true);
        Ok(())
    }

    /// Takes away the whitespace after a tag: all of it after `-`, else one newline after a block.
    fn after_tag(&mut self, modifier: Option<char>, is_block: bool) {
        let rest = &self.source[self.at..];
        let taken = match modifier {
            Some('-') => rest.len() - rest.trim_start().len(),
            None if is_block && rest.starts_with('\n') => 1,
            _ => 0,
        };
        self.starts_line = rest[..taken].ends_with('\n');
        self.advance(taken);
    }

    fn tag(&mut self, close: &str) -> Result<(), TemplateError> {
        let line = self.line;
        let mut tokens: Vec<Token<'a>> = Vec::new();
        let mut depth = 0_usize;
        loop {
            let rest = &self.source[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            self.advance(blank);
            let rest = &self.source[self.at..];
            if depth == 0 {
                let modifier = rest.chars().next().filter(|c| matches!(c, '-' | '+'));
                let end = &rest[modifier.map_or(0, |_| 1)..];
                if end.starts_with(close) {
                    self.advance(modifier.map_or(0, |_| 1) + 2);
                    self.after_tag(modifier, close == "%}");
                    break;
                }
            }
            let token = self.token(close)?;
            match token.text {
                "(" | "[" | "{" if token.kind == Kind::Operator => depth += 1,
                ")" | "]" | "}" if token.kind == Kind::Operator => {
                    depth = depth
                        .checked_sub(1)
                        .ok_or_else(|| self.error(format!("unexpected `{}`", token.text)))?;
                }
                _ => {}
            }
            tokens.push(token);
        }
        let is_raw = close == "%}" && tokens.len() == 1 && tokens[0].text == "raw";
        if is_raw {
            return self.raw();
        }
        let segment = if close == "%}" { Segment::Block(tokens) } else { Segment::Print(tokens) };
        self.segments.push((line, segment));
        Ok(())
    }

    /// Everything up to `{% endraw %}` is text.
    fn raw(&mut self) -> Result<(), TemplateError> {
        let start = self.at;
        let mut from = start;
        loop {
            let open = self.source[from..].find("{%").map(|open| open + from);
            let open = open.ok_or_else(|| self.error("expected `{% endraw %}`"))?;
            let after = &self.source[open + 2..];
            let inner = after.strip_prefix(['-', '+']).unwrap_or(after).trim_start();
            let tail = inner.strip_prefix("endraw").map(str::trim_start);
            let Some(tail) = tail else {
                from = open + 2;
                continue;
            };
            let modifier = tail.chars().next().filter(|c| matches!(c, '-' | '+'));
            if !tail[modifier.map_or(0, |_| 1)..].starts_with("%}") {
                from = open + 2;
                continue;
            }
            let end = self.source.len() - tail.len() + modifier.map_or(0, |_| 1) + 2;
            self.text_before_tag(&self.source[start..open], "{%", after);
            self.advance(end - start);
            self.after_tag(modifier, true);
            return Ok(());
        }
    }

    fn token(&mut self, close: &str) -> Result<Token<'a>, TemplateError> {
        const PAIRS: [&str; 8] = ["==", "!=", "<=", ">=", "//", "**", "->", ":="];
        let rest = &self.source[self.at..];
        let first = rest.chars().next().ok_or_else(|| self.error(format!("expected `{close}`")))?;
        let run = |more: fn(char) -> bool| rest.find(|c| !more(c)).unwrap_or(rest.len());
        let (kind, len) = match first {
            '"' | '\'' => (Kind::String, self.string_len(rest, first)?),
            '0'..='9' => (Kind::Number, number_len(rest)),
            c if c == '_' || c.is_alphabetic() => (Kind::Name, run(|c| c == '_' || c.is_alphanumeric())),
            _ if PAIRS.iter().any(|pair| rest.starts_with(pair)) => (Kind::Operator, 2),
            '+' | '-' | '/' | '*' | '%' | '~' | '[' | ']' | '(' | ')' | '{' | '}' | '<' | '>' | '=' | '.'
            | ':' | '|' | ',' | ';' => (Kind::Operator, 1),
            other => return Err(self.error(format!("unexpected character `{}`", other.escape_debug()))),
        };
        let token = Token { text: &rest[..len], kind, line: self.line };
        self.advance(len);
        Ok(token)
    }

    fn string_len(&self, rest: &str, quote: char) -> Result<usize, TemplateError> {
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => return Ok(at + 1),
                _ => {}
            }
        }
        Err(self.error("expected the string to end"))
    }
}

/// Digits, perhaps a fraction, perhaps an exponent; `1.foo` is a number and an attribute.
fn number_len(rest: &str) -> usize {
    let digits = |from: usize| {
        rest[from..].find(|c: char| !(c.is_ascii_digit() || c == '_')).map_or(rest.len(), |n| n + from)
    };
    let mut end = digits(0);
    let begins_digit = |at: usize| rest[at..].starts_with(|c: char| c.is_ascii_digit());
    if rest[end..].starts_with('.') && begins_digit(end + 1) {
        end = digits(end + 1);
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
        if begins_digit(end + 1 + sign) {
            end = digits(end + 1 + sign);
        }
    }
    end
}
