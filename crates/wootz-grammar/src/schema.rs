//! A JSON schema as it is compiled: our layout of documents, and keywords that say nothing or too much.
//!
//! Where:  one step before [`Grammar`](crate::Grammar)s are compiled.
//! Idea:   every document of what is compiled is one of what was asked for; what cannot be kept is left for the compiler
//!         to refuse by name.
//! Source: JSON Schema 2020-12; RFC 3339, §5.6, without leap seconds and with dates of every year, which validators agree
//!         on.

use serde_json::{Map, Value, json};

/// The days of every year.
const DATE: &str = "[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
const TIME: &str =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";

/// The key by which the compiler takes options.
const OPTIONS: &str = "x-guidance";

/// The schema to compile.
///
/// Documents have one space behind commas and colons and no other white space, unless the schema asks for another layout:
/// free white space invites small models to go on with it for ever, and what is fixed need not be drawn.
pub(crate) fn prepared(schema: &Value) -> Value {
    let layout = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    match walked(schema) {
        Value::Object(mut fields) => {
            fields.entry(OPTIONS).or_insert(layout);
            Value::Object(fields)
        }
        Value::Bool(true) => json!({OPTIONS: layout}),
        other => other,
    }
}

fn walked(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in fields {
        let value = match (key.as_str(), value) {
            // It says nothing.
            ("uniqueItems", Value::Bool(false)) => continue,
            ("format", Value::String(format)) if !fields.contains_key("pattern") => match format.as_str() {
                "date" => {
                    out.insert("pattern".to_owned(), format!("^{DATE}$").into());
                    continue;
                }
                "time" => {
                    out.insert("pattern".to_owned(), format!("^{TIME}$").into());
                    continue;
                }
                "date-time" => {
                    out.insert("pattern".to_owned(), format!("^{DATE}T{TIME}$").into());
                    continue;
                }
                _ => value.clone(),
            },
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                Value::Object(named),
            ) => named.iter().map(|(name, schema)| (name.clone(), walked(schema))).collect(),
            ("anyOf" | "allOf" | "oneOf" | "prefixItems" | "items", Value::Array(all)) => {
                all.iter().map(walked).collect()
            }
            ("items" | "additionalProperties" | "propertyNames" | "contains" | "additionalItems", schema) => {
                walked(schema)
            }
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_schemas_are_touched() {
        let schema = json!({
            "properties": {
                "format": {"type": "string", "format": "date"},
                "uniqueItems": {"items": {"format": "time"}, "uniqueItems": false},
                "kept": {"format": "email", "enum": [{"format": "date"}], "uniqueItems": true},
                "both": {"format": "date", "pattern": "^2"}
            },
            "default": {"format": "date"}
        });
        let out = prepared(&schema);
        assert!(out["properties"]["format"]["pattern"].as_str().unwrap().ends_with("2[0-8]))$"));
        assert_eq!(out["properties"]["format"].get("format"), None);
        assert!(out["properties"]["uniqueItems"]["items"].get("pattern").is_some());
        assert_eq!(out["properties"]["uniqueItems"].get("uniqueItems"), None);
        assert_eq!(out["properties"]["kept"], schema["properties"]["kept"]);
        assert_eq!(out["properties"]["both"], schema["properties"]["both"]);
        assert_eq!(out["default"], schema["default"]);
        assert!(out.get(OPTIONS).is_some());
    }
}
