//! A recipe: what a run of training is to do, as YAML with axolotl's names.
//!
//! Where:  read by the command line, carried out by the trainer, kept by a run.
//! Idea:   one table of keys ([`table`]) is parser, documentation (`docs/train-keys.md`) and source of the templates. A key is
//!         honoured, or without effect here and listed so, or refused: with the reason where it is known elsewhere, with the
//!         nearest known name where it is not. Parsing is pure: text in, values out.
//! Source: axolotl's configuration reference; PEFT's and TRL's names for what axolotl hands on to them.
//! Elsewhere: opening what paths name, and everything that needs the model or the data to be checked.

mod keys;
mod table;
mod template;
mod values;
mod yaml;

pub use template::TemplateKind;
pub use values::{
    AdapterKind, Dataset, Every, GrpoConfig, GrpoLoss, HeldOut, LoraConfig, LoraInit, OptimizerName,
    Precision, PreferenceConfig, Reward, RewardKind, Rl, ScaleRewards, Scheduler, TooLong, Warmup,
};

use serde_json::{Map, Value as Json};
use wootz_data::Supervise;
use wootz_text::Role;

use crate::schedule::{Decay, Schedule};
use keys::{apply, find, nearest, refuse_twice};
use yaml::{Entry, Value};

/// What a run is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// The model to begin with: a folder, a GGUF, a name
    pub base_model: Option<String>,
    /// The model to make, as its `config.json` would say it
    pub architecture: Option<Map<String, Json>>,
    /// Where the tokenizer lies, if not with the model
    pub tokenizer: Option<String>,
    /// A template's name or its text
    pub chat_template: Option<String>,
    /// Special tokens by their use: `bos_token`, `eos_token`, …
    pub special_tokens: Vec<(String, String)>,

    /// What is trained instead of the model's own weights
    pub adapter: Option<AdapterKind>,
    /// Of low-rank changes
    pub lora: LoraConfig,
    /// Rows of prompt or prefix tuning
    pub num_virtual_tokens: u64,

    /// Learning from preferences or rewards
    pub rl: Option<Rl>,
    /// Of DPO and its kin
    pub preference: PreferenceConfig,
    /// Of GRPO
    pub grpo: GrpoConfig,
    /// What GRPO's answers are judged by
    pub rewards: Vec<Reward>,

    /// What is learned from
    pub datasets: Vec<Dataset>,
    /// What is measured with, besides what is held out
    pub test_datasets: Vec<Dataset>,
    /// What is held out of `datasets`
    pub held_out: HeldOut,
    /// Where encoded examples are kept
    pub dataset_prepared_path: Option<String>,
    /// Most tokens of a row
    pub sequence_len: u64,
    /// What becomes of longer examples
    pub too_long: TooLong,
    /// Whether a row holds several examples, which do not see each other
    pub sample_packing: bool,
    /// Whether the order is another one each epoch
    pub shuffle: bool,
    /// Whether what others say is learned, too
    pub train_on_inputs: bool,
    /// Whose turns are learned
    pub roles_to_train: Vec<String>,
    /// Whether of these turns only a conversation's last is learned
    pub last_turn_only: bool,

    /// Rows (pairs, groups) that go through the model at once
    pub micro_batch_size: u64,
    /// Micro-batches of a step
    pub gradient_accumulation_steps: u64,
    /// Times that everything is seen
    pub num_epochs: f64,
    /// Most steps
    pub max_steps: Option<u64>,
    /// The highest rate
    pub learning_rate: f64,
    /// How the rate falls
    pub lr_scheduler: Scheduler,
    /// The lowest rate, as a share of the highest
    pub min_lr_ratio: f64,
    /// Share of the steps that fall in `warmup_stable_decay`
    pub decay_ratio: f64,
    /// How the rate rises
    pub warmup: Warmup,
    /// How weights follow gradients
    pub optimizer: OptimizerName,
    /// β₁
    pub adam_beta1: f64,
    /// β₂
    pub adam_beta2: f64,
    /// ε
    pub adam_epsilon: f64,
    /// μ of SGD and Muon; unset is the rule's own
    pub momentum: Option<f64>,
    /// Decay of weights that are neither norms nor biases
    pub weight_decay: f64,
    /// Longest gradient; `None` does not clip
    pub max_grad_norm: Option<f64>,
    /// Noise on embeddings, α of NEFTune
    pub neftune_noise_alpha: Option<f64>,
    /// Decay of a running average of the weights
    pub ema_decay: Option<f64>,
    /// Whether blocks are computed again instead of kept
    pub gradient_checkpointing: bool,
    /// What the model computes in
    pub precision: Precision,
    /// Of all that is random
    pub seed: u64,

    /// Where everything is written
    pub output_dir: String,
    /// When a checkpoint is written
    pub save: Every,
    /// Most checkpoints that stay
    pub save_total_limit: Option<u64>,
    /// When the held-out loss is measured
    pub eval: Every,
    /// Steps between lines of the log
    pub logging_steps: u64,
    /// Measurements without a lower loss that end the run
    pub early_stopping_patience: Option<u64>,
    /// A checkpoint to go on from
    pub resume_from_checkpoint: Option<String>,
    /// Whether to go on from the newest checkpoint in `output_dir`
    pub auto_resume: bool,
    /// Prompts that are answered along the way
    pub sample_prompts: Vec<String>,
    /// Steps between these answers; unset is whenever the held-out loss is measured
    pub sample_steps: Option<u64>,
}

/// A recipe that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it says
    pub config: TrainConfig,
    /// Its keys that change nothing here
    pub without_effect: Vec<String>,
}

/// What can be wrong with a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No YAML, or more of it than a recipe needs
    #[error("line {line}: {message}")]
    Yaml {
        /// Counted from 1
        line: usize,
        /// What was expected and what came
        message: String,
    },
    /// A key that does not exist
    #[error("line {line}: unknown key `{key}`{}", .nearest.as_ref().map(|name| format!("\nhint: did you mean `{name}`?")).unwrap_or_default())]
    Unknown {
        /// Counted from 1
        line: usize,
        /// As it stands there, with what it belongs to
        key: String,
        /// A known one like it
        nearest: Option<String>,
    },
    /// A key whose meaning elsewhere is not available here
    #[error("line {line}: `{key}` is not available: {why}")]
    Refused {
        /// Counted from 1
        line: usize,
        /// The key
        key: String,
        /// What to do instead
        why: &'static str,
    },
    /// A value of the wrong type or out of its range
    #[error("line {line}: `{key}`: expected {expected}, got {got}")]
    Value {
        /// Counted from 1
        line: usize,
        /// The key
        key: String,
        /// What fits
        expected: String,
        /// What came
        got: String,
    },
    /// Keys that do not go together, or one that is missing
    #[error("`{key}`: {message}")]
    Conflict {
        /// The key
        key: &'static str,
        /// What was expected and what came
        message: String,
    },
}

impl ConfigError {
    fn unknown<'a>(entry: &Entry, path: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let nearest = nearest(&entry.key, known).map(|name| format!("{path}{name}"));
        Self::Unknown { line: entry.line, key: format!("{path}{}", entry.key), nearest }
    }
}

impl TrainConfig {
    /// Reads a recipe.
    ///
    /// # Errors
    /// The first thing that is wrong with it, by line and key.
    pub fn parse(text: &str) -> Result<Parsed, ConfigError> {
        let root = yaml::read(text)?;
        let entries = match root.value {
            Value::Map(entries) => entries,
            Value::Null => Vec::new(),
            _ => {
                let message = format!("expected keys with values, got {}", root.said());
                return Err(ConfigError::Yaml { line: root.line, message });
            }
        };
        let mut config = Self::default();
        let (mut given, mut without_effect) = (Vec::new(), Vec::new());
        for entry in &entries {
            match find(table::keys(), &entry.key) {
                Some(key) => {
                    refuse_twice(&mut given, key.name, entry, "")?;
                    apply(&mut config, key, entry, "")?;
                    if entry.node.value == Value::Null {
                        given.pop();
                    }
                }
                None if table::has_no_effect(&entry.key) => without_effect.push(entry.key.clone()),
                None => refuse(entry)?,
            }
        }
        config.check(&given)?;
        Ok(Parsed { config, without_effect })
    }

    /// Every honoured key with a value in effect, as YAML.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        table::keys().filter_map(|key| (key.get)(self).map(|value| (key.name, value))).collect()
    }

    /// The keys as `docs/train-keys.md` keeps them.
    pub fn keys_markdown() -> String {
        table::markdown()
    }

    /// A commented recipe to begin with. It parses.
    pub fn template(kind: TemplateKind) -> String {
        template::write(kind)
    }

    /// β of `rl`: what is said, or the method's own.
    pub fn beta(&self) -> f64 {
        self.preference.beta.unwrap_or(match self.rl {
            Some(Rl::Simpo) => 2.0,
            Some(Rl::Grpo) => self.grpo.beta,
            _ => 0.1,
        })
    }

    /// The rate of each of `n_steps` steps.
    pub fn schedule(&self, n_steps: u64) -> Schedule {
        let n_warmup = match self.warmup {
            Warmup::Steps(n) => n.min(n_steps),
            Warmup::Share(share) => ((n_steps as f64 * share).ceil() as u64).min(n_steps),
        };
        let decay = match self.lr_scheduler {
            Scheduler::Constant => Decay::Constant,
            Scheduler::Linear => Decay::Linear,
            Scheduler::Cosine => Decay::Cosine,
            Scheduler::WarmupStableDecay => Decay::WarmupStableDecay { share: self.decay_ratio },
            Scheduler::InverseSqrt => Decay::InverseSqrt,
        };
        Schedule { lr: self.learning_rate, n_warmup, n_steps, decay, min_share: self.min_lr_ratio }
    }

    /// Which turns of a conversation are learned.
    pub fn supervise(&self) -> Supervise {
        let roles = match self.train_on_inputs {
            true => vec![Role::System, Role::User, Role::Assistant, Role::Tool],
            false => self.roles_to_train.iter().filter_map(|name| table::role(name)).collect(),
        };
        Supervise { roles, last_only: self.last_turn_only }
    }

    /// What the table cannot say of single keys.
    fn check(&self, given: &[&'static str]) -> Result<(), ConfigError> {
        let refuse = |key, message: &str| Err(ConfigError::Conflict { key, message: message.to_owned() });
        let is_given = |key| given.contains(&key);
        match (&self.base_model, &self.architecture) {
            (None, None) => {
                return refuse("base_model", "expected a model, or `architecture` to make one, got neither");
            }
            (Some(_), Some(_)) => return refuse("architecture", "expected without `base_model`, got both"),
            _ => {}
        }
        if self.datasets.is_empty() {
            return refuse("datasets", "expected at least one, got none");
        }
        if !is_given("learning_rate") {
            return refuse("learning_rate", "expected a number above 0, got nothing");
        }
        if self.datasets.iter().map(|dataset| dataset.weight).sum::<f64>() <= 0.0 {
            return refuse("datasets", "expected a `weight` above 0 for at least one, got none");
        }
        for [one, other] in [
            ["warmup_steps", "warmup_ratio"],
            ["save_steps", "saves_per_epoch"],
            ["eval_steps", "evals_per_epoch"],
        ] {
            if is_given(one) && is_given(other) {
                return refuse(other, &format!("expected without `{one}`, got both"));
            }
        }
        let lora = matches!(self.adapter, Some(AdapterKind::Lora | AdapterKind::Qlora));
        if let Some(key) = given.iter().find(|key| table::is_lora(key)).filter(|_| !lora) {
            return refuse(key, "expected only with `adapter: lora` or `adapter: qlora`");
        }
        if is_given("num_virtual_tokens") && (lora || self.adapter.is_none()) {
            return refuse(
                "num_virtual_tokens",
                "expected only with `adapter: prompt_tuning` or `prefix_tuning`",
            );
        }
        match (self.lora.target_linear, self.lora.targets.is_empty()) {
            (Some(true), false) => {
                return refuse("lora_target_linear", "expected without `lora_target_modules`, got both");
            }
            (Some(false), true) => {
                return refuse("lora_target_modules", "expected layers that change, got none");
            }
            _ => {}
        }
        if self.adapter.is_some() && self.base_model.is_none() {
            return refuse(
                "adapter",
                "expected with `base_model`, got `architecture`\nhint: a new model has nothing to adapt",
            );
        }
        if self.lora.load_in_4bit == Some(true) && self.adapter != Some(AdapterKind::Qlora) {
            return refuse("load_in_4bit", "expected only with `adapter: qlora`");
        }
        if let Some(key) = given.iter().find(|key| table::is_preference(key)).filter(|_| self.rl.is_none()) {
            return refuse(key, "expected only with `rl`");
        }
        if self.rl == Some(Rl::Grpo) && self.rewards.is_empty() {
            return refuse("rewards", "expected at least one with `rl: grpo`, got none");
        }
        if self.rl != Some(Rl::Grpo) && (is_given("trl") || is_given("rewards")) {
            return refuse(if is_given("trl") { "trl" } else { "rewards" }, "expected only with `rl: grpo`");
        }
        let measures = self.held_out != HeldOut::None || !self.test_datasets.is_empty();
        if is_given("early_stopping_patience") && !measures {
            return refuse(
                "early_stopping_patience",
                "expected with `val_set_size` or `test_datasets`, got neither",
            );
        }
        if matches!(self.eval, Every::Steps(_) | Every::PerEpoch(_)) && !measures {
            let key = if is_given("eval_steps") { "eval_steps" } else { "evals_per_epoch" };
            return refuse(key, "expected with `val_set_size` or `test_datasets`, got neither");
        }
        if self.resume_from_checkpoint.is_some() && self.auto_resume {
            return refuse(
                "auto_resume_from_checkpoints",
                "expected without `resume_from_checkpoint`, got both",
            );
        }
        Ok(())
    }
}

/// A key that is not honoured and has an effect elsewhere, or is not known at all.
fn refuse(entry: &Entry) -> Result<(), ConfigError> {
    let Some(refused) = table::REFUSED.iter().find(|refused| refused.name == entry.key) else {
        return Err(ConfigError::unknown(entry, "", table::known_names()));
    };
    let passes = match &entry.node.value {
        Value::Null => true,
        Value::Scalar { text, .. } => refused.unless.contains(&text.to_lowercase().as_str()),
        Value::List(nodes) => nodes.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    };
    match passes {
        true => Ok(()),
        false => Err(ConfigError::Refused { line: entry.line, key: entry.key.clone(), why: refused.why }),
    }
}

#[cfg(test)]
mod tests;
