//! The command line: one verb of a model's life per file.
#![forbid(unsafe_code)]

fn main() -> anyhow::Result<()> {
    anyhow::bail!("no commands here so far")
}
