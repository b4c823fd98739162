//! The runs of a home: begun, heard of, ended, listed, found.
//!
//! Where:  opened once by a process, used from any of its threads; other processes may use the same file meanwhile.
//! Idea:   every change is one transaction that is on disk before the call returns. A change names the state that it goes out
//!         from, so of two processes one wins and the other is told.
//!
//! # Invariants
//! - A row exists before the work that it tells of begins, and is never deleted here.
//! - An ended run begins again by [`Runs::resume`] alone.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use crate::schema::{self, Owner};
use crate::{NewRun, Result, Run, RunStatus, StoreError};

/// A run that was not heard of for so long counts as killed. Runs tell that they live several times a minute.
pub const LOST_AFTER: Duration = Duration::from_secs(120);

/// How long a process waits while another writes.
const BUSY: Duration = Duration::from_secs(20);

/// Runs that an ambiguous number names.
const MAX_NAMED: usize = 5;

const COLUMNS: &str =
    "id, kind, name, status, started_ms, heard_ms, ended_ms, config, data, parents, output_dir, pid, error";

/// The runs of a home.
#[derive(Debug)]
pub struct Runs {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// Which runs to list; the newest come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter<'a> {
    /// Of this kind alone.
    pub kind: Option<&'a str>,
    /// Of this status alone.
    pub status: Option<RunStatus>,
    /// At most so many.
    pub limit: Option<u32>,
}

impl Runs {
    /// Opens the store, which is made if it is not there; its folder must be.
    ///
    /// # Errors
    /// [`StoreError::Database`] for a file that cannot be had, [`StoreError::Foreign`] and [`StoreError::Version`] for those of
    /// others.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| StoreError::Database { action: "open", path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        match schema::upgrade(&mut connection).map_err(failed)? {
            Owner::Ours => {}
            Owner::Newer(got) => {
                return Err(StoreError::Version { path: path.to_owned(), expected: schema::VERSION, got });
            }
            Owner::Another => return Err(StoreError::Foreign { path: path.to_owned() }),
        }
        // Readers do not wait for writers then, and a commit is one sync.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned() })
    }

    /// Writes down that a run begins, and gives it a number.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn create(&self, run: &NewRun, now: SystemTime) -> Result<String> {
        let (now, parents) = (ms(now), Value::from(run.parents.clone()).to_string());
        let values = params![
            run.kind,
            run.name,
            now,
            run.config.to_string(),
            run.data,
            parents,
            run.output_dir.to_string_lossy(),
            run.pid
        ];
        // Equal numbers are as likely as nothing, and a primary key notices them.
        let sql = "INSERT INTO runs (id, kind, name, status, started_ms, heard_ms, config, data, parents, output_dir, pid)
            VALUES (lower(hex(randomblob(6))), ?1, ?2, 'running', ?3, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id";
        self.lock().query_row(sql, values, |row| row.get(0)).map_err(|source| self.failed("write to", source))
    }

    /// Tells that a run lives.
    ///
    /// # Errors
    /// [`StoreError::State`] if it has ended or another process has taken it over, [`StoreError::NoRun`].
    pub fn heartbeat(&self, id: &str, pid: u32, now: SystemTime) -> Result<()> {
        let sql =
            "UPDATE runs SET heard_ms = max(heard_ms, ?3) WHERE id = ?1 AND pid = ?2 AND status = 'running'";
        self.change(id, sql, params![id, pid, ms(now)], "this process runs")
    }

    /// Ends a run that this process runs; `error` says why it failed.
    ///
    /// # Errors
    /// As [`heartbeat`](Self::heartbeat).
    pub fn end(&self, id: &str, pid: u32, end: Result<RunStatus, &str>, now: SystemTime) -> Result<()> {
        let (status, error) = match end {
            Ok(status) => (status, None),
            Err(error) => (RunStatus::Failed, Some(error)),
        };
        let sql = "UPDATE runs SET status = ?3, error = ?4, ended_ms = ?5, heard_ms = max(heard_ms, ?5)
            WHERE id = ?1 AND pid = ?2 AND status = 'running'";
        self.change(id, sql, params![id, pid, status.as_str(), error, ms(now)], "this process runs")
    }

    /// Takes over a run that has ended, or was lost, to go on with it; of two that try, one gets it.
    ///
    /// # Errors
    /// [`StoreError::State`] if it runs, [`StoreError::NoRun`].
    pub fn resume(&self, id: &str, pid: u32, now: SystemTime) -> Result<()> {
        let lost_before = ms(now) - i64::try_from(LOST_AFTER.as_millis()).expect("minutes fit");
        let sql = "UPDATE runs SET status = 'running', error = NULL, ended_ms = NULL, pid = ?2, heard_ms = ?3
            WHERE id = ?1 AND (status != 'running' OR heard_ms < ?4)";
        self.change(id, sql, params![id, pid, ms(now), lost_before], "has ended or was lost")
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Json`].
    pub fn list(&self, filter: Filter) -> Result<Vec<Run>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR status = ?2)
            ORDER BY started_ms DESC, rowid DESC LIMIT ?3"
        );
        let limit = filter.limit.map_or(-1, i64::from);
        self.select(&sql, params![filter.kind, filter.status.map(RunStatus::as_str), limit])
    }

    /// The run whose number begins so, or the newest of that name.
    ///
    /// # Errors
    /// [`StoreError::NoRun`], [`StoreError::Ambiguous`].
    pub fn find(&self, id: &str) -> Result<Run> {
        let is_number = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
        let mut found = match is_number {
            true => {
                let sql = format!(
                    "SELECT {COLUMNS} FROM runs WHERE substr(id, 1, length(?1)) = ?1 ORDER BY started_ms DESC LIMIT ?2"
                );
                self.select(&sql, params![id.to_ascii_lowercase(), MAX_NAMED as i64])?
            }
            false => Vec::new(),
        };
        if found.is_empty() {
            let sql = format!(
                "SELECT {COLUMNS} FROM runs WHERE name = ?1 ORDER BY started_ms DESC, rowid DESC LIMIT 1"
            );
            found = self.select(&sql, params![id])?;
        }
        match found.len() {
            0 => Err(StoreError::NoRun { id: id.to_owned() }),
            1 => Ok(found.remove(0)),
            _ => {
                let runs = found.into_iter().map(|run| run.id).collect();
                Err(StoreError::Ambiguous { id: id.to_owned(), runs })
            }
        }
    }

    fn select(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Run>> {
        let read = |source| self.failed("read", source);
        let connection = self.lock();
        let mut statement = connection.prepare(sql).map_err(read)?;
        let rows = statement.query_map(values, |row| Ok(run(row))).map_err(read)?;
        rows.map(|row| row.and_then(|row| row).map_err(read)?).collect()
    }

    /// One changed row; else what was wrong with it.
    fn change(
        &self,
        id: &str,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
        expected: &'static str,
    ) -> Result<()> {
        let connection = self.lock();
        let n_changed = connection.execute(sql, values).map_err(|source| self.failed("write to", source))?;
        if n_changed == 1 {
            return Ok(());
        }
        let status = connection
            .query_row("SELECT status FROM runs WHERE id = ?1", params![id], |row| row.get::<_, String>(0))
            .optional()
            .map_err(|source| self.failed("read", source))?;
        let id = id.to_owned();
        match status.as_deref().and_then(RunStatus::parse) {
            None => Err(StoreError::NoRun { id }),
            Some(RunStatus::Running) => {
                Err(StoreError::State { id, is: "runs in another process", expected })
            }
            Some(_) => Err(StoreError::State { id, is: "has ended", expected }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("nothing panics while it holds the connection")
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database { action, path: self.path.clone(), source }
    }
}

/// A row's run; the outer error is SQLite's, the inner one a text that is no JSON.
fn run(row: &Row) -> rusqlite::Result<Result<Run>> {
    let id: String = row.get("id")?;
    let json = |column: &'static str| -> rusqlite::Result<Result<Value>> {
        let text: String = row.get(column)?;
        Ok(serde_json::from_str(&text).map_err(|_| StoreError::Json { id: id.clone(), column }))
    };
    let (config, parents) = match (json("config")?, json("parents")?) {
        (Ok(config), Ok(parents)) => (config, parents),
        (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
    };
    let parents = parents.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let status: String = row.get("status")?;
    Ok(Ok(Run {
        told: NewRun {
            kind: row.get("kind")?,
            name: row.get("name")?,
            config,
            data: row.get("data")?,
            parents: parents.collect(),
            output_dir: row.get::<_, String>("output_dir")?.into(),
            pid: row.get("pid")?,
        },
        status: RunStatus::parse(&status).unwrap_or(RunStatus::Failed),
        started: time(row.get("started_ms")?),
        heard: time(row.get("heard_ms")?),
        ended: row.get::<_, Option<i64>>("ended_ms")?.map(time),
        error: row.get("error")?,
        id,
    }))
}

fn ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
