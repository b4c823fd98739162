//! The loop around the trainer: steps, measurements, checkpoints, the end.
//!
//! Idea:   what a step sees is a function of its number, and a checkpoint holds all that the next one depends on. So going on
//!         is opening the same recipe, restoring, and continuing to count.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::json;
use wootz_graph::{Cpu, Device, Param, Randomness, StateCapacity};
use wootz_kernels::{Isa, Level, Peaks, Precision, TensorType};
use wootz_model::{ConvertOptions, Model, NewAdapter, NewChange, convert, write_peft};
use wootz_store::RunStatus;
use wootz_train::config::{AdapterKind, Every, OptimizerName, Precision as Wanted, Rl, TrainConfig};
use wootz_train::{
    Dpo, Error, Kto, Learner, LearnerSettings, LowRank, MicroBatch, Objective, OptimizerKind, Orpo, PART_A,
    PART_B, PART_MAGNITUDE, PreferenceLoss, Room, Sft, StepReport, Trainer, TrainerSettings, Trains,
};

use super::base::Base;
use super::data::Data;
use super::folder::{self, RunFolder, STATE};
use super::record::{self, Record};
use crate::machine;

/// What the command line says beside the recipe.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where runs are kept
    pub home: PathBuf,
    /// Threads that compute
    pub n_threads: usize,
    /// Go on from the newest checkpoint, if there is one
    pub resume: bool,
}

/// What happens, for whoever shows it.
pub(crate) enum Event<'a> {
    /// Something to know, once
    Said(String),
    /// Something that goes on and will be said again
    Doing(&'a str),
    /// A step was done
    Step(&'a StepLine),
    /// The held-out loss was measured
    Measured { step: u64, loss: f64 },
    /// A checkpoint is there
    Saved(&'a std::path::Path),
}

/// A step as it is shown and logged.
#[derive(Debug, Clone)]
pub(crate) struct StepLine {
    pub report: StepReport,
    pub n_steps: u64,
    pub epoch: u64,
    /// Since the beginning
    pub tokens: u64,
    pub supervised_tokens: u64,
    pub tok_per_s: f64,
    pub mfu: f64,
    /// The peak that `mfu` is a share of, in 10⁹ operations a second
    pub peak: (&'static str, f64),
    pub rss_mib: u64,
    pub seconds_left: f64,
}

impl StepLine {
    /// The documented JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let StepReport { step, loss, grad_norm, lr, ref metrics, .. } = self.report;
        let mut line = json!({
            "step": step, "loss": loss, "grad_norm": grad_norm, "lr": lr, "tokens": self.tokens,
            "supervised_tokens": self.supervised_tokens, "tok_per_s": self.tok_per_s, "mfu": self.mfu,
            "mfu_peak": format!("{} {:.0} GFLOP/s", self.peak.0, self.peak.1), "rss_mib": self.rss_mib, "epoch": self.epoch,
        });
        for (name, value) in metrics {
            line[*name] = (*value).into();
        }
        line
    }
}

/// A run that is ready to begin.
pub(crate) struct Run<'c> {
    config: &'c TrainConfig,
    base: Base,
    data: Data,
    trainer: Trainer,
    trains: Trains,
    folder: RunFolder,
    about: serde_json::Value,
    record: Record,
    n_steps: u64,
    /// What the reference says of every step's sequences, where all weights learn.
    references: Vec<Vec<Vec<f32>>>,
    peak: (&'static str, f64),
    dtype: TensorType,
}

impl<'c> Run<'c> {
    /// Opens everything, plans memory, and goes back to a checkpoint if there is one to go on from.
    pub fn open(
        config: &'c TrainConfig,
        recipe: &str,
        options: Options,
        told: &mut dyn FnMut(Event),
    ) -> anyhow::Result<Self> {
        let path = PathBuf::from(&config.output_dir);
        let from = match &config.resume_from_checkpoint {
            Some(checkpoint) => Some(PathBuf::from(checkpoint)),
            None if options.resume || config.auto_resume => folder::newest(&path),
            None => None,
        };
        let folder = RunFolder::open(&path, recipe, from.is_some())?;
        let base = Base::open(config)?;
        let mut say = |text: &str| told(Event::Doing(text));
        let data = Data::open(config, &base, &path, options.n_threads, &mut say)?;
        let is_quantized = config.adapter == Some(AdapterKind::Qlora);
        let dtype = dtype_of(config)?;
        let exact = dtype == TensorType::F32;
        let cpu = Cpu::with(
            Isa::detect(),
            options.n_threads,
            if exact || is_quantized { Precision::Exact } else { Precision::Fast },
        );
        let trains = trains_of(config, &base.model)?;
        let compares = matches!(config.rl, Some(Rl::Dpo | Rl::Ipo | Rl::Kto));
        if compares && trains == Trains::All && data.validation.is_some() {
            bail!(
                "held-out pairs are not measured where all weights learn\nhint: `val_set_size: 0`, or a LoRA"
            );
        }
        if is_quantized && base.model.dominant_type().is_plain() {
            bail!(
                "`adapter: qlora` wants a base model that is quantized, such as a GGUF; `{}` holds {}\nhint: quantizing to NF4 on the way is not built yet",
                base.name,
                base.model.dominant_type()
            );
        }
        let (n_rows, n_sequences) = data.train.largest();
        let with_others = if config.rl == Some(Rl::Kto) { 2 } else { 1 };
        let of_validation = data.validation.as_ref().map_or(0, |feed| feed.largest().0);
        let room = Room {
            n_rows: n_rows.max(of_validation) * with_others,
            n_sequences: n_sequences * 2 * with_others,
        };
        let model = &base.model;
        let randomness = Randomness {
            embeddings: config.neftune_noise_alpha.unwrap_or(0.0) as f32,
            residuals: 0.0,
            changes: config.lora.dropout as f32,
        };
        let recomputes_layers = config.gradient_checkpointing;
        let how = LearnerSettings { trains: trains.clone(), dtype, room, randomness, recomputes_layers };
        let learner = Learner::new(&model.network, &cpu, &how, &|spec| model.tensor(spec))?;
        let n_steps = config.max_steps.unwrap_or_else(|| data.train.n_steps(config.num_epochs)).max(1);
        let memory = Memory::of(&learner, config, dtype);
        told(Event::Said(memory.to_string()));
        memory.check()?;
        let settings = TrainerSettings {
            schedule: config.schedule(n_steps),
            optimizer: optimizer_of(config),
            weight_decay: config.weight_decay,
            max_grad_norm: config.max_grad_norm,
            seed: config.seed,
        };
        let trainer = Trainer::new(learner, objective_of(config), settings)?;
        let peaks = Peaks::measure(cpu.isa(), cpu.pool());
        let peak = match (exact, peaks.bf16_gflop_per_s) {
            (false, Some(peak)) => ("bf16", peak),
            _ => ("f32", peaks.f32_gflop_per_s),
        };
        let known = folder.known_id().filter(|_| from.is_some());
        let new_run = record::new_run(&path, &config.settings(), &data.fingerprint, &base.name);
        let record = Record::open(&options.home, known.as_deref(), &new_run)?;
        let about = folder::about(&record.id, &config.settings(), &data.fingerprint, &base.name);
        let references = Vec::new();
        let mut run = Self {
            config,
            base,
            data,
            trainer,
            trains,
            folder,
            about,
            record,
            n_steps,
            references,
            peak,
            dtype,
        };
        run.note_references(told)?;
        if let Some(checkpoint) = from {
            run.trainer
                .restore(&checkpoint.join(STATE))
                .with_context(|| format!("going on from `{}`", checkpoint.display()))?;
            let step = run.trainer.progress().step;
            run.folder.keep_metrics_until(step)?;
            told(Event::Said(format!("goes on behind step {step} from `{}`", checkpoint.display())));
        }
        run.share_weights(&cpu)?;
        run.folder.describe(&run.about)?;
        Ok(run)
    }

    /// From now on the model's numbers are those that are trained.
    fn share_weights(&mut self, cpu: &Cpu) -> anyhow::Result<()> {
        if self.trains != Trains::All {
            return Ok(());
        }
        let none = StateCapacity { n_blocks: 0, n_slots: 0, block_len: 64, kv_type: TensorType::F32 };
        let learner = self.trainer.learner();
        let executor = Mutex::new(cpu.executor(learner.weights(), &[], none)?);
        let params = learner.params().clone();
        self.base.model.set_numbers(Box::new(move |spec| {
            let param = params.find(&spec.name)?;
            Some(executor.lock().expect("reading weights does not panic").weight(param))
        }));
        Ok(())
    }

    /// Where all weights learn, what they say before the first step is the reference of every step's sequences.
    fn note_references(&mut self, told: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        if self.trains != Trains::All || !self.trainer.objective().compares() {
            return Ok(());
        }
        for step in 0..self.n_steps {
            told(Event::Doing(&format!("reference: step {} of {}", step + 1, self.n_steps)));
            let mut batches = self.data.train.step(step)?;
            self.trainer.note_reference(&mut batches)?;
            let of_step = batches.iter().flat_map(MicroBatch::sequences);
            self.references
                .push(of_step.map(|sequence| sequence.reference.clone().unwrap_or_default()).collect());
        }
        Ok(())
    }

    /// The micro-batches of a step, counted from 0.
    fn batches(&mut self, step: u64) -> anyhow::Result<Vec<MicroBatch>> {
        let mut batches = self.data.train.step(step)?;
        if let Some(references) = self.references.get(step as usize) {
            let sequences =
                batches.iter_mut().flat_map(|batch| &mut batch.items).flat_map(|item| &mut item.sequences);
            sequences.zip(references).for_each(|(sequence, own)| sequence.reference = Some(own.clone()));
        }
        Ok(batches)
    }

    /// Steps to the end, and the model that came out.
    pub fn finish(mut self, told: &mut dyn FnMut(Event)) -> anyhow::Result<PathBuf> {
        let result = self.steps(told);
        let error = result.as_ref().err().map(|error| format!("{error:#}"));
        self.record.end(error.as_deref().map_or(Ok(RunStatus::Finished), Err))?;
        result
    }

    /// Nothing is done.
    pub fn leave(self) -> anyhow::Result<()> {
        self.record.end(Ok(RunStatus::Stopped))
    }

    fn steps(&mut self, told: &mut dyn FnMut(Event)) -> anyhow::Result<PathBuf> {
        let steps_an_epoch = self.data.train.n_steps(1.0).max(1);
        let every = |when: Every| match when {
            Every::End => u64::MAX,
            Every::Steps(n) => n.max(1),
            Every::PerEpoch(n) => (steps_an_epoch / n.max(1)).max(1),
        };
        let (save_every, eval_every) = (every(self.config.save), every(self.config.eval));
        let (mut best, mut n_worse) = (f64::INFINITY, 0);
        let started = Instant::now();
        let first = self.trainer.progress().step;
        while self.trainer.progress().step < self.n_steps {
            let line = self.step(started, first)?;
            self.folder.note(&line.to_json())?;
            self.record.beat()?;
            told(Event::Step(&line));
            let step = line.report.step;
            let is_last = step == self.n_steps;
            if self.data.validation.is_some() && (step.is_multiple_of(eval_every) || is_last) {
                let loss = self.measure()?;
                self.folder.note(&json!({"step": step, "val_loss": loss}))?;
                told(Event::Measured { step, loss });
                (best, n_worse) = if loss < best { (loss, 0) } else { (best, n_worse + 1) };
            }
            let stops =
                self.config.early_stopping_patience.is_some_and(|patience| n_worse >= patience.max(1));
            if step.is_multiple_of(save_every) || is_last || stops {
                let path = self.save()?;
                told(Event::Saved(&path));
                self.folder.rotate(self.config.save_total_limit);
            }
            if stops {
                told(Event::Said(format!("the held-out loss was not lower {n_worse} times; the run ends")));
                break;
            }
        }
        let path = self.folder.path.clone();
        self.write_model(&path)?;
        self.about["state"] = "done".into();
        self.about["steps"] = self.trainer.progress().step.into();
        self.folder.describe(&self.about)?;
        Ok(path)
    }

    fn step(&mut self, started: Instant, first: u64) -> anyhow::Result<StepLine> {
        let mut batches = self.batches(self.trainer.progress().step)?;
        let start = Instant::now();
        let report = match self.trainer.step(&mut batches) {
            Err(error @ Error::NonFinite { .. }) => {
                let path = self.folder.path.join("bad-batch.json");
                let rows: Vec<_> = batches
                    .iter()
                    .flat_map(MicroBatch::sequences)
                    .map(|s| json!({"ids": s.token_ids, "supervised": s.supervised, "text": self.base.tokenizer.decode(&s.token_ids, false)}))
                    .collect();
                folder::write(&path, json!(rows).to_string().as_bytes())?;
                return Err(error).with_context(|| format!("the batch is in `{}`", path.display()));
            }
            other => other?,
        };
        let seconds = start.elapsed().as_secs_f64();
        let flops: f64 = batches.iter().map(|batch| self.trainer.learner().model_flops(batch)).sum();
        let progress = self.trainer.progress();
        let done = progress.step - first;
        let left =
            (self.n_steps - progress.step) as f64 * started.elapsed().as_secs_f64() / done.max(1) as f64;
        Ok(StepLine {
            n_steps: self.n_steps,
            epoch: self.data.train.epoch(),
            tokens: progress.n_tokens,
            supervised_tokens: progress.n_supervised,
            tok_per_s: report.n_tokens as f64 / seconds,
            mfu: flops / seconds / 1e9 / self.peak.1,
            peak: self.peak,
            rss_mib: machine::resident_bytes().unwrap_or(0) >> 20,
            seconds_left: left,
            report,
        })
    }

    fn measure(&mut self) -> anyhow::Result<f64> {
        let Some(validation) = &self.data.validation else { bail!("nothing is held out") };
        let mut batches = validation.all()?;
        if self.trains == Trains::All && self.trainer.objective().compares() {
            bail!(
                "held-out pairs are not measured where all weights learn\nhint: `val_set_size: 0`, or a LoRA"
            );
        }
        Ok(self.trainer.evaluate(&mut batches)?.0)
    }

    /// Writes a checkpoint: the model or the adapter, then the state, whose presence makes it whole.
    fn save(&mut self) -> anyhow::Result<PathBuf> {
        let path = self.folder.checkpoint(self.trainer.progress().step);
        self.write_model(&path)?;
        self.trainer.save(&path.join(STATE))?;
        Ok(path)
    }

    /// Writes what others read.
    fn write_model(&mut self, path: &std::path::Path) -> anyhow::Result<()> {
        match &self.trains {
            Trains::All => {
                let options = ConvertOptions { dtype: None, force: true };
                convert(&self.base.model, path, &options, &mut |_| {})
                    .with_context(|| format!("writing the model to `{}`", path.display()))
            }
            Trains::LowRank(low_rank) => {
                std::fs::create_dir_all(path).with_context(|| format!("making `{}`", path.display()))?;
                let adapter = new_adapter(low_rank, self.config, &self.base.name, self.trainer.learner());
                write_peft(&self.base.model, &adapter, path)
                    .with_context(|| format!("writing the adapter to `{}`", path.display()))
            }
        }
    }

    /// Steps in all.
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// The type in which weights learn.
    pub fn dtype(&self) -> TensorType {
        self.dtype
    }
}

fn new_adapter(low_rank: &LowRank, config: &TrainConfig, base: &str, learner: &mut Learner) -> NewAdapter {
    let changes = low_rank.sites.iter().map(|&param| {
        let name = learner.params().spec(param).name.clone();
        let numbers = |learner: &Learner, part: &str| {
            learner.params().find(&format!("{name}{part}")).map(|param| learner.weight(param))
        };
        NewChange {
            param,
            a: numbers(learner, PART_A).unwrap_or_default(),
            b: numbers(learner, PART_B).unwrap_or_default(),
            magnitude: numbers(learner, PART_MAGNITUDE),
        }
    });
    NewAdapter {
        rank: low_rank.rank,
        alpha: low_rank.alpha,
        use_rslora: low_rank.rank_stabilised,
        dropout: config.lora.dropout,
        base_model: base.to_owned(),
        changes: changes.collect(),
    }
}

fn dtype_of(config: &TrainConfig) -> anyhow::Result<TensorType> {
    let is_there = Isa::detect().level() == Level::Avx512;
    Ok(match config.precision {
        Wanted::F32 => TensorType::F32,
        Wanted::Auto if !is_there => TensorType::F32,
        Wanted::Auto | Wanted::Bf16 => TensorType::BF16,
    })
}

fn trains_of(config: &TrainConfig, model: &Model) -> anyhow::Result<Trains> {
    let lora = &config.lora;
    match config.adapter {
        None => Ok(Trains::All),
        Some(AdapterKind::Lora | AdapterKind::Qlora) => {
            let sites = sites_of(&lora.targets, model)?;
            Ok(Trains::LowRank(LowRank {
                rank: lora.rank as usize,
                alpha: lora.alpha,
                rank_stabilised: lora.rank_stabilised,
                magnitudes: lora.magnitudes,
                sites,
                seed: config.seed,
            }))
        }
        Some(_) => bail!("prompt and prefix tuning are not built yet"),
    }
}

/// The weights whose modules are named; every linear layer where none are.
fn sites_of(targets: &[String], model: &Model) -> anyhow::Result<Vec<Param>> {
    let all = LowRank::all_layers(&model.network);
    if targets.is_empty() || targets == ["all-linear"] {
        return Ok(all);
    }
    let named: Vec<(Param, String)> =
        all.iter().filter_map(|&param| Some((param, model.module_name(param)?))).collect();
    let is_it = |module: &str, target: &str| {
        module.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    for target in targets {
        if !named.iter().any(|(_, module)| is_it(module, target)) {
            let mut known: Vec<&str> =
                named.iter().filter_map(|(_, module)| module.rsplit('.').next()).collect();
            known.sort_unstable();
            known.dedup();
            bail!("`lora_target_modules`: no layer is called `{target}`; there are {}", known.join(", "));
        }
    }
    let is_target = |module: &String| targets.iter().any(|target| is_it(module, target));
    Ok(named.into_iter().filter(|(_, module)| is_target(module)).map(|(param, _)| param).collect())
}

fn objective_of(config: &TrainConfig) -> Box<dyn Objective> {
    let preference = &config.preference;
    let dpo = |loss| {
        Box::new(Dpo {
            beta: config.beta(),
            loss,
            label_smoothing: preference.label_smoothing,
            sft_weight: preference.sft_weight,
        })
    };
    match config.rl {
        None => Box::new(Sft),
        Some(Rl::Dpo) => dpo(PreferenceLoss::Sigmoid),
        Some(Rl::Ipo) => dpo(PreferenceLoss::Ipo),
        Some(Rl::Simpo) => dpo(PreferenceLoss::SimPo { gamma: preference.gamma }),
        Some(Rl::Orpo) => Box::new(Orpo { beta: config.beta() }),
        Some(Rl::Kto) => Box::new(Kto {
            beta: config.beta(),
            good_weight: preference.desirable_weight,
            bad_weight: preference.undesirable_weight,
        }),
        Some(Rl::Grpo) => unreachable!("refused before"),
    }
}

fn optimizer_of(config: &TrainConfig) -> OptimizerKind {
    let betas = [config.adam_beta1 as f32, config.adam_beta2 as f32];
    let eps = config.adam_epsilon as f32;
    match config.optimizer {
        OptimizerName::AdamW => OptimizerKind::AdamW { betas, eps },
        OptimizerName::AdamW8 => OptimizerKind::AdamW8 { betas, eps },
        OptimizerName::Adam => OptimizerKind::Adam { betas, eps },
        OptimizerName::Lion => OptimizerKind::Lion { betas },
        OptimizerName::ScheduleFree => OptimizerKind::ScheduleFree { betas, eps },
        OptimizerName::Sgd => {
            OptimizerKind::Sgd { momentum: config.momentum.unwrap_or(0.0) as f32, nesterov: false }
        }
        OptimizerName::RmsProp => OptimizerKind::RmsProp { alpha: 0.99, eps },
        OptimizerName::Lamb => OptimizerKind::Lamb { betas, eps },
        OptimizerName::Muon => unreachable!("refused before"),
    }
}

/// What a run will need at most, before its first step.
struct Memory {
    weights: u64,
    gradients: u64,
    optimizer: u64,
    activations: u64,
}

impl Memory {
    fn of(learner: &Learner, config: &TrainConfig, dtype: TensorType) -> Self {
        let n = |params: &mut dyn Iterator<Item = Param>| -> u64 {
            params.map(|param| learner.params().spec(param).n_elements() as u64).sum()
        };
        let trained = n(&mut learner.trained().iter().copied());
        let frozen = n(&mut learner.params().iter().map(|(param, _)| param)) - trained;
        let states = match config.optimizer {
            OptimizerName::AdamW8 => 2,
            OptimizerName::Sgd if config.momentum.unwrap_or(0.0) == 0.0 => 0,
            OptimizerName::Sgd | OptimizerName::RmsProp | OptimizerName::Lion => 4,
            _ => 8,
        };
        let master = if dtype == TensorType::F32 { 0 } else { 4 };
        let resident = machine::resident_bytes().unwrap_or(0);
        let counted = trained * dtype.block_bytes() as u64 + frozen;
        Self {
            weights: resident.max(counted),
            gradients: 4 * trained,
            optimizer: (states + master) * trained,
            activations: learner.arena_bytes() as u64,
        }
    }

    fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.activations
    }

    /// # Errors
    /// More than the machine has, with three ways out.
    fn check(&self) -> anyhow::Result<()> {
        let machine = machine::Memory::detect();
        let room =
            machine.available_bytes.map(|available| available + machine::resident_bytes().unwrap_or(0));
        match room {
            Some(room) if self.total() > room => bail!(
                "the run needs {}, and {} are there\nhint: a smaller `micro_batch_size` or `sequence_len` (activations), `adapter: lora` (gradients and optimizer), or `optimizer: adamw_8bit`",
                crate::output::binary_bytes(self.total()),
                crate::output::binary_bytes(room)
            ),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = crate::output::binary_bytes;
        write!(
            f,
            "memory: {} = model and program {} + gradients {} + optimizer {} + activations {}",
            show(self.total()),
            show(self.weights),
            show(self.gradients),
            show(self.optimizer),
            show(self.activations)
        )
    }
}
