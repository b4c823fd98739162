//! Files and batches: work that is handed over and fetched later.
//!
//! Where:  the handlers of `/v1/files` and `/v1/batches`; batches go on where they were when a server starts again.
//! Idea:   everything is a file in one folder. A finished item is a line that was synced to disk before it counts, so a
//!         killed server loses none, and what is left to do is what has no line yet.

mod batch;
mod disk;
mod file;
mod runner;

pub(crate) use batch::{Batch, BatchInput, Counts, ENDPOINTS, Status};
pub(crate) use disk::{Disk, DiskError, Shelf, is_id};
pub(crate) use file::StoredFile;
pub(crate) use runner::{resume_all, start};
