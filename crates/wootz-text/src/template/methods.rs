//! Python's methods of strings, dictionaries and lists.
//!
//! Where:  called by minijinja for a method that it does not know.
//! Idea:   a table of names, each with its plain Rust counterpart; whatever makes text or lists pays first.
//! Source: Python 3, `str`, `dict`, `list`.

use minijinja::formatting::FormatStyle;
use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Value};

use super::budget::Budget;
use super::functions::formatted;
use super::python::to_str;

pub(super) fn call(budget: &Budget, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    budget.charge_shallow(value)?;
    match value.kind() {
        ValueKind::String => string(budget, value.as_str().unwrap_or(""), method, args),
        ValueKind::Map => map(value, method, args),
        ValueKind::Seq | ValueKind::Iterable => list(value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string(budget: &Budget, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let all = |is: fn(char) -> bool| !text.is_empty() && text.chars().all(is);
    let cased = |is: fn(char) -> bool, not: fn(char) -> bool| text.chars().any(is) && !text.chars().any(not);
    Ok(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" | "casefold" => Value::from(text.to_lowercase()),
        "capitalize" => {
            let mut chars = text.chars();
            let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            Value::from(first + &chars.as_str().to_lowercase())
        }
        "title" => Value::from(title(text)),
        "isspace" => Value::from(all(char::is_whitespace)),
        "isdigit" | "isnumeric" | "isdecimal" => Value::from(all(char::is_numeric)),
        "isalnum" => Value::from(all(char::is_alphanumeric)),
        "isalpha" => Value::from(all(char::is_alphabetic)),
        "isascii" => Value::from(text.is_ascii()),
        "islower" => Value::from(cased(char::is_lowercase, char::is_uppercase)),
        "isupper" => Value::from(cased(char::is_uppercase, char::is_lowercase)),
        "strip" | "lstrip" | "rstrip" => strip(text, method, args)?,
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let rest =
                if method == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Value::from(rest.unwrap_or(text))
        }
        "replace" => {
            let (from, to, count): (&str, &str, Option<i64>) = from_args(args)?;
            Value::from(replace(budget, text, from, to, count.unwrap_or(-1))?)
        }
        "split" | "rsplit" => split(text, args, method == "rsplit")?,
        "splitlines" => {
            let (keeps,): (Option<bool>,) = from_args(args)?;
            let keeps = keeps.unwrap_or(false);
            let end = |line: &str| if keeps { line.len() } else { line.trim_end_matches(['\n', '\r']).len() };
            texts(text.split_inclusive('\n').map(|line| &line[..end(line)]))
        }
        "partition" | "rpartition" => {
            let (part,): (&str,) = from_args(args)?;
            let found = if method == "partition" { text.split_once(part) } else { text.rsplit_once(part) };
            match found {
                Some((before, after)) => texts([before, part, after]),
                None if method == "partition" => texts([text, "", ""]),
                None => texts(["", "", text]),
            }
        }
        "count" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(text.matches(part).count())
        }
        "find" | "rfind" | "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "rfind" { text.rfind(part) } else { text.find(part) };
            match at {
                Some(at) => Value::from(text[..at].chars().count()),
                None if method == "index" => {
                    return Err(Error::new(ErrorKind::InvalidOperation, "substring not found"));
                }
                None => Value::from(-1),
            }
        }
        "startswith" => Value::from(any_affix(args, |affix| text.starts_with(affix))?),
        "endswith" => Value::from(any_affix(args, |affix| text.ends_with(affix))?),
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let mut out = String::new();
            for (i, item) in items.try_iter()?.enumerate() {
                budget.charge(text.len() + 1)?;
                out.push_str(if i > 0 { text } else { "" });
                out.push_str(&to_str(&item, budget)?);
            }
            Value::from(out)
        }
        "format" => formatted(budget, FormatStyle::StrFormat, text, args)?,
        "zfill" | "ljust" | "rjust" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let n_missing = width.saturating_sub(text.chars().count());
            budget.charge_product(n_missing, 4)?;
            let fill = fill.unwrap_or(if method == "zfill" { "0" } else { " " }).repeat(n_missing);
            Value::from(if method == "ljust" { format!("{text}{fill}") } else { format!("{fill}{text}") })
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn texts<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    parts.into_iter().map(Value::from).collect::<Vec<Value>>().into()
}

/// Replaces the first `count` occurrences, or all if it is negative.
pub(super) fn replace(
    budget: &Budget,
    text: &str,
    from: &str,
    to: &str,
    count: i64,
) -> Result<String, Error> {
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let n_found = text.matches(from).take(limit).count();
    budget.charge(text.len())?;
    budget.charge_product(n_found, to.len())?;
    Ok(text.replacen(from, to, n_found))
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (chars,): (Option<&str>,) = from_args(args)?;
    let is_cut = |c: char| chars.map_or_else(|| c.is_whitespace(), |chars| chars.contains(c));
    Ok(Value::from(match method {
        "strip" => text.trim_matches(is_cut),
        "lstrip" => text.trim_start_matches(is_cut),
        _ => text.trim_end_matches(is_cut),
    }))
}

fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, count): (Option<&str>, Option<i64>) = from_args(args)?;
    let count = count.and_then(|count| usize::try_from(count).ok());
    if separator == Some("") {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let parts: Vec<&str> = match (separator, count) {
        (None, None) => text.split_whitespace().collect(),
        (None, Some(count)) => {
            let mut parts = Vec::new();
            let mut rest = text.trim_start();
            while !rest.is_empty() && parts.len() < count {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start();
            }
            parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
            parts
        }
        (Some(separator), None) => text.split(separator).collect(),
        (Some(separator), Some(count)) if from_right => {
            let mut parts: Vec<&str> = text.rsplitn(count + 1, separator).collect();
            parts.reverse();
            parts
        }
        (Some(separator), Some(count)) => text.splitn(count + 1, separator).collect(),
    };
    Ok(texts(parts))
}

fn any_affix(args: &[Value], is: impl Fn(&str) -> bool) -> Result<bool, Error> {
    let (affix,): (&Value,) = from_args(args)?;
    if let Some(affix) = affix.as_str() {
        return Ok(is(affix));
    }
    Ok(affix.try_iter()?.any(|affix| affix.as_str().is_some_and(&is)))
}

/// Every run of letters begins with a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphabetic();
    }
    out
}

fn map(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let keys = || value.try_iter();
    Ok(match method {
        "keys" => keys()?.collect::<Vec<Value>>().into(),
        "values" => keys()?.map(|key| value.get_item(&key)).collect::<Result<Vec<_>, _>>()?.into(),
        "items" => {
            let pair = |key: Value| Ok(Value::from(Tuple::from([key.clone(), value.get_item(&key)?])));
            keys()?.map(pair).collect::<Result<Vec<_>, Error>>()?.into()
        }
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(key)?;
            if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found }
        }
        "copy" => value.clone(),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn list(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (what,): (&Value,) = match method {
        "count" | "index" => from_args(args)?,
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    if method == "count" {
        return Ok(Value::from(value.try_iter()?.filter(|item| item == what).count()));
    }
    let place = value.try_iter()?.position(|item| item == *what);
    place.map(Value::from).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "value is not in the list"))
}
