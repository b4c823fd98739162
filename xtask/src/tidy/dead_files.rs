//! Files that nothing leads to: Rust files without a `mod`, golden files that no test or script names.
//!
//! Where:  a check of [`tidy`](super).
//! Idea:   follow `mod name;` and `include!` from the root file of every target, whatever its `cfg`; what is left is dead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{File, Finding, Repository, relative};

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = dead_rust(repository);
    findings.extend(dead_golden(repository));
    findings
}

fn dead_rust(repository: &Repository) -> Vec<Finding> {
    let targets = repository.packages.iter().flat_map(|package| &package.targets);
    let mut to_visit: Vec<(PathBuf, bool)> =
        targets.map(|target| (relative(&target.root_file).to_owned(), true)).collect();
    let mut alive = BTreeSet::new();
    let mut findings = Vec::new();
    while let Some((path, is_root)) = to_visit.pop() {
        let Some(file) = repository.file(&path) else { continue };
        if alive.insert(path) {
            let (found, missing) = modules_of(repository, file, is_root);
            to_visit.extend(found.into_iter().map(|path| (path, false)));
            findings.extend(missing);
        }
    }
    let dead =
        repository.rust().filter(|(file, _, package)| package.is_some() && !alive.contains(&file.path));
    findings.extend(
        dead.filter(|(file, ..)| !is_target_elsewhere(repository, file))
            .map(|(file, ..)| file.finding(1, "no `mod` leads to this file: declare it or delete it")),
    );
    findings
}

/// Files that `file` declares as modules or includes, and the declarations that lead nowhere.
fn modules_of(repository: &Repository, file: &File, is_root: bool) -> (Vec<PathBuf>, Vec<Finding>) {
    let code = file.code.as_deref().unwrap_or("");
    let dir = file.path.parent().unwrap_or(Path::new(""));
    let stem = file.path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
    let owns_dir = is_root || stem == "mod";
    let children = if owns_dir { dir.to_owned() } else { dir.join(stem) };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let mut given_path = None;
    for (index, (code_line, line)) in code.lines().zip(file.text.lines()).enumerate() {
        if code_line.contains("#[path") || code_line.contains("include!(") {
            given_path = quoted(line).map(|name| dir.join(name));
            found.extend(given_path.clone());
        }
        let Some(name) = declared_module(code_line) else { continue };
        if given_path.take().is_some() {
            continue;
        }
        let candidates = [children.join(format!("{name}.rs")), children.join(name).join("mod.rs")];
        match candidates.into_iter().find(|path| repository.file(path).is_some()) {
            Some(path) => found.push(path),
            None => missing.push(file.finding(index + 1, format!("`mod {name};` leads to no file"))),
        }
    }
    if code.contains("mod $") {
        // A macro declares modules from a list of names: every word that is a file beside is taken as declared.
        let words = code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .map(|word| children.join(format!("{word}.rs")));
        found.extend(words.filter(|path| repository.file(path).is_some()));
    }
    (found, missing)
}

/// `pub(crate) mod name;` → `name`.
fn declared_module(line: &str) -> Option<&str> {
    let before_semicolon = line.trim().strip_suffix(';')?;
    let (visibility, name) = before_semicolon.rsplit_once("mod ")?;
    let visibility = visibility.trim();
    let is_visibility = visibility.is_empty()
        || visibility == "pub"
        || visibility.starts_with("pub(")
        || visibility.ends_with(']');
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_visibility && is_name).then_some(name)
}

fn quoted(line: &str) -> Option<&str> {
    line.split('"').nth(1)
}

/// Fuzz targets are a workspace of their own, whose manifest names them.
fn is_target_elsewhere(repository: &Repository, file: &File) -> bool {
    let name = file.path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let manifest = file
        .path
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("Cargo.toml"))
        .find(|m| repository.file(m).is_some());
    let Some(manifest) = manifest.and_then(|m| repository.file(&m)) else { return false };
    let is_member = repository.packages.iter().any(|p| Some(relative(&p.dir)) == manifest.path.parent());
    !is_member && manifest.text.contains(name)
}

/// A golden file is alive when a test or a script names it or a folder of `golden/` that holds it. Scripts are alive: what
/// they make or check is named by them.
fn dead_golden(repository: &Repository) -> Vec<Finding> {
    let is_reader =
        |file: &&File| matches!(file.path.extension().and_then(|e| e.to_str()), Some("rs" | "py" | "sh"));
    let readers: Vec<&File> = repository.files.iter().filter(is_reader).collect();
    let named = |path: &Path| {
        let parts = path.iter().skip(1).filter_map(|part| part.to_str());
        let names: Vec<&str> = parts.chain(path.file_stem().and_then(|s| s.to_str())).collect();
        readers.iter().filter(|r| r.path != path).any(|r| names.iter().any(|name| r.text.contains(name)))
    };
    let is_script = |path: &Path| matches!(path.extension().and_then(|e| e.to_str()), Some("py" | "sh"));
    let dead = repository.golden.iter().filter(|path| !is_script(path) && !named(path));
    let what = "no test or script names this file: use it or delete it";
    dead.map(|path| Finding { path: path.clone(), line: 1, what: what.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Package, Target, root};

    fn dead(files: &[(&str, &str)]) -> Vec<String> {
        let mut repository = Repository::of(files);
        let target = Target { root_file: root().join("c/src/lib.rs"), kind: "lib".into() };
        let dependencies = Vec::new();
        repository.packages =
            vec![Package { name: "c".into(), dir: root().join("c"), targets: vec![target], dependencies }];
        check(&repository).into_iter().map(|f| f.path.display().to_string()).collect()
    }

    #[test]
    fn modules_are_followed_whatever_their_cfg() {
        let files = [
            ("c/src/lib.rs", "mod a;\n#[cfg(windows)]\npub(crate) mod b;\n// mod d;\n"),
            ("c/src/a.rs", "mod inner;\n#[path = \"odd_name.rs\"]\nmod e;\n"),
            ("c/src/a/inner.rs", ""),
            ("c/src/odd_name.rs", ""),
            ("c/src/b/mod.rs", "pub mod x;\n"),
            ("c/src/b/x.rs", ""),
            ("c/src/d.rs", ""),
        ];
        assert_eq!(dead(&files), ["c/src/d.rs"]);
    }

    #[test]
    fn modules_that_a_macro_declares_are_followed() {
        let list = "macro_rules! ops { ($($m:ident)*) => { $(mod $m;)* } }\nops! { a }\n";
        assert_eq!(dead(&[("c/src/lib.rs", list), ("c/src/a.rs", ""), ("c/src/b.rs", "")]), ["c/src/b.rs"]);
    }

    #[test]
    fn a_module_without_a_file_is_found_where_it_is_declared() {
        assert_eq!(dead(&[("c/src/lib.rs", "mod gone;\n")]), ["c/src/lib.rs"]);
    }

    #[test]
    fn a_golden_file_needs_a_reader() {
        let files = [
            ("c/src/lib.rs", "// golden/used.json, golden/folder\n"),
            ("golden/used.json", ""),
            ("golden/folder/data.json", ""),
            ("golden/orphan.json", ""),
        ];
        assert_eq!(dead(&files), ["golden/orphan.json"]);
    }
}
