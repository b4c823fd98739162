//! From the blocking traits of models to async handlers: places, channels, time limits.
//!
//! Where:  every handler that asks a model for something.
//! Idea:   a sink hands events to an unbounded channel and never blocks, so a slow client holds up nobody; what may
//!         pile up is bounded by the answer's length. Dropping a [`Generation`] cancels it and gives its place back.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};
use tokio::time::Instant;
use wootz_text::{FinishReason, GenerateEvent, GenerateRequest, Handle, ModelError, Usage};

use crate::api_error::{ApiError, ApiResult, ErrorKind};
use crate::app::{App, Shared};
use crate::catalog::ServedModel;
use crate::keys::Holder;
use crate::telemetry::{OpenSpan, TraceContext};

/// A running generation.
pub(crate) struct Generation {
    events: mpsc::UnboundedReceiver<GenerateEvent>,
    deadline: Instant,
    is_over: bool,
    meter: Meter,
    /// What runs keeps its model in memory.
    _model: Arc<ServedModel>,
    _handle: Handle,
    place: Place,
}

/// The right to run generations of one request: 429 when all places are taken.
#[derive(Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    caller: Caller,
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Who pays for the tokens.
    holder: Option<Arc<Holder>>,
    trace: TraceContext,
}

impl Caller {
    fn of(parts: &Parts) -> Self {
        let holder = parts.extensions.get::<Arc<Holder>>().cloned();
        Self { holder, trace: TraceContext::of(parts) }
    }

    fn charge(&self, n_tokens: usize) {
        if let Some(holder) = &self.holder {
            holder.charge(n_tokens, std::time::Instant::now());
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> ApiResult<Self> {
        Ok(Self::of(parts))
    }
}

impl FromRequestParts<App> for Place {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let permit = take(&app.generations, app.limits.generations)?;
        Ok(Self { _permit: Arc::new(permit), caller: Caller::of(parts) })
    }
}

impl Place {
    /// Who has it.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// Notes when tokens come. A generation that is dropped before its end has failed or was cancelled.
struct Meter {
    app: App,
    model: String,
    start: Instant,
    /// Of each choice.
    last: Vec<Option<Instant>>,
    is_finished: bool,
    span: Option<OpenSpan>,
}

impl Meter {
    fn token(&mut self, choice: usize) {
        let now = Instant::now();
        if self.last.iter().all(Option::is_none) {
            self.app.metrics.first_token(&self.model, now - self.start);
            if let Some(span) = &mut self.span {
                span.first_token(now - self.start);
            }
        }
        let Some(last) = self.last.get_mut(choice) else { return };
        if let Some(before) = last.replace(now) {
            self.app.metrics.next_token(&self.model, now - before);
        }
    }

    fn finished(&mut self, usage: Usage) {
        self.is_finished = true;
        self.app.metrics.finished(&self.model, usage);
        if let Some(span) = &mut self.span {
            span.finished(usage);
        }
    }

    fn choice(&mut self, reason: FinishReason) {
        if let Some(span) = &mut self.span {
            span.choice(reason);
        }
    }

    fn failed(&mut self, why: &str) {
        if let Some(span) = &mut self.span {
            span.failed(why);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.is_finished {
            self.app.metrics.failed(&self.model);
            self.failed("cancelled");
        }
    }
}

impl Shared {
    /// Starts a generation.
    pub(crate) async fn generate(
        self: &Arc<Self>,
        place: &Place,
        model: &Arc<ServedModel>,
        request: GenerateRequest,
    ) -> ApiResult<Generation> {
        let generate = model.generate.clone().ok_or_else(|| cannot(model, "generate text"))?;
        let (start, n) = (Instant::now(), request.sampling.n);
        let mut span = self.telemetry.begin(&place.caller.trace, &model.card.name, &self.random);
        if let Some(span) = &mut span {
            span.sampling(&request.sampling);
        }
        let (sender, events) = mpsc::unbounded_channel();
        let sink = Box::new(move |event| drop(sender.send(event)));
        // A long prompt is rendered and encoded here, which is no work for an async thread.
        let started = tokio::task::spawn_blocking(move || generate.generate(request, sink)).await;
        Ok(Generation {
            events,
            deadline: start + self.limits.generation_time,
            is_over: false,
            _model: model.clone(),
            _handle: started.map_err(lost)??,
            meter: Meter {
                app: self.clone(),
                model: model.card.name.clone(),
                start,
                last: vec![None; n],
                is_finished: false,
                span,
            },
            place: place.clone(),
        })
    }

    /// Runs a blocking batch (vectors, scores, rankings), which tells how many tokens it read; 429 when all places are
    /// taken.
    pub(crate) async fn batch<T: Send + 'static>(
        &self,
        caller: &Caller,
        model: &ServedModel,
        work: impl FnOnce() -> Result<(T, usize), ModelError> + Send + 'static,
    ) -> ApiResult<(T, usize)> {
        let place = take(&self.batches, self.limits.batches)?;
        let mut span = self.telemetry.begin(&caller.trace, &model.card.name, &self.random);
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        let done = done.await.map_err(lost).and_then(|done| Ok(done?));
        match (&done, &mut span) {
            (Ok((_, n_tokens)), Some(span)) => span.read(*n_tokens),
            (Err(error), Some(span)) => span.failed(error.kind.as_str()),
            (_, None) => {}
        }
        let (done, n_tokens) = done?;
        caller.charge(n_tokens);
        Ok((done, n_tokens))
    }

    /// Runs a blocking computation that needs no model: encoding, rendering.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        tokio::task::spawn_blocking(work).await.map_err(lost)?
    }
}

impl Generation {
    /// The next event; `None` after the last. An error event is an error.
    pub(crate) async fn next(&mut self) -> ApiResult<Option<GenerateEvent>> {
        if self.is_over {
            return Ok(None);
        }
        let next = tokio::time::timeout_at(self.deadline, self.events.recv()).await;
        let Ok(event) = next else {
            self.meter.failed("timeout");
            return Err(ApiError::new(ErrorKind::Timeout, "the generation took too long"));
        };
        match event {
            None => Err(ApiError::internal("the model's events stopped before the end")),
            Some(GenerateEvent::Error(error)) => {
                let error = ApiError::from(error);
                self.meter.failed(error.kind.as_str());
                Err(error)
            }
            Some(event) => {
                match &event {
                    GenerateEvent::Token(token) if token.id.is_some() => self.meter.token(token.choice),
                    GenerateEvent::Finished { reason, .. } => self.meter.choice(*reason),
                    GenerateEvent::Usage(usage) => {
                        self.is_over = true;
                        self.meter.finished(*usage);
                        self.place.caller.charge(usage.prompt_tokens + usage.completion_tokens);
                    }
                    _ => {}
                }
                Ok(Some(event))
            }
        }
    }
}

/// The error for a trait that a model lacks.
pub(crate) fn cannot(model: &ServedModel, what: &str) -> ApiError {
    ApiError::new(ErrorKind::Unsupported, format!("model `{}` does not {what}", model.card.name))
}

fn take(places: &Arc<Semaphore>, n_places: usize) -> ApiResult<OwnedSemaphorePermit> {
    places.clone().try_acquire_owned().map_err(|error| match error {
        TryAcquireError::NoPermits => {
            ApiError::new(ErrorKind::Busy, format!("all {n_places} places are taken: come again later"))
        }
        TryAcquireError::Closed => ApiError::new(ErrorKind::Unavailable, "the server is about to stop"),
    })
}

fn lost(error: tokio::task::JoinError) -> ApiError {
    ApiError::internal(format!("a worker was lost: {error}"))
}
