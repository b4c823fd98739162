//! Numbers about the server, as Prometheus reads them at `GET /metrics`.
//!
//! Where:  noted by the bridge while generations run and by a layer around all handlers; the engine's own come from
//!         [`ServedModel::numbers`](crate::ServedModel::numbers).
//! Idea:   one short lock per event; a few thousand tokens a second need no more.
//! Source: Prometheus' text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use wootz_text::Usage;

/// A number that a model tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    /// `queued_requests`, without the prefix that all names here have.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// The number.
    pub value: NumberValue,
}

/// Kinds of numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum NumberValue {
    /// Grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(f64),
    /// How often values were at most each bound.
    Histogram {
        /// Bounds with the count of all values up to them.
        cumulative: Vec<(f64, u64)>,
        /// All values.
        count: u64,
        /// Their sum.
        sum: f64,
    },
}

/// Upper bounds in seconds, from a token of a small model to a long wait.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By address and status.
    requests: BTreeMap<(String, u16), u64>,
    models: BTreeMap<String, ModelCounts>,
}

#[derive(Debug, Default)]
struct ModelCounts {
    first_token: Seconds,
    between_tokens: Seconds,
    usage: Usage,
    finished: u64,
    failed: u64,
}

#[derive(Debug, Default)]
struct Seconds {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Seconds {
    fn note(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|&bound| seconds <= bound) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn value(&self) -> NumberValue {
        let mut so_far = 0;
        let cumulative = BOUNDS.iter().zip(self.counts).map(|(&bound, count)| {
            so_far += count;
            (bound, so_far)
        });
        NumberValue::Histogram { cumulative: cumulative.collect(), count: self.count, sum: self.sum }
    }
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("nothing panics while it counts")
    }

    fn of(&self, model: &str, note: impl FnOnce(&mut ModelCounts)) {
        let mut counts = self.lock();
        match counts.models.get_mut(model) {
            Some(counts) => note(counts),
            None => note(counts.models.entry(model.to_owned()).or_default()),
        }
    }

    /// A request was answered. `route` is the address as routed, never as sent, so that strangers add no names.
    pub(crate) fn request(&self, route: &str, status: u16) {
        *self.lock().requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    pub(crate) fn first_token(&self, model: &str, time: Duration) {
        self.of(model, |counts| counts.first_token.note(time));
    }

    pub(crate) fn next_token(&self, model: &str, time: Duration) {
        self.of(model, |counts| counts.between_tokens.note(time));
    }

    pub(crate) fn finished(&self, model: &str, usage: Usage) {
        self.of(model, |counts| {
            counts.finished += 1;
            counts.usage.prompt_tokens += usage.prompt_tokens;
            counts.usage.cached_tokens += usage.cached_tokens;
            counts.usage.completion_tokens += usage.completion_tokens;
        });
    }

    pub(crate) fn failed(&self, model: &str) {
        self.of(model, |counts| counts.failed += 1);
    }

    /// All of it as text; `own` are the numbers that models tell of themselves.
    pub(crate) fn text(&self, in_progress: usize, own: &[(String, Vec<Number>)]) -> String {
        let mut page = Page::default();
        page.add(
            "generations_in_progress",
            "Generations that run or wait.",
            "",
            &NumberValue::Gauge(in_progress as f64),
        );
        let counts = self.lock();
        for ((route, status), count) in &counts.requests {
            let labels = format!("route=\"{}\",status=\"{status}\"", escaped(route));
            page.add("http_requests_total", "Requests answered.", &labels, &NumberValue::Counter(*count));
        }
        for (model, counts) in &counts.models {
            let labels = format!("model=\"{}\"", escaped(model));
            for (name, help, value) in counts.numbers() {
                page.add(name, help, &labels, &value);
            }
        }
        for (model, numbers) in own {
            let labels = format!("model=\"{}\"", escaped(model));
            for number in numbers {
                page.add(number.name, number.help, &labels, &number.value);
            }
        }
        page.text()
    }
}

impl ModelCounts {
    fn numbers(&self) -> [(&'static str, &'static str, NumberValue); 7] {
        let count = |n: usize| NumberValue::Counter(n as u64);
        [
            ("time_to_first_token_seconds", "From the request to its first token.", self.first_token.value()),
            ("inter_token_seconds", "Between two tokens of a choice.", self.between_tokens.value()),
            ("prompt_tokens_total", "Tokens of prompts.", count(self.usage.prompt_tokens)),
            ("cached_tokens_total", "Those of them that were in a cache.", count(self.usage.cached_tokens)),
            ("completion_tokens_total", "Tokens generated.", count(self.usage.completion_tokens)),
            ("generations_total", "Generations that reached their end.", NumberValue::Counter(self.finished)),
            (
                "generations_failed_total",
                "Generations that failed or were cancelled.",
                NumberValue::Counter(self.failed),
            ),
        ]
    }
}

/// Lines by name, since all lines of a name stand together.
#[derive(Default)]
struct Page(BTreeMap<String, String>);

impl Page {
    fn add(&mut self, name: &str, help: &str, labels: &str, value: &NumberValue) {
        let kind = match value {
            NumberValue::Counter(_) => "counter",
            NumberValue::Gauge(_) => "gauge",
            NumberValue::Histogram { .. } => "histogram",
        };
        let name = format!("wootz_{name}");
        let lines = self
            .0
            .entry(name.clone())
            .or_insert_with(|| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let comma = if labels.is_empty() { "" } else { "," };
        // Writing into a text cannot fail.
        let _ = match value {
            NumberValue::Counter(n) => writeln!(lines, "{name}{braced} {n}"),
            NumberValue::Gauge(x) => writeln!(lines, "{name}{braced} {x}"),
            NumberValue::Histogram { cumulative, count, sum } => {
                for (bound, n) in cumulative.iter().filter(|(bound, _)| bound.is_finite()) {
                    let _ = writeln!(lines, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {n}");
                }
                let _ = writeln!(lines, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
                writeln!(lines, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}")
            }
        };
    }

    fn text(self) -> String {
        self.0.into_values().collect()
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_head_for_each_name() {
        let metrics = Metrics::default();
        metrics.request("/v1/models", 200);
        for model in ["a", "b\"c"] {
            metrics.first_token(model, Duration::from_millis(30));
            metrics.first_token(model, Duration::from_secs(100));
            metrics.finished(model, Usage { prompt_tokens: 7, ..Usage::default() });
        }
        let text = metrics.text(3, &[]);
        assert!(text.contains("wootz_generations_in_progress 3\n"), "{text}");
        assert!(text.contains("wootz_http_requests_total{route=\"/v1/models\",status=\"200\"} 1\n"));
        assert!(text.contains("wootz_time_to_first_token_seconds_bucket{model=\"a\",le=\"0.05\"} 1\n"));
        assert!(text.contains("wootz_time_to_first_token_seconds_bucket{model=\"a\",le=\"+Inf\"} 2\n"));
        assert!(text.contains("wootz_prompt_tokens_total{model=\"b\\\"c\"} 7\n"));
        assert_eq!(text.matches("# TYPE wootz_prompt_tokens_total counter").count(), 1);
    }
}
