//! Encoding text, as `golden/text/encoding_speed.py` measures it: Wootz, `tokenizers` and `tiktoken` in turn.
//!
//! Where:  the last case of [`cases`](super::cases).
//! Idea:   both others are Python packages, so a script runs them; here its JSON becomes rows.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::cases::{Case, Target};
use super::process;
use super::row::Row;
use super::samples::Samples;
use crate::workspace;

const SCRIPT: &str = "golden/text/encoding_speed.py";
const LIMIT: Duration = Duration::from_secs(600);

/// What the script needs.
pub(crate) struct Encoding {
    /// A Python with `tokenizers` and `tiktoken`.
    pub python: String,
    pub text: PathBuf,
    pub tokenizers: Vec<String>,
}

/// Runs the script; a row for each tokenizer and each of the two others.
pub(crate) fn rows(encoding: &Encoding, case: &Case, empty: &Row) -> Result<Vec<Row>> {
    let script = workspace::root().join(SCRIPT);
    ensure!(script.is_file(), "{SCRIPT} is missing");
    let mut command = Command::new(&encoding.python);
    command.arg(script).arg(&encoding.text).args(&encoding.tokenizers).arg("--json");
    let (output, _wall) = process::output(&mut command, LIMIT)?;
    let entries: Vec<Value> =
        serde_json::from_str(&output).with_context(|| format!("reading what {SCRIPT} wrote"))?;
    let mut rows = Vec::new();
    for entry in &entries {
        for peer in ["tokenizers", "tiktoken"] {
            rows.push(row(entry, peer, case, empty)?);
        }
    }
    Ok(rows)
}

fn row(entry: &Value, peer: &str, case: &Case, empty: &Row) -> Result<Row> {
    let rates = |name: &str| -> Result<Samples> {
        let rate = &entry[name];
        let numbers = ["least", "mb_per_s", "most"].map(|key| rate[key].as_f64());
        let numbers: Option<Vec<f64>> = numbers.into_iter().collect();
        Ok(Samples::new(numbers.with_context(|| format!("{SCRIPT}: no speed of `{name}`"))?))
    };
    let (wootz, theirs) = (rates("wootz")?, rates(peer)?);
    let path = PathBuf::from(entry["tokenizer"].as_str().unwrap_or("unnamed"));
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let least = match (case.target, peer) {
        (Target::Encoding { tokenizers, .. }, "tokenizers") => tokenizers,
        (Target::Encoding { tiktoken, .. }, _) => tiktoken,
        _ => 1.0,
    };
    let ratio = wootz.median() / theirs.median();
    let mut row = empty.clone();
    row.conditions.threads = 1;
    row.conditions.peers = "the others' versions as the script's Python has them".into();
    Ok(Row {
        case: format!("{} {name} {peer}", case.name),
        title: format!("{}, `{name}`, against `{peer}`", case.title),
        unit: "MB/s".into(),
        wootz: Some(wootz),
        peer: Some(theirs),
        ratio: Some(ratio),
        target: format!("{least}"),
        is_met: Some(ratio >= least),
        ..row
    })
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::row;
    use super::*;

    #[test]
    fn what_the_script_writes_becomes_rows() {
        let rate = |mb: f64| serde_json::json!({"mb_per_s": mb, "least": mb - 1.0, "most": mb + 1.0});
        let entry = serde_json::json!({
            "tokenizer": "some/where/gpt2.json", "wootz": rate(30.0), "tokenizers": rate(3.0), "tiktoken": rate(40.0)
        });
        let case = CASES.last().unwrap();
        let empty = row::tests::row("encoding", 1.0, true);
        let made = row(&entry, "tokenizers", case, &empty).unwrap();
        assert_eq!((made.ratio, made.is_met, made.unit.as_str()), (Some(10.0), Some(true), "MB/s"));
        let made = row(&entry, "tiktoken", case, &empty).unwrap();
        assert_eq!((made.ratio, made.is_met), (Some(0.75), Some(false)));
        assert!(made.title.contains("`gpt2`, against `tiktoken`"));
        assert!(row(&serde_json::json!({}), "tiktoken", case, &empty).is_err());
    }
}
