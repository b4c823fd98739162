//! Files and batches, also across a restart.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wootz_testkit::ScriptedModel;

use crate::client::Answer;
use crate::rig::Rig;

fn rig(folder: &Path, model: ScriptedModel) -> Rig {
    Rig::with(model, |options| {
        options.folder = Some(folder.to_owned());
        options.limits.drain_time = Duration::from_millis(100);
    })
}

fn upload(rig: &Rig, content: &str) -> Answer {
    let body = format!(
        "--xyz\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{content}\r\n--xyz--\r\n"
    );
    rig.send("POST", "/v1/files", &[("content-type", "multipart/form-data; boundary=xyz")], body.as_bytes())
}

fn line(id: usize) -> String {
    let body = json!({"model": "scripted", "messages": [{"role": "user", "content": format!("say {id}")}]});
    json!({"custom_id": id.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": body})
        .to_string()
}

fn begin(rig: &Rig, n: usize) -> String {
    let file = upload(rig, &(0..n).map(line).collect::<Vec<_>>().join("\n")).json();
    assert_eq!((&file["object"], &file["filename"]), (&json!("file"), &json!("in.jsonl")));
    let request =
        json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let batch = rig.post("/v1/batches", &request).json();
    assert_eq!((&batch["status"], &batch["request_counts"]["total"]), (&json!("in_progress"), &json!(n)));
    batch["id"].as_str().unwrap().to_owned()
}

fn wait_for(rig: &Rig, id: &str, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let batch = rig.get(&format!("/v1/batches/{id}")).json();
        if done(&batch) {
            return batch;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{batch}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn answers(rig: &Rig, batch: &Value) -> Vec<String> {
    let path = format!("/v1/files/{}/content", batch["output_file_id"].as_str().unwrap());
    let text = rig.get(&path).body;
    let mut said: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap().to_owned())
        .collect();
    said.sort();
    said
}

#[test]
fn a_batch_goes_on_after_a_restart_and_does_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let slow = ScriptedModel::default().with_pause(Duration::from_millis(10));
    let first = rig(folder.path(), slow.clone());
    let id = begin(&first, 40);
    wait_for(&first, &id, |batch| batch["request_counts"]["completed"].as_u64() >= Some(6));
    drop(first);
    let n_lines = |ending: &str| {
        let path = folder.path().join("batches").join(format!("{id}.{ending}"));
        std::fs::read_to_string(path).unwrap_or_default().lines().count()
    };
    let finished = n_lines("done");
    assert!((6..40).contains(&finished), "{finished}");

    let quick = ScriptedModel::default();
    let second = rig(folder.path(), quick.clone());
    let batch = wait_for(&second, &id, |batch| batch["status"] == "completed");
    assert_eq!(batch["request_counts"], json!({"total": 40, "completed": 40, "failed": 0}));
    assert_eq!(quick.requests().len(), 40 - finished);
    let mut expected: Vec<String> = (0..40).map(|i| format!("say {i}")).collect();
    expected.sort();
    assert_eq!(answers(&second, &batch), expected);
    assert_eq!(second.get("/v1/batches?limit=5").json()["data"][0]["id"], json!(id));
}

#[test]
fn a_batch_can_be_stopped_and_a_wrong_one_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let rig = rig(folder.path(), ScriptedModel::default().with_pause(Duration::from_millis(10)));
    let id = begin(&rig, 500);
    assert_eq!(rig.post(&format!("/v1/batches/{id}/cancel"), &json!({})).json()["status"], "cancelling");
    wait_for(&rig, &id, |batch| batch["status"] == "cancelled");

    let file = upload(&rig, "{\"custom_id\": 5}").json();
    let request =
        json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let batch = rig.post("/v1/batches", &request).json();
    assert_eq!((&batch["status"], &batch["errors"]["data"][0]["line"]), (&json!("failed"), &json!(1)));
    let check = |extra: Value, status: u16| {
        let mut request = request.clone();
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert_eq!(rig.post("/v1/batches", &request).status, status, "{extra}");
    };
    check(json!({"input_file_id": "../../etc/passwd"}), 404);
    check(json!({"endpoint": "/v1/files"}), 400);
    check(json!({"completion_window": "1h"}), 400);
    assert_eq!(rig.send("POST", "/v1/files", &[], b"x").status, 400);
    assert_eq!(rig.get("/v1/files/..%2Fx").status, 404);
}

#[test]
fn files_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let rig = rig(folder.path(), ScriptedModel::default());
    let id = upload(&rig, "a\nb").json()["id"].as_str().unwrap().to_owned();
    assert_eq!(rig.get(&format!("/v1/files/{id}/content")).body, "a\nb");
    assert_eq!(rig.get("/v1/files").json()["data"][0]["bytes"], 3);
    assert_eq!(rig.send("DELETE", &format!("/v1/files/{id}"), &[], b"").json()["deleted"], true);
    assert_eq!(rig.get(&format!("/v1/files/{id}")).status, 404);
    let none = Rig::start(ScriptedModel::default());
    assert_eq!(none.get("/v1/files").status, 400);
}
