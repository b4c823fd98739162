//! From the blocking traits of models to async handlers: places, channels, time limits.
//!
//! Where:  every handler that asks a model for something.
//! Idea:   a sink hands events to an unbounded channel and never blocks, so a slow client holds up nobody; what may
//!         pile up is bounded by the answer's length. Dropping a [`Generation`] cancels it and gives its place back.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};
use tokio::time::Instant;
use wootz_text::{GenerateEvent, GenerateRequest, Handle, ModelError};

use crate::api_error::{ApiError, ApiResult, ErrorKind};
use crate::app::Shared;
use crate::catalog::ServedModel;

/// A running generation.
pub(crate) struct Generation {
    events: mpsc::UnboundedReceiver<GenerateEvent>,
    deadline: Instant,
    is_over: bool,
    _handle: Handle,
    _place: Arc<OwnedSemaphorePermit>,
}

/// The right to run generations of one request.
#[derive(Clone)]
pub(crate) struct Place(Arc<OwnedSemaphorePermit>);

impl Shared {
    /// A place for a request that generates; 429 when all are taken.
    pub(crate) fn place(&self) -> ApiResult<Place> {
        take(&self.generations, self.limits.generations).map(|place| Place(Arc::new(place)))
    }

    /// Starts a generation.
    pub(crate) async fn generate(
        &self,
        place: &Place,
        model: &Arc<ServedModel>,
        request: GenerateRequest,
    ) -> ApiResult<Generation> {
        let generate = model.generate.clone().ok_or_else(|| cannot(model, "generate text"))?;
        let (sender, events) = mpsc::unbounded_channel();
        let sink = Box::new(move |event| drop(sender.send(event)));
        // A long prompt is rendered and encoded here, which is no work for an async thread.
        let started = tokio::task::spawn_blocking(move || generate.generate(request, sink)).await;
        Ok(Generation {
            events,
            deadline: Instant::now() + self.limits.generation_time,
            is_over: false,
            _handle: started.map_err(lost)??,
            _place: place.0.clone(),
        })
    }

    /// Runs a blocking batch (vectors, scores, rankings); 429 when all places are taken.
    pub(crate) async fn batch<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
    ) -> ApiResult<T> {
        let place = take(&self.batches, self.limits.batches)?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        Ok(done.await.map_err(lost)??)
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
        let event = next.map_err(|_| ApiError::new(ErrorKind::Timeout, "the generation took too long"))?;
        match event {
            None => Err(ApiError::internal("the model's events stopped before the end")),
            Some(GenerateEvent::Error(error)) => Err(error.into()),
            Some(event) => {
                self.is_over = matches!(event, GenerateEvent::Usage(_));
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
