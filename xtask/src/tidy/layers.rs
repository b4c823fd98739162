//! Layering between crates: who may use whom, who may use which outside crate, who may print or read the environment.
//!
//! Where:  a check of [`tidy`](super).
//! Idea:   one table of rows, bottom up. A crate uses rows below its own and crates to its left, with four exceptions.
//! Source: `ARCHITECTURE.md`, the table of crates.

use super::{Finding, Repository, before_tests, relative};
use crate::source::lines_with;
use crate::workspace::{Dependency, Package};

/// Rows from the bottom up; within a row, from left to right.
const ROWS: &[(&str, &[&str])] = &[
    ("numbers", &["wootz-kernels", "wootz-graph", "wootz-weights"]),
    ("words", &["wootz-store", "wootz-text", "wootz-data", "wootz-grammar"]),
    ("models", &["wootz-model"]),
    ("stages", &["wootz-train", "wootz-engine"]),
    ("users", &["wootz-eval", "wootz-retrieval", "wootz-agents"]),
    ("edges", &["wootz-remote", "wootz-serve", "wootz"]),
];

/// Outside crates that belong to one place: (crates, who may use them, why).
const OWNED: &[(&[&str], &[&str], &str)] = &[
    (&["clap", "indicatif", "rustyline"], &["wootz"], "only the command line knows terminals and arguments"),
    (&["anyhow"], &["wootz", "xtask"], "libraries return their own error type"),
    (&["tokio", "axum", "hyper", "futures", "reqwest"], &["wootz-serve"], "only `wootz-serve` knows async"),
    (&["ureq"], &["wootz-remote", "wootz-serve", "wootz"], "only edges know HTTP"),
];

/// Calls that belong to one place: (patterns, who may use them, why).
const CALLS: &[(&[&str], &[&str], &str)] = &[
    (&["println!", "print!", "eprintln!", "eprint!"], &["wootz", "xtask"], "only the command line prints"),
    (
        &["env::var", "env::args"],
        &["wootz", "xtask"],
        "only the command line reads arguments and environment",
    ),
];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &repository.packages {
        for dependency in &package.dependencies {
            if let Some(why) = refused(&package.name, dependency) {
                findings.push(at_manifest_line(repository, package, &dependency.name, why));
            }
        }
    }
    for (file, code, package) in repository.rust() {
        let is_source = file.path.components().any(|part| part.as_os_str() == "src");
        let Some(package) = package.filter(|_| is_source) else { continue };
        for (patterns, owners, why) in
            CALLS.iter().filter(|(_, owners, _)| !owners.contains(&package.name.as_str()))
        {
            for line in patterns.iter().flat_map(|pattern| lines_with(before_tests(code), pattern)) {
                findings.push(
                    file.finding(line, format!("{why} ({}): return or take a value", owners.join(", "))),
                );
            }
        }
    }
    findings
}

/// Why `user` may not depend on `dependency`, if so.
fn refused(user: &str, dependency: &Dependency) -> Option<String> {
    let used = dependency.name.as_str();
    if let Some((_, owners, why)) = OWNED.iter().find(|(crates, ..)| crates.contains(&used)) {
        let allowed = dependency.is_dev || owners.contains(&user);
        return (!allowed).then(|| format!("`{user}` uses `{used}`, but {why}"));
    }
    let is_ours = used == "wootz" || used == "xtask" || used.starts_with("wootz-");
    if !is_ours || user == "xtask" {
        return None;
    }
    if used == "wootz-testkit" {
        return (!dependency.is_dev).then(|| "`wootz-testkit` belongs under [dev-dependencies]".to_owned());
    }
    let Some((used_row, used_column)) = place(used) else {
        return Some(format!(
            "`{used}` has no place in the table of crates: add it to xtask/src/tidy/layers.rs"
        ));
    };
    if user == "wootz-testkit" {
        return (used_row > row("words"))
            .then(|| format!("`wootz-testkit` uses `{used}`, which is above words"));
    }
    let Some((user_row, user_column)) = place(user) else {
        return Some(format!(
            "`{user}` has no place in the table of crates: add it to xtask/src/tidy/layers.rs"
        ));
    };
    let above = (used_row, used_column) >= (user_row, user_column);
    let words_to_numbers = user_row == row("words") && used_row == row("numbers");
    let between_stages = user_row == row("stages") && used_row == row("stages");
    let users_to_models = user_row == row("users") && (row("models")..=row("stages")).contains(&used_row);
    let reason = match () {
        () if above => "which is not below it",
        () if words_to_numbers => "but words know no numbers",
        () if between_stages => "but training and the engine meet only in the command line",
        () if users_to_models => "but to users a model is a trait of `wootz-text`",
        () => return None,
    };
    Some(format!("`{user}` uses `{used}`, {reason}: move the code or turn the dependency round"))
}

/// Row and column of a crate.
fn place(name: &str) -> Option<(usize, usize)> {
    ROWS.iter().enumerate().find_map(|(row, (_, crates))| {
        let column = crates.iter().position(|c| *c == name)?;
        Some((row, column))
    })
}

fn row(name: &str) -> usize {
    ROWS.iter().position(|(row, _)| *row == name).expect("a row of the table")
}

fn at_manifest_line(repository: &Repository, package: &Package, name: &str, what: String) -> Finding {
    let path = relative(&package.dir).join("Cargo.toml");
    let named =
        |line: &str| line.trim_start_matches('[').starts_with(name) || line.contains(&format!(".{name}]"));
    let manifest = repository.file(&path);
    let line = manifest.and_then(|m| m.text.lines().position(named)).map_or(1, |i| i + 1);
    Finding { path, line, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_uses_what_is_below_it_and_to_its_left() {
        let check = |user: &str, used: &str, allowed: bool| {
            let dependency = Dependency { name: used.into(), is_dev: false };
            assert_eq!(refused(user, &dependency).is_none(), allowed, "{user} uses {used}");
        };
        check("wootz-graph", "wootz-kernels", true);
        check("wootz-kernels", "wootz-graph", false);
        check("wootz-text", "wootz-kernels", false);
        check("wootz-data", "wootz-text", true);
        check("wootz-text", "wootz-data", false);
        check("wootz-model", "wootz-text", true);
        check("wootz-train", "wootz-engine", false);
        check("wootz-engine", "wootz-train", false);
        check("wootz-eval", "wootz-engine", false);
        check("wootz-eval", "wootz-text", true);
        check("wootz", "wootz-engine", true);
        check("wootz-serve", "wootz", false);
        check("wootz-text", "wootz-testkit", false);
        check("wootz-testkit", "wootz-text", true);
        check("wootz-testkit", "wootz-model", false);
        check("wootz-text", "wootz-unheard-of", false);
        check("wootz-text", "anyhow", false);
        check("wootz-engine", "tokio", false);
        check("wootz-remote", "ureq", true);
        check("xtask", "wootz-engine", true);
    }

    #[test]
    fn tests_may_use_the_testkit_but_no_higher_crate() {
        let dev = |name: &str| Dependency { name: name.into(), is_dev: true };
        assert_eq!(refused("wootz-kernels", &dev("wootz-testkit")), None);
        assert!(refused("wootz-kernels", &dev("wootz-graph")).is_some());
    }
}
