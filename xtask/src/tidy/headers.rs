//! Every Rust file opens with a `//!` header; one that is more than a page also says where it stands.
//!
//! Where:  a check of [`tidy`](super).
//! Idea:   library roots and folder modules owe a `Where:`, longer files one of `Where:`, `Idea:`, `Source:`.

use super::{Finding, Repository};

/// Files up to this many lines explain themselves with one line.
const SHORT_LINES: usize = 40;

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, ..) in repository.rust() {
        let header: Vec<&str> = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let Some(first) = header.first() else {
            findings.push(file.finding(1, "no header: open the file with `//! What it is.`"));
            continue;
        };
        if first.trim_start_matches("//!").trim().is_empty() {
            findings.push(file.finding(1, "empty header line: say in one sentence what this file is"));
        }
        let says = |label: &str| header.iter().any(|l| l.trim_start_matches("//!").trim().starts_with(label));
        let name = file.path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let is_source = file.path.components().any(|part| part.as_os_str() == "src");
        let is_long = file.text.lines().count() > SHORT_LINES;
        if is_source && matches!(name, "lib.rs" | "mod.rs") && !says("Where:") {
            findings.push(
                file.finding(1, "header without `//! Where:  …`: say who uses this and what stands below it"),
            );
        } else if is_source && is_long && !["Where:", "Idea:", "Source:"].into_iter().any(says) {
            findings.push(file.finding(
                1,
                "header without `//! Where:  …`, `//! Idea:   …` or `//! Source: …`: add what applies",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n_findings(path: &str, text: &str) -> usize {
        check(&Repository::of(&[(path, text)])).len()
    }

    #[test]
    fn a_file_owes_a_header_that_fits_its_size() {
        let long = "fn f() {}\n".repeat(60);
        assert_eq!(n_findings("src/a.rs", "use std;\n"), 1);
        assert_eq!(n_findings("src/a.rs", "//!\n"), 1);
        assert_eq!(n_findings("src/a.rs", "//! A thing.\n"), 0);
        assert_eq!(n_findings("src/lib.rs", "//! A thing.\n"), 1);
        assert_eq!(n_findings("src/lib.rs", "//! A thing.\n//!\n//! Where:  here.\n"), 0);
        assert_eq!(n_findings("src/a.rs", &format!("//! A thing.\n{long}")), 1);
        assert_eq!(n_findings("src/a.rs", &format!("//! A thing.\n//! Source: a paper.\n{long}")), 0);
        assert_eq!(n_findings("tests/it/main.rs", &format!("//! A thing.\n{long}")), 0);
    }
}
