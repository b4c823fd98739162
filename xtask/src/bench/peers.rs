//! The run: build, make models, measure case by case, record, print.
//!
//! Where:  `cargo xtask bench peers`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::cases::CASES;
use super::llama_cpp::LlamaCpp;
use super::measure::Bench;
use super::options::{HELP, Options};
use super::wootz::Wootz;
use super::{row, table};
use crate::workspace;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    if options.help {
        println!("{HELP}");
        return Ok(());
    }
    if options.list {
        CASES.iter().for_each(|case| println!("{:<18} {:<14} {}", case.name, case.theme.name, case.title));
        return Ok(());
    }
    let dir = options.dir.clone().unwrap_or_else(default_dir);
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let record = dir.join("peers.json");
    let outcome = if options.report { Ok(()) } else { measure(&options, &dir, &record) };
    if let Some(path) = &options.markdown {
        let document =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        std::fs::write(path, table::replaced(&document, &row::read(&record)?)?)?;
    }
    outcome
}

/// Measures the chosen cases. One that cannot be measured does not hold up the others, but fails the run.
fn measure(options: &Options, dir: &Path, record: &Path) -> Result<()> {
    let cases = options.cases();
    let bench = prepare(options, dir)?;
    if options.prepare {
        for case in cases.iter().filter(|case| !case.model.is_empty()) {
            bench.wootz.model(case.model, dir)?;
        }
        return Ok(());
    }
    let mut n_failed = 0;
    for case in cases {
        eprintln!("==> {}", case.title);
        match bench.measure(case) {
            Ok(rows) => {
                rows.iter().for_each(|row| println!("{}", table::text(row)));
                row::record(record, &rows)?;
            }
            Err(error) => {
                n_failed += 1;
                eprintln!("{}: not measured: {error:#}", case.name);
            }
        }
    }
    match n_failed {
        0 => Ok(()),
        n => bail!("{n} cases could not be measured"),
    }
}

fn prepare(options: &Options, dir: &Path) -> Result<Bench> {
    let wootz = Wootz::build()?;
    let llama_cpp = match &options.llama_bin {
        Some(bin) => LlamaCpp::at(bin)?,
        None => LlamaCpp::find_or_build(dir)?,
    };
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    Ok(Bench {
        wootz,
        llama_cpp,
        dir: dir.to_owned(),
        threads: options.threads.unwrap_or(all),
        n_passes: options.passes.unwrap_or(if options.quick { 1 } else { 3 }),
        repeat: if options.quick { 1 } else { 2 },
        encoding: options.encoding(),
        commit: commit(),
        date: date(SystemTime::now()),
    })
}

/// Where cargo puts what it builds, too.
pub(crate) fn default_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| workspace::root().join("target")).join("bench")
}

/// The commit that is measured, with a `+` where files were changed after it.
pub(crate) fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(workspace::root()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let is_changed =
        git(&["status", "--porcelain", "--", "*.rs", "*.toml"]).is_some_and(|changed| !changed.is_empty());
    if is_changed { format!("{commit}+") } else { commit }
}

/// A day in UTC, as 2026-01-31. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
pub(crate) fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let check =
            |seconds: u64, day: &str| assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), day);
        check(0, "1970-01-01");
        check(951_782_400, "2000-02-29");
        check(1_709_164_799, "2024-02-28");
        check(1_735_689_600, "2025-01-01");
        check(4_107_542_400, "2100-03-01");
    }
}
