//! The server from outside, over a socket, with scripted models behind it.

mod anthropic;
mod batches;
mod bounds;
mod chat;
mod client;
mod completions;
mod guard;
mod load;
mod ollama;
mod operation;
mod ranking;
mod responses;
mod rig;
mod studio;
mod telemetry;
mod vectors;
