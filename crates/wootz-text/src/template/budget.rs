//! What rendering may cost: bytes and steps.
//!
//! Where:  shared by everything in a template that makes text or lists, for one rendering.
//! Idea:   minijinja's fuel counts instructions, but one instruction can double a string. So every operation that makes
//!         something charges its size first, and nothing is given back: the sum bounds memory and time alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::{Error, ErrorKind, Value, value::ValueKind};

/// Deepest nesting of lists and dictionaries that is looked at.
pub(super) const MAX_DEPTH: usize = 64;
/// What an element of a list costs.
const ELEMENT_BYTES: u64 = 32;

/// The bytes that are left.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Pays for something of that size before it is made.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), Error> {
        let paid =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes as u64));
        paid.map(|_| ()).map_err(|_| Error::new(ErrorKind::OutOfFuel, "the template asks for too much text"))
    }

    pub(super) fn charge_product(&self, count: usize, bytes: usize) -> Result<(), Error> {
        self.charge(count.saturating_mul(bytes))
    }

    /// Pays for a copy of a value's own parts, not of theirs.
    pub(super) fn charge_shallow(&self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => {
                self.charge_product(value.as_str().map_or(0, str::len), ELEMENT_BYTES as usize)
            }
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
                self.charge_product(value.len().unwrap_or(1000), ELEMENT_BYTES as usize)
            }
            _ => self.charge(ELEMENT_BYTES as usize),
        }
    }

    /// Pays for all of a value that goes into a namespace, and refuses a namespace in it: a thing that contains itself
    /// could be neither written nor compared.
    pub(super) fn charge_stored(&self, value: &Value) -> Result<(), Error> {
        self.charge_deep(value, 0)?;
        let is_namespace =
            value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"));
        if is_namespace {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "a namespace cannot be put into a namespace",
            ));
        }
        if let ValueKind::Seq | ValueKind::Map = value.kind() {
            for item in value.try_iter()? {
                self.charge_stored(&if value.kind() == ValueKind::Map {
                    value.get_item(&item)?
                } else {
                    item
                })?;
            }
        }
        Ok(())
    }

    /// Pays for every part of a value down to the last, so that nesting cannot multiply for free.
    pub(super) fn charge_deep(&self, value: &Value, depth: usize) -> Result<(), Error> {
        self.charge(ELEMENT_BYTES as usize)?;
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "lists are nested too deeply"));
        }
        if let ValueKind::Seq | ValueKind::Map = value.kind() {
            for item in value.try_iter()? {
                if value.kind() == ValueKind::Map {
                    self.charge_deep(&value.get_item(&item)?, depth + 1)?;
                } else {
                    self.charge_deep(&item, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}
