//! The binary as people run it: its output, its exit codes, its folders.
#![forbid(unsafe_code)]

mod adapters;
mod answers;
mod data;
mod faults;
mod models;
mod serve;
mod stock;
mod tokenizer;
mod train;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The binary with a home of its own and an environment that says nothing else.
fn wootz(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wootz"));
    command.env_clear().env("WOOTZ_HOME", home).env("HF_HOME", home.join("huggingface"));
    command
}

/// Runs to the end; the exit code must be 0.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs to the end and parses the one line of JSON.
fn json(command: &mut Command) -> Value {
    let text = succeed(command);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Runs to the end; the exit code must be this one. Gives what stands on stderr.
fn fail(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, stdout } = command.output().unwrap();
    assert_eq!(status.code(), Some(code));
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    String::from_utf8(stderr).unwrap()
}
