//! `kill -9` in the middle of a batch: what was finished stays finished, and the rest is done after a restart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::client;
use super::Load;

/// Items of the batch, and how often the server is killed.
const N_ITEMS: usize = 400;
const N_CRASHES: usize = 3;
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(load: &Load) -> Result<String> {
    let home = tempfile::tempdir()?;
    let mut server = load.start(home.path())?;
    let id = begin(server.address)?;
    let folder = home.path().join("serve/batches");
    let (mut kept, mut finished) = (Vec::new(), Vec::new());
    for crash in 1..=N_CRASHES {
        let wanted = crash * N_ITEMS / (N_CRASHES + 2);
        wait(server.address, &id, |batch| n_completed(batch) >= wanted)?;
        let acknowledged = n_completed(&ask(server.address, &id)?);
        server.crash()?;
        let lines = whole_lines(&folder, &id)?;
        ensure!(
            lines.len() >= acknowledged,
            "{acknowledged} items were told as finished, {} are kept",
            lines.len()
        );
        ensure!(lines.starts_with(&kept), "what an earlier crash had left was changed");
        finished.push(lines.len());
        kept = lines;
        server = load.start(home.path())?;
    }
    let batch = wait(server.address, &id, |batch| batch["status"] == "completed")?;
    let file = batch["output_file_id"].as_str().context("no output file")?;
    let output = client::ask(server.address, "GET", &format!("/v1/files/{file}/content"), "")?;
    let mut answers = BTreeMap::new();
    for line in output.body.lines() {
        let line: Value = serde_json::from_str(line)?;
        let item = line["custom_id"].as_str().context("no custom_id")?.to_owned();
        ensure!(answers.insert(item.clone(), line).is_none(), "item {item} was done twice");
    }
    ensure!(answers.len() == N_ITEMS, "{} of {N_ITEMS} items are there", answers.len());
    Ok(format!(
        "{N_ITEMS} items, killed after {finished:?} of them: all are there, each once, and none was lost"
    ))
}

fn begin(address: SocketAddr) -> Result<String> {
    let line = |i: usize| {
        let body = json!({"model": "wootz-small", "prompt": format!("Once upon a time {i}"), "max_tokens": 12, "seed": i});
        json!({"custom_id": i.to_string(), "method": "POST", "url": "/v1/completions", "body": body})
            .to_string()
    };
    let lines: Vec<String> = (0..N_ITEMS).map(line).collect();
    let form = format!(
        "--xyz\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{}\r\n--xyz--\r\n",
        lines.join("\n")
    );
    let mut stream = client::connect(address)?;
    client::send_as(&mut stream, "POST", "/v1/files", "multipart/form-data; boundary=xyz", form.as_bytes())?;
    let file = client::receive(&stream)?.json()?;
    let request =
        json!({"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"});
    let batch = client::ask(address, "POST", "/v1/batches", &request.to_string())?.json()?;
    Ok(batch["id"].as_str().context("a batch without id")?.to_owned())
}

fn ask(address: SocketAddr, id: &str) -> Result<Value> {
    client::ask(address, "GET", &format!("/v1/batches/{id}"), "")?.json()
}

fn wait(address: SocketAddr, id: &str, done: impl Fn(&Value) -> bool) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let batch = ask(address, id)?;
        if done(&batch) {
            return Ok(batch);
        }
        ensure!(begun.elapsed() < LIMIT, "after {LIMIT:?}: {batch}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn n_completed(batch: &Value) -> usize {
    batch["request_counts"]["completed"].as_u64().unwrap_or(0) as usize
}

/// The finished items on disk, without a last line that was cut off.
fn whole_lines(folder: &Path, id: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(folder.join(format!("{id}.done"))).unwrap_or_default();
    Ok(text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect())
}
