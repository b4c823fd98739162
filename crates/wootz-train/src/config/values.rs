//! The values of a recipe that are more than numbers and texts, and what holds where nothing is said.
//!
//! Where:  fields of [`TrainConfig`].

use wootz_data::Shape;

use super::TrainConfig;
use super::keys::Named;

/// What is trained instead of the model's own weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterKind {
    /// Low-rank changes
    Lora,
    /// Low-rank changes of a model in 4 bits, or in whatever a GGUF has
    Qlora,
    /// Rows before the text
    PromptTuning,
    /// Keys and values before the text, in every layer
    PrefixTuning,
}

impl Named for AdapterKind {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("lora", Self::Lora),
        ("qlora", Self::Qlora),
        ("prompt_tuning", Self::PromptTuning),
        ("prefix_tuning", Self::PrefixTuning),
    ];
}

/// Settings of low-rank changes.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// r
    pub rank: u64,
    /// α
    pub alpha: f64,
    /// Share of the inputs that are left out
    pub dropout: f64,
    /// Ends of the names of the layers that change; empty is every linear layer but the head
    pub targets: Vec<String>,
    /// What axolotl says instead of an empty list
    pub target_linear: Option<bool>,
    /// Whether α is divided by √r
    pub rank_stabilised: bool,
    /// Whether magnitudes learn apart (DoRA)
    pub magnitudes: bool,
    /// First values
    pub init: LoraInit,
    /// An adapter to go on from
    pub start: Option<String>,
    /// What axolotl says beside `adapter: qlora`
    pub load_in_4bit: Option<bool>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Vec::new(),
            target_linear: None,
            rank_stabilised: false,
            magnitudes: false,
            init: LoraInit::Zero,
            start: None,
            load_in_4bit: None,
        }
    }
}

/// First values of low-rank changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoraInit {
    /// They change nothing at first
    Zero,
    /// They make good what quantization lost
    Loftq,
}

impl Named for LoraInit {
    const NAMES: &'static [(&'static str, Self)] =
        &[("zero", Self::Zero), ("true", Self::Zero), ("loftq", Self::Loftq)];
}

/// Learning from preferences or rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rl {
    /// Direct preference optimization
    Dpo,
    /// Its square loss
    Ipo,
    /// Single answers, good or bad
    Kto,
    /// Odds ratios
    Orpo,
    /// Without a reference
    Simpo,
    /// Groups of sampled answers
    Grpo,
}

impl Named for Rl {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("dpo", Self::Dpo),
        ("ipo", Self::Ipo),
        ("kto", Self::Kto),
        ("orpo", Self::Orpo),
        ("simpo", Self::Simpo),
        ("grpo", Self::Grpo),
    ];
}

/// Settings of DPO and its kin.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceConfig {
    /// β; unset is the method's own: 2 for SimPO, else 0.1
    pub beta: Option<f64>,
    /// Share of pairs that are labelled wrongly
    pub label_smoothing: f64,
    /// The margin that SimPO asks for
    pub gamma: f64,
    /// λ of KTO's good answers
    pub desirable_weight: f64,
    /// λ of KTO's bad answers
    pub undesirable_weight: f64,
    /// Weight of the chosen answers' own loss
    pub sft_weight: f64,
}

impl Default for PreferenceConfig {
    fn default() -> Self {
        Self {
            beta: None,
            label_smoothing: 0.0,
            gamma: 0.5,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
            sft_weight: 0.0,
        }
    }
}

/// Settings of GRPO.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoConfig {
    /// Weight of the distance to the first weights; 0 needs none
    pub beta: f64,
    /// Answers of a prompt
    pub num_generations: u64,
    /// Most tokens of an answer
    pub max_completion_length: u64,
    /// Times that a generation is learned from
    pub num_iterations: u64,
    /// How far a ratio may fall below 1
    pub epsilon: f64,
    /// How far it may rise above 1; unset is `epsilon`
    pub epsilon_high: Option<f64>,
    /// What sums over tokens are divided by
    pub loss: GrpoLoss,
    /// What advantages are divided by
    pub scale_rewards: ScaleRewards,
    /// Of sampling
    pub temperature: f64,
    /// Of sampling
    pub top_p: f64,
    /// Of sampling; 0 is all
    pub top_k: u64,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            beta: 0.0,
            num_generations: 8,
            max_completion_length: 256,
            num_iterations: 1,
            epsilon: 0.2,
            epsilon_high: None,
            loss: GrpoLoss::Dapo,
            scale_rewards: ScaleRewards::Group,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
        }
    }
}

/// What GRPO's sum over tokens is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpoLoss {
    /// Each answer's tokens, then the answers
    Grpo,
    /// The tokens of the micro-batch
    Bnpo,
    /// `max_completion_length` an answer
    DrGrpo,
    /// The tokens of the step
    Dapo,
}

impl Named for GrpoLoss {
    const NAMES: &'static [(&'static str, Self)] =
        &[("dapo", Self::Dapo), ("grpo", Self::Grpo), ("bnpo", Self::Bnpo), ("dr_grpo", Self::DrGrpo)];
}

/// What advantages are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleRewards {
    /// How the rewards of a group differ
    Group,
    /// How the rewards of a batch differ
    Batch,
    /// Nothing
    None,
}

impl Named for ScaleRewards {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("group", Self::Group),
        ("true", Self::Group),
        ("batch", Self::Batch),
        ("none", Self::None),
        ("false", Self::None),
    ];
}

/// What an answer is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Reward {
    /// How
    pub kind: RewardKind,
    /// What its 1 counts
    pub weight: f64,
    /// `regex`: what must be found; `exact`: what finds the answer in the text, by its first group
    pub pattern: Option<String>,
    /// `json_schema`: the schema
    pub schema: Option<String>,
    /// `command`: program and arguments; the answer is its input
    pub command: Vec<String>,
    /// `judge`: the model that judges
    pub model: Option<String>,
    /// `judge`: what it is asked
    pub prompt: Option<String>,
    /// Longest that a judgement takes, in seconds
    pub timeout_s: u64,
}

impl Default for Reward {
    fn default() -> Self {
        Self {
            kind: RewardKind::Exact,
            weight: 1.0,
            pattern: None,
            schema: None,
            command: Vec::new(),
            model: None,
            prompt: None,
            timeout_s: 10,
        }
    }
}

/// How an answer is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewardKind {
    /// It is the row's `answer`
    Exact,
    /// It matches
    Regex,
    /// It is such a document
    JsonSchema,
    /// A program ends with code 0
    Command,
    /// Another model says so
    Judge,
}

impl Named for RewardKind {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("exact", Self::Exact),
        ("regex", Self::Regex),
        ("json_schema", Self::JsonSchema),
        ("command", Self::Command),
        ("judge", Self::Judge),
    ];
}

/// A source of examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// A file, a folder, a glob, or a data set's name on a hub
    pub path: String,
    /// Of a folder or a data set: these of its files
    pub data_files: Vec<String>,
    /// A data set's configuration
    pub name: Option<String>,
    /// A data set's part
    pub split: String,
    /// A data set's version
    pub revision: Option<String>,
    /// What rows look like; unset: their fields tell
    pub shape: Option<Shape>,
    /// The field of plain texts
    pub field: Option<String>,
    /// The field of conversations
    pub field_messages: Option<String>,
    /// Share among the datasets, as often as it takes to fill it; unset: each row once an epoch
    pub weight: f64,
    /// Whether `weight` was said
    pub is_weighted: bool,
    /// Most rows
    pub limit: Option<u64>,
}

impl Default for Dataset {
    fn default() -> Self {
        Self {
            path: String::new(),
            data_files: Vec::new(),
            name: None,
            split: "train".to_owned(),
            revision: None,
            shape: None,
            field: None,
            field_messages: None,
            weight: 1.0,
            is_weighted: false,
            limit: None,
        }
    }
}

/// What is held out to measure with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeldOut {
    /// Nothing
    None,
    /// A share of the rows
    Share(f64),
    /// So many rows
    Rows(u64),
}

/// What becomes of examples longer than `sequence_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLong {
    /// They are left out
    Drop,
    /// Their end is cut off
    Truncate,
    /// Texts become several rows
    Split,
    /// The run stops
    Refuse,
}

impl Named for TooLong {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("drop", Self::Drop),
        ("truncate", Self::Truncate),
        ("split", Self::Split),
        ("raise", Self::Refuse),
    ];
}

/// How the rate rises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warmup {
    /// Over so many steps
    Steps(u64),
    /// Over this share of all steps
    Share(f64),
}

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// At the end
    End,
    /// After so many steps, and at the end
    Steps(u64),
    /// So often an epoch
    PerEpoch(u64),
}

/// How the rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// Along half a cosine
    Cosine,
    /// In a straight line
    Linear,
    /// It stays
    Constant,
    /// It stays, then falls
    WarmupStableDecay,
    /// With the inverse square root of the step
    InverseSqrt,
}

impl Named for Scheduler {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("cosine", Self::Cosine),
        ("cosine_with_min_lr", Self::Cosine),
        ("linear", Self::Linear),
        ("constant", Self::Constant),
        ("constant_with_warmup", Self::Constant),
        ("warmup_stable_decay", Self::WarmupStableDecay),
        ("wsd", Self::WarmupStableDecay),
        ("inverse_sqrt", Self::InverseSqrt),
    ];
}

/// How weights follow gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptimizerName {
    /// Adam with decay of its own
    AdamW,
    /// The same with states in 8 bits
    AdamW8,
    /// Adam
    Adam,
    /// Lion
    Lion,
    /// Muon for matrices, AdamW for the rest
    Muon,
    /// Schedule-free AdamW
    ScheduleFree,
    /// Stochastic gradient descent, with `momentum`
    Sgd,
    /// RMSprop
    RmsProp,
    /// LAMB
    Lamb,
}

impl Named for OptimizerName {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("adamw_torch", Self::AdamW),
        ("adamw_torch_fused", Self::AdamW),
        ("adamw_hf", Self::AdamW),
        ("adamw", Self::AdamW),
        ("paged_adamw_32bit", Self::AdamW),
        ("adamw_8bit", Self::AdamW8),
        ("adamw_bnb_8bit", Self::AdamW8),
        ("paged_adamw_8bit", Self::AdamW8),
        ("adamw_torch_8bit", Self::AdamW8),
        ("adam", Self::Adam),
        ("lion", Self::Lion),
        ("lion_pytorch", Self::Lion),
        ("lion_32bit", Self::Lion),
        ("paged_lion_32bit", Self::Lion),
        ("muon", Self::Muon),
        ("schedule_free_adamw", Self::ScheduleFree),
        ("schedule_free", Self::ScheduleFree),
        ("sgd", Self::Sgd),
        ("rmsprop", Self::RmsProp),
        ("lamb", Self::Lamb),
    ];
}

/// What the model computes in; optimizers keep f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32
    F32,
    /// bf16
    Bf16,
    /// bf16 where the machine has instructions for it
    Auto,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            base_model: None,
            architecture: None,
            tokenizer: None,
            chat_template: None,
            special_tokens: Vec::new(),
            adapter: None,
            lora: LoraConfig::default(),
            num_virtual_tokens: 20,
            rl: None,
            preference: PreferenceConfig::default(),
            grpo: GrpoConfig::default(),
            rewards: Vec::new(),
            datasets: Vec::new(),
            test_datasets: Vec::new(),
            held_out: HeldOut::None,
            dataset_prepared_path: None,
            sequence_len: 512,
            too_long: TooLong::Drop,
            sample_packing: false,
            shuffle: true,
            train_on_inputs: false,
            roles_to_train: vec!["assistant".to_owned()],
            last_turn_only: false,
            micro_batch_size: 1,
            gradient_accumulation_steps: 1,
            num_epochs: 1.0,
            max_steps: None,
            learning_rate: 0.0,
            lr_scheduler: Scheduler::Cosine,
            min_lr_ratio: 0.0,
            decay_ratio: 0.1,
            warmup: Warmup::Steps(0),
            optimizer: OptimizerName::AdamW,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            momentum: None,
            weight_decay: 0.0,
            max_grad_norm: Some(1.0),
            neftune_noise_alpha: None,
            ema_decay: None,
            gradient_checkpointing: false,
            precision: Precision::F32,
            seed: 42,
            output_dir: "model-out".to_owned(),
            save: Every::End,
            save_total_limit: Some(3),
            eval: Every::End,
            logging_steps: 1,
            early_stopping_patience: None,
            resume_from_checkpoint: None,
            auto_resume: false,
            sample_prompts: Vec::new(),
            sample_steps: None,
        }
    }
}
