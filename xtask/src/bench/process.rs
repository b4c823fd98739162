//! Programs that are run for their output, and ended when they take too long.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `command` and returns what it wrote to its standard output, and how long it ran.
///
/// # Errors
/// If it cannot be started, fails, or has not ended after `limit`; it is then ended.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<(String, Duration)> {
    let name = command.get_program().to_string_lossy().into_owned();
    // Files, not pipes: nobody has to read while the program runs, and nothing wakes up while it is measured.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting `{name}`"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{name}` had not ended after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let wall = start.elapsed();
    if !status.success() {
        let said = text(&mut stderr)?;
        let lines: Vec<&str> = said.lines().collect();
        bail!("`{name}` failed ({status}):\n{}", lines[lines.len().saturating_sub(12)..].join("\n"));
    }
    Ok((text(&mut stdout)?, wall))
}

/// Runs `command` with its output shown, for steps that take minutes.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    eprintln!("==> {}", line(command));
    let status = command.status().with_context(|| format!("starting `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn text(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_heard_and_ended_in_time() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            output(&mut command, Duration::from_millis(300))
        };
        assert_eq!(shell("echo heard").unwrap().0, "heard\n");
        assert!(shell("echo why >&2; exit 3").unwrap_err().to_string().contains("why"));
        assert!(shell("exec sleep 20").unwrap_err().to_string().contains("not ended"));
        assert!(output(&mut Command::new("no-such-program"), Duration::ZERO).is_err());
    }
}
