//! Structs as they stand on the wire, and their way into domain types.
//!
//! Where:  read by the handlers beside this folder, which never see anything of it but `validate` and `new`.
//! Idea:   a struct here is a promise to others and changes with their API, never with our types.
//! Source: OpenAI's API reference, vLLM's and llama.cpp's additions to it.

pub(crate) mod chat;
pub(crate) mod chat_answer;
pub(crate) mod completion;
pub(crate) mod embedding;
pub(crate) mod message;
pub(crate) mod response;
pub(crate) mod sampling;
pub(crate) mod token;
