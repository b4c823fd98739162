//! What the engine counts, in the words of the server's metrics.

use wootz_engine::{Histogram, ModelStats};
use wootz_serve::{Number, NumberValue};

/// A model's numbers as of its last step.
pub(super) fn numbers(stats: &ModelStats) -> Vec<Number> {
    let counts = &stats.counts;
    let gauge = |name, help, n: usize| Number { name, help, value: NumberValue::Gauge(n as f64) };
    let counter = |name, help, n: u64| Number { name, help, value: NumberValue::Counter(n) };
    vec![
        gauge("queued_requests", "Requests that wait for their first step.", stats.n_queued),
        gauge("running_requests", "Requests that take part in steps.", counts.n_running),
        gauge("kv_blocks", "Blocks of keys and values.", counts.n_blocks),
        gauge("kv_blocks_free", "Those of them that hold nothing.", counts.n_free_blocks),
        gauge("kv_blocks_cached", "Those of them that hold prefixes for later.", counts.n_cached_blocks),
        counter("preemptions_total", "Requests that had to give their blocks back.", counts.n_preemptions),
        counter("guessed_tokens_total", "Tokens that were guessed ahead.", counts.guessed_tokens),
        counter("right_tokens_total", "Those of them that were right.", counts.right_tokens),
        counter("failed_steps_total", "Steps that failed.", stats.n_failures),
        histogram("step_seconds", "Time of a step.", &stats.step_seconds),
        histogram("step_sequences", "Sequences of a step.", &stats.step_sequences),
        histogram("step_tokens", "Tokens of a step.", &stats.step_tokens),
    ]
}

fn histogram(name: &'static str, help: &'static str, histogram: &Histogram) -> Number {
    let cumulative = histogram.cumulative().collect();
    let value = NumberValue::Histogram { cumulative, count: histogram.count(), sum: histogram.sum() };
    Number { name, help, value }
}
