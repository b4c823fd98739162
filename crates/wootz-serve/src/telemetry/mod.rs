//! Spans of generations and of texts that were read, for OpenTelemetry collectors.
//!
//! Where:  begun by the bridge with each generation or batch of texts, ended with it; off unless [`TelemetryOptions`] are given.
//! Idea:   a finished span goes into a short queue and a task sends what has gathered, as OTLP's JSON over HTTP. A full
//!         queue or a collector that is away costs spans, which are counted, and never a request.
//! Source: OpenTelemetry's semantic conventions for generative AI (`gen_ai.*`); OTLP 1.x, §JSON over HTTP;
//!         W3C Trace Context, level 1.
//! Elsewhere: what environment variables say (`wootz`), numbers for Prometheus ([`metrics`](crate::metrics)).

mod context;
mod export;
mod span;

use std::time::{Duration, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use wootz_text::{Constraint, FinishReason, Sampling, Usage};

pub(crate) use context::TraceContext;
pub(crate) use span::Span;
use span::Value;

/// Spans that wait to be sent.
const QUEUE: usize = 2048;

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryOptions {
    /// The address that takes spans, `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: String,
    /// Headers that go along.
    pub headers: Vec<(String, String)>,
    /// Attributes of this process; `service.name` is one.
    pub resource: Vec<(String, String)>,
    /// Until a batch is sent that is not full. Default of OpenTelemetry: 5 s.
    pub interval: Duration,
}

/// Takes spans; does nothing where telemetry is off.
#[derive(Debug, Default)]
pub(crate) struct Telemetry(Option<mpsc::Sender<Span>>);

/// What sends the spans, until the server is gone.
pub(crate) struct Exporting {
    spans: mpsc::Receiver<Span>,
    options: TelemetryOptions,
}

impl Telemetry {
    /// Both ends of the queue.
    pub(crate) fn new(options: Option<TelemetryOptions>) -> (Self, Option<Exporting>) {
        let Some(options) = options else { return (Self(None), None) };
        let (sender, spans) = mpsc::channel(QUEUE);
        (Self(Some(sender)), Some(Exporting { spans, options }))
    }

    /// Begins the span of what a model does; `None` where telemetry is off.
    pub(crate) fn begin(
        &self,
        context: &TraceContext,
        model: &str,
        random: &SystemRandom,
    ) -> Option<OpenSpan> {
        let sender = self.0.clone()?;
        let mut ids = [0; 24];
        random.fill(&mut ids).ok()?;
        let (trace_id, span_id) = ids.split_at(16);
        let operation = context.operation();
        let mut span = Span {
            trace_id: context.trace_id().unwrap_or_else(|| hex(trace_id)),
            parent: context.parent(),
            span_id: hex(span_id),
            name: format!("{operation} {model}"),
            start: SystemTime::now(),
            end: SystemTime::now(),
            error: None,
            attributes: Vec::new(),
        };
        span.say("gen_ai.operation.name", operation);
        span.say("gen_ai.provider.name", "wootz");
        span.say("gen_ai.request.model", model);
        span.say("gen_ai.response.model", model);
        span.say("http.route", context.route());
        Some(OpenSpan { span, sender, reasons: Vec::new() })
    }
}

/// The settings that the conventions have names for.
fn say_sampling(span: &mut Span, sampling: &Sampling) {
    let n = |n: usize| Value::Int(n as i64);
    if let Some(max_tokens) = sampling.max_tokens {
        span.say("gen_ai.request.max_tokens", n(max_tokens));
    }
    if sampling.n > 1 {
        span.say("gen_ai.request.choice.count", n(sampling.n));
    }
    if let Some(seed) = sampling.seed {
        span.say("gen_ai.request.seed", Value::Int(seed.cast_signed()));
    }
    if let Some(top_k) = sampling.top_k {
        span.say("gen_ai.request.top_k", n(top_k));
    }
    if !sampling.stop.is_empty() {
        span.say("gen_ai.request.stop_sequences", Value::Texts(sampling.stop.clone()));
    }
    span.say("gen_ai.request.temperature", f64::from(sampling.temperature));
    span.say("gen_ai.request.top_p", f64::from(sampling.top_p));
    span.say("gen_ai.request.frequency_penalty", f64::from(sampling.penalties.frequency));
    span.say("gen_ai.request.presence_penalty", f64::from(sampling.penalties.presence));
    if let Some(Constraint::JsonSchema(_)) = sampling.constraint {
        span.say("gen_ai.output.type", "json");
    }
}

/// A span whose work runs. Dropping it sends it.
pub(crate) struct OpenSpan {
    span: Span,
    sender: mpsc::Sender<Span>,
    reasons: Vec<String>,
}

impl OpenSpan {
    /// It is a generation with these settings.
    pub(crate) fn sampling(&mut self, sampling: &Sampling) {
        say_sampling(&mut self.span, sampling);
    }

    /// Texts were read.
    pub(crate) fn read(&mut self, n_tokens: usize) {
        self.span.say("gen_ai.usage.input_tokens", Value::Int(n_tokens as i64));
    }

    /// The first token came so long after the request.
    pub(crate) fn first_token(&mut self, after: Duration) {
        self.span.say("gen_ai.server.time_to_first_token", after.as_secs_f64());
    }

    /// A choice is complete.
    pub(crate) fn choice(&mut self, reason: FinishReason) {
        self.reasons.push(reason.as_str().to_owned());
    }

    /// All went well.
    pub(crate) fn finished(&mut self, usage: Usage) {
        self.span.say("gen_ai.usage.input_tokens", Value::Int(usage.prompt_tokens as i64));
        self.span.say("gen_ai.usage.output_tokens", Value::Int(usage.completion_tokens as i64));
        self.span.say("gen_ai.usage.cache_read.input_tokens", Value::Int(usage.cached_tokens as i64));
    }

    /// It came to nothing. What was said first counts.
    pub(crate) fn failed(&mut self, why: &str) {
        if self.span.error.is_some() {
            return;
        }
        self.span.say("error.type", why);
        self.span.error = Some(why.to_owned());
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        self.span.end = SystemTime::now();
        if !self.reasons.is_empty() {
            self.span.say("gen_ai.response.finish_reasons", Value::Texts(std::mem::take(&mut self.reasons)));
        }
        // A full queue costs this span, as a collector that is away would.
        let _ = self.sender.try_send(std::mem::take(&mut self.span));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
