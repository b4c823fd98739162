//! llama.cpp's own benchmarks, built natively from the sources that PyPI's `llama-cpp-python` carries.
//!
//! Where:  one of the programs that [`measure`](super::measure) runs in turn.
//! Idea:   nothing of it is kept here: sources and programs lie in the work folder and are used again.
//! Source: llama.cpp's `tools/llama-bench/README.md` and `tools/batched-bench/README.md`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::process;

/// No single process of it takes longer.
const LIMIT: Duration = Duration::from_secs(600);
/// The programs that are built to be compared with ours by `bench peers`, and the one for `bench serve`.
const PROGRAMS: [&str; 2] = ["llama-bench", "llama-batched-bench"];
const SERVER: &str = "llama-server";
/// What the build needs: a program, the argument that it must answer, and where it comes from.
const TOOLS: [(&str, &[&str], &str); 3] = [
    ("python3", &["-m", "pip", "--version"], "Python 3 with pip fetches the sources"),
    ("cmake", &["--version"], "CMake 3.14 or newer configures the build"),
    ("c++", &["--version"], "a C++17 compiler, g++ or clang++, builds it"),
];

/// The built programs.
pub(crate) struct LlamaCpp {
    bin: PathBuf,
    /// As it calls itself, with the package that it came from where that is known.
    pub version: String,
}

impl LlamaCpp {
    /// Ready programs in `bin`.
    ///
    /// # Errors
    /// If one is missing or does not run.
    pub fn at(bin: &Path) -> Result<Self> {
        for program in PROGRAMS {
            ensure!(bin.join(program).is_file(), "{} has no `{program}`", bin.display());
        }
        // It answers on either stream; older ones do not know the flag, which is no reason to refuse them.
        let answer = Command::new(bin.join("llama-bench")).arg("--version").output();
        let answer = answer.with_context(|| format!("starting {}/llama-bench", bin.display()))?;
        let said = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
        Ok(Self { bin: bin.to_owned(), version: version(&said) })
    }

    /// Programs below `dir`, fetched and built where they are missing.
    ///
    /// # Errors
    /// If a tool is missing, or a step fails.
    pub fn find_or_build(dir: &Path) -> Result<Self> {
        let bin = dir.join("llama.cpp/bin");
        if PROGRAMS.iter().chain([&SERVER]).any(|program| !bin.join(program).is_file()) {
            check_tools()?;
            let source = match source(dir)? {
                Some(source) => source,
                None => fetch(dir)?,
            };
            build(&source, &dir.join("llama.cpp"))?;
        }
        let found = Self::at(&bin)?;
        let package = source(dir)?.and_then(|source| package(&source));
        let version =
            package.map_or(found.version.clone(), |package| format!("{} ({package})", found.version));
        Ok(Self { version, ..found })
    }

    /// Its server.
    ///
    /// # Errors
    /// If it is missing.
    pub fn server(&self) -> Result<PathBuf> {
        let server = self.bin.join(SERVER);
        ensure!(server.is_file(), "{} has no `{SERVER}`", self.bin.display());
        Ok(server)
    }

    /// Tokens a second of `llama-bench` with further arguments, one for each test that they ask for.
    pub fn bench(&self, model: &Path, threads: usize, args: &[String]) -> Result<Vec<f64>> {
        let mut command = Command::new(self.bin.join("llama-bench"));
        command.arg("-m").arg(model).args(["-t", &threads.to_string(), "-o", "json"]).args(args);
        bench_rates(&process::output(&mut command, LIMIT)?.0)
    }

    /// Tokens a second of all streams together, while each writes 64 tokens from position 16 on.
    pub fn streams(&self, model: &Path, threads: usize, batch: usize) -> Result<f64> {
        let mut command = Command::new(self.bin.join("llama-batched-bench"));
        command.arg("-m").arg(model);
        // Room for 16 + 64 positions of each stream, rounded up to its own blocks of 256.
        let (threads, n_streams, room) = (threads.to_string(), batch.to_string(), (batch * 256).to_string());
        command.args(["-t", &threads, "-c", &room, "-npp", "16", "-ntg", "64", "-npl", &n_streams]);
        command.args(["--output-format", "jsonl"]);
        streams_rate(&process::output(&mut command, LIMIT)?.0)
    }
}

/// The median of the repetitions of every test in `llama-bench -o json`.
fn bench_rates(output: &str) -> Result<Vec<f64>> {
    let tests: Value = serde_json::from_str(output).context("reading what `llama-bench -o json` wrote")?;
    let tests = tests.as_array().context("`llama-bench -o json`: expected a list of tests")?;
    let rate = |test: &Value| {
        let samples = test["samples_ts"].as_array().context("`llama-bench`: a test has no `samples_ts`")?;
        let samples: Vec<f64> = samples.iter().filter_map(Value::as_f64).filter(|rate| *rate > 0.0).collect();
        ensure!(!samples.is_empty(), "`llama-bench`: a test without a speed");
        Ok(super::samples::Samples::new(samples).median())
    };
    tests.iter().map(rate).collect()
}

/// `speed_tg` of the only line of JSON that `llama-batched-bench` writes among others.
fn streams_rate(output: &str) -> Result<f64> {
    let mut lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let rate = lines.find_map(|line| line["speed_tg"].as_f64()).filter(|rate| *rate > 0.0);
    rate.context("`llama-batched-bench` wrote no `speed_tg`")
}

/// `version: 0.5.0-dev (build 1, …` → `llama.cpp 0.5.0-dev`.
fn version(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("version: "));
    let version = line.and_then(|line| line.split_whitespace().next()).unwrap_or("of unknown version");
    format!("llama.cpp {version}")
}

fn check_tools() -> Result<()> {
    for (program, args, why) in TOOLS {
        let answers = process::output(Command::new(program).args(args), LIMIT).is_ok();
        ensure!(
            answers,
            "`{program} {}` does not run: {why}\nhint: install it, or point --llama-bin at llama.cpp's own programs",
            args.join(" ")
        );
    }
    Ok(())
}

/// llama.cpp inside the unpacked package below `dir`.
fn source(dir: &Path) -> Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path().join("vendor/llama.cpp")))
        .collect::<Result<_>>()?;
    found.retain(|path| path.join("CMakeLists.txt").is_file());
    found.sort();
    Ok(found.pop())
}

/// `…/llama_cpp_python-0.3.36/vendor/llama.cpp` → `llama_cpp_python-0.3.36`.
fn package(source: &Path) -> Option<String> {
    Some(source.ancestors().nth(2)?.file_name()?.to_string_lossy().into_owned())
}

/// Fetches the newest package and unpacks it.
fn fetch(dir: &Path) -> Result<PathBuf> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", "--dest"]).arg(dir);
    process::show(pip.arg("llama-cpp-python"))?;
    let archives = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let name = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("llama_cpp_python-") && name.ends_with(".tar.gz")
    };
    let archive = archives.iter().filter(name).max().context("`pip download` left no sources")?;
    process::show(Command::new("python3").args(["-m", "tarfile", "-e"]).arg(archive).arg(dir))?;
    source(dir)?.with_context(|| format!("{} holds no vendor/llama.cpp", archive.display()))
}

/// Builds the programs for exactly this machine.
fn build(source: &Path, into: &Path) -> Result<()> {
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(source).arg("-B").arg(into).args(["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON"]);
    // Said and not left to the default: a folder that was configured without the server remembers it.
    cmake.args(["-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_SERVER=ON"]);
    let off = ["OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_APP"];
    cmake.args(off.map(|part| format!("-DLLAMA_{part}=OFF")));
    if process::output(Command::new("ninja").arg("--version"), LIMIT).is_ok() {
        cmake.args(["-G", "Ninja"]);
    }
    process::show(&mut cmake)?;
    let n_jobs = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
    let mut cmake = Command::new("cmake");
    cmake.arg("--build").arg(into).args(["--config", "Release", "--parallel", &n_jobs, "--target"]);
    process::show(cmake.args(PROGRAMS).arg(SERVER))?;
    match PROGRAMS.iter().chain([&SERVER]).find(|program| !into.join("bin").join(program).is_file()) {
        Some(program) => bail!("the build left no `{program}` in {}", into.join("bin").display()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_of_llama_bench_is_the_median_of_its_repetitions() {
        let output = r#"[
            {"n_prompt": 512, "n_gen": 0, "avg_ts": 130.1, "samples_ts": [ 124.5, 133.5, 120.0 ]},
            {"n_prompt": 0, "n_gen": 64, "avg_ts": 30.0, "samples_ts": [ 29.0, 31.0 ]}
        ]"#;
        assert_eq!(bench_rates(output).unwrap(), [124.5, 30.0]);
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        let check = |output: &str, needle: &str| {
            let said = format!("{:#}", bench_rates(output).unwrap_err());
            assert!(said.contains(needle), "{output}: {said}");
        };
        check("error: failed to load model", "reading what");
        check("{}", "a list");
        check("[{}]", "samples_ts");
        check(r#"[{"samples_ts": []}]"#, "without a speed");
        check(r#"[{"samples_ts": [0.0]}]"#, "without a speed");
    }

    #[test]
    fn streams_are_the_line_of_json_among_others() {
        let line = r#"{"n_kv_max": 1024, "pp": 16, "tg": 64, "pl": 4, "speed_pp": 72.4, "t_tg": 0.29, "speed_tg": 54.8, "speed": 68.0}"#;
        assert_eq!(streams_rate(&format!("\nwarming up\n{line}\n\n")).unwrap(), 54.8);
        assert!(streams_rate("main: n_kv_max = 512\n").is_err());
    }

    #[test]
    fn it_says_which_one_it_is() {
        assert_eq!(version("version: 0.5.0-dev (build 1, commit x)\nbuilt with"), "llama.cpp 0.5.0-dev");
        assert_eq!(version(""), "llama.cpp of unknown version");
        let source = Path::new("/d/llama_cpp_python-0.3.36/vendor/llama.cpp");
        assert_eq!(package(source).as_deref(), Some("llama_cpp_python-0.3.36"));
    }
}
