//! `wootz bench`: how fast a model runs here, beside what the machine could do.
//!
//! Where:  a verb; `cargo xtask bench peers` reads its JSON.
//! Idea:   ceilings are measured in the same minute as the speeds, because machines are shared and clocks change. Every
//!         speed is the median of several passes.
//! Elsewhere: random models ([`random_model`](crate::random_model)), the ceilings ([`Peaks`]).

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use wootz_engine::{Outputs, Runner, RunnerOptions, Track, Work};
use wootz_graph::Device;
use wootz_kernels::{Isa, Level, Peaks, TensorType};
use wootz_model::Model;

use super::print_json;
use crate::machine::{self, Cpu};
use crate::model_choice::ModelChoice;
use crate::output::{bytes, print};
use crate::random_model::{self, MIXES, SHAPES};
use crate::session::RunningArgs;

/// Measure how fast a model runs here
///
/// Speeds stand beside the ceilings of this machine: decoding reads every weight once a token, prefill is bound by
/// arithmetic. Nothing is sampled; tokens are random.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz bench models/llama
  wootz bench models/llama --prefill 512,2048 --batch 1,4,8,16 --depth 0,4096
  wootz bench --random llama-1b --quant q4_k_m --json
  wootz bench --random llama-1b --quant q8_0 --save llama-1b-q8_0.gguf --prefill 0 --decode 0")]
pub(crate) struct BenchArgs {
    /// Model: a path, a name in the home, hf:org/name; the one inside this program without it
    #[arg(conflicts_with = "random")]
    model: Option<String>,
    /// Random weights of a well-known shape
    #[arg(long, value_name = "SHAPE", value_parser = SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>())]
    random: Option<String>,
    /// Types of the random weights
    #[arg(long, value_name = "MIX", requires = "random", default_value = "q4_k_m", value_parser = MIXES.iter().map(|mix| mix.name).collect::<Vec<_>>())]
    quant: String,
    /// Give the random model words, so that it can be served
    #[arg(long, requires = "random")]
    words: bool,
    /// Keep the random model as a GGUF
    #[arg(long, value_name = "FILE", requires = "random")]
    save: Option<PathBuf>,
    /// Tokens of prompts to take in; 0 for none
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "512")]
    prefill: Vec<usize>,
    /// Tokens to write in each pass; 0 for none
    #[arg(long, value_name = "N", default_value_t = 128)]
    decode: usize,
    /// Streams that write at the same time
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    batch: Vec<usize>,
    /// Positions that each stream holds before it writes; behind the first 512, which are computed, they are copies of those
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Passes, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Instructions to use; the best of this machine without it
    #[arg(long, value_name = "SET", value_parser = LEVELS.map(|(name, _)| name))]
    isa: Option<String>,
    /// Say how long each kind of operator took, to the error output
    #[arg(long)]
    ops: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunningArgs,
}

/// Instruction sets that can be asked for.
const LEVELS: [(&str, Level); 4] =
    [("avx512", Level::Avx512), ("avx2", Level::Avx2), ("neon", Level::Neon), ("scalar", Level::Scalar)];

impl BenchArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.check()?;
        let (model, load_start) = self.open()?;
        ensure!(model.network.config.is_decoder(), "an encoder neither prefills nor decodes");
        let device = self.running.device_with(self.isa()?);
        let mut subject = Subject::load(&model, &self, &device as &dyn Device)?;
        let load_ms = load_start.elapsed().as_secs_f64() * 1e3;
        let rss_mib = machine::resident_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20));
        let peaks = Peaks::measure(device.isa(), device.pool());
        let n_passes = self.repeat as usize;
        let progress = Progress::new(&self);
        if self.ops {
            subject.runner.take_times();
        }
        let mut prefill = Vec::new();
        for &n_tokens in self.prefill.iter().filter(|&&n| n > 0) {
            progress.say(&format!("prefill of {n_tokens} tokens"));
            prefill.push(subject.prefill(n_tokens, self.running.chunk(), n_passes)?);
            progress.show_ops(&mut subject, self.ops);
        }
        let mut decode = Vec::new();
        for &depth in self.depth.iter().filter(|_| self.decode > 0) {
            for &batch in &self.batch {
                progress.say(&format!("decode of {batch} streams at depth {depth}"));
                decode.push(subject.decode(
                    batch,
                    depth,
                    self.decode,
                    self.running.chunk(),
                    n_passes,
                    &progress,
                )?);
                progress.show_ops(&mut subject, self.ops);
            }
        }
        progress.end();
        let report = json!({
            "machine": {
                "cpu": Cpu::detect().name,
                "threads": device.pool().threads(),
                "instructions": machine::instructions(device.isa()),
                "read_gb_per_s": peaks.read_gb_per_s,
                "int8_gop_per_s": peaks.int8_gop_per_s,
                "bf16_gflop_per_s": peaks.bf16_gflop_per_s,
                "f32_gflop_per_s": peaks.f32_gflop_per_s,
            },
            "model": {
                "name": self.name(),
                "parameters": model.network.params.specs().iter().map(|spec| spec.n_elements()).sum::<usize>(),
                "type": model.dominant_type().name(),
                "file_bytes": subject.weight_bytes,
                "state_bytes": subject.runner.state_bytes(),
            },
            "prefill": prefill,
            "decode": decode,
            "load_ms": load_ms,
            "rss_mib": rss_mib,
        });
        if self.json { print_json(&report) } else { print(&text(&report, model.dominant_type())) }
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.batch.iter().all(|&n| (1..=4096).contains(&n)), "--batch: expected 1 to 4096 streams");
        let largest = 1 << 20;
        let sizes = self.prefill.iter().chain(&self.depth).chain([&self.decode]);
        ensure!(sizes.max() <= Some(&largest), "--prefill, --decode, --depth: at most {largest} tokens");
        Ok(())
    }

    /// The best instructions of the level that was asked for.
    fn isa(&self) -> anyhow::Result<Isa> {
        let Some(name) = &self.isa else { return Ok(Isa::detect()) };
        let level = LEVELS.iter().find(|(known, _)| known == name).map(|&(_, level)| level);
        let isa = Isa::all_here().filter(|isa| Some(isa.level()) == level).last();
        isa.with_context(|| {
            let best = machine::instructions(Isa::detect());
            format!("--isa {name}: this machine does not have it\nhint: its best is {best}")
        })
    }

    fn name(&self) -> String {
        match &self.random {
            Some(shape) => format!("{shape} {} with random weights", self.quant),
            None => ModelChoice::find(self.model.as_deref()).map_or_else(|_| String::new(), |c| c.name()),
        }
    }

    /// The model, and when its loading began: files of random weights are made before that.
    fn open(&self) -> anyhow::Result<(Model, Instant)> {
        let Some(random) = &self.random else {
            let start = Instant::now();
            return Ok((ModelChoice::find(self.model.as_deref())?.open()?, start));
        };
        let shape = SHAPES.iter().find(|shape| shape.name == random).context("no such shape")?;
        let mix = MIXES.iter().find(|mix| mix.name == self.quant).context("no such mix")?;
        if let Some(path) = &self.save {
            ensure!(!path.exists(), "{} exists already", path.display());
            random_model::write(shape, mix, self.words, path)?;
            return opened(path);
        }
        let name = format!("wootz-bench-{}.gguf", std::process::id());
        let path = std::env::temp_dir().join(name);
        random_model::write(shape, mix, self.words, &path)?;
        let opened = opened(&path);
        // Where the system allows it the name goes at once; the mapping stays.
        let removed = std::fs::remove_file(&path);
        removed.with_context(|| format!("removing {}", path.display()))?;
        opened
    }
}

fn opened(path: &Path) -> anyhow::Result<(Model, Instant)> {
    let start = Instant::now();
    Ok((Model::open(path)?, start))
}

/// Positions of a past that are computed; copies of them stand behind.
const COMPUTED_DEPTH: usize = 512;

/// A loaded model with room for the largest case.
struct Subject {
    runner: Runner,
    weight_bytes: usize,
    /// Bytes of the states of one position.
    position_bytes: usize,
    vocab_size: u32,
    next_token: u32,
}

impl Subject {
    fn load(model: &Model, args: &BenchArgs, device: &dyn Device) -> anyhow::Result<Self> {
        let weights = model.load(device).context("loading weights")?;
        let streams = args.batch.iter().max().copied().unwrap_or(1);
        let longest = args.depth.iter().max().copied().unwrap_or(0) + args.decode + 1;
        // One more stream than is measured: passes go on from a copy of what was taken in.
        let block = wootz_engine::BLOCK_LEN;
        let decode = 2 * streams * longest.next_multiple_of(block) + streams * block;
        let prefill = args.prefill.iter().max().copied().unwrap_or(0);
        let n_positions = decode.max(prefill.next_multiple_of(block));
        let options =
            RunnerOptions { n_positions, n_slots: 2 * streams, kv_type: args.running.kv_type(model) };
        let runner = Runner::new(model.network.clone(), device, &weights, options)?;
        let weight_bytes = model.weights().iter().map(|tensor| tensor.bytes.len()).sum();
        let vocab_size = u32::try_from(model.network.config.vocab_size)?;
        let position_bytes = runner.state_bytes() / n_positions.max(1);
        Ok(Self { runner, weight_bytes, position_bytes, vocab_size, next_token: 1 })
    }

    /// Tokens without a pattern.
    fn tokens(&mut self, n: usize) -> Vec<u32> {
        let mut next = || {
            self.next_token = self.next_token.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.next_token >> 8) % self.vocab_size
        };
        (0..n).map(|_| next()).collect()
    }

    /// Takes in a prompt, as generation does: in chunks, with logits of the last token.
    fn take_in(&mut self, track: &mut Track, tokens: &[u32], chunk: usize) -> anyhow::Result<f64> {
        let mut flops = 0.0;
        let mut left = tokens;
        while !left.is_empty() {
            let (now, later) = left.split_at(chunk.min(left.len()));
            let outputs = if later.is_empty() { Outputs::Last } else { Outputs::None };
            let mut work = [Work { track, token_ids: now, outputs }];
            flops += self.runner.flops(&work)?;
            self.runner.forward(&mut work, None)?;
            left = later;
        }
        Ok(flops)
    }

    fn prefill(&mut self, n_tokens: usize, chunk: usize, n_passes: usize) -> anyhow::Result<Value> {
        let tokens = self.tokens(n_tokens);
        let mut seconds = Vec::new();
        let mut flops = 0.0;
        // The first pass makes plans and grows buffers.
        for pass in 0..=n_passes {
            let mut track = self.runner.start(n_tokens)?;
            let start = Instant::now();
            flops = self.take_in(&mut track, &tokens, chunk)?;
            if pass > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
            self.runner.finish(track);
        }
        let (median, spread) = median(&mut seconds);
        Ok(json!({
            "tokens": n_tokens,
            "tok_per_s": n_tokens as f64 / median,
            "gop_per_s": flops / median / 1e9,
            "spread": spread,
        }))
    }

    fn decode(
        &mut self,
        batch: usize,
        depth: usize,
        n_tokens: usize,
        chunk: usize,
        n_passes: usize,
        progress: &Progress,
    ) -> anyhow::Result<Value> {
        let mut pasts = Vec::new();
        for _ in 0..batch {
            let mut track = self.runner.start(depth + n_tokens)?;
            let tokens = self.tokens(depth.min(COMPUTED_DEPTH));
            self.take_in(&mut track, &tokens, chunk)?;
            if depth > COMPUTED_DEPTH {
                // How long attention takes does not depend on what it reads.
                self.runner.repeat(&mut track, depth)?;
            }
            pasts.push(track);
        }
        let mut seconds = Vec::new();
        for pass in 0..=n_passes {
            let mut tracks: Vec<Track> =
                pasts.iter().map(|past| self.runner.fork(past)).collect::<Result<_, _>>()?;
            let n_tokens = if pass == 0 { n_tokens.min(4) } else { n_tokens };
            let start = Instant::now();
            for _ in 0..n_tokens {
                let tokens = self.tokens(batch);
                let mut work: Vec<Work> = tracks
                    .iter_mut()
                    .zip(tokens.chunks(1))
                    .map(|(track, token_ids)| Work { track, token_ids, outputs: Outputs::Last })
                    .collect();
                self.runner.forward(&mut work, None)?;
            }
            if pass > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
            progress.tick();
            tracks.into_iter().for_each(|track| self.runner.finish(track));
        }
        pasts.into_iter().for_each(|track| self.runner.finish(track));
        let (median, spread) = median(&mut seconds);
        let positions = depth as f64 + n_tokens as f64 / 2.0;
        let step_bytes = self.weight_bytes as f64 + batch as f64 * positions * self.position_bytes as f64;
        Ok(json!({
            "batch": batch,
            "depth": depth,
            "depth_computed": depth.min(COMPUTED_DEPTH),
            "tok_per_s": (batch * n_tokens) as f64 / median,
            "gb_per_s": step_bytes * n_tokens as f64 / median / 1e9,
            "spread": spread,
        }))
    }
}

/// The median, and how far the slowest is from the fastest in parts of it.
fn median(seconds: &mut [f64]) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let median = f64::midpoint(seconds[(seconds.len() - 1) / 2], seconds[seconds.len() / 2]);
    (median, (seconds[seconds.len() - 1] - seconds[0]) / median)
}

/// What is being measured, on a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn new(args: &BenchArgs) -> Self {
        let decodes = if args.decode > 0 {
            args.depth.len() * args.batch.len() * (args.repeat as usize + 1)
        } else {
            0
        };
        let bar = ProgressBar::new((args.prefill.len() + decodes) as u64);
        let template = "{elapsed_precise} [{bar:30}] {msg}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.tick();
    }

    /// Which operators took how long since the last time, largest first.
    fn show_ops(&self, subject: &mut Subject, wanted: bool) {
        if !wanted {
            return;
        }
        let mut times = subject.runner.take_times();
        times.sort_by_key(|step| std::cmp::Reverse(step.time));
        let total: f64 = times.iter().map(|step| step.time.as_secs_f64()).sum();
        let lines = times.iter().map(|step| {
            let seconds = step.time.as_secs_f64();
            format!(
                "{:5.1} %  {:>9.1} µs each, {:>6} times  {} × {} {}",
                100.0 * seconds / total,
                1e6 * seconds / step.n_calls as f64,
                step.n_calls,
                step.n_parts,
                step.name,
                step.shape
            )
        });
        let table: Vec<String> = lines.collect();
        let what = self.0.message();
        self.0.suspend(|| eprintln!("{what}\n{}", table.join("\n")));
    }

    fn tick(&self) {
        self.0.inc(1);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// The report for people.
fn text(report: &Value, ty: TensorType) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let (machine, model) = (&report["machine"], &report["model"]);
    let bandwidth = number(&machine["read_gb_per_s"]);
    let (peak_name, peak) = match ty {
        TensorType::BF16 if !machine["bf16_gflop_per_s"].is_null() => {
            ("bf16", number(&machine["bf16_gflop_per_s"]))
        }
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => ("f32", number(&machine["f32_gflop_per_s"])),
        _ => ("int8", number(&machine["int8_gop_per_s"])),
    };
    let mut lines = vec![
        format!(
            "machine   {}, {} threads, {}",
            machine["cpu"].as_str().unwrap_or("unknown"),
            machine["threads"],
            machine["instructions"].as_str().unwrap_or_default()
        ),
        format!(
            "ceilings  reads {bandwidth:.1} GB/s; int8 {:.0} GOP/s, bf16 {}, f32 {:.0} GFLOP/s",
            number(&machine["int8_gop_per_s"]),
            machine["bf16_gflop_per_s"].as_f64().map_or("none".into(), |peak| format!("{peak:.0}")),
            number(&machine["f32_gflop_per_s"])
        ),
        format!(
            "model     {}: {:.0} M parameters, {}; loaded in {:.2} s, {:.0} MiB resident",
            model["name"].as_str().unwrap_or_default(),
            number(&model["parameters"]) / 1e6,
            bytes(model["file_bytes"].as_u64().unwrap_or(0)),
            number(&report["load_ms"]) / 1e3,
            number(&report["rss_mib"])
        ),
    ];
    let rows = |key: &str| report[key].as_array().cloned().unwrap_or_default();
    for row in rows("prefill") {
        let rate = number(&row["gop_per_s"]);
        lines.push(format!(
            "prefill   {:>6} tokens                 {:>8.1} tok/s   {rate:>6.0} GOP/s  {:>3.0} % of the {peak_name} peak   ± {:.0} %",
            row["tokens"],
            number(&row["tok_per_s"]),
            100.0 * rate / peak,
            50.0 * number(&row["spread"])
        ));
    }
    for row in rows("decode") {
        let rate = number(&row["gb_per_s"]);
        lines.push(format!(
            "decode    {:>6} streams, depth {:>6}   {:>8.1} tok/s   {rate:>6.1} GB/s   {:>3.0} % of reading         ± {:.0} %",
            row["batch"],
            row["depth"],
            number(&row["tok_per_s"]),
            100.0 * rate / bandwidth,
            50.0 * number(&row["spread"])
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_the_halves() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), (2.0, 1.0));
        assert_eq!(median(&mut [1.0, 3.0]), (2.0, 1.0));
        assert_eq!(median(&mut [4.0]), (4.0, 0.0));
    }
}
