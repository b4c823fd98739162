//! `cargo xtask clients`: other people's clients, unchanged, against a scripted server.
//!
//! Where:  a part of `cargo xtask test`; the scripts are in `crates/wootz-serve/tests/clients`.
//! Idea:   packages of fixed versions go into a virtual environment and a folder under `target/`, made anew when the list
//!         changes. Without Python or Node a part is skipped, and says so; where `CI` is set, that is an error.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{no_arguments, workspace};

const SCRIPTS: &str = "crates/wootz-serve/tests/clients";

/// Runs every script; what was skipped is told and is no failure outside of CI.
pub fn run(args: &[String]) -> Result<()> {
    no_arguments(args)?;
    let server = ScriptedServer::start()?;
    tell("clients in Python", python(&server.address))?;
    tell("clients in Node", node(&server.address))?;
    Ok(())
}

/// What became of a part. One that cannot run is no failure, except where everything must be there.
pub(crate) fn tell(name: &str, outcome: Result<()>) -> Result<()> {
    match outcome {
        Ok(()) => eprintln!("==> {name} passed"),
        Err(error) => match error.downcast_ref::<Skipped>() {
            Some(skipped) if std::env::var_os("CI").is_none() => {
                eprintln!("==> {name} SKIPPED, {skipped}");
            }
            _ => return Err(error.context(name.to_owned())),
        },
    }
    Ok(())
}

/// A part that cannot run here.
#[derive(Debug)]
struct Skipped(String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing was tested: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

pub(crate) fn skipped(why: impl Into<String>) -> anyhow::Error {
    Skipped(why.into()).into()
}

fn python(address: &str) -> Result<()> {
    let environment = target().join("clients-python");
    let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let list = scripts().join("requirements.txt");
    if !is_fresh(&environment, &list)? {
        let _ = fs::remove_dir_all(&environment);
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&environment);
        quietly(&mut make).map_err(|why| skipped(format!("no virtual environment: {why}")))?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&list);
        quietly(&mut install).map_err(|why| skipped(format!("pip installed nothing: {why}")))?;
        mark_fresh(&environment, &list)?;
    }
    let mut test = Command::new(&python);
    test.args(["-B", "-W", "ignore", "-m", "unittest", "discover", "-q", "-s"]).arg(scripts());
    succeed(test.env("WOOTZ_URL", address))
}

fn node(address: &str) -> Result<()> {
    let folder = target().join("clients-node");
    let list = scripts().join("package.json");
    if !is_fresh(&folder, &list)? {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        fs::copy(&list, folder.join("package.json"))?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
        quietly(&mut install).map_err(|why| skipped(format!("npm installed nothing: {why}")))?;
        mark_fresh(&folder, &list)?;
    }
    // Packages are looked up from where a script lies.
    fs::copy(scripts().join("clients.mjs"), folder.join("clients.mjs"))?;
    let mut test = Command::new("node");
    succeed(test.args(["--test", "clients.mjs"]).current_dir(&folder).env("WOOTZ_URL", address))
}

fn scripts() -> PathBuf {
    workspace::root().join(SCRIPTS)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace::root().join("target"), PathBuf::from)
}

/// Whether a folder was filled from this list.
pub(crate) fn is_fresh(folder: &Path, list: &Path) -> Result<bool> {
    let wanted = fs::read(list).with_context(|| format!("reading {}", list.display()))?;
    Ok(fs::read(folder.join("filled-from")).is_ok_and(|filled| filled == wanted))
}

pub(crate) fn mark_fresh(folder: &Path, list: &Path) -> Result<()> {
    fs::copy(list, folder.join("filled-from")).map(drop).context("marking the folder as filled")
}

/// Runs without output; why it failed, in one line.
pub(crate) fn quietly(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed silently");
    if output.status.success() { Ok(()) } else { Err(last.to_owned()) }
}

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().context("starting the tests")?;
    ensure!(status.success(), "they failed ({status})");
    Ok(())
}

/// The server of the scripts, ended when dropped.
struct ScriptedServer {
    child: Child,
    address: String,
}

impl ScriptedServer {
    fn start() -> Result<Self> {
        let cargo: OsString = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = ["build", "--quiet", "--locked", "-p", "wootz-serve", "--example", "scripted_server"];
        succeed(Command::new(cargo).args(build).current_dir(workspace::root()))?;
        let program = target().join("debug/examples/scripted_server");
        let mut child = Command::new(&program)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut address = String::new();
        let stdout = child.stdout.take().context("its output")?;
        BufReader::new(stdout).read_line(&mut address)?;
        let server = Self { child, address: address.trim().to_owned() };
        if !server.address.starts_with("http://127.0.0.1:") {
            bail!("the scripted server did not tell its address");
        }
        Ok(server)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
