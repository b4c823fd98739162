//! The workspace as cargo and the file system see it: packages, their targets and dependencies, and all text files.
//!
//! Where:  read by [`tidy`](crate::tidy); its root by every task.
//! Idea:   cargo itself parses the manifests (`cargo metadata`), so that nothing here depends on how they are written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Directory that holds the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A package of the workspace.
pub struct Package {
    pub name: String,
    /// Absolute directory of its `Cargo.toml`.
    pub dir: PathBuf,
    /// Root files of its targets: `lib.rs`, `main.rs`, `tests/it/main.rs`, `build.rs`.
    pub targets: Vec<Target>,
    pub dependencies: Vec<Dependency>,
}

/// One compiled target of a package.
pub struct Target {
    pub root_file: PathBuf,
    /// `lib`, `bin`, `test`, `example`, `bench`, `custom-build`.
    pub kind: String,
}

/// A direct dependency.
pub struct Dependency {
    pub name: String,
    /// Only tests, examples and benches see it.
    pub is_dev: bool,
}

/// A text file of the repository, path relative to the root.
pub struct TextFile {
    pub path: PathBuf,
    pub text: String,
}

/// All packages, from `cargo metadata`.
pub fn packages() -> Result<Vec<Package>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .context("starting `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading `cargo metadata`")?;
    let packages: Vec<Package> = array(&metadata["packages"]).map(package).collect::<Result<_>>()?;
    ensure!(!packages.is_empty(), "`cargo metadata` names no packages");
    Ok(packages)
}

/// Source, scripts, manifests and documents under the root, sorted; build outputs and dot folders but `.ci` left out.
pub fn text_files() -> Result<Vec<TextFile>> {
    let mut paths = Vec::new();
    walk(root(), &mut paths)?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let is_ci = path.parent().and_then(Path::file_name).is_some_and(|name| name == ".ci");
        if !is_ci && !["rs", "py", "sh", "toml", "md", "html", "css", "js"].contains(&extension) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let path = path.strip_prefix(root()).expect("walked from the root").to_owned();
        files.push(TextFile { path, text });
    }
    Ok(files)
}

/// Every file below `dir`, absolute.
pub fn walk(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // The studio's bundle is committed, but nobody wrote it; `cargo xtask studio` holds it to its sources.
            let is_bundle = entry.path().ends_with("assets/studio");
            let is_output =
                name == "target" || name.starts_with("target-") || name == "node_modules" || is_bundle;
            let is_hidden = name.starts_with('.') && name != ".ci";
            if !is_output && !is_hidden {
                walk(&entry.path(), into)?;
            }
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
    Ok(())
}

fn package(value: &Value) -> Result<Package> {
    let manifest = PathBuf::from(text(&value["manifest_path"])?);
    let targets = array(&value["targets"]).map(|target| {
        let kind = array(&target["kind"]).next().context("a target without a kind")?;
        anyhow::Ok(Target { root_file: text(&target["src_path"])?.into(), kind: text(kind)?.to_owned() })
    });
    let dependencies = array(&value["dependencies"]).map(|dependency| {
        let is_dev = dependency["kind"].as_str() == Some("dev");
        anyhow::Ok(Dependency { name: text(&dependency["name"])?.to_owned(), is_dev })
    });
    Ok(Package {
        name: text(&value["name"])?.to_owned(),
        dir: manifest.parent().context("a manifest without a folder")?.to_owned(),
        targets: targets.collect::<Result<_>>()?,
        dependencies: dependencies.collect::<Result<_>>()?,
    })
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("`cargo metadata`: expected a string")
}
