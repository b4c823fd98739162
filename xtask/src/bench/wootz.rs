//! Our own program: built in release, asked for random models, and measured by its own `wootz bench`.
//!
//! Where:  one of the programs that [`measure`](super::measure) runs in turn.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::process;
use crate::workspace;

/// No single process of ours takes longer.
const LIMIT: Duration = Duration::from_secs(600);

/// The built program.
pub(crate) struct Wootz {
    program: PathBuf,
}

impl Wootz {
    /// Builds it; nothing happens where it is built already.
    pub fn build() -> Result<Self> {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut cargo = Command::new(program);
        cargo.args(["build", "--release", "--locked", "--package", "wootz"]);
        cargo.args(["--message-format", "json-render-diagnostics"]).current_dir(workspace::root());
        // `cargo xtask` describes this package in the environment, and `ring` is built anew whenever that changes.
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        names.filter(|name| is_of_this_package(name)).for_each(|name| _ = cargo.env_remove(name));
        let output = cargo.stderr(Stdio::inherit()).output().context("starting `cargo build`")?;
        ensure!(output.status.success(), "`cargo build --release --package wootz` failed");
        let messages = String::from_utf8_lossy(&output.stdout);
        let program = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "wootz" && message["target"]["kind"][0] == "bin")
            .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
        Ok(Self { program: program.context("`cargo build` names no program `wootz`")? })
    }

    /// A program that was built before.
    ///
    /// # Errors
    /// If it is missing.
    pub fn at(program: &Path) -> Result<Self> {
        ensure!(program.is_file(), "{} is no program", program.display());
        Ok(Self { program: program.to_owned() })
    }

    /// The GGUF of random weights that is called `name` (`llama-1b-q4_k_m`), made where it is missing.
    pub fn model(&self, name: &str, dir: &Path) -> Result<PathBuf> {
        self.make(name, &dir.join(format!("{name}.gguf")), &[])
    }

    /// The same with a vocabulary, so that it can be served.
    pub fn model_with_words(&self, name: &str, dir: &Path) -> Result<PathBuf> {
        self.make(name, &dir.join(format!("{name}-words.gguf")), &["--words"])
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The processor, as `wootz doctor` says.
    pub fn cpu(&self) -> Result<String> {
        let (output, _wall) = process::output(Command::new(&self.program).args(["doctor", "--json"]), LIMIT)?;
        let report =
            Report(serde_json::from_str(&output).context("reading what `wootz doctor --json` wrote")?);
        Ok(report.text("/cpu/name")?.to_owned())
    }

    fn make(&self, name: &str, path: &Path, further: &[&str]) -> Result<PathBuf> {
        if path.is_file() {
            return Ok(path.to_owned());
        }
        let (shape, quant) = split_name(name)?;
        eprintln!("==> making {}", path.display());
        // Written under another name first: a file that was cut off is no model.
        let part = path.with_extension("gguf.part");
        let _stale = std::fs::remove_file(&part);
        let mut command = Command::new(&self.program);
        command.args([
            "bench",
            "--random",
            shape,
            "--quant",
            quant,
            "--prefill",
            "0",
            "--decode",
            "0",
            "--save",
        ]);
        process::output(command.arg(&part).args(further), LIMIT)?;
        std::fs::rename(&part, path)?;
        Ok(path.to_owned())
    }

    /// One process of `wootz bench MODEL --json` with further arguments.
    pub fn bench(&self, model: &Path, threads: usize, args: &[String]) -> Result<Report> {
        let mut command = Command::new(&self.program);
        command.arg("bench").arg(model).args(["--json", "--threads", &threads.to_string()]).args(args);
        let (output, _wall) = process::output(&mut command, LIMIT)?;
        Ok(Report(serde_json::from_str(&output).context("reading what `wootz bench --json` wrote")?))
    }

    /// How long a process takes that loads the model and writes one token.
    pub fn first_token(&self, model: &Path, threads: usize) -> Result<Duration> {
        let mut command = Command::new(&self.program);
        command.arg("run").arg(model);
        command.args([
            "--ids",
            "5,6,7",
            "-n",
            "1",
            "--ctx",
            "512",
            "--json",
            "--threads",
            &threads.to_string(),
        ]);
        Ok(process::output(&mut command, LIMIT)?.1)
    }
}

fn is_of_this_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| variable.starts_with(prefix))
}

/// `llama-1b-q4_k_m` → `llama-1b`, `q4_k_m`.
fn split_name(name: &str) -> Result<(&str, &str)> {
    name.rsplit_once('-')
        .with_context(|| format!("model `{name}`: expected SHAPE-QUANT, like llama-1b-q4_k_m"))
}

/// What `wootz bench --json` wrote.
pub(crate) struct Report(Value);

/// A speed beside its ceiling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    pub tok_per_s: f64,
    /// Of the ceiling.
    pub percent: f64,
    pub ceiling: Ceiling,
}

/// What the machine could do at most in that minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ceiling {
    pub what: &'static str,
    pub unit: &'static str,
    pub value: f64,
}

impl Report {
    /// The first prompt, beside the arithmetic peak of the model's type.
    pub fn prefill(&self) -> Result<Speed> {
        let is_quantized = !["f32", "f16", "bf16"].contains(&self.text("/model/type")?);
        let is_bf16 = self.text("/model/type")? == "bf16" && !self.0["machine"]["bf16_gflop_per_s"].is_null();
        let (what, unit, key) = match (is_quantized, is_bf16) {
            (true, _) => ("int8", "GOP/s", "/machine/int8_gop_per_s"),
            (_, true) => ("bf16", "GFLOP/s", "/machine/bf16_gflop_per_s"),
            _ => ("f32", "GFLOP/s", "/machine/f32_gflop_per_s"),
        };
        let ceiling = Ceiling { what, unit, value: self.number(key)? };
        self.speed("/prefill/0/tok_per_s", "/prefill/0/gop_per_s", ceiling)
    }

    /// Decode case `index`, beside the read bandwidth.
    pub fn decode(&self, index: usize) -> Result<Speed> {
        let value = self.number("/machine/read_gb_per_s")?;
        let ceiling = Ceiling { what: "reading", unit: "GB/s", value };
        let key = |name: &str| format!("/decode/{index}/{name}");
        self.speed(&key("tok_per_s"), &key("gb_per_s"), ceiling)
    }

    fn speed(&self, tokens: &str, rate: &str, ceiling: Ceiling) -> Result<Speed> {
        let percent = 100.0 * self.number(rate)? / ceiling.value;
        Ok(Speed { tok_per_s: self.number(tokens)?, percent, ceiling })
    }

    /// The number that a JSON pointer leads to.
    pub fn number(&self, pointer: &str) -> Result<f64> {
        let number = self.0.pointer(pointer).and_then(Value::as_f64);
        number.with_context(|| format!("`wootz bench --json` wrote no number at {pointer}"))
    }

    /// The string that a JSON pointer leads to.
    pub fn text(&self, pointer: &str) -> Result<&str> {
        let text = self.0.pointer(pointer).and_then(Value::as_str);
        text.with_context(|| format!("`wootz bench --json` wrote no string at {pointer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ty: &str) -> Report {
        let text = format!(
            r#"{{"machine": {{"read_gb_per_s": 50, "int8_gop_per_s": 1000, "bf16_gflop_per_s": 500, "f32_gflop_per_s": 200}},
                "model": {{"type": "{ty}"}},
                "prefill": [{{"tokens": 512, "tok_per_s": 200, "gop_per_s": 400}}],
                "decode": [{{"tok_per_s": 30, "gb_per_s": 20}}, {{"tok_per_s": 15, "gb_per_s": 25}}]}}"#
        );
        Report(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_speed_stands_beside_the_ceiling_of_its_type() {
        let check = |ty: &str, what: &str, percent: f64| {
            let speed = report(ty).prefill().unwrap();
            assert_eq!((speed.ceiling.what, speed.percent, speed.tok_per_s), (what, percent, 200.0), "{ty}");
        };
        check("q4_k", "int8", 40.0);
        check("bf16", "bf16", 80.0);
        check("f32", "f32", 200.0);
        let decode = report("q4_k").decode(1).unwrap();
        assert_eq!((decode.tok_per_s, decode.percent), (15.0, 50.0));
        assert!(report("q4_k").decode(2).unwrap_err().to_string().contains("/decode/2/"));
    }

    #[test]
    fn a_model_is_named_by_shape_and_mix() {
        assert_eq!(split_name("llama-1b-q4_k_m").unwrap(), ("llama-1b", "q4_k_m"));
        assert!(split_name("llama").is_err());
    }
}
