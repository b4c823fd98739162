//! Every Rust file opens with a `//!` header; one that is more than a few pages also says where it stands.
//!
//! Where:  a check of [`tidy`](super).
//! Idea:   library roots and folder modules owe a `Where:`, long files more than one sentence, unless their folder's
//!         module tells it for all; the rest, an operator or an error type, is told in its first.

use super::{File, Finding, Repository};

/// A folder module of up to this many lines explains itself with one sentence.
const SHORT_MODULE_LINES: usize = 40;
/// So does any other file of up to this many.
const SHORT_LINES: usize = 150;
/// What a header's lines may open with.
const LABELS: &[&str] = &["Where:", "Idea:", "Source:", "Elsewhere:"];

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
        let n_lines = file.text.lines().count();
        let owes_where = name == "lib.rs" || (name == "mod.rs" && n_lines > SHORT_MODULE_LINES);
        let is_long = n_lines > SHORT_LINES && !matches!(name, "error.rs" | "tests.rs");
        if is_source && owes_where && !says("Where:") {
            findings.push(
                file.finding(1, "header without `//! Where:  …`: say who uses this and what stands below it"),
            );
        } else if is_source
            && is_long
            && !is_in_told_folder(repository, file)
            && header.concat().matches(". ").count() == 0
            && !LABELS.iter().any(|l| says(l))
        {
            findings.push(file.finding(
                1,
                "one sentence for a long file: add `//! Where:  …`, `//! Idea:   …` or `//! Source: …`",
            ));
        }
    }
    findings
}

/// Whether the folder's own module says where its files stand.
fn is_in_told_folder(repository: &Repository, file: &File) -> bool {
    let folder = file.path.parent().and_then(|folder| repository.file(&folder.join("mod.rs")));
    folder.is_some_and(|module| module.path != file.path && module.text.contains("\n//! Where:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n_findings(path: &str, text: &str) -> usize {
        check(&Repository::of(&[(path, text)])).len()
    }

    #[test]
    fn a_file_owes_a_header_that_fits_its_size() {
        let long = "fn f() {}\n".repeat(160);
        assert_eq!(n_findings("src/a.rs", "use std;\n"), 1);
        assert_eq!(n_findings("src/a.rs", "//!\n"), 1);
        assert_eq!(n_findings("src/a.rs", "//! A thing.\n"), 0);
        assert_eq!(n_findings("src/lib.rs", "//! A thing.\n"), 1);
        assert_eq!(n_findings("src/lib.rs", "//! A thing.\n//!\n//! Where:  here.\n"), 0);
        assert_eq!(n_findings("src/a.rs", &format!("//! A thing.\n{long}")), 1);
        assert_eq!(n_findings("src/a.rs", &format!("//! A thing. Its source.\n{long}")), 0);
        assert_eq!(n_findings("src/a.rs", &format!("//! A thing.\n//! Source: a paper.\n{long}")), 0);
        assert_eq!(n_findings("src/a/mod.rs", &format!("//! A thing.\n//! Source: a paper.\n{long}")), 1);
        let (module, file) =
            (("src/a/mod.rs", "//! Things.\n//!\n//! Where:  here.\n"), format!("//! A thing.\n{long}"));
        assert_eq!(check(&Repository::of(&[module, ("src/a/b.rs", &file)])).len(), 0);
        assert_eq!(n_findings("tests/it/main.rs", &format!("//! A thing.\n{long}")), 0);
    }
}
