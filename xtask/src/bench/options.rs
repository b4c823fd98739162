//! The command line of `cargo xtask bench peers`.
//!
//! Where:  parsed by [`peers`](super::peers).

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::cases::{CASES, Case};
use super::encoding::Encoding;

pub(crate) const HELP: &str = "\
usage: cargo xtask bench peers [OPTIONS]

Runs Wootz and llama.cpp's own benchmarks in turn on random models and prints medians, ratios and ceilings.
Rows are recorded in DIR/peers.json as they come, so a run may be cut into pieces with --only.
A row that misses its target is marked; the exit code is 1 only where something could not be measured.

  --only A,B          cases or sections: prefill, decode, streams, depth, busy, loading, instructions, encoding
  --models A,B        cases of these models alone: llama-1b-q4_k_m, smol-135m-q8_0, …
  --quick             one pass of each, nothing twice
  --passes N          passes of each program in turn (3)
  --threads N         threads of both (all)
  --dir DIR           models, llama.cpp and results (target/bench)
  --llama-bin DIR     ready llama-bench and llama-batched-bench; else they are fetched and built
  --prepare           build and make everything, measure nothing
  --markdown FILE     replace the tables in FILE by all rows that are recorded
  --report            with --markdown: measure nothing
  --list              names of all cases
  --text FILE         what is encoded in the section encoding
  --tokenizers A,B    tokenizer.json files for it
  --python PROGRAM    a Python with `tokenizers` and `tiktoken` for it (python3)";

/// What was asked for.
#[derive(Default)]
pub(crate) struct Options {
    pub only: Vec<String>,
    pub models: Vec<String>,
    pub quick: bool,
    pub passes: Option<usize>,
    pub threads: Option<usize>,
    pub dir: Option<PathBuf>,
    pub llama_bin: Option<PathBuf>,
    pub prepare: bool,
    pub markdown: Option<PathBuf>,
    pub report: bool,
    pub list: bool,
    pub help: bool,
    pub text: Option<PathBuf>,
    pub tokenizers: Vec<String>,
    pub python: Option<String>,
}

impl Options {
    /// # Errors
    /// An option that is not known, or a value that is missing or no number.
    pub fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().with_context(|| format!("`{arg}`: expected a value"));
            match arg.as_str() {
                "--only" => options.only = list(&value()?),
                "--models" => options.models = list(&value()?),
                "--quick" => options.quick = true,
                "--passes" => options.passes = Some(count(arg, &value()?)?),
                "--threads" => options.threads = Some(count(arg, &value()?)?),
                "--dir" => options.dir = Some(value()?.into()),
                "--llama-bin" => options.llama_bin = Some(value()?.into()),
                "--prepare" => options.prepare = true,
                "--markdown" => options.markdown = Some(value()?.into()),
                "--report" => options.report = true,
                "--list" => options.list = true,
                "-h" | "--help" => options.help = true,
                "--text" => options.text = Some(value()?.into()),
                "--tokenizers" => options.tokenizers = list(&value()?),
                "--python" => options.python = Some(value()?),
                other => bail!("unexpected argument `{other}`\nhint: `cargo xtask bench peers --help`"),
            }
        }
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<()> {
        let is_known = |name: &String| CASES.iter().any(|case| case.name == name || case.theme.name == name);
        if let Some(name) = self.only.iter().find(|name| !is_known(name)) {
            bail!("--only {name}: no such case or section\nhint: --list names all");
        }
        if let Some(name) = self.models.iter().find(|name| CASES.iter().all(|case| case.model != *name)) {
            bail!("--models {name}: no case uses it");
        }
        ensure!(!self.report || self.markdown.is_some(), "--report needs --markdown FILE");
        Ok(())
    }

    /// The cases that were asked for.
    ///
    /// Text is encoded only where a text is given.
    pub fn cases(&self) -> Vec<&'static Case> {
        let is_asked =
            |case: &Case| self.only.iter().any(|name| name == case.name || name == case.theme.name);
        let is_wanted = |case: &&Case| {
            (if self.only.is_empty() {
                case.name != "encoding" || self.text.is_some()
            } else {
                is_asked(case)
            }) && (self.models.is_empty() || self.models.iter().any(|model| model == case.model))
        };
        CASES.iter().filter(is_wanted).collect()
    }

    /// What the section of encoding needs, if it was given.
    pub fn encoding(&self) -> Option<Encoding> {
        let python = self.python.clone().unwrap_or_else(|| "python3".into());
        Some(Encoding { python, text: self.text.clone()?, tokenizers: self.tokenizers.clone() })
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

fn count(name: &str, text: &str) -> Result<usize> {
    let n = text.parse().ok().filter(|n| (1..=1024).contains(n));
    n.with_context(|| format!("`{name}`: expected a number from 1 to 1024, got `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn cases_are_chosen_by_name_section_and_model() {
        let names =
            |line: &str| -> Vec<&str> { parse(line).unwrap().cases().iter().map(|case| case.name).collect() };
        assert_eq!(names("--only busy,decode-135m"), ["decode-135m", "busy-core"]);
        assert_eq!(names("--models smol-135m-q8_0"), ["decode-135m"]);
        assert_eq!(names("").len(), CASES.len() - 1, "no text, no encoding");
        assert_eq!(names("--text x").len(), CASES.len());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |line: &str, needle: &str| {
            let said = parse(line).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(needle), "{line}: {said}");
        };
        check("--fast", "`--fast`");
        check("--passes", "expected a value");
        check("--passes 0", "got `0`");
        check("--only x", "no such case");
        check("--models x", "no case uses it");
        check("--report", "--markdown");
    }
}
