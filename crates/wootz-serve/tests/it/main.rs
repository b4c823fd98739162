//! The server from outside, over a socket, with scripted models behind it.

mod bounds;
mod chat;
mod client;
mod completions;
mod guard;
mod rig;
mod vectors;
