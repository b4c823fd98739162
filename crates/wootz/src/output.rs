//! Onto stdout, and numbers as people read them.
//!
//! Where:  the end of every command.

use std::io::{self, Write};

use anyhow::Result;

/// Writes text and a line break.
///
/// # Errors
/// When stdout cannot be written; [`is_broken_pipe`] tells whether that matters.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

/// Writes rows in columns, the first row being the head. The last column is not padded.
///
/// # Errors
/// As [`print`].
pub fn print_table<const N: usize>(rows: &[[String; N]]) -> Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        print(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Whether an error says that nobody reads stdout any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// `1.2 GB`: three digits at most, powers of 1000.
pub fn bytes(n_bytes: u64) -> String {
    let (mut value, mut unit) = (n_bytes as f64, "B");
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    let decimals = usize::from(unit != "B" && value < 99.95);
    format!("{value:.decimals$} {unit}")
}

/// `32 KiB`: for caches and memory, which come in powers of 1024.
pub fn binary_bytes(n_bytes: u64) -> String {
    let (mut value, mut unit) = (n_bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.5 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    let decimals = usize::from(value.fract() > 0.05 && value < 99.95);
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (n_bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (4_700_000_000, "4.7 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(n_bytes), expected);
        }
        for (n_bytes, expected) in
            [(512, "512 B"), (32 << 10, "32 KiB"), (3 << 19, "1.5 MiB"), (24 << 30, "24 GiB")]
        {
            assert_eq!(binary_bytes(n_bytes), expected);
        }
    }
}
