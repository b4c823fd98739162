//! Two settings side by side: what differs, by the path that leads there.

use serde_json::Value;

/// A setting that two runs do not share.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where it stands, `optimizer.lr` or `data[1].path`.
    pub path: String,
    /// What the first says, if anything.
    pub first: Option<Value>,
    /// What the second says, if anything.
    pub second: Option<Value>,
}

/// What differs between two configs, in the first's order, then what the second alone says.
pub fn compare(first: &Value, second: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    walk(String::new(), Some(first), Some(second), &mut differences);
    differences
}

fn walk(path: String, first: Option<&Value>, second: Option<&Value>, into: &mut Vec<Difference>) {
    match (first, second) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            for (key, value) in a {
                walk(at(key), Some(value), b.get(key), into);
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                walk(at(key), None, Some(value), into);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for i in 0..a.len().max(b.len()) {
                walk(format!("{path}[{i}]"), a.get(i), b.get(i), into);
            }
        }
        (a, b) if a == b => {}
        (a, b) => into.push(Difference { path, first: a.cloned(), second: b.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_told_with_its_path() {
        let first =
            json!({"lr": 1e-4, "data": [{"path": "a"}, {"path": "b"}], "lora": {"rank": 8}, "seed": 1});
        let second =
            json!({"lr": 2e-4, "data": [{"path": "a"}], "lora": {"rank": 8, "alpha": 16}, "seed": 1});
        let told: Vec<String> = compare(&first, &second)
            .iter()
            .map(|d| {
                format!(
                    "{} {:?} {:?}",
                    d.path,
                    d.first.as_ref().map(Value::to_string),
                    d.second.as_ref().map(Value::to_string)
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "lr Some(\"0.0001\") Some(\"0.0002\")",
                "data[1] Some(\"{\\\"path\\\":\\\"b\\\"}\") None",
                "lora.alpha None Some(\"16\")",
            ]
        );
        assert!(compare(&first, &first).is_empty());
        assert_eq!(compare(&json!(1), &json!({})).len(), 1);
    }
}
