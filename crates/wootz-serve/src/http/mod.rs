//! What every handler needs of HTTP: bodies in and out, and who may come in.

pub(crate) mod body;
pub(crate) mod dialect;
pub(crate) mod guard;
pub(crate) mod json;
pub(crate) mod timestamp;
