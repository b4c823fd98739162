//! From a template as people write it to one that minijinja can run and that pays for what it makes.
//!
//! Where:  once per template, when it is read.
//! Idea:   in expressions, `+`, `~`, `*`, `%` and literal lists become calls of functions that charge the budget; all else is
//!         copied, so lines keep their numbers. `{% generation %}` becomes a pair of marks in the output.
//! Source: Jinja2's order of operators; `transformers`, `chat_template_utils.py`, for `generation`.
//! Elsewhere: whitespace control ([`lexer`](super::lexer)), the functions themselves ([`functions`](super::functions)).

use super::TemplateError;
use super::lexer::{Kind, Segment, Token, segments};

/// Names that only the rewriter may use begin like this.
pub(super) const PREFIX: &str = "__wootz_";
/// Text of at least this many bytes is paid for each time it is written; shorter text is covered by the steps.
const CHARGED_BYTES: usize = 64;
/// Deepest nesting in an expression.
const MAX_DEPTH: usize = 80;
/// Most operators, filters and look-ups in one tag: minijinja goes one call deeper for each in a chain.
const MAX_LINKS: usize = 400;

/// Most `elif`s around one place: each lies inside the one before it, as minijinja sees them.
const MAX_BRANCHES: usize = 200;

/// Rewrites a template.
pub(super) fn rewrite(source: &str) -> Result<String, TemplateError> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = Output { text: String::with_capacity(source.len() * 2), line: 1, branches: Vec::new() };
    for (line, segment) in segments(&source)? {
        match segment {
            Segment::Text(text) => out.text(text, line),
            Segment::Print(tokens) => {
                let body = Expressions::new(&tokens, line).all()?;
                out.tag("{{", &body, "}}", line);
            }
            Segment::Block(tokens) => out.block(&tokens, line)?,
        }
    }
    Ok(out.text)
}

/// The rewritten template so far.
struct Output {
    text: String,
    line: usize,
    /// How many `elif`s each open `if` has had.
    branches: Vec<usize>,
}

impl Output {
    fn push(&mut self, text: &str) {
        self.line += text.matches('\n').count();
        self.text.push_str(text);
    }

    /// A tag at that line: newlines that whitespace control took away are given back inside.
    fn tag(&mut self, open: &str, body: &str, close: &str, line: usize) {
        self.push(open);
        self.push(&"\n".repeat(line.saturating_sub(self.line)));
        self.push(body);
        self.push(" ");
        self.push(close);
    }

    fn text(&mut self, text: &str, line: usize) {
        if text.len() >= CHARGED_BYTES {
            self.tag("{{", &format!("{PREFIX}charge({})", text.len()), "}}", line);
        }
        if !["{{", "{%", "{#"].iter().any(|open| text.contains(open)) && !text.ends_with('{') {
            return self.push(text);
        }
        let literal = text.replace('\\', "\\\\").replace('"', "\\\"");
        self.tag("{{", &format!("\"{literal}\""), "}}", line);
    }

    fn block(&mut self, tokens: &[Token], line: usize) -> Result<(), TemplateError> {
        let keyword = tokens.first().map_or("", |token| token.text);
        match keyword {
            "generation" => self.tag("{{", &format!("{PREFIX}mark(0)"), "}}", line),
            "endgeneration" => self.tag("{{", &format!("{PREFIX}mark(1)"), "}}", line),
            "include" | "import" | "from" | "extends" | "block" | "endblock" => {
                return Err(TemplateError::at(
                    line,
                    format!("`{keyword}` is not supported in chat templates"),
                ));
            }
            "" => return Err(TemplateError::at(line, "expected a statement")),
            _ => {
                self.count_branch(keyword, line)?;
                let mut body = format!(" {keyword}");
                body.push_str(&Expressions::new(&tokens[1..], tokens[0].line).all()?);
                self.tag("{%", &body, "%}", line);
            }
        }
        Ok(())
    }
}

impl Output {
    fn count_branch(&mut self, keyword: &str, line: usize) -> Result<(), TemplateError> {
        match keyword {
            "if" => self.branches.push(0),
            "elif" => self.branches.iter_mut().rev().take(1).for_each(|n_branches| *n_branches += 1),
            "endif" => drop(self.branches.pop()),
            _ => {}
        }
        if keyword == "elif" && self.branches.iter().sum::<usize>() > MAX_BRANCHES {
            return Err(TemplateError::at(line, format!("expected at most {MAX_BRANCHES} times `elif`")));
        }
        Ok(())
    }
}

/// Rewrites the expressions among a tag's tokens.
struct Expressions<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    line: usize,
    depth: usize,
    links: usize,
}

type Text = Result<String, TemplateError>;

impl<'a> Expressions<'a> {
    fn new(tokens: &'a [Token<'a>], line: usize) -> Self {
        Self { tokens, at: 0, line, depth: 0, links: 0 }
    }

    /// Everything: expressions rewritten, what stands between them copied.
    fn all(mut self) -> Text {
        let mut out = String::new();
        let mut value: Option<(usize, bool)> = None; // where the right side of `=` begins, and whether it has a comma
        while let Some(token) = self.peek() {
            if self.begins_expression() {
                out.push_str(&self.condition()?);
                continue;
            }
            match (token.text, &mut value) {
                ("=", None) => value = Some((out.len() + 1, false)),
                (",", Some(value)) => value.1 = true,
                ("=", Some(_)) => value = Some((usize::MAX, false)), // several: `with a=1, b=2`
                _ => {}
            }
            let copied = self.copy();
            out.push_str(if token.text == "=" { "=" } else { &copied });
        }
        if let Some((start, has_comma)) = value.filter(|value| value.0 <= out.len()) {
            let mut right = out.split_off(start);
            if has_comma {
                right = format!(" {PREFIX}list(({right}))");
            }
            if self.tokens.get(1).is_some_and(|token| token.text == ".") {
                right = format!(" {PREFIX}store({right})"); // into a namespace
            }
            out.push_str(&right);
        }
        Ok(out)
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn is(&self, text: &str) -> bool {
        self.peek().is_some_and(|token| token.text == text && token.kind != Kind::String)
    }

    /// The next token with the space or newlines before it.
    fn copy(&mut self) -> String {
        let Some(token) = self.peek() else { return String::new() };
        self.at += 1;
        let n_newlines = token.line.saturating_sub(self.line);
        self.line = token.line + token.text.matches('\n').count();
        let space = if n_newlines > 0 { "\n".repeat(n_newlines) } else { " ".to_owned() };
        format!("{space}{}", token.text)
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::at(self.peek().map_or(self.line, |token| token.line), message)
    }

    fn begins_expression(&self) -> bool {
        self.peek().is_some_and(|token| match token.kind {
            Kind::Name => !matches!(token.text, "in" | "is" | "and" | "or" | "if" | "else" | "recursive"),
            Kind::Number | Kind::String => true,
            Kind::Operator => matches!(token.text, "(" | "[" | "{" | "-" | "+"),
        })
    }

    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Text) -> Text {
        if self.depth >= MAX_DEPTH {
            return Err(self.error("the expression is nested too deeply"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Counts one more link of a chain.
    fn lengthen(&mut self) -> Result<(), TemplateError> {
        self.links += 1;
        if self.links > MAX_LINKS { Err(self.error("the expression is too long")) } else { Ok(()) }
    }

    /// Copies the token that makes a chain longer.
    fn link(&mut self) -> Text {
        self.lengthen().map(|()| self.copy())
    }

    /// `a if b else c`
    fn condition(&mut self) -> Text {
        self.nested(|this| {
            let mut out = this.logic()?;
            while this.is("if") {
                out.push_str(&this.link()?);
                out.push_str(&this.logic()?);
                if this.is("else") {
                    out.push_str(&this.copy());
                    out.push_str(&this.condition()?);
                }
            }
            Ok(out)
        })
    }

    /// `not`, comparisons, `and`, `or`: all copied, so their order among each other does not matter here.
    fn logic(&mut self) -> Text {
        let mut out = String::new();
        loop {
            while self.is("not") {
                out.push_str(&self.link()?);
            }
            out.push_str(&self.sum()?);
            let mut is_operator = false;
            while ["==", "!=", "<", ">", "<=", ">=", "in", "not", "and", "or"].iter().any(|op| self.is(op)) {
                out.push_str(&self.link()?);
                is_operator = true;
            }
            if !is_operator {
                return Ok(out);
            }
        }
    }

    fn sum(&mut self) -> Text {
        let mut left = self.concatenation()?;
        while self.is("+") || self.is("-") {
            left = self.operation(left, "+", "add", Self::concatenation)?;
        }
        Ok(left)
    }

    fn concatenation(&mut self) -> Text {
        let mut left = self.product()?;
        while self.is("~") {
            left = self.operation(left, "~", "concat", Self::product)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Text {
        let mut left = self.unary()?;
        while ["*", "/", "//", "%"].iter().any(|op| self.is(op)) {
            let (op, name) = if self.is("%") { ("%", "modulo") } else { ("*", "multiply") };
            left = self.operation(left, op, name, Self::unary)?;
        }
        Ok(left)
    }

    /// `left op right` as a call if the operator is `charged`, else copied.
    fn operation(&mut self, left: String, charged: &str, name: &str, right: fn(&mut Self) -> Text) -> Text {
        let is_charged = self.is(charged);
        let operator = self.link()?;
        let right = right(self)?;
        Ok(if is_charged {
            // Newlines before the operator are kept.
            let space = &operator[..operator.len() - charged.len()];
            format!(" {PREFIX}{name}({left}{space},{right})")
        } else {
            format!("{left}{operator}{right}")
        })
    }

    fn unary(&mut self) -> Text {
        if self.is("-") || self.is("+") {
            let sign = self.link()?;
            let value = self.nested(Self::unary)?;
            return Ok(format!("{sign}{value}"));
        }
        let mut out = self.postfix()?;
        while self.is("**") {
            out.push_str(&self.link()?);
            out.push_str(&self.nested(Self::unary)?);
        }
        Ok(out)
    }

    /// A value with its attributes, items, calls, filters and tests.
    fn postfix(&mut self) -> Text {
        let mut out = self.primary()?;
        loop {
            if self.is(".") || self.is("|") {
                out.push_str(&self.link()?);
                let name = self.peek().filter(|token| matches!(token.kind, Kind::Name | Kind::Number));
                name.ok_or_else(|| self.error("expected a name"))?;
                out.push_str(&self.copy());
            } else if self.is("[") {
                self.lengthen()?;
                out.push_str(&self.group("]")?.0);
            } else if self.is("(") {
                self.lengthen()?;
                out.push_str(&self.group(")")?.0);
            } else if self.is("is") {
                out.push_str(&self.link()?);
                if self.is("not") {
                    out.push_str(&self.copy());
                }
                out.push_str(&self.copy());
                let has_argument =
                    self.begins_expression() && !["(", "-", "+", "not"].iter().any(|op| self.is(op));
                if has_argument {
                    out.push_str(&self.primary()?);
                }
            } else {
                return Ok(out);
            }
        }
    }

    fn primary(&mut self) -> Text {
        let token = self.peek().ok_or_else(|| self.error("expected an expression"))?;
        match (token.kind, token.text) {
            (Kind::Name, name) if name.starts_with(PREFIX) => {
                Err(self.error(format!("names must not begin with `{PREFIX}`")))
            }
            (Kind::Name | Kind::Number, _) => Ok(self.copy()),
            (Kind::String, _) => {
                let mut out = self.copy();
                while self.peek().is_some_and(|token| token.kind == Kind::String) {
                    let next = self.link()?;
                    out = format!(" {PREFIX}concat({out},{next})");
                }
                Ok(out)
            }
            (_, "(") => {
                let (group, has_comma) = self.group(")")?;
                Ok(if has_comma { format!(" {PREFIX}list({group})") } else { group })
            }
            (_, "[") => Ok(format!(" {PREFIX}list({})", self.group("]")?.0)),
            (_, "{") => Ok(format!(" {PREFIX}list({})", self.group("}")?.0)),
            (_, other) => Err(self.error(format!("expected an expression, got `{other}`"))),
        }
    }

    /// From an opening bracket to its end, and whether there was a comma directly inside.
    fn group(&mut self, close: &str) -> Result<(String, bool), TemplateError> {
        let mut has_comma = false;
        let out = self.nested(|this| {
            let mut out = this.copy();
            while !this.is(close) {
                if this.begins_expression() {
                    out.push_str(&this.condition()?);
                    continue;
                }
                has_comma |= this.is(",");
                let is_known = [",", ":", "=", "*", "**"].iter().any(|op| this.is(op));
                if !is_known {
                    return Err(this.error(format!("expected `{close}`")));
                }
                out.push_str(&this.copy());
            }
            out.push_str(&this.copy());
            Ok(out)
        })?;
        Ok((out, has_comma))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &str) {
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join("").replace(PREFIX, "@");
        assert_eq!(flat(&rewrite(source).unwrap()), flat(expected), "{source}");
    }

    #[test]
    fn operators_become_calls_in_jinjas_order() {
        check("{{ a + b ~ c * d }}", "{{ @add(a, @concat(b, @multiply(c, d))) }}");
        check("{{ a - b + c == d and not e }}", "{{ @add(a - b, c) == d and not e }}");
        check(
            "{{ (a + 1)|f(b ~ 'x')[1:] if c is not none else -d }}",
            "{{ (@add(a, 1))|f(@concat(b, 'x'))[1:] if c is not none else -d }}",
        );
        check("{% set x = [a, {'k': b + c}] %}", "{% set x = @list([a, @list({'k': @add(b, c)})]) %}");
        check("{% set x = a, b %}", "{% set x = @list((a, b)) %}");
        check("{% set ns.x = a + b %}", "{% set ns.x = @store(@add(a, b)) %}");
        check(
            "{% for k, v in d.items() if v is divisibleby 3 %}",
            "{% for k, v in d.items() if v is divisibleby 3 %}",
        );
        check("{% macro m(a, b=c+1) %}", "{% macro m(a, b=@add(c, 1)) %}");
        check("{{ 'a' 'b' }}", "{{ @concat('a', 'b') }}");
    }

    #[test]
    fn whitespace_is_what_transformers_makes_of_it() {
        check_text("  {% if x %}\n .a\n  {%- endif %}\nb\n", "{% if x %} .a{% endif %}b");
        check_text("a {%+ if x %}{# c #}\n{%- raw %} {{ {% endraw -%}  b", "a {% if x %}{{\n\" {{ \" }}b");
        check_text("a\n\n", "a\n");
    }

    fn check_text(source: &str, expected: &str) {
        let tight = |text: &str| {
            let text = text.replace(" %}", "%}").replace(" }}", "}}");
            text.split("{%").map(str::trim_start).collect::<Vec<_>>().join("{%")
        };
        assert_eq!(tight(&rewrite(source).unwrap()), tight(expected), "{source:?}");
    }

    #[test]
    fn lines_keep_their_numbers_and_errors_name_them() {
        let out = rewrite("a\n\n{%- set x = 1 +\n 2 %}\n{{ x\n }}").unwrap();
        assert!(out.lines().nth(3).is_some_and(|line| line.contains('2')), "{out}");
        assert!(out.lines().nth(4).is_some_and(|line| line.contains('x')), "{out}");
        assert_eq!(rewrite("a\n{{ x ").unwrap_err().line, Some(2));
        assert_eq!(rewrite("{% include 'x' %}").unwrap_err().line, Some(1));
        assert!(rewrite(&format!("{{{{ {}1{} }}}}", "(".repeat(500), ")".repeat(500))).is_err());
    }
}
