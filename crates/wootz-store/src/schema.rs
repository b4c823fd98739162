//! The tables, and how older files become newer ones.
//!
//! Idea:   a step for each version, applied within one transaction; SQLite keeps the version (`user_version`) and whose file
//!         it is (`application_id`).

use rusqlite::Connection;

/// `Wtz1` as a number.
const APPLICATION_ID: i64 = 0x5774_7a31;

/// What turns version `i` into version `i + 1`.
const STEPS: &[&str] = &["
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'finished', 'failed', 'stopped')),
        started_ms INTEGER NOT NULL,
        heard_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        config TEXT NOT NULL,
        data TEXT,
        parents TEXT NOT NULL,
        output_dir TEXT NOT NULL,
        pid INTEGER NOT NULL,
        error TEXT
    ) STRICT;
    CREATE INDEX runs_by_start ON runs (started_ms DESC, id);
"];

/// The version that is written.
pub(crate) const VERSION: i64 = STEPS.len() as i64;

/// Whose file it is.
pub(crate) enum Owner {
    Ours,
    /// Of a version that is not known here.
    Newer(i64),
    Another,
}

/// Brings a file to the current version. Two processes may do so at once: the second finds it done.
pub(crate) fn upgrade(connection: &mut Connection) -> rusqlite::Result<Owner> {
    let read = |connection: &Connection| -> rusqlite::Result<(i64, i64, i64)> {
        Ok((
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
            connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        ))
    };
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let (application, version, n_tables) = read(&transaction)?;
    match (application, n_tables) {
        (APPLICATION_ID, _) | (0, 0) => {}
        _ => return Ok(Owner::Another),
    }
    if version > VERSION {
        return Ok(Owner::Newer(version));
    }
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(Owner::Ours)
}
