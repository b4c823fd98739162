//! `cargo xtask tidy`: what a machine can check about how the repository looks.
//!
//! Where:  a task of its own and a step of [`test`](crate::test).
//! Idea:   each check is a function from the repository to findings; a finding names file and line and says what to do.
//! Source: rust-analyzer's `tidy`.

mod dead_files;
mod headers;
mod layers;
mod leftovers;
mod unsafety;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::no_arguments;
use crate::source::code_only;
use crate::workspace::{self, Package, TextFile};

/// Runs every check and prints all findings.
pub fn run(args: &[String]) -> Result<()> {
    no_arguments(args)?;
    let repository = Repository::read()?;
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&repository)).collect();
    findings.sort();
    findings.dedup();
    for Finding { path, line, what } in &findings {
        eprintln!("{}:{line}: {what}", path.display());
    }
    if !findings.is_empty() {
        bail!("tidy: {} finding{}", findings.len(), if findings.len() == 1 { "" } else { "s" });
    }
    println!("tidy: {} files, {} crates, no findings", repository.files.len(), repository.packages.len());
    Ok(())
}

type Check = fn(&Repository) -> Vec<Finding>;

const CHECKS: &[Check] =
    &[headers::check, layers::check, unsafety::check, dead_files::check, leftovers::check];

/// Everything the checks look at, read once.
struct Repository {
    packages: Vec<Package>,
    files: Vec<File>,
    /// Every file below `golden/`, relative to the root.
    golden: Vec<PathBuf>,
}

/// A text file with, for Rust, its code alone.
struct File {
    /// Relative to the root.
    path: PathBuf,
    text: String,
    /// `text` without comments and literals; `None` unless the file is Rust.
    code: Option<String>,
}

/// Something to put right.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    line: usize,
    what: String,
}

impl Repository {
    fn read() -> Result<Self> {
        let root = workspace::root();
        let files = workspace::text_files()?.into_iter().map(File::new).collect();
        let mut golden = Vec::new();
        if root.join("golden").is_dir() {
            workspace::walk(&root.join("golden"), &mut golden)?;
        }
        let golden = golden.iter().map(|p| relative(p).to_owned()).collect();
        Ok(Self { packages: workspace::packages()?, files, golden })
    }

    fn file(&self, path: &Path) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Rust files with their code, and the package that each lies in.
    fn rust(&self) -> impl Iterator<Item = (&File, &str, Option<&Package>)> {
        self.files.iter().filter_map(|file| {
            let package = self.packages.iter().find(|p| file.path.starts_with(relative(&p.dir)));
            Some((file, file.code.as_deref()?, package))
        })
    }
}

impl File {
    fn new(TextFile { path, text }: TextFile) -> Self {
        let is_rust = path.extension().is_some_and(|e| e == "rs");
        let code = is_rust.then(|| code_only(&text));
        Self { path, text, code }
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

/// `path` seen from the root of the workspace.
fn relative(path: &Path) -> &Path {
    path.strip_prefix(workspace::root()).unwrap_or(path)
}

/// The part of `code` before its unit tests.
fn before_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod ").map_or(code, |at| &code[..at])
}

#[cfg(test)]
impl Repository {
    /// A repository of these files and no packages.
    fn of(files: &[(&str, &str)]) -> Self {
        let file =
            |&(path, text): &(&str, &str)| File::new(TextFile { path: path.into(), text: text.into() });
        let golden = files.iter().map(|(path, _)| PathBuf::from(path)).filter(|p| p.starts_with("golden"));
        Self { packages: Vec::new(), files: files.iter().map(file).collect(), golden: golden.collect() }
    }
}
