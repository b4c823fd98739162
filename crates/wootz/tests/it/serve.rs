//! `wootz serve` with the built-in model, until a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::{fail, wootz};

/// A running server; it is killed when this is dropped.
pub struct Served {
    pub child: Child,
    pub address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `command`, a `wootz serve`, at a free port.
pub fn serve(command: &mut std::process::Command) -> Served {
    let mut child =
        command.args(["--port", "0", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let address = told["address"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    Served { child, address }
}

/// Status and body.
pub fn post(address: &str, path: &str, body: &Value) -> (u16, String) {
    ask(address, "POST", path, &body.to_string())
}

/// The body as JSON.
pub fn get(address: &str, path: &str) -> Value {
    let (status, body) = ask(address, "GET", path, "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Status and body.
pub fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn the_built_in_model_is_served_and_stops_when_asked() {
    let home = tempfile::tempdir().unwrap();
    let mut served = serve(wootz(home.path()).arg("serve"));
    assert_eq!(get(&served.address, "/v1/models")["data"][0]["id"], "wootz-small");
    let request = json!({"model": "wootz-small", "temperature": 0, "max_tokens": 12,
        "messages": [{"role": "user", "content": "Tell me a story about a cat."}]});
    let (status, body) = post(&served.address, "/v1/chat/completions", &request);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(text.starts_with("Once upon a time, there was a"), "{text}");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    let (_, again) = post(&served.address, "/v1/chat/completions", &request);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["choices"][0]["message"]["content"], text);

    let echo = json!({"model": "wootz-small", "prompt": "Once upon a time", "echo": true, "logprobs": 1, "max_tokens": 0});
    let (status, body) = post(&served.address, "/v1/completions", &echo);
    assert_eq!(status, 200, "{body}");
    let echo: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(echo["choices"][0]["text"], "Once upon a time");
    let logprobs = echo["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    assert!(logprobs[0].is_null() && logprobs.last().unwrap().as_f64().unwrap() > -0.5, "{logprobs:?}");

    let tools = json!({"model": "wootz-small", "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f"}}]});
    let (status, body) = post(&served.address, "/v1/chat/completions", &tools);
    assert!(status == 400 && body.contains("knows no `tools`"), "{body}");

    #[cfg(unix)]
    {
        let id = served.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(served.child.wait().unwrap().success());
    }
}

#[test]
fn a_public_address_needs_a_key() {
    let home = tempfile::tempdir().unwrap();
    let told = fail(wootz(home.path()).args(["serve", "--host", "0.0.0.0", "--port", "0"]), 1);
    assert!(told.contains("--api-key"), "{told}");
    let told = fail(wootz(home.path()).args(["serve", "nothing-here"]), 1);
    assert!(told.contains("no model `nothing-here`"), "{told}");
}
