//! What a key of a recipe is: its name, what it takes, what it says, and where it is kept.
//!
//! Where:  the rows of [`table`](super::table); parsing, `docs/train-keys.md` and the templates all go by them.

use super::ConfigError;
use super::yaml::{Entry, Node, Value};

/// A key that is honoured, of a `T`.
pub(super) struct Key<T: 'static> {
    pub name: &'static str,
    /// Other names of it
    pub also: &'static [&'static str],
    pub takes: Takes,
    pub about: &'static str,
    /// Keeps what was given; it is what `takes` says.
    pub set: fn(&mut T, Given) -> Result<(), ConfigError>,
    /// What is kept, as YAML; `None` if nothing is.
    pub get: fn(&T) -> Option<String>,
}

/// What a key takes.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    Flag,
    /// `true`, `false` or `auto`
    FlagOrAuto,
    /// A whole number, at least and at most
    Count(u64, u64),
    /// A number above (or at, if the flag says so) the first and up to the second
    Number {
        min: f64,
        with_min: bool,
        max: f64,
    },
    /// One of these
    Choice(fn() -> Vec<&'static str>),
    Text,
    /// One text or several
    Texts,
    /// Keys of any name with a text each
    Pairs,
    /// Keys of their own
    Keys,
    /// A list of keys of their own
    Rows,
}

/// More than 0.
pub(super) const POSITIVE: Takes = Takes::Number { min: 0.0, with_min: false, max: f64::MAX };
/// 0 or more.
pub(super) const NOT_NEGATIVE: Takes = Takes::Number { min: 0.0, with_min: true, max: f64::MAX };
/// 0 to 1.
pub(super) const SHARE: Takes = Takes::Number { min: 0.0, with_min: true, max: 1.0 };
/// 1 or more.
pub(super) const AT_LEAST_1: Takes = Takes::Count(1, u64::MAX);
/// Any.
pub(super) const ANY_COUNT: Takes = Takes::Count(0, u64::MAX);

/// What was given, checked.
pub(super) enum Given {
    Flag(bool),
    Count(u64),
    Number(f64),
    Text(String),
    Texts(Vec<String>),
    Pairs(Vec<(String, String)>),
    Node(Node),
}

const CHECKED: &str = "`Takes` was checked before";

impl Given {
    pub fn flag(self) -> bool {
        let Self::Flag(flag) = self else { panic!("{CHECKED}") };
        flag
    }

    pub fn count(self) -> u64 {
        let Self::Count(count) = self else { panic!("{CHECKED}") };
        count
    }

    pub fn number(self) -> f64 {
        let Self::Number(number) = self else { panic!("{CHECKED}") };
        number
    }

    pub fn text(self) -> String {
        let Self::Text(text) = self else { panic!("{CHECKED}") };
        text
    }

    pub fn texts(self) -> Vec<String> {
        let Self::Texts(texts) = self else { panic!("{CHECKED}") };
        texts
    }

    pub fn pairs(self) -> Vec<(String, String)> {
        let Self::Pairs(pairs) = self else { panic!("{CHECKED}") };
        pairs
    }

    pub fn node(self) -> Node {
        let Self::Node(node) = self else { panic!("{CHECKED}") };
        node
    }

    /// A choice; its name was checked.
    pub fn one<N: Named>(self) -> N {
        let name = self.text();
        N::NAMES.iter().find(|named| named.0 == name).expect(CHECKED).1
    }
}

/// Choices and their names; the first name of a choice is its own, the others are what it is called elsewhere.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|named| named.1 == self).expect("every choice has a name").0
    }
}

/// The names of a choice.
pub(super) fn names<N: Named>() -> Vec<&'static str> {
    N::NAMES.iter().map(|named| named.0).collect()
}

/// How a kept value looks as YAML.
pub(super) trait Shown {
    fn shown(&self) -> Option<String>;
}

impl Shown for bool {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Shown for u64 {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Shown for f64 {
    fn shown(&self) -> Option<String> {
        Some(if *self != 0.0 && self.abs() < 1e-3 { format!("{self:e}") } else { self.to_string() })
    }
}

impl Shown for String {
    fn shown(&self) -> Option<String> {
        // JSON's strings are YAML's.
        Some(serde_json::Value::from(self.as_str()).to_string())
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(Shown::shown)
    }
}

impl Shown for Vec<String> {
    fn shown(&self) -> Option<String> {
        (!self.is_empty()).then(|| serde_json::Value::from(self.clone()).to_string())
    }
}

impl Shown for Vec<(String, String)> {
    fn shown(&self) -> Option<String> {
        let pair = |(name, text): &(String, String)| (name.clone(), serde_json::Value::from(text.as_str()));
        (!self.is_empty()).then(|| serde_json::Value::Object(self.iter().map(pair).collect()).to_string())
    }
}

impl Takes {
    /// What is expected, in words.
    pub fn expected(&self) -> String {
        match *self {
            Self::Flag => "true or false".to_owned(),
            Self::FlagOrAuto => "true, false or auto".to_owned(),
            Self::Count(0, u64::MAX) => "a whole number".to_owned(),
            Self::Count(min, u64::MAX) => format!("a whole number, at least {min}"),
            Self::Count(min, max) => format!("a whole number, {min} to {max}"),
            Self::Number { min, max: f64::MAX, with_min: true } => format!("a number, at least {min}"),
            Self::Number { min, max: f64::MAX, .. } => format!("a number above {min}"),
            Self::Number { min, max, with_min: true } => format!("a number, {min} to {max}"),
            Self::Number { min, max, .. } => format!("a number above {min}, at most {max}"),
            Self::Choice(names) => format!("one of {}", names().join(", ")),
            Self::Text => "a text".to_owned(),
            Self::Texts => "a text or a list of texts".to_owned(),
            Self::Pairs => "names with a text each".to_owned(),
            Self::Keys => "keys of its own".to_owned(),
            Self::Rows => "a list, each entry with keys of its own".to_owned(),
        }
    }

    /// Reads what stands there; `None` is what it is not.
    fn read(&self, node: &Node) -> Option<Given> {
        let scalar = match &node.value {
            Value::Scalar { text, .. } => Some(text.as_str()),
            _ => None,
        };
        match *self {
            Self::Flag => flag(scalar?).map(Given::Flag),
            Self::FlagOrAuto if scalar? == "auto" => Some(Given::Text("auto".to_owned())),
            Self::FlagOrAuto => flag(scalar?).map(Given::Flag),
            Self::Count(min, max) => {
                let count = scalar?.parse().ok().filter(|count| (min..=max).contains(count));
                count.map(Given::Count)
            }
            Self::Number { min, with_min, max } => {
                let number: f64 = scalar?.parse().ok().filter(|number: &f64| number.is_finite())?;
                let fits = number <= max && (number > min || with_min && number == min);
                fits.then_some(Given::Number(number))
            }
            Self::Choice(names) => {
                names().contains(&scalar?).then(|| Given::Text(scalar.unwrap_or_default().to_owned()))
            }
            Self::Text => Some(Given::Text(scalar?.to_owned())),
            Self::Texts => match &node.value {
                Value::List(nodes) => nodes.iter().map(text).collect::<Option<_>>().map(Given::Texts),
                _ => Some(Given::Texts(vec![scalar?.to_owned()])),
            },
            Self::Pairs => match &node.value {
                Value::Map(entries) => {
                    let pairs = entries.iter().map(|entry| Some((entry.key.clone(), text(&entry.node)?)));
                    pairs.collect::<Option<_>>().map(Given::Pairs)
                }
                _ => None,
            },
            Self::Keys => matches!(node.value, Value::Map(_)).then(|| Given::Node(node.clone())),
            Self::Rows => match &node.value {
                Value::List(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Map(_))) => {
                    Some(Given::Node(node.clone()))
                }
                _ => None,
            },
        }
    }
}

fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// COMPAT: `yes` and its kin are words in YAML 1.2 and flags in 1.1, which people's recipes are written in.
fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Reads one key into `target`. `path` is what stands before its name in messages: `trl.`, `datasets[0].`.
///
/// A key without a value leaves what is kept.
pub(super) fn apply<T>(target: &mut T, key: &Key<T>, entry: &Entry, path: &str) -> Result<(), ConfigError> {
    if entry.node.value == Value::Null {
        return Ok(());
    }
    let given = key.takes.read(&entry.node).ok_or_else(|| ConfigError::Value {
        line: entry.line,
        key: format!("{path}{}", entry.key),
        expected: key.takes.expected(),
        got: entry.node.said(),
    })?;
    (key.set)(target, given)
}

/// The row of a name; the same for its other names.
pub(super) fn find<'a, T>(keys: impl IntoIterator<Item = &'a Key<T>>, name: &str) -> Option<&'a Key<T>> {
    keys.into_iter().find(|key| key.name == name || key.also.contains(&name))
}

/// Reads keys of their own by a table.
pub(super) fn read_keys<T>(
    target: &mut T,
    keys: &'static [Key<T>],
    node: &Node,
    path: &str,
) -> Result<(), ConfigError> {
    let Value::Map(entries) = &node.value else { panic!("{CHECKED}") };
    let mut seen: Vec<&str> = Vec::new();
    for entry in entries {
        let known =
            || keys.iter().map(|key| key.name).chain(keys.iter().flat_map(|key| key.also.iter().copied()));
        let key = find(keys, &entry.key).ok_or_else(|| ConfigError::unknown(entry, path, known()))?;
        refuse_twice(&mut seen, key.name, entry, path)?;
        apply(target, key, entry, path)?;
    }
    Ok(())
}

/// A key by two of its names is one too many.
pub(super) fn refuse_twice<'a>(
    seen: &mut Vec<&'a str>,
    name: &'a str,
    entry: &Entry,
    path: &str,
) -> Result<(), ConfigError> {
    if seen.contains(&name) {
        let message =
            format!("`{path}{}` is another name of `{path}{name}`, which stands there, too", entry.key);
        return Err(ConfigError::Yaml { line: entry.line, message });
    }
    seen.push(name);
    Ok(())
}

/// The most similar of the names, if any is similar enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(64).collect();
    let distances = known.map(|other| (distance(&name, &other.chars().collect::<Vec<_>>()), other));
    distances
        .min_by_key(|found| found.0)
        .filter(|found| found.0 <= 2.max(name.len() / 3))
        .map(|found| found.1)
}

/// How many letters are wrong, missing, too many or exchanged with their neighbour. Damerau 1964, optimal string alignment.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    (0..=a.len()).for_each(|i| rows[i][0] = i);
    (0..=b.len()).for_each(|j| rows[0][j] = j);
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let wrong = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + wrong);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not_guessed() {
        let known = ["learning_rate", "lora_r", "lora_alpha", "seed"];
        let check = |name, expected| assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        check("learing_rate", Some("learning_rate"));
        check("lr_rate", None);
        check("lora_aplha", Some("lora_alpha"));
        check("sede", Some("seed"));
        check("wholly_other", None);
    }
}
