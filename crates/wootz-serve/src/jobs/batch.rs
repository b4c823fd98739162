//! A batch: many requests in one file, done one after the other, answered in another file.
//!
//! Source: OpenAI's API reference, the batch object and the lines of its files.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is known of it, as OpenAI's API shows it and as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub id: String,
    pub object: String,
    pub endpoint: String,
    pub errors: Option<Value>,
    pub input_file_id: String,
    pub completion_window: String,
    pub status: Status,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub created_at: u64,
    pub in_progress_at: Option<u64>,
    pub completed_at: Option<u64>,
    pub failed_at: Option<u64>,
    pub cancelled_at: Option<u64>,
    pub request_counts: Counts,
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Batch {
    /// The ending of the mark that asks to stop. A mark of its own, so that it and the batch's progress cannot overwrite
    /// each other.
    pub(crate) const CANCEL: &'static str = "cancel";
}

/// Requests of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub total: usize,
    pub completed: usize,
    pub failed: usize,
}

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Its file was no batch.
    Failed,
    InProgress,
    Completed,
    Cancelling,
    Cancelled,
}

/// One line of its input.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchInput {
    pub custom_id: String,
    method: String,
    url: String,
    pub body: Value,
}

/// Addresses that a batch may ask.
pub(crate) const ENDPOINTS: &[&str] =
    &["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];

impl BatchInput {
    /// Reads a file. At most `max` lines, each with an id of its own.
    ///
    /// # Errors
    /// Every line that is none, with its number, as the batch object tells it.
    pub(crate) fn read_all(text: &[u8], endpoint: &str, max: usize) -> Result<Vec<Self>, Value> {
        let mut inputs = Vec::new();
        let mut problems = Vec::new();
        let mut ids = BTreeSet::new();
        for (i, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match Self::read(line, endpoint) {
                Ok(input) if !ids.insert(input.custom_id.clone()) => {
                    problems.push(problem(Some(i + 1), "the `custom_id` occurred before"));
                }
                Ok(input) => inputs.push(input),
                Err(message) => problems.push(problem(Some(i + 1), &message)),
            }
            if inputs.len() > max || problems.len() >= 100 {
                problems.push(problem(None, &format!("expected at most {max} requests, and fewer mistakes")));
                break;
            }
        }
        if inputs.is_empty() && problems.is_empty() {
            problems.push(problem(None, "the file has no requests"));
        }
        if problems.is_empty() { Ok(inputs) } else { Err(json!({"object": "list", "data": problems})) }
    }

    fn read(line: &[u8], endpoint: &str) -> Result<Self, String> {
        let input: Self = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if input.method != "POST" {
            return Err("`method`: expected `POST`".into());
        }
        if input.url != endpoint {
            return Err(format!("`url`: expected `{endpoint}` as in the batch"));
        }
        if !input.body.is_object() {
            return Err("`body`: expected an object".into());
        }
        if input.body["stream"] == true {
            return Err("`body.stream`: expected false in a batch".into());
        }
        Ok(input)
    }
}

fn problem(line: Option<usize>, message: &str) -> Value {
    json!({"code": "invalid_request", "line": line, "message": message, "param": null})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_line_is_told() {
        let good = |id: &str| {
            format!(r#"{{"custom_id": "{id}", "method": "POST", "url": "/v1/embeddings", "body": {{}}}}"#)
        };
        let text =
            [good("a"), good("a"), "{".into(), String::new(), good("b").replace("POST", "GET")].join("\n");
        let told = BatchInput::read_all(text.as_bytes(), "/v1/embeddings", 10).unwrap_err();
        let lines: Vec<_> =
            told["data"].as_array().unwrap().iter().map(|p| p["line"].as_u64().unwrap()).collect();
        assert_eq!(lines, [2, 3, 5]);
        let text = [good("a"), good("b")].join("\n");
        assert_eq!(BatchInput::read_all(text.as_bytes(), "/v1/embeddings", 10).unwrap().len(), 2);
        assert!(BatchInput::read_all(text.as_bytes(), "/v1/embeddings", 1).is_err());
        assert!(BatchInput::read_all(text.as_bytes(), "/v1/completions", 10).is_err());
        assert!(BatchInput::read_all(b"", "/v1/completions", 10).is_err());
    }
}
