//! Rows as people read them: aligned on a terminal, and as tables in `docs/performance.md`.
//!
//! Where:  the last step of [`peers`](super::peers).
//! Idea:   the document keeps its prose; between two markers a section's table is replaced by what was measured.

use anyhow::{Context, Result};

use super::cases::THEMES;
use super::row::{self, Row};
use super::samples::Samples;

const END: &str = "<!-- end of measured rows -->";

fn start(theme: &str) -> String {
    format!("<!-- measured by `cargo xtask bench peers --only {theme}` -->")
}

/// One row for a terminal.
pub(crate) fn text(row: &Row) -> String {
    let marked = match row.is_met {
        Some(true) => "   ok",
        Some(false) => "   MISSED",
        None => "",
    };
    format!(
        "{:<50} {:>22} {:>22}   {:<10} target {}   {}{marked}",
        row.title,
        samples(row.wootz.as_ref(), &row.unit),
        samples(row.peer.as_ref(), &row.unit),
        ratio(row),
        row.target,
        ceiling(row)
    )
}

/// `document` with the tables of all sections that `rows` has something for.
///
/// # Errors
/// If the markers of such a section are missing.
pub(crate) fn replaced(document: &str, rows: &[Row]) -> Result<String> {
    let mut document = document.to_owned();
    for theme in THEMES {
        let rows = row::of_theme(rows, *theme);
        if rows.is_empty() {
            continue;
        }
        document = put(&document, &start(theme.name), &rows)
            .with_context(|| format!("no place for the rows of `{}`", theme.title))?;
    }
    Ok(document)
}

/// `document` with the table of `rows` behind the line `mark`.
///
/// # Errors
/// If the markers are missing.
pub(crate) fn put(document: &str, mark: &str, rows: &[&Row]) -> Result<String> {
    let hint = || format!("no such marks\nhint: where the table belongs, write the lines {mark} and {END}");
    let from = document.find(mark).with_context(hint)? + mark.len();
    let to = from + document[from..].find(END).with_context(hint)?;
    Ok(format!("{}\n{}\n{}", &document[..from], section(rows), &document[to..]))
}

/// The table of one section and under which conditions its rows were measured.
fn section(rows: &[&Row]) -> String {
    let peer = if rows.iter().any(|row| row.unit == "MB/s") { "the other" } else { "llama.cpp" };
    let mut lines = vec![
        format!("| case | Wootz | {peer} | ratio | target | ceiling | |"),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for row in rows {
        let marked = match row.is_met {
            Some(true) => "ok",
            Some(false) => "**missed**",
            None => "",
        };
        let cells = [
            row.title.clone(),
            samples(row.wootz.as_ref(), &row.unit),
            samples(row.peer.as_ref(), &row.unit),
            ratio(row),
            row.target.clone(),
            ceiling(row),
            marked.to_owned(),
        ];
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    lines.push(String::new());
    lines.extend(conditions(rows));
    lines.join("\n")
}

/// Every distinct circumstance once.
fn conditions(rows: &[&Row]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for row in rows {
        let row = &row.conditions;
        let machine =
            [&row.cpu, &row.instructions].map(String::as_str).into_iter().filter(|part| !part.is_empty());
        let machine: Vec<&str> = machine.collect();
        let line = format!(
            "Measured {} at commit {}: {}{} thread{}, {} pass{}; {}.",
            row.date,
            row.commit,
            if machine.is_empty() { String::new() } else { format!("{}, ", machine.join(", ")) },
            row.threads,
            if row.threads == 1 { "" } else { "s" },
            row.passes,
            if row.passes == 1 { "" } else { "es" },
            row.peers
        );
        if !said.contains(&line) {
            said.push(line);
        }
    }
    said
}

/// `45.1 tok/s ± 3 %`: the median, and half the range in percent of it.
fn samples(samples: Option<&Samples>, unit: &str) -> String {
    let Some(samples) = samples else { return "–".to_owned() };
    let median = samples.median();
    let decimals = if median < 10.0 { 2 } else { usize::from(median < 1000.0) };
    format!("{median:.decimals$} {unit} ± {:.0} %", 50.0 * samples.spread())
}

fn ratio(row: &Row) -> String {
    let ratio = row.ratio.map(|ratio| format!("{ratio:.2}"));
    let parts: Vec<String> =
        ratio.into_iter().chain([row.note.clone()]).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "–".to_owned() } else { parts.join(" ") }
}

fn ceiling(row: &Row) -> String {
    let Some(ceiling) = &row.ceiling else { return "–".to_owned() };
    let peer =
        ceiling.peer_percent.map_or_else(String::new, |percent| format!(" (llama.cpp {percent:.0} %)"));
    let digits = usize::from(ceiling.value < 100.0);
    format!("{:.0} % of {} {:.digits$} {}{peer}", ceiling.percent, ceiling.what, ceiling.value, ceiling.unit)
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn a_row_says_what_was_reached_and_what_was_missed() {
        let line = text(&row("Q4_K_M", 1.5, false));
        for part in [
            "150.0 tok/s ± 2 %",
            "100.0 tok/s ± 0 %",
            "1.50",
            "40 % of int8 1190 GOP/s (llama.cpp 20 %)",
            "MISSED",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(text(&row("Q4_K_M", 2.5, true)).ends_with("ok"));
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let empty =
            Row { wootz: None, peer: None, ratio: None, ceiling: None, is_met: None, ..row("x", 1.0, true) };
        assert_eq!(samples(None, "tok/s"), "–");
        assert_eq!((ratio(&empty), ceiling(&empty)), ("–".into(), "–".into()));
        let noted = Row { note: "of 40.0 at depth 0".into(), ratio: Some(0.6), ..empty };
        assert_eq!(ratio(&noted), "0.60 of 40.0 at depth 0");
    }

    #[test]
    fn a_section_is_replaced_and_its_prose_stays() {
        let document = format!("# Speed\n\n## Prefill\n\n{}\nold\n{END}\n\nWhy.\n", start("prefill"));
        let rows = [row("prefill-q4_k_m", 2.3, true), row("prefill-q4_0", 1.0, false)];
        let once = replaced(&document, &rows).unwrap();
        assert!(
            once.starts_with("# Speed\n\n## Prefill\n\n<!--") && once.ends_with(&format!("{END}\n\nWhy.\n"))
        );
        assert!(!once.contains("old"));
        assert!(
            once.contains("| prefill 512, prefill-q4_0 | 100.0 tok/s ± 2 % |")
                && once.contains("| **missed** |")
        );
        assert_eq!(
            once.matches(
                "Measured 2026-01-02 at commit abc: Some CPU, AVX2, 2 threads, 3 passes; llama.cpp 1."
            )
            .count(),
            1
        );
        assert_eq!(replaced(&once, &rows).unwrap(), once, "the same rows change nothing");
        assert!(replaced("# Speed\n", &rows).unwrap_err().root_cause().to_string().contains("hint"));
    }
}
