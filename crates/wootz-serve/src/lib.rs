//! HTTP: the APIs that people's programs already speak, in front of the model traits.
//!
//! Where:  an edge; `wootz serve` fills a [`Catalog`] with models and calls [`Server::run`], which returns when drained.
//! Idea:   a handler parses, validates into the domain types of `wootz-text`, calls a model, and converts. Every queue,
//!         body and timeout has a bound; a field is honoured, without effect and listed, or refused by name.
//! Elsewhere: computing (`wootz-engine`), the same wires as a client (`wootz-remote`), tool-call formats (`wootz_text::reply`).
//!
//! # Invariants
//! - Nothing above this crate is async and nothing below it knows HTTP.
//! - A request that is not finished is cancelled when its client goes away.
#![forbid(unsafe_code)]

mod answer;
mod anthropic;
mod api_error;
mod app;
mod beginning;
mod bridge;
mod catalog;
mod error;
mod fields;
mod http;
mod jobs;
mod keys;
mod limits;
mod metrics;
mod ollama;
mod openai;
mod server;
mod sse;
mod studio;
mod telemetry;
mod tls;

pub use catalog::{
    Catalog, CatalogError, FixedCatalog, Loaded, ModelCard, NewAdapter, Numbers, PullProgress, ServedModel,
    Stay, Tokenize,
};
pub use error::Error;
pub use fields::{field_tables, read_body};
pub use keys::{ApiKey, KeyError, Scope};
pub use limits::Limits;
pub use metrics::{Number, NumberValue};
pub use server::{Server, ServerOptions, Stopper};
pub use telemetry::TelemetryOptions;
pub use tls::TlsFiles;
