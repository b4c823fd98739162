//! Where `unsafe` may stand, and that every other crate forbids it.
//!
//! Where:  a check of [`tidy`](super).
//! Idea:   the roots of all targets but those of two crates forbid it; in `wootz-weights` one file may have it.

use super::{Finding, Repository, relative};
use crate::source::{lines_with, lines_with_word};

/// Crates whose root does not forbid `unsafe`, with the only file that may hold it (`None`: any).
const MAY: &[(&str, Option<&str>)] =
    &[("wootz-kernels", None), ("wootz-weights", Some("crates/wootz-weights/src/mmap.rs"))];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &repository.packages {
        if MAY.iter().any(|(name, _)| *name == package.name) {
            continue;
        }
        for target in package.targets.iter().filter(|t| matches!(t.kind.as_str(), "lib" | "bin")) {
            let Some(file) = repository.file(relative(&target.root_file)) else { continue };
            let code = file.code.as_deref().unwrap_or("");
            if lines_with(code, "#![forbid(unsafe_code)]").is_empty() {
                findings.push(file.finding(1, "add `#![forbid(unsafe_code)]` below the header"));
            }
        }
    }
    for (file, code, package) in repository.rust() {
        let may = package.and_then(|p| MAY.iter().find(|(name, _)| *name == p.name));
        let allowed = may.is_some_and(|(_, only)| only.is_none_or(|only| file.path.as_os_str() == only));
        if !allowed {
            let what = "`unsafe` outside wootz-kernels and wootz-weights/src/mmap.rs: move it there behind a safe function";
            findings.extend(lines_with_word(code, "unsafe").into_iter().map(|line| file.finding(line, what)));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_found_in_code_and_not_in_comments() {
        let repository = Repository::of(&[("a.rs", "//! unsafe\n\"unsafe\";\nunsafe { f() }\n")]);
        let lines: Vec<usize> = check(&repository).into_iter().map(|f| f.line).collect();
        assert_eq!(lines, [3]);
    }
}
