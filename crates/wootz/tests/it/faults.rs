//! What a server has left after clients that leave, and after a crash: short versions of `cargo xtask bench load`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::{ask, get, post, serve};
use crate::wootz;

/// A number of `/metrics`.
fn number(page: &str, name: &str) -> f64 {
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {page}"))
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a request for a long answer and reads so many bytes of it.
fn glance(address: &str, n_bytes: usize, stream: bool) {
    let body =
        json!({"model": "wootz-small", "prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": true,
        "stream": stream, "n": 2})
        .to_string();
    let mut connection = TcpStream::connect(address).unwrap();
    let head =
        format!("POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    connection.write_all((head + &body).as_bytes()).unwrap();
    if stream {
        // One that is told to come again says less.
        let _ = connection.read_exact(&mut vec![0; n_bytes]);
    }
}

#[test]
fn clients_that_leave_take_nothing_with_them() {
    let home = tempfile::tempdir().unwrap();
    let served =
        serve(wootz(home.path()).args(["serve", "--ctx", "512", "--parallel", "4", "--queue", "12"]));
    let address = served.address.as_str();
    let files = || {
        let folder = format!("/proc/{}/fd", served.child.id());
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    };
    post(address, "/v1/completions", &json!({"model": "wootz-small", "prompt": "x", "max_tokens": 2}));
    let n_files = files();
    std::thread::scope(|scope| {
        for client in 0..16 {
            scope.spawn(move || (0..6).for_each(|i| glance(address, 1 + 40 * i, (client + i) % 2 == 0)));
        }
    });
    let page = || ask(address, "GET", "/metrics", "").1;
    wait_until("everything is given back", || {
        let page = page();
        number(&page, "wootz_generations_in_progress") == 0.0
            && number(&page, "wootz_running_requests") + number(&page, "wootz_queued_requests") == 0.0
            && number(&page, "wootz_kv_blocks_free") + number(&page, "wootz_kv_blocks_cached")
                == number(&page, "wootz_kv_blocks")
    });
    wait_until("every connection is closed", || files() <= n_files);
    let (status, body) =
        post(address, "/v1/completions", &json!({"model": "wootz-small", "prompt": "x", "max_tokens": 2}));
    assert_eq!(status, 200, "{body}");
}

#[test]
fn a_flood_is_told_to_come_again() {
    let home = tempfile::tempdir().unwrap();
    let served = serve(wootz(home.path()).args(["serve", "--ctx", "256", "--parallel", "2", "--queue", "2"]));
    let address = served.address.as_str();
    let body = json!({"model": "wootz-small", "prompt": "Once", "max_tokens": 120, "ignore_eos": true});
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..40).map(|_| scope.spawn(|| post(address, "/v1/completions", &body).0)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses.iter().filter(|&&status| status == 200).count() >= 4, "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(post(address, "/v1/completions", &body).0, 200, "and then all is as before");
}

#[test]
fn a_crash_loses_no_finished_item_of_a_batch() {
    const N: usize = 40;
    let home = tempfile::tempdir().unwrap();
    let start = || serve(wootz(home.path()).args(["serve", "--ctx", "256", "--parallel", "2"]));
    let mut served = start();
    let line = |i: usize| {
        let body =
            json!({"model": "wootz-small", "prompt": format!("Once {i}"), "max_tokens": 20, "seed": i});
        json!({"custom_id": i.to_string(), "method": "POST", "url": "/v1/completions", "body": body})
            .to_string()
    };
    let lines: Vec<String> = (0..N).map(line).collect();
    let form = format!(
        "--xyz\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{}\r\n--xyz--\r\n",
        lines.join("\n")
    );
    let mut connection = TcpStream::connect(&served.address).unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=xyz\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    connection.write_all((head + &form).as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let file: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let request =
        json!({"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"});
    let (_, batch) = post(&served.address, "/v1/batches", &request);
    let id = serde_json::from_str::<Value>(&batch).unwrap()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/batches/{id}");
    let n_done =
        |address: &str| get(address, &path)["request_counts"]["completed"].as_u64().unwrap() as usize;
    let kept = || {
        let file = home.path().join("serve/batches").join(format!("{id}.done"));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut before = Vec::new();
    for wanted in [5, 15] {
        wait_until("some items are finished", || n_done(&served.address) >= wanted);
        let told = n_done(&served.address);
        served.child.kill().unwrap();
        served.child.wait().unwrap();
        let after = kept();
        assert!(after.len() >= told && after.starts_with(&before), "{told}: {after:?}");
        before = after;
        served = start();
    }
    wait_until("the batch is complete", || get(&served.address, &path)["status"] == "completed");
    let file = get(&served.address, &path)["output_file_id"].as_str().unwrap().to_owned();
    let (_, output) = ask(&served.address, "GET", &format!("/v1/files/{file}/content"), "");
    let ids: Vec<String> = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (N, N));
}
