//! A measured row, as it is shown and as it is recorded in `peers.json`.
//!
//! Where:  made by [`measure`](super::measure), shown by [`table`](super::table), kept between runs by
//!         [`peers`](super::peers).

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cases::{CASES, Theme};
use super::samples::Samples;

/// One line of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Name of the case; several rows of one case follow it with their own.
    pub case: String,
    pub theme: String,
    pub title: String,
    /// `tok/s`, `s`, `MiB`, `MB/s`.
    pub unit: String,
    pub wootz: Option<Samples>,
    pub peer: Option<Samples>,
    pub ratio: Option<f64>,
    /// What the ratio is of, where it is not to the peer.
    pub note: String,
    /// What it must show, in words.
    pub target: String,
    /// Whether it does; nothing where nothing is asked.
    pub is_met: Option<bool>,
    pub ceiling: Option<RowCeiling>,
    pub conditions: Conditions,
}

impl Row {
    /// A row of tokens a second, without numbers.
    pub fn empty(case: &str, theme: &str, title: &str, conditions: Conditions) -> Self {
        Self {
            case: case.into(),
            theme: theme.into(),
            title: title.into(),
            unit: "tok/s".into(),
            wootz: None,
            peer: None,
            ratio: None,
            note: String::new(),
            target: String::new(),
            is_met: None,
            ceiling: None,
            conditions,
        }
    }
}

/// What the machine could do at most while the row was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowCeiling {
    pub what: String,
    pub unit: String,
    pub value: f64,
    pub percent: f64,
    pub peer_percent: Option<f64>,
}

/// Where, when and of what a row was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    pub cpu: String,
    pub instructions: String,
    pub threads: usize,
    pub commit: String,
    /// UTC.
    pub date: String,
    pub passes: usize,
    /// Versions of the programs beside ours.
    pub peers: String,
}

/// Rows that are recorded in `path`; none where there is no such file.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let hint = || format!("{}: not what this version writes\nhint: delete it", path.display());
    serde_json::from_slice(&bytes).with_context(hint)
}

/// Replaces the rows of `theme` and `case` by new ones and writes all, in the order of the cases.
pub(crate) fn record(path: &Path, new: &[Row]) -> Result<()> {
    let mut rows = merged(read(path)?, new);
    rows.sort_by_key(|row| CASES.iter().position(|case| row.case.starts_with(case.name)));
    std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
        .with_context(|| format!("writing {}", path.display()))
}

/// Replaces a row and writes all, in the order that `place` gives them.
pub(crate) fn keep(path: &Path, new: Row, place: impl Fn(&Row) -> Option<usize>) -> Result<()> {
    let mut rows = merged(read(path)?, &[new]);
    rows.sort_by_key(place);
    std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
        .with_context(|| format!("writing {}", path.display()))
}

fn merged(mut old: Vec<Row>, new: &[Row]) -> Vec<Row> {
    old.retain(|row| new.iter().all(|other| other.case != row.case));
    old.extend_from_slice(new);
    old
}

/// The rows of one section.
pub(crate) fn of_theme(rows: &[Row], theme: Theme) -> Vec<&Row> {
    rows.iter().filter(|row| row.theme == theme.name).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with numbers in it.
    pub(crate) fn row(case: &str, ratio: f64, is_met: bool) -> Row {
        Row {
            case: case.into(),
            theme: "prefill".into(),
            title: format!("prefill 512, {case}"),
            unit: "tok/s".into(),
            wootz: Some(Samples::new(vec![100.0 * ratio, 102.0 * ratio, 98.0 * ratio])),
            peer: Some(Samples::new(vec![100.0])),
            ratio: Some(ratio),
            note: String::new(),
            target: "2.2; aim 45 %".into(),
            is_met: Some(is_met),
            ceiling: Some(RowCeiling {
                what: "int8".into(),
                unit: "GOP/s".into(),
                value: 1190.0,
                percent: 40.0,
                peer_percent: Some(20.0),
            }),
            conditions: Conditions {
                cpu: "Some CPU".into(),
                instructions: "AVX2".into(),
                threads: 2,
                commit: "abc".into(),
                date: "2026-01-02".into(),
                passes: 3,
                peers: "llama.cpp 1".into(),
            },
        }
    }

    #[test]
    fn a_new_row_takes_the_place_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        record(&path, &[row("prefill-q4_0", 2.0, true), row("prefill-q4_k_m", 1.0, false)]).unwrap();
        record(&path, &[row("prefill-q4_k_m", 3.0, true)]).unwrap();
        let rows = read(&path).unwrap();
        assert_eq!(rows, [row("prefill-q4_k_m", 3.0, true), row("prefill-q4_0", 2.0, true)]);
        std::fs::write(&path, "{}").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("delete it"));
    }
}
