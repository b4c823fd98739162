//! What templates can call: operators that pay, filters, and the functions that `transformers` provides.
//!
//! Where:  put into minijinja's environment for one rendering.
//! Idea:   everything that makes text or lists charges the [`Budget`] first. minijinja's own filters are wrapped where they
//!         only copy, replaced where they multiply or where Python writes values differently.
//! Source: Jinja2's filters; `transformers`, `chat_template_utils.py`.
//! Elsewhere: methods of strings and dictionaries ([`methods`](super::methods)).

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters};

use super::budget::Budget;
use super::methods;
use super::python::{JsonStyle, to_json, to_str};
use super::rewrite::PREFIX;
use super::strftime::Now;

/// An environment whose every operation pays from this budget.
pub(super) fn environment(budget: &Budget, steps: u64, now: Now, marks: [char; 2]) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_fuel(Some(steps));
    env.set_recursion_limit(100);
    let pays = budget.clone();
    env.set_formatter(move |out, _, value| {
        let text = to_str(value, &pays)?;
        out.write_str(&text)
            .map_err(|_| Error::new(ErrorKind::OutOfFuel, "the template writes too much text"))
    });
    let pays = budget.clone();
    env.set_unknown_method_callback(move |_, value, method, args| methods::call(&pays, value, method, args));
    operators(&mut env, budget, marks);
    copying_filters(&mut env, budget);
    text_filters(&mut env, budget);
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", move |format: String| now.format(&format));
    let pays = budget.clone();
    env.add_function("dict", move |first: Option<Value>, named: Kwargs| dict(&pays, first, &named));
    let pays = budget.clone();
    env.add_function("namespace", move |first: Option<Value>, named: Kwargs| {
        let values = dict(&pays, first, &named)?;
        pays.charge_stored(&values)?;
        minijinja::functions::namespace(Some(ValueOrKwargs::from(values)))
    });
    env
}

fn operators(env: &mut Environment, budget: &Budget, marks: [char; 2]) {
    let name = |name: &str| format!("{PREFIX}{name}");
    let pays = budget.clone();
    env.add_function(name("charge"), move |bytes: usize| pays.charge(bytes).map(|()| ""));
    env.add_function(name("mark"), move |which: usize| marks[which & 1].to_string());
    let pays = budget.clone();
    env.add_function(name("list"), move |list: Value| pays.charge_deep(&list, 0).map(|()| list));
    let pays = budget.clone();
    env.add_function(name("store"), move |value: Value| pays.charge_stored(&value).map(|()| value));
    let pays = budget.clone();
    env.add_function(name("concat"), move |left: Value, right: Value| concat(&pays, &left, &right));
    let pays = budget.clone();
    env.add_function(name("add"), move |left: Value, right: Value| add(&pays, &left, &right));
    let pays = budget.clone();
    env.add_function(name("multiply"), move |left: Value, right: Value| multiply(&pays, &left, &right));
    let pays = budget.clone();
    env.add_function(name("modulo"), move |left: Value, right: Value| modulo(&pays, &left, &right));
}

fn concat(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let mut text = to_str(left, budget)?;
    text.push_str(&to_str(right, budget)?);
    Ok(Value::from(text))
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn unsupported(sign: &str, left: &Value, right: &Value) -> Error {
    let message = format!("`{sign}` is not possible between {} and {}", left.kind(), right.kind());
    Error::new(ErrorKind::InvalidOperation, message)
}

fn add(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    if left.as_str().is_some() && right.as_str().is_some() {
        return concat(budget, left, right);
    }
    if is_list(left) && is_list(right) {
        budget.charge_shallow(left)?;
        budget.charge_shallow(right)?;
        let items: Vec<Value> = left.try_iter()?.chain(right.try_iter()?).collect();
        let list = Value::from(items);
        budget.charge_deep(&list, 0)?;
        return Ok(list);
    }
    arithmetic("+", left, right, i64::checked_add, |a, b| a + b)
}

fn multiply(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    for (repeated, count) in [(left, right), (right, left)] {
        let count =
            || count.as_i64().map(|count| count.max(0) as usize).ok_or_else(|| unsupported("*", left, right));
        if let Some(text) = repeated.as_str() {
            let count = count()?;
            budget.charge_product(count, text.len())?;
            return Ok(Value::from(text.repeat(count)));
        }
        if is_list(repeated) {
            let count = count()?;
            let items: Vec<Value> = repeated.try_iter()?.collect();
            budget.charge_product(count, items.len().saturating_mul(32))?;
            return Ok(std::iter::repeat_n(items, count).flatten().collect());
        }
    }
    arithmetic("*", left, right, i64::checked_mul, |a, b| a * b)
}

/// The rest of a division, or Python's `'%s' % value`.
fn modulo(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(template) = left.as_str() {
        let args: Vec<Value> = if is_list(right) { right.try_iter()?.collect() } else { vec![right.clone()] };
        return formatted(budget, FormatStyle::Printf, template, &args);
    }
    // COMPAT: in Python the rest has the divisor's sign.
    let floor_mod = |a: i64, b: i64| {
        let rest = a.checked_rem(b)?;
        Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
    };
    arithmetic("%", left, right, floor_mod, |a, b| a - b * (a / b).floor())
}

fn arithmetic(
    sign: &str,
    left: &Value,
    right: &Value,
    whole: impl Fn(i64, i64) -> Option<i64>,
    broken: impl Fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if !is_number(left) || !is_number(right) {
        return Err(unsupported(sign, left, right));
    }
    let as_whole = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(i64::from(value.is_true())),
        _ if value.is_integer() => value.as_i64(),
        _ => None,
    };
    if let (Some(a), Some(b)) = (as_whole(left), as_whole(right)) {
        let result = whole(a, b);
        return result.map(Value::from).ok_or_else(|| unsupported(sign, left, right));
    }
    Ok(Value::from(broken(f64::try_from(left.clone())?, f64::try_from(right.clone())?)))
}

/// `template % args` or `template.format(*args)`: fields cost their width, and arguments are written here.
pub(super) fn formatted(
    budget: &Budget,
    style: FormatStyle,
    template: &str,
    args: &[Value],
) -> Result<Value, Error> {
    budget.charge(template.len())?;
    let digits = template.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    for digits in digits {
        budget.charge(digits.parse().unwrap_or(usize::MAX))?; // a width, a precision or a position
    }
    let n_fields = template.matches(['%', '{']).count();
    let mut written = Vec::with_capacity(args.len());
    for arg in args {
        match arg.kind() {
            ValueKind::Number => written.push(arg.clone()),
            _ => {
                let text = to_str(arg, budget)?;
                budget.charge_product(n_fields, text.len())?;
                written.push(Value::from(text));
            }
        }
    }
    format(style, template, &written).map(Value::from)
}

/// `dict(mapping or pairs, name=value, …)`
fn dict(budget: &Budget, first: Option<Value>, named: &Kwargs) -> Result<Value, Error> {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    if let Some(first) = first {
        for key in first.try_iter()? {
            pairs.push(match first.kind() {
                ValueKind::Map => (key.clone(), first.get_item(&key)?),
                _ => (key.get_item_by_index(0)?, key.get_item_by_index(1)?),
            });
        }
    }
    for name in named.args() {
        pairs.push((Value::from(name), named.get::<Value>(name)?));
    }
    let dict = Value::from_pairs(pairs);
    budget.charge_deep(&dict, 0)?;
    Ok(dict)
}

/// Filters that copy at most what they are given: they pay for that and go on as they are.
fn copying_filters(env: &mut Environment, budget: &Budget) {
    macro_rules! wrap {
        ($($name:literal => $filter:path),* $(,)?) => {$({
            let inner = concat!("__wootz_inner_", $name);
            env.add_filter(inner, $filter);
            let pays = budget.clone();
            env.add_filter($name, move |state: &mut State, args: Rest<Value>, named: Kwargs| {
                let args: Vec<Value> = args.0.into_iter().chain(is_any(&named).then(|| named.into())).collect();
                args.iter().try_for_each(|arg| pays.charge_shallow(arg))?;
                state.apply_filter(inner, &args)
            });
        })*};
    }
    wrap! {
        "batch" => filters::batch, "capitalize" => filters::capitalize, "dictsort" => filters::dictsort,
        "groupby" => filters::groupby, "items" => filters::items, "list" => filters::list, "lower" => filters::lower,
        "map" => filters::map, "max" => filters::max, "min" => filters::min, "reject" => filters::reject,
        "rejectattr" => filters::rejectattr, "reverse" => filters::reverse, "select" => filters::select,
        "selectattr" => filters::selectattr, "slice" => filters::slice, "sort" => filters::sort,
        "split" => filters::split, "sum" => filters::sum, "title" => filters::title, "trim" => filters::trim,
        "unique" => filters::unique, "upper" => filters::upper, "lines" => filters::lines, "zip" => filters::zip,
        "chain" => filters::chain, "urlencode" => no_urlencode,
    }
    for removed in ["pprint", "escape", "e"] {
        env.remove_filter(removed);
    }
}

fn is_any(named: &Kwargs) -> bool {
    named.args().next().is_some()
}

fn no_urlencode(_value: Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::UnknownFilter, "`urlencode` is not supported in chat templates"))
}

/// Filters that write text, as Python does.
fn text_filters(env: &mut Environment, budget: &Budget) {
    let pays = budget.clone();
    env.add_filter("string", move |value: Value| to_str(&value, &pays));
    let pays = budget.clone();
    env.add_filter("safe", move |value: Value| to_str(&value, &pays));
    let pays = budget.clone();
    env.add_filter("join", move |list: Value, between: Option<Value>, options: Kwargs| {
        let attribute: Option<String> = options.get("attribute")?;
        let between = between.or(options.get("d")?).unwrap_or_else(|| Value::from(""));
        options.assert_all_used()?;
        join(&pays, &list, &between, attribute.as_deref())
    });
    let pays = budget.clone();
    env.add_filter("replace", move |value: Value, from: Value, to: Value, count: Option<i64>| {
        let text = to_str(&value, &pays)?;
        methods::replace(&pays, &text, &to_str(&from, &pays)?, &to_str(&to, &pays)?, count.unwrap_or(-1))
    });
    let pays = budget.clone();
    env.add_filter("format", move |template: String, args: Rest<Value>| {
        formatted(&pays, FormatStyle::Printf, &template, &args)
    });
    let pays = budget.clone();
    env.add_filter(
        "indent",
        move |value: Value, width: Option<Value>, first: Option<bool>, options: Kwargs| {
            let width = width.or(options.get("width")?).unwrap_or_else(|| Value::from(4));
            let first = first.or(options.get("first")?).unwrap_or(false);
            let blank = options.get::<Option<bool>>("blank")?.unwrap_or(false);
            options.assert_all_used()?;
            indent(&pays, &to_str(&value, &pays)?, &width, first, blank)
        },
    );
    let pays = budget.clone();
    env.add_filter("tojson", move |value: Value, args: Rest<Value>, options: Kwargs| {
        let style = json_style(&pays, args.first(), &options)?;
        options.assert_all_used()?;
        to_json(&value, &style, &pays)
    });
}

fn join(budget: &Budget, list: &Value, between: &Value, attribute: Option<&str>) -> Result<String, Error> {
    let between = to_str(between, budget)?;
    let mut out = String::new();
    for (i, item) in list.try_iter()?.enumerate() {
        if i > 0 {
            budget.charge(between.len() + 1)?;
            out.push_str(&between);
        }
        let item = attribute.map_or(Ok(item.clone()), |attribute| item.get_attr(attribute))?;
        out.push_str(&to_str(&item, budget)?);
    }
    Ok(out)
}

fn indent(budget: &Budget, text: &str, width: &Value, first: bool, blank: bool) -> Result<String, Error> {
    let indention = match width.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let width = width.as_usize().unwrap_or(0);
            budget.charge(width)?;
            " ".repeat(width)
        }
    };
    budget.charge_product(text.matches('\n').count() + 1, indention.len())?;
    budget.charge(text.len())?;
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 || first) && (blank || !line.is_empty() || i == 0) {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(out)
}

fn json_style(budget: &Budget, ensure_ascii: Option<&Value>, options: &Kwargs) -> Result<JsonStyle, Error> {
    let flag =
        |key: &str| options.get::<Option<Value>>(key).map(|flag| flag.is_some_and(|flag| flag.is_true()));
    let indent = match options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let width = indent.as_usize().unwrap_or(0);
                budget.charge(width)?;
                " ".repeat(width)
            }
        }),
    };
    let separators = match options.get::<Option<Value>>("separators")?.filter(|pair| !pair.is_none()) {
        None => None,
        Some(pair) => {
            let part = |i: usize| pair.get_item_by_index(i).and_then(|part| to_str(&part, budget));
            Some((part(0)?, part(1)?))
        }
    };
    Ok(JsonStyle {
        indent,
        ensure_ascii: flag("ensure_ascii")? || ensure_ascii.is_some_and(Value::is_true),
        sort_keys: flag("sort_keys")?,
        separators,
    })
}
