//! llama.cpp's grammar notation, rewritten as Lark.
//!
//! Where:  one step before [`Grammar`](crate::Grammar)s are compiled.
//! Idea:   rules that do not lead back to themselves are regular and become terminals, which are matched exactly; the
//!         others become rules over such terminals.
//! Source: llama.cpp, `grammars/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 64;
/// Most repetitions that a count may ask for.
const MAX_REPEAT: u32 = 10_000;

/// A grammar with the rule `root` as Lark with the rule `start`.
pub(crate) fn to_lark(source: &str) -> Result<String, String> {
    let rules = Parser::new(source).grammar()?;
    if !rules.contains_key("root") {
        return Err("rule `root` is missing".to_owned());
    }
    for (name, rule) in &rules {
        let mut refs = BTreeSet::new();
        rule.refs(&mut refs);
        if let Some(missing) = refs.iter().find(|other| !rules.contains_key(**other)) {
            return Err(format!("rule `{name}`: there is no rule `{missing}`"));
        }
    }
    let recursive = recursive(&rules);
    let nullable = nullable(&rules);
    // Names differ by their numbers, whatever letters the source used.
    let names = rules.keys().enumerate().map(|(i, name)| match recursive.contains(name.as_str()) {
        true => (name.as_str(), format!("rule_{i}")),
        false => (name.as_str(), format!("TERMINAL_{i}")),
    });
    let mut writer = Writer { names: names.collect(), recursive, nullable, extra: Vec::new() };
    let mut lines = vec![format!("start: {}", writer.reference("root"))];
    for (name, rule) in &rules {
        let body = match writer.recursive.contains(name.as_str()) {
            true => writer.rule(rule),
            false => writer.terminal(rule),
        };
        lines.push(format!("{}: {body}", writer.names[name.as_str()]));
    }
    lines.append(&mut writer.extra);
    Ok(lines.join("\n"))
}

/// Rules by name.
type Rules = BTreeMap<String, Expr>;

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    Literal(String),
    /// A set of characters as a regular expression.
    Class(String),
    Ref(String),
    Sequence(Vec<Expr>),
    Either(Vec<Expr>),
    Repeat(Box<Expr>, u32, Option<u32>),
}

impl Expr {
    fn refs<'a>(&'a self, into: &mut BTreeSet<&'a str>) {
        match self {
            Self::Literal(_) | Self::Class(_) => {}
            Self::Ref(name) => drop(into.insert(name)),
            Self::Sequence(items) | Self::Either(items) => items.iter().for_each(|item| item.refs(into)),
            Self::Repeat(item, ..) => item.refs(into),
        }
    }

    fn is_nullable(&self, nullable: &BTreeSet<&str>) -> bool {
        match self {
            Self::Literal(text) => text.is_empty(),
            Self::Class(_) => false,
            Self::Ref(name) => nullable.contains(name.as_str()),
            Self::Sequence(items) => items.iter().all(|item| item.is_nullable(nullable)),
            Self::Either(items) => items.iter().any(|item| item.is_nullable(nullable)),
            Self::Repeat(item, min, _) => *min == 0 || item.is_nullable(nullable),
        }
    }
}

/// Rules from which the rule itself, or such a rule, can be reached.
fn recursive(rules: &Rules) -> BTreeSet<&str> {
    // What cannot be taken away rule by rule, those that refer to regular ones alone first, is recursive.
    let mut rest: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, rule) in rules {
        let mut refs = BTreeSet::new();
        rule.refs(&mut refs);
        rest.insert(name, refs);
    }
    loop {
        let regular: Vec<&str> =
            rest.iter().filter(|(_, refs)| refs.is_empty()).map(|(name, _)| *name).collect();
        if regular.is_empty() {
            return rest.into_keys().collect();
        }
        for name in regular {
            rest.remove(name);
            for refs in rest.values_mut() {
                refs.remove(name);
            }
        }
    }
}

/// Rules that the empty text fits.
fn nullable(rules: &Rules) -> BTreeSet<&str> {
    let mut nullable = BTreeSet::new();
    loop {
        let before = nullable.len();
        for (name, rule) in rules {
            if rule.is_nullable(&nullable) {
                nullable.insert(name.as_str());
            }
        }
        if nullable.len() == before {
            return nullable;
        }
    }
}

/// Writes Lark.
struct Writer<'a> {
    names: BTreeMap<&'a str, String>,
    recursive: BTreeSet<&'a str>,
    nullable: BTreeSet<&'a str>,
    /// Terminals made of parts of rules.
    extra: Vec<String>,
}

impl Writer<'_> {
    fn reference(&self, name: &str) -> String {
        // A terminal never matches the empty text; the rule says that it may be left out.
        match !self.recursive.contains(name) && self.nullable.contains(name) {
            true => format!("{}?", self.names[name]),
            false => self.names[name].clone(),
        }
    }

    fn terminal(&self, expr: &Expr) -> String {
        match expr {
            Expr::Literal(text) => quoted(text),
            Expr::Class(regex) => format!("/{regex}/"),
            Expr::Ref(name) => self.names[name.as_str()].clone(),
            Expr::Sequence(items) if items.is_empty() => "\"\"".to_owned(),
            Expr::Sequence(items) => joined(items, " ", |item| self.terminal(item)),
            Expr::Either(items) => joined(items, " | ", |item| self.terminal(item)),
            Expr::Repeat(_, _, Some(0)) => "\"\"".to_owned(),
            Expr::Repeat(item, min, max) => format!("({}){}", self.terminal(item), count(*min, *max)),
        }
    }

    fn rule(&mut self, expr: &Expr) -> String {
        let mut refs = BTreeSet::new();
        expr.refs(&mut refs);
        let is_regular = refs.iter().all(|name| !self.recursive.contains(name));
        match expr {
            Expr::Literal(text) => quoted(text),
            Expr::Ref(name) => self.reference(name),
            Expr::Sequence(items) if items.is_empty() => "\"\"".to_owned(),
            _ if is_regular => {
                let name = format!("PART_{}", self.extra.len());
                let line = format!("{name}: {}", self.terminal(expr));
                self.extra.push(line);
                if expr.is_nullable(&self.nullable) { format!("{name}?") } else { name }
            }
            Expr::Sequence(items) => joined(items, " ", |item| self.rule(item)),
            Expr::Either(items) => joined(items, " | ", |item| self.rule(item)),
            Expr::Repeat(_, _, Some(0)) => "\"\"".to_owned(),
            Expr::Repeat(item, min, max) => format!("({}){}", self.rule(item), count(*min, *max)),
            Expr::Class(_) => unreachable!("a class is regular"),
        }
    }
}

fn joined(items: &[Expr], separator: &str, write: impl FnMut(&Expr) -> String) -> String {
    let parts: Vec<String> = items.iter().map(write).collect();
    format!("({})", parts.join(separator))
}

fn count(min: u32, max: Option<u32>) -> String {
    match (min, max) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (min, None) => format!("{{{min},}}"),
        (min, Some(max)) => format!("{{{min},{max}}}"),
    }
}

/// A Lark string is a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Self {
        Self { chars: source.chars().peekable(), line: 1, depth: 0 }
    }

    fn fail<T>(&self, message: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("line {}: {message}", self.line))
    }

    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn skip_space(&mut self) {
        while let Some(&c) = self.chars.peek() {
            match c {
                '#' => {
                    while self.chars.peek().is_some_and(|&c| c != '\n') {
                        self.next();
                    }
                }
                c if c.is_whitespace() => drop(self.next()),
                _ => return,
            }
        }
    }

    fn grammar(&mut self) -> Result<Rules, String> {
        let mut rules = Rules::new();
        self.skip_space();
        while self.chars.peek().is_some() {
            let name = self.name()?;
            self.definition_mark()?;
            let rule = self.either()?;
            if rules.insert(name.clone(), rule).is_some() {
                return self.fail(format_args!("rule `{name}` is defined twice"));
            }
        }
        Ok(rules)
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        while let Some(&c) = self.chars.peek().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(**c)) {
            name.push(c);
            self.next();
        }
        match (name.is_empty(), self.chars.peek().copied()) {
            (false, _) => Ok(name),
            (true, Some(c)) => self.fail(format_args!("expected a rule's name, got `{c}`")),
            (true, None) => self.fail("expected a rule's name, got the end"),
        }
    }

    fn definition_mark(&mut self) -> Result<(), String> {
        self.skip_space();
        for expected in "::=".chars() {
            if self.next() != Some(expected) {
                return self.fail("expected `::=` behind a rule's name");
            }
        }
        self.skip_space();
        Ok(())
    }

    /// Whether a rule's head stands here.
    fn is_at_head(&self) -> bool {
        let mut ahead = self.chars.clone();
        let mut n_name = 0;
        while ahead.next_if(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).is_some() {
            n_name += 1;
        }
        while ahead.next_if(|c| c.is_whitespace()).is_some() {}
        n_name > 0 && ahead.take(3).eq("::=".chars())
    }

    fn either(&mut self) -> Result<Expr, String> {
        let mut items = vec![self.sequence()?];
        while self.chars.next_if_eq(&'|').is_some() {
            self.skip_space();
            items.push(self.sequence()?);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::Either(items) })
    }

    fn sequence(&mut self) -> Result<Expr, String> {
        let mut items = Vec::new();
        while let Some(&c) = self.chars.peek() {
            if "|)".contains(c) || self.is_at_head() {
                break;
            }
            let item = self.item(c)?;
            items.push(self.repeated(item)?);
            self.skip_space();
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::Sequence(items) })
    }

    fn item(&mut self, first: char) -> Result<Expr, String> {
        match first {
            '"' => {
                self.next();
                let mut text = String::new();
                while self.chars.next_if_eq(&'"').is_none() {
                    text.push(self.char("a string")?);
                }
                Ok(Expr::Literal(text))
            }
            '[' => self.class(),
            '.' => {
                self.next();
                Ok(Expr::Class("(?s:.)".to_owned()))
            }
            '(' => {
                self.next();
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return self.fail(format_args!("more than {MAX_DEPTH} parentheses in each other"));
                }
                self.skip_space();
                let inner = self.either()?;
                if self.next() != Some(')') {
                    return self.fail("expected `)`");
                }
                self.depth -= 1;
                Ok(inner)
            }
            c if c.is_ascii_alphanumeric() || "-_".contains(c) => Ok(Expr::Ref(self.name()?)),
            c => self.fail(format_args!("expected a string, a class, a rule or `(`, got `{c}`")),
        }
    }

    fn class(&mut self) -> Result<Expr, String> {
        self.next();
        let mut regex = "[".to_owned();
        if self.chars.next_if_eq(&'^').is_some() {
            regex.push('^');
        }
        let is_empty = self.chars.peek() == Some(&']');
        while self.chars.next_if_eq(&']').is_none() {
            let first = self.char("a class")?;
            let mut ahead = self.chars.clone();
            let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
            let last = match is_range {
                true => {
                    self.next();
                    self.char("a class")?
                }
                false => first,
            };
            if last < first {
                return self.fail(format_args!("a class from `{first}` to `{last}` is empty"));
            }
            let (first, last) = (u32::from(first), u32::from(last));
            write!(regex, "\\x{{{first:X}}}-\\x{{{last:X}}}").expect("a string takes everything");
        }
        if is_empty {
            return self.fail("an empty class");
        }
        regex.push(']');
        Ok(Expr::Class(regex))
    }

    /// One character of a string or a class, escapes undone.
    fn char(&mut self, of: &str) -> Result<char, String> {
        let Some(c) = self.next() else { return self.fail(format_args!("{of} does not end")) };
        if c != '\\' {
            return Ok(c);
        }
        let Some(escaped) = self.next() else { return self.fail(format_args!("{of} does not end")) };
        let n_digits = match escaped {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '\\' | '"' | '[' | ']' | '-' | '^' => return Ok(escaped),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => return self.fail(format_args!("unknown escape `\\{other}`")),
        };
        let digits: String = (0..n_digits).filter_map(|_| self.next()).collect();
        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
        match code {
            Some(c) => Ok(c),
            None => self.fail(format_args!("`\\{escaped}{digits}` is no character")),
        }
    }

    fn repeated(&mut self, item: Expr) -> Result<Expr, String> {
        let mut item = item;
        loop {
            let (min, max) = match self.chars.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.next();
                    let (min, max) = self.counts()?;
                    item = Expr::Repeat(Box::new(item), min, max);
                    continue;
                }
                _ => return Ok(item),
            };
            self.next();
            item = Expr::Repeat(Box::new(item), min, max);
        }
    }

    /// `m}`, `m,}`, `,n}`, `m,n}`.
    fn counts(&mut self) -> Result<(u32, Option<u32>), String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('}') => break,
                Some(c) if text.len() < 32 => text.push(c),
                _ => return self.fail("expected `}` behind a count"),
            }
        }
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n <= MAX_REPEAT);
        let counts = match text.split_once(',') {
            None => number(&text).map(|n| (n, Some(n))),
            Some((min, max)) => {
                let min = if min.trim().is_empty() { Some(0) } else { number(min) };
                let max = if max.trim().is_empty() { Some(None) } else { number(max).map(Some) };
                min.zip(max).filter(|(min, max)| max.is_none_or(|max| *min <= max))
            }
        };
        match counts {
            Some(counts) => Ok(counts),
            None => self.fail(format_args!("`{{{text}}}` is no count up to {MAX_REPEAT}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_rules_become_terminals_and_the_rest_rules() {
        let source = "root ::= list # the whole\nlist ::= \"[\" (item (\",\" ws item)*)? \"]\"\n\
                      item ::= list | [0-9]+\nws ::= \" \"?";
        let lark = to_lark(source).unwrap();
        // Rules are numbered in the order of their names: item, list, root, ws.
        let expected = [
            "start: rule_2",
            "rule_0: (rule_1 | PART_0)",
            "rule_1: (\"[\" ((rule_0 ((\",\" TERMINAL_3? rule_0))*))? \"]\")",
            "rule_2: rule_1",
            "TERMINAL_3: (\" \")?",
            "PART_0: (/[\\x{30}-\\x{39}]/)+",
        ];
        assert_eq!(lark.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        let check = |source: &str, message: &str| {
            let error = to_lark(source).unwrap_err();
            assert!(error.contains(message), "{error}");
        };
        check("a ::= \"x\"", "`root` is missing");
        check("root ::= other", "no rule `other`");
        check("root ::= \"x", "does not end");
        check("root ::= [b-a]", "is empty");
        check("\nroot = \"x\"", "line 2: expected `::=`");
        check("root ::= (\"x\"", "expected `)`");
        check("root ::= \"x\"{3,1}", "no count");
        check("root ::= \"x\"{99999}", "no count");
        check("root ::= \"x\"\nroot ::= \"y\"", "defined twice");
        check(&format!("root ::= {}", "(".repeat(1000)), "parentheses");
    }
}
