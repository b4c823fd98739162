//! `cargo xtask golden DIR`: whole models against what transformers recorded for them.
//!
//! Where:  DIR is what `golden/models.py` wrote; the small results in `golden/models` are checked by a test below.
//! Idea:   every model is run as its folder and again after conversion to a GGUF in F32; every prompt in chunks of 1, 7
//!         and 64 tokens and beside the other prompt. A row a model; the first that differs fails.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wootz_engine::{Engine, EngineOptions, Outputs, Request, Runner, RunnerOptions, Schedule, Work};
use wootz_graph::{Batch, Cpu, Device, Graph, Plan, PlanOptions, StateCapacity};
use wootz_kernels::TensorType;
use wootz_model::{ConvertOptions, Model, convert};
use wootz_text::{GenerateEvent, Sampling};

/// Largest difference of a logit or of a hidden state's number.
const LOGIT_TOLERANCE: f32 = 2e-4;
/// Largest difference of a mean loss, in nats.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Prefill chunks that must give the same tokens.
const CHUNKS: [usize; 3] = [1, 7, 64];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let [dir] = args else { bail!("usage: cargo xtask golden DIR\nhint: `golden/models.py DIR` makes one") };
    let mut n_models = 0;
    println!("{:<22} {:>10} {:>10} {:>10}   gguf", "model", "logits", "loss", "gguf");
    for folder in folders(Path::new(dir))? {
        println!("{}", check_folder(&folder)?);
        n_models += 1;
    }
    ensure!(n_models > 0, "{dir} holds no models");
    println!("{n_models} models agree");
    Ok(())
}

/// The folders with a `golden.json`, by name.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = dir.read_dir().with_context(|| format!("reading {}", dir.display()))?;
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .filter(|path| path.as_ref().is_ok_and(|path| path.join("golden.json").is_file()) || path.is_err())
        .collect::<Result<_>>()?;
    folders.sort();
    Ok(folders)
}

/// Checks one model from its folder and as a GGUF; the table's row.
fn check_folder(folder: &Path) -> Result<String> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let recorded = Recorded::read(&folder.join("golden.json"))?;
    let model = Model::open(folder).with_context(|| format!("opening {name}"))?;
    let worst = check_model(&model, &recorded).with_context(|| name.clone())?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("model.gguf");
    let options = ConvertOptions { dtype: Some(TensorType::F32), ..ConvertOptions::default() };
    let (gguf, note) = match convert(&model, &file, &options, &mut |_| {}) {
        Ok(()) => {
            let model = Model::open(&file).with_context(|| format!("opening {name} as GGUF"))?;
            let worst = check_model(&model, &recorded).with_context(|| format!("{name} as GGUF"))?;
            (format!("{:.1e}", worst.numbers), String::from("ok"))
        }
        Err(wootz_model::Error::NoGguf(said)) => (String::from("-"), said),
        Err(error) => return Err(error).with_context(|| format!("converting {name} to GGUF")),
    };
    Ok(format!("{name:<22} {:>10.1e} {:>10.1e} {gguf:>10}   {note}", worst.numbers, worst.loss))
}

/// The largest differences that were seen.
#[derive(Clone, Copy, Default)]
struct Worst {
    numbers: f32,
    loss: f64,
}

/// What transformers computed.
struct Recorded {
    rows: Vec<RecordedRow>,
}

struct RecordedRow {
    ids: Vec<u32>,
    /// Of the last position; empty for encoders.
    logits: Vec<f32>,
    argmax: Vec<u32>,
    greedy: Vec<u32>,
    loss: f64,
    /// Of every token, for encoders.
    hidden: Vec<f32>,
}

impl Recorded {
    fn read(path: &Path) -> Result<Self> {
        let json: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let numbers = |value: &Value| -> Vec<f32> {
            value.as_array().into_iter().flatten().filter_map(|x| Some(x.as_f64()? as f32)).collect()
        };
        let ids = |value: &Value| -> Vec<u32> {
            value.as_array().into_iter().flatten().filter_map(|x| Some(x.as_u64()? as u32)).collect()
        };
        let inputs = json["input_ids"].as_array().context("`input_ids` is missing")?;
        let rows = json["rows"].as_array().context("`rows` is missing")?;
        let row = |(input, row): (&Value, &Value)| RecordedRow {
            ids: ids(input),
            logits: numbers(&row["logits"]),
            argmax: ids(&row["argmax"]),
            greedy: ids(&row["greedy"]),
            loss: row["loss"].as_f64().unwrap_or_default(),
            hidden: row["hidden"].as_array().into_iter().flatten().flat_map(numbers).collect(),
        };
        Ok(Self { rows: inputs.iter().zip(rows).map(row).collect() })
    }
}

fn check_model(model: &Model, recorded: &Recorded) -> Result<Worst> {
    let mut worst = Worst::default();
    let decoder = model.network.config.is_decoder();
    for row in &recorded.rows {
        let seen = if decoder { check_row(model, row)? } else { check_hidden(model, row)? };
        worst.numbers = worst.numbers.max(seen.numbers);
        worst.loss = worst.loss.max(seen.loss);
    }
    if decoder {
        check_greedy(model, recorded)?;
    }
    Ok(worst)
}

fn runner(model: &Model, n_sequences: usize) -> Result<Runner> {
    let device = Cpu::new(2);
    let weights = model.load(&device)?;
    let options =
        RunnerOptions { n_positions: n_sequences * 128, n_slots: n_sequences, kv_type: TensorType::F32 };
    Ok(Runner::new(model.network.clone(), &device, &weights, options)?)
}

/// Logits, argmax and loss of one row, in every chunk size.
fn check_row(model: &Model, row: &RecordedRow) -> Result<Worst> {
    let v = model.network.config.vocab_size;
    let mut worst = Worst::default();
    for chunk in CHUNKS {
        let mut runner = runner(model, 1)?;
        let mut track = runner.start(row.ids.len())?;
        let mut logits = Vec::new();
        for token_ids in row.ids.chunks(chunk) {
            let work = Work { track: &mut track, token_ids, outputs: Outputs::All };
            logits.extend(runner.forward(&mut [work], None)?.logits);
        }
        let rows: Vec<&[f32]> = logits.chunks_exact(v).collect();
        let argmax: Vec<u32> = rows.iter().map(|row| argmax(row)).collect();
        ensure!(argmax == row.argmax, "chunks of {chunk}: argmax {argmax:?}, recorded {:?}", row.argmax);
        let last = rows.last().context("a row has tokens")?;
        let difference = largest_difference(last, &row.logits)?;
        ensure!(difference <= LOGIT_TOLERANCE, "chunks of {chunk}: a logit differs by {difference:e}");
        let loss = mean_loss(&rows, &row.ids);
        let loss = (loss - row.loss).abs();
        ensure!(loss <= LOSS_TOLERANCE, "chunks of {chunk}: the loss differs by {loss:e}");
        worst = Worst { numbers: worst.numbers.max(difference), loss: worst.loss.max(loss) };
    }
    Ok(worst)
}

/// Greedy tokens of every row, alone and side by side.
fn check_greedy(model: &Model, recorded: &Recorded) -> Result<()> {
    let rows: Vec<&RecordedRow> = recorded.rows.iter().collect();
    for (chunk, groups) in
        CHUNKS.iter().map(|&chunk| (chunk, rows.chunks(1))).chain([(64, rows.chunks(rows.len()))])
    {
        for group in groups {
            let options =
                EngineOptions { max_context: 128, max_batch_tokens: chunk, max_sequences: group.len() };
            let mut engine = Engine::new(runner(model, group.len())?, None, &[], options);
            let mut answers = Vec::new();
            for row in group {
                let (sender, events) = mpsc::channel();
                let sampling =
                    Sampling { max_tokens: Some(row.greedy.len()), ignore_eos: true, ..Sampling::greedy() };
                let sink = Box::new(move |event| drop(sender.send(event)));
                engine.submit(Request {
                    token_ids: row.ids.clone(),
                    sampling,
                    sink,
                    schedule: Schedule::default(),
                    adapter: None,
                })?;
                answers.push(events);
            }
            while engine.has_work() {
                engine.step()?;
            }
            for (row, events) in group.iter().zip(answers) {
                let mut tokens = Vec::new();
                for event in events {
                    match event {
                        GenerateEvent::Token(token) => tokens.extend(token.id),
                        GenerateEvent::Error(error) => return Err(error.into()),
                        _ => {}
                    }
                }
                ensure!(
                    tokens == row.greedy,
                    "chunks of {chunk}, {} at a time: greedy {tokens:?}, recorded {:?}",
                    group.len(),
                    row.greedy
                );
            }
        }
    }
    Ok(())
}

/// The last hidden states of an encoder.
fn check_hidden(model: &Model, row: &RecordedRow) -> Result<Worst> {
    let device = Cpu::new(2);
    let weights = model.load(&device)?;
    let batch = Batch::of_sequences(&[&row.ids]);
    let mut g = Graph::new(&model.network.params);
    let x = model.network.hidden(&mut g, false)?;
    let plan = Plan::new(&g, &[x], &PlanOptions { capacity: batch.rows().rounded_up() })?;
    let none = StateCapacity { n_blocks: 0, block_len: 64, n_slots: 0, kv_type: TensorType::F32 };
    let mut executor = device.executor(&weights, &[], none)?;
    executor.run(&plan, &batch, None)?;
    let difference = largest_difference(&executor.output(&plan, &batch, 0), &row.hidden)?;
    ensure!(difference <= LOGIT_TOLERANCE, "a hidden state differs by {difference:e}");
    Ok(Worst { numbers: difference, loss: 0.0 })
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
}

fn largest_difference(got: &[f32], recorded: &[f32]) -> Result<f32> {
    ensure!(got.len() == recorded.len(), "{} numbers, recorded {}", got.len(), recorded.len());
    // Not `f32::max`, which would pass a NaN over.
    Ok(got
        .iter()
        .zip(recorded)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst: f32, d| if d <= worst || worst.is_nan() { worst } else { d }))
}

/// Mean next-token cross-entropy in nats.
fn mean_loss(rows: &[&[f32]], ids: &[u32]) -> f64 {
    let loss = |(z, &target): (&&[f32], &u32)| {
        let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = z.iter().map(|z| f64::from(z - max).exp()).sum();
        sum.ln() + f64::from(max) - f64::from(z[target as usize])
    };
    rows.iter().zip(&ids[1..]).map(loss).sum::<f64>() / (ids.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_models_agree() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/models");
        let folders = folders(&dir).unwrap();
        assert!(folders.len() >= 31, "expected 31 architectures, found {}", folders.len());
        for folder in folders {
            println!("{}", check_folder(&folder).unwrap());
        }
    }

    #[test]
    fn a_nan_is_a_difference() {
        assert!(largest_difference(&[f32::NAN, 0.0], &[0.0, 0.0]).unwrap().is_nan());
    }
}
