//! A finished span, and how OTLP's JSON writes it.
//!
//! Source: `opentelemetry/proto/trace/v1/trace.proto` in the JSON mapping of OTLP: ids are hexadecimal, 64-bit numbers are
//!         texts.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

/// A piece of work with a beginning and an end.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent: Option<String>,
    pub name: String,
    pub start: SystemTime,
    pub end: SystemTime,
    pub error: Option<String>,
    pub attributes: Vec<(&'static str, Value)>,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            trace_id: String::new(),
            span_id: String::new(),
            parent: None,
            name: String::new(),
            start: UNIX_EPOCH,
            end: UNIX_EPOCH,
            error: None,
            attributes: Vec::new(),
        }
    }
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Real(f64),
    Texts(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Real(x)
    }
}

impl Value {
    fn json(&self) -> Json {
        match self {
            Self::Text(text) => json!({"stringValue": text}),
            Self::Int(n) => json!({"intValue": n.to_string()}),
            Self::Real(x) => json!({"doubleValue": x}),
            Self::Texts(texts) => {
                let values: Vec<Json> = texts.iter().map(|text| json!({"stringValue": text})).collect();
                json!({"arrayValue": {"values": values}})
            }
        }
    }
}

impl Span {
    /// Adds an attribute.
    pub(crate) fn say(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push((key, value.into()));
    }

    fn json(&self) -> Json {
        const SERVER: u8 = 2;
        const ERROR: u8 = 2;
        let ns =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
        let mut span = json!({
            "traceId": self.trace_id,
            "spanId": self.span_id,
            "name": self.name,
            "kind": SERVER,
            "startTimeUnixNano": ns(self.start),
            "endTimeUnixNano": ns(self.end),
            "attributes": self.attributes.iter().map(|(key, value)| json!({"key": key, "value": value.json()})).collect::<Vec<_>>(),
            "status": {},
        });
        if let Some(parent) = &self.parent {
            span["parentSpanId"] = parent.as_str().into();
        }
        if let Some(error) = &self.error {
            span["status"] = json!({"code": ERROR, "message": error});
        }
        span
    }
}

/// The body of one export.
pub(super) fn export(resource: &[(String, String)], spans: &[Span]) -> Json {
    let attribute = |(key, value): &(String, String)| json!({"key": key, "value": {"stringValue": value}});
    json!({"resourceSpans": [{
        "resource": {"attributes": resource.iter().map(attribute).collect::<Vec<_>>()},
        "scopeSpans": [{
            "scope": {"name": "wootz", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
        }],
    }]})
}
