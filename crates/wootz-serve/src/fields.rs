//! Which fields of a request are honoured, which are without effect, and which are refused.
//!
//! Where:  every body that a handler reads goes through [`read`]; `docs/http-fields.md` is printed from the same tables.
//! Idea:   one table per request. A field that is in no class is an error that names it, so nothing is silently ignored.
//!
//! # Invariants
//! - `null` is the same as absent for every field of a table.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api_error::{ApiError, ApiResult, ErrorKind};

/// The fields of one kind of request.
#[derive(Debug)]
pub(crate) struct FieldTable {
    /// `POST /v1/chat/completions`
    pub request: &'static str,
    /// Those that mean here what they mean elsewhere.
    pub honoured: &'static [&'static str],
    /// Those that are accepted and change nothing.
    pub no_effect: &'static [&'static str],
    /// Those that are refused.
    pub refused: &'static [Refused],
}

/// A field that is known and not supported.
#[derive(Debug)]
pub(crate) struct Refused {
    pub field: &'static str,
    /// JSON values that say nothing and pass: `false`, `[]`.
    pub unless: &'static [&'static str],
    pub why: &'static str,
}

/// Reads a body as the handler of `path` does, and leaves it at that; `None`: nobody there takes a body of fields.
///
/// For those who try bodies that nobody means. `Ok`: the handler would go on and ask a model.
pub fn read_body(path: &str, body: &[u8]) -> Option<Result<(), String>> {
    let limits = crate::Limits::default();
    let read = crate::openai::read_body(path, body, &limits)
        .or_else(|| crate::anthropic::read_body(path, body, &limits))
        .or_else(|| crate::ollama::read_body(path, body, &limits));
    read.map(|read| read.map_err(|error| error.message))
}

/// A row of [`FieldTable::refused`].
pub(crate) const fn refused(
    field: &'static str,
    unless: &'static [&'static str],
    why: &'static str,
) -> Refused {
    Refused { field, unless, why }
}

/// A body with a table.
pub(crate) trait WireRequest: DeserializeOwned {
    /// Its fields.
    const FIELDS: FieldTable;
}

/// Reads a body.
pub(crate) fn read<T: WireRequest>(body: &[u8]) -> ApiResult<T> {
    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(ErrorKind::Invalid, format!("the body is not a JSON object: {error}"))
    })?;
    from_fields(fields)
}

/// Reads a body that is JSON already.
pub(crate) fn from_fields<T: WireRequest>(mut fields: Map<String, Value>) -> ApiResult<T> {
    T::FIELDS.sort_out(&mut fields)?;
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        match unknown_field(&message) {
            Some(field) if path == "." => unknown(field),
            Some(field) if path.ends_with(field) => unknown(&path),
            Some(field) => unknown(&format!("{path}.{field}")),
            None if path == "." => match missing_field(&message) {
                Some(field) => ApiError::invalid(field, "required and missing"),
                None => ApiError::new(ErrorKind::Invalid, message),
            },
            None => ApiError::invalid(path.clone(), format!("`{path}`: {message}")),
        }
    })
}

impl FieldTable {
    /// Removes what has no effect, and refuses what is refused or unknown.
    fn sort_out(&self, fields: &mut Map<String, Value>) -> ApiResult<()> {
        let mut problem = None;
        fields.retain(|name, value| {
            if problem.is_some() || self.no_effect.contains(&name.as_str()) {
                return false;
            }
            if self.honoured.contains(&name.as_str()) {
                return !value.is_null();
            }
            match self.refused.iter().find(|refused| refused.field == name) {
                Some(refused) if value.is_null() || refused.passes(value) => {}
                Some(refused) => {
                    problem =
                        Some(ApiError::unsupported(name.as_str(), format!("`{name}`: {}", refused.why)));
                }
                None => problem = Some(unknown(name)),
            }
            false
        });
        problem.map_or(Ok(()), Err)
    }
}

impl Refused {
    fn passes(&self, value: &Value) -> bool {
        let said = value.to_string();
        self.unless.contains(&said.as_str())
    }
}

fn unknown(field: &str) -> ApiError {
    let field: String = field.chars().take(200).collect();
    ApiError {
        param: Some(field.clone()),
        ..ApiError::new(ErrorKind::UnknownField, format!("unknown field `{field}`"))
    }
}

/// The name in serde's "unknown field `x`, expected …".
fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// The name in serde's "missing field `x`".
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// All tables as Markdown, for the documentation.
pub fn field_tables() -> String {
    let mut text = String::from(
        "# Fields of requests\n\nPrinted by `cargo run -p wootz-serve --example field_tables`; a test compares. A field in none of the\nthree classes is refused with status 400 and its name. `null` counts as absent.\n",
    );
    for table in all_tables() {
        text.push_str(&format!("\n## {}\n\n", table.request));
        text.push_str(&format!("Honoured: {}.\n", names(table.honoured)));
        if !table.no_effect.is_empty() {
            text.push_str(&format!("\nAccepted without effect: {}.\n", names(table.no_effect)));
        }
        if !table.refused.is_empty() {
            text.push_str("\nRefused:\n\n");
        }
        for refused in table.refused {
            let unless = match refused.unless {
                [] => String::new(),
                values => format!(", unless {}", names(values)),
            };
            text.push_str(&format!("- `{}`{unless}: {}\n", refused.field, refused.why));
        }
    }
    text
}

fn names(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn all_tables() -> Vec<FieldTable> {
    let apis =
        [crate::openai::field_tables(), crate::anthropic::field_tables(), crate::ollama::field_tables()];
    apis.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Small {
        model: String,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        n: u32,
    }

    impl WireRequest for Small {
        const FIELDS: FieldTable = FieldTable {
            request: "POST /small",
            honoured: &["model", "list"],
            no_effect: &["user"],
            refused: &[refused("store", &["false"], "nothing is stored")],
        };
    }

    #[test]
    fn every_field_is_in_one_of_three_classes() {
        let small: Small = read(br#"{"model": "m", "list": [{"n": 1}], "user": 5, "store": false}"#).unwrap();
        assert_eq!((small.model.as_str(), small.list[0].n), ("m", 1));
        assert!(read::<Small>(br#"{"model": "m", "list": null, "store": null}"#).unwrap().list.is_empty());
        let check = |body: &str, param: Option<&str>, said: &str| {
            let error = read::<Small>(body.as_bytes()).unwrap_err();
            assert_eq!(error.param.as_deref(), param, "{body}: {error:?}");
            assert!(error.message.contains(said), "{body}: {error:?}");
        };
        check(r#"{"model": "m", "store": true}"#, Some("store"), "nothing is stored");
        check(r#"{"model": "m", "colour": 1}"#, Some("colour"), "unknown field");
        check(r#"{"model": "m", "list": [{"n": 1, "z": 1}]}"#, Some("list[0].z"), "unknown field");
        check(r#"{"model": "m", "list": [{"n": -1}]}"#, Some("list[0].n"), "invalid value");
        check(r#"{"list": []}"#, Some("model"), "missing");
        check(r#"{"model": 5}"#, Some("model"), "invalid type");
        check("[1]", None, "not a JSON object");
        check("{", None, "not a JSON object");
    }

    #[test]
    fn the_documentation_lists_every_field() {
        let written = include_str!("../../../docs/http-fields.md");
        assert_eq!(
            written,
            field_tables(),
            "cargo run -p wootz-serve --example field_tables > docs/http-fields.md"
        );
    }
}
