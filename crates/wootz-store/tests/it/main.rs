//! Runs as several processes see them, killed ones among them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use wootz_store::{Filter, LOST_AFTER, NewRun, RunStatus, Runs, StoreError};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn new(name: &str, pid: u32) -> NewRun {
    NewRun {
        kind: "train".into(),
        name: name.into(),
        config: json!({"lr": 1e-4, "data": [{"path": "a.jsonl"}]}),
        data: Some("sha256:00".into()),
        parents: vec!["hf:org/base".into()],
        output_dir: "runs/a".into(),
        pid,
    }
}

#[test]
fn a_run_begins_lives_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let runs = Runs::open(&folder.path().join("wootz.db")).unwrap();
    let id = runs.create(&new("first", 7), at(0)).unwrap();
    assert!(id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let run = runs.find(&id[..4]).unwrap();
    assert_eq!(
        (&run.told, run.status, run.started, run.ended),
        (&new("first", 7), RunStatus::Running, at(0), None)
    );
    runs.heartbeat(&id, 7, at(30)).unwrap();
    assert!(!runs.find(&id).unwrap().is_lost(at(30) + LOST_AFTER));
    assert!(runs.find(&id).unwrap().is_lost(at(31) + LOST_AFTER));
    runs.end(&id, 7, Err("the loss is no number"), at(60)).unwrap();
    let run = runs.find("first").unwrap();
    assert_eq!(
        (run.status, run.ended, run.error.as_deref()),
        (RunStatus::Failed, Some(at(60)), Some("the loss is no number"))
    );
    assert!(!run.is_lost(at(10_000)));
    // It is over for its own process, too, until somebody goes on with it.
    assert!(matches!(runs.heartbeat(&id, 7, at(61)), Err(StoreError::State { is: "has ended", .. })));
    runs.resume(&id, 8, at(70)).unwrap();
    assert!(matches!(runs.resume(&id, 9, at(71)), Err(StoreError::State { .. })));
    assert!(matches!(runs.end(&id, 7, Ok(RunStatus::Finished), at(80)), Err(StoreError::State { .. })));
    runs.end(&id, 8, Ok(RunStatus::Finished), at(80)).unwrap();
    let run = runs.find(&id).unwrap();
    assert_eq!((run.status, run.error, run.told.pid), (RunStatus::Finished, None, 8));
}

#[test]
fn runs_are_listed_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let runs = Runs::open(&folder.path().join("wootz.db")).unwrap();
    let ids: Vec<String> =
        (0..40).map(|i| runs.create(&new(&format!("run {}", i % 3), 1), at(i)).unwrap()).collect();
    runs.end(&ids[5], 1, Ok(RunStatus::Stopped), at(99)).unwrap();
    let named = |filter: Filter| runs.list(filter).unwrap().into_iter().map(|run| run.id).collect::<Vec<_>>();
    assert_eq!(named(Filter { limit: Some(2), ..Filter::default() }), [ids[39].clone(), ids[38].clone()]);
    assert_eq!(named(Filter { status: Some(RunStatus::Stopped), ..Filter::default() }), [ids[5].clone()]);
    assert_eq!(named(Filter { kind: Some("eval"), ..Filter::default() }).len(), 0);
    assert_eq!(runs.find("run 1").unwrap().id, ids[37]);
    assert!(matches!(runs.find("zebra"), Err(StoreError::NoRun { .. })));
    assert!(matches!(runs.find(""), Err(StoreError::NoRun { .. })));
    // Forty numbers share first digits.
    let shared = (0..16)
        .map(|digit| format!("{digit:x}"))
        .find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1);
    let error = runs.find(&shared.unwrap()).unwrap_err().to_string();
    assert!(error.contains("several runs"), "{error}");
}

#[test]
fn files_of_others_and_of_later_versions_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wootz.db");
    std::fs::write(&path, b"no database at all, but long enough to look at. ".repeat(30)).unwrap();
    assert!(matches!(Runs::open(&path), Err(StoreError::Database { .. })));
    std::fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE mine (x)").unwrap();
    assert!(matches!(Runs::open(&path), Err(StoreError::Foreign { .. })));
    drop(other);
    std::fs::remove_file(&path).unwrap();
    drop(Runs::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Runs::open(&path).unwrap_err().to_string();
    assert!(error.contains("version 1 or older, got 99"), "{error}");
    assert!(Runs::open(&folder.path().join("missing/wootz.db")).is_err());
}

/// This test program again, as a process of its own that writes runs until its input ends or it is killed.
fn writer(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", path.display()).unwrap();
    child
}

/// Lines of a writer: a number for each run that it was told is on disk.
fn told(child: &mut Child, n: usize) -> Vec<String> {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    lines.filter_map(|line| line.strip_prefix("run ").map(str::to_owned)).take(n).collect()
}

#[test]
#[ignore = "a part of other tests, which start it as a process"]
fn another_process() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    let runs = Runs::open(Path::new(path.trim_end())).unwrap();
    let pid = std::process::id();
    for i in 0.. {
        let id = runs.create(&new(&format!("{pid} {i}"), pid), at(i)).unwrap();
        runs.heartbeat(&id, pid, at(i + 1)).unwrap();
        let mut stdout = std::io::stdout();
        if writeln!(stdout, "run {id}").and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

#[test]
fn two_processes_write_at_once_and_nothing_told_is_lost_when_they_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wootz.db");
    // Both find no file and make it.
    let mut writers = [writer(&path), writer(&path)];
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..3 {
        writers.iter_mut().for_each(|writer| ids.extend(told(writer, 10)));
    }
    for writer in &mut writers {
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    let runs = Runs::open(&path).unwrap();
    assert!(ids.len() >= 60);
    for id in &ids {
        let run = runs.find(id).unwrap();
        assert!(run.status == RunStatus::Running && run.is_lost(at(100_000)));
    }
    // A killed run can be gone on with, by one alone.
    runs.resume(&ids[0], 1, at(200_000)).unwrap();
    assert!(runs.resume(&ids[0], 2, at(200_001)).is_err());
}
