//! Bodies that grow while a model speaks: server-sent events, and JSON lines.
//!
//! Where:  every streaming handler.
//! Idea:   a task of its own writes into a short channel that is the body. A client that goes away closes the channel,
//!         which ends the task and with it the generation; one that takes nothing for too long is let go.
//! Source: WHATWG HTML, §9.2 server-sent events.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::app::App;

/// Pieces that wait for a slow client before the writer waits, too.
const PIECES: usize = 64;

/// The writing end of a body.
#[derive(Clone)]
pub(crate) struct Writer {
    pieces: mpsc::Sender<Bytes>,
    stalled_time: std::time::Duration,
}

/// The client is gone or takes nothing.
#[derive(Debug)]
pub(crate) struct Gone;

impl Writer {
    /// `data: {…}`
    pub(crate) async fn data(&self, value: &impl Serialize) -> Result<(), Gone> {
        self.write(format!("data: {}\n\n", json(value))).await
    }

    /// `event: name` and its data.
    pub(crate) async fn event(&self, name: &str, value: &impl Serialize) -> Result<(), Gone> {
        self.write(format!("event: {name}\ndata: {}\n\n", json(value))).await
    }

    /// One line of JSON.
    pub(crate) async fn line(&self, value: &impl Serialize) -> Result<(), Gone> {
        self.write(json(value) + "\n").await
    }

    /// OpenAI's end of a stream.
    pub(crate) async fn done(&self) -> Result<(), Gone> {
        self.write("data: [DONE]\n\n".to_owned()).await
    }

    async fn write(&self, text: String) -> Result<(), Gone> {
        let sent = tokio::time::timeout(self.stalled_time, self.pieces.send(Bytes::from(text))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("wire types have string keys and no failing parts")
}

/// What kind of stream a body is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Events,
    Lines,
}

/// A response whose body `write` makes in a task of its own.
pub(crate) fn respond<F>(app: &App, kind: Kind, write: impl FnOnce(Writer) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, pieces) = mpsc::channel(PIECES);
    let closed = sender.clone();
    let writing = write(Writer { pieces: sender, stalled_time: app.limits.stalled_time });
    tokio::spawn(async move {
        // A model may be silent for long while it reads its prompt: leaving is noticed at once all the same.
        tokio::select! {
            () = writing => {}
            () = closed.closed() => {}
        }
    });
    let content_type = match kind {
        Kind::Events => "text/event-stream",
        Kind::Lines => "application/x-ndjson",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Body::from_stream(Pieces(pieces))).into_response()
}

struct Pieces(mpsc::Receiver<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}
