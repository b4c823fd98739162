//! What developers run: test, tidy, golden, bench.
#![forbid(unsafe_code)]

fn main() -> anyhow::Result<()> {
    anyhow::bail!("no tasks here so far")
}
