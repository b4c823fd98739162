//! `cargo xtask studio`: the web page is what its sources build, and does in a browser what it should.
//!
//! Where:  a part of `cargo xtask test`; sources and tests are in `studio/`, the bundle in the crate that serves it.
//! Idea:   packages of fixed versions, a build into `target/`, and a comparison file by file. Without Node or Chromium a
//!         part is skipped, and says so; where `CI` is set, that is an error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::clients::{is_fresh, mark_fresh, quietly, skipped, succeed, target, tell};
use crate::{no_arguments, workspace};

const BUNDLE: &str = "crates/wootz-serve/assets/studio";
/// The browser, by the names that systems give it.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Compares, then tests.
pub fn run(args: &[String]) -> Result<()> {
    no_arguments(args)?;
    tell("studio: bundle", bundle())?;
    tell("studio: in a browser", in_a_browser())
}

/// The committed bundle is what the sources build.
fn bundle() -> Result<()> {
    packages()?;
    succeed(npm().args(["run", "--silent", "check"])).context("checking types")?;
    let built = target().join("studio");
    succeed(npm().args(["run", "--silent", "build", "--", "--logLevel", "warn"]).env("STUDIO_OUT", &built))
        .context("building")?;
    let committed = workspace::root().join(BUNDLE);
    let (expected, found) = (files(&built)?, files(&committed)?);
    let names = |files: &BTreeMap<OsString, Vec<u8>>| {
        files.keys().map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ")
    };
    let differing: Vec<_> = expected.iter().filter(|(name, bytes)| found.get(*name) != Some(bytes)).collect();
    if !differing.is_empty() || expected.len() != found.len() {
        bail!(
            "{BUNDLE} is not what the sources build: {} there, {} built\nhint: `npm run build` in studio/",
            names(&found),
            names(&expected)
        );
    }
    Ok(())
}

/// All tests in `studio/tests`.
fn in_a_browser() -> Result<()> {
    packages()?;
    let browser = browser().ok_or_else(|| skipped("no Chromium; CHROMIUM may name one"))?;
    let cargo: OsString = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for what in [&["-p", "wootz"] as &[&str], &["-p", "wootz-serve", "--example", "scripted_server"]] {
        let build = ["build", "--quiet", "--locked"];
        succeed(Command::new(&cargo).args(build).args(what).current_dir(workspace::root()))?;
    }
    let debug = target().join("debug");
    let suffix = std::env::consts::EXE_SUFFIX;
    succeed(
        npm()
            .args(["run", "--silent", "test"])
            .env("CHROMIUM", browser)
            .env("WOOTZ", debug.join(format!("wootz{suffix}")))
            .env("WOOTZ_SCRIPTED", debug.join(format!("examples/scripted_server{suffix}"))),
    )
}

/// Installs the packages of the lock file, unless they are there.
fn packages() -> Result<()> {
    let (folder, lock) = (studio().join("node_modules"), studio().join("package-lock.json"));
    if !is_fresh(&folder, &lock)? {
        quietly(npm().args(["ci", "--silent"]))
            .map_err(|why| skipped(format!("npm installed nothing: {why}")))?;
        mark_fresh(&folder, &lock)?;
    }
    Ok(())
}

fn studio() -> PathBuf {
    workspace::root().join("studio")
}

fn npm() -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(studio());
    npm
}

fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = || {
        let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
        let paths = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        paths.into_iter().find(|path| path.is_file())
    };
    named.or_else(found)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        ensure!(entry.file_type()?.is_file(), "{} is no file", entry.path().display());
        files.insert(entry.file_name(), fs::read(entry.path())?);
    }
    Ok(files)
}
