//! A request's body, in: bounded in size and time before anything looks at it.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use futures_core::Stream;

use crate::api_error::{ApiError, ApiResult, ErrorKind};
use crate::app::App;
use crate::fields::{self, WireRequest};

/// A JSON body that was read by its table of fields.
pub(crate) struct WireBody<T>(pub T);

impl<T: WireRequest> FromRequest<App> for WireBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> ApiResult<Self> {
        let body = read(request, app.limits.body_bytes, app.limits.body_time).await?;
        fields::read(&body).map(Self)
    }
}

/// All bytes of a body of at most `limit` bytes.
pub(crate) async fn read(request: Request, limit: usize, time: Duration) -> ApiResult<Vec<u8>> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
    if announced.is_some_and(|n: u64| n > limit as u64) {
        return Err(too_large(limit));
    }
    let capacity = announced.map_or(0, |n| n as usize);
    tokio::time::timeout(time, collect(request.into_body(), capacity, limit))
        .await
        .map_err(|_| ApiError::new(ErrorKind::Timeout, "the body took too long to come"))?
}

async fn collect(body: Body, capacity: usize, limit: usize) -> ApiResult<Vec<u8>> {
    let mut stream = body.into_data_stream();
    // What a client announces is not yet there: a promise of much memory costs little.
    let mut bytes = Vec::with_capacity(capacity.min(64 << 10));
    while let Some(chunk) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        let chunk = chunk
            .map_err(|error| ApiError::new(ErrorKind::Invalid, format!("the body broke off: {error}")))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(ErrorKind::TooLarge, format!("the body is larger than {limit} bytes"))
}
