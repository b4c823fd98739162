//! Things that should not stay: bare allowances, notes to oneself, invisible characters, names that say nothing.
//!
//! Where:  a check of [`tidy`](super).
//! Idea:   a table of patterns, each with what to do instead.

use super::{Finding, Repository};
use crate::source::lines_with;

/// Patterns in code, and what to do. Written in two halves where this file would find itself.
const IN_CODE: &[(&str, &str)] = &[
    ("#[allow", "use `#[expect(…, reason = \"…\")]`, which says why and ends when it is no longer needed"),
    ("#![allow", "use `#![expect(…, reason = \"…\")]`, which says why and ends when it is no longer needed"),
    (concat!("todo", "!("), "write the code or return an error that says what is not supported"),
    (concat!("unimplemented", "!("), "write the code or return an error that says what is not supported"),
];

/// Notes that were meant to be temporary, in any file.
const NOTES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Names of files and folders that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "misc", "helper", "helpers"];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &repository.files {
        for (pattern, instead) in IN_CODE {
            let lines = file.code.as_deref().map(|code| lines_with(code, pattern)).unwrap_or_default();
            findings
                .extend(lines.into_iter().map(|line| file.finding(line, format!("`{pattern}`: {instead}"))));
        }
        for (index, line) in file.text.lines().enumerate() {
            if let Some(note) = NOTES.iter().find(|note| line.contains(**note)) {
                findings.push(file.finding(
                    index + 1,
                    format!("`{note}`: do it now, or describe it where work is planned"),
                ));
            }
            if let Some(c) = line.chars().find(|&c| is_invisible(c)) {
                findings.push(file.finding(
                    index + 1,
                    format!("invisible character U+{:04X}: write it as an escape", c as u32),
                ));
            }
        }
        if let Some(name) = file.path.iter().filter_map(stem).find(|name| EMPTY_NAMES.contains(name)) {
            findings.push(file.finding(1, format!("`{name}` says nothing: name the file by its noun")));
        }
    }
    findings
}

fn stem(part: &std::ffi::OsStr) -> Option<&str> {
    part.to_str().map(|name| name.split('.').next().unwrap_or(name))
}

/// Control characters, direction overrides, and characters of no width but the joiners, which scripts and emoji need.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_found_with_their_line() {
        let finds = |path: &str, text: &str, lines: &[usize]| {
            let found: Vec<usize> = check(&Repository::of(&[(path, text)])).iter().map(|f| f.line).collect();
            assert_eq!(found, lines, "{path}: {text:?}");
        };
        finds("a.rs", "//! A.\n#[allow(dead_code)]\n", &[2]);
        finds("a.rs", "//! A.\n// the attribute #[allow( in a comment\n", &[]);
        finds("a.md", concat!("fine\n\n", "TO", "DO: later\n"), &[3]);
        finds("a.rs", concat!("//! A.\nfn f() { todo", "!() }\n"), &[2]);
        finds("a.rs", "//! A\u{202e}B\n", &[1]);
        finds("a.py", "x\ty\n", &[1]);
        finds("src/utils/a.rs", "//! A.\n", &[1]);
        finds("src/common.rs", "//! A.\n", &[1]);
        finds("src/commonness.rs", "//! A.\n", &[]);
    }
}
