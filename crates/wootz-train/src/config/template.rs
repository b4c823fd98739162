//! Commented recipes to begin with.
//!
//! Where:  `wootz train --init`.
//! Idea:   a template says which keys it sets and to what; what they mean stands in the table of keys, so a comment cannot
//!         say something else than the parser does.

use super::keys::{Key, find};
use super::{TrainConfig, table};

/// What a recipe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateKind {
    /// A new model from text
    Pretrain,
    /// All weights of a model, from conversations
    Sft,
    /// Low-rank changes
    Lora,
    /// The same on a quantized model
    Qlora,
    /// Preferences
    Dpo,
    /// Rewards
    Grpo,
}

impl TemplateKind {
    /// All of them with their names.
    pub const NAMES: [(&str, Self); 6] = [
        ("pretrain", Self::Pretrain),
        ("sft", Self::Sft),
        ("lora", Self::Lora),
        ("qlora", Self::Qlora),
        ("dpo", Self::Dpo),
        ("grpo", Self::Grpo),
    ];

    /// What it makes, and its keys with their values; a value `""` is a line as it is in `key`. Keys that begin with `#` are
    /// there to be switched on.
    fn lines(self) -> (&'static str, Vec<(&'static str, &'static str)>) {
        let (about, [own, data, steps]) = match self {
            Self::Pretrain => ("A new model from plain text.", PRETRAIN),
            Self::Sft => ("All weights of a model learn from conversations.", SFT),
            Self::Lora => ("Low-rank changes of a model learn from conversations.", LORA),
            Self::Qlora => ("Low-rank changes of a quantized model learn from conversations.", QLORA),
            Self::Dpo => ("A model learns which of two answers is better.", DPO),
            Self::Grpo => ("A model tries answers and learns from how they are judged.", GRPO),
        };
        (about, [own, data, steps, RUN].concat())
    }
}

type Lines = &'static [(&'static str, &'static str)];

const PRETRAIN: [Lines; 3] = [
    &[
        ("architecture", ""),
        ("  model_type: llama", ""),
        ("  hidden_size: 256", ""),
        ("  intermediate_size: 704", ""),
        ("  num_hidden_layers: 8", ""),
        ("  num_attention_heads: 8", ""),
        ("  num_key_value_heads: 4", ""),
        ("  vocab_size: 8192", ""),
        ("  max_position_embeddings: 512", ""),
        ("  tie_word_embeddings: true", ""),
        ("tokenizer", "tokenizer.json"),
    ],
    &[
        ("datasets", ""),
        ("  - path: texts/*.txt", ""),
        ("    type: text", ""),
        ("val_set_size", "0.01"),
        ("sequence_len", "512"),
        ("excess_length_strategy", "split"),
        ("sample_packing", "true"),
    ],
    &[
        ("micro_batch_size", "8"),
        ("gradient_accumulation_steps", "4"),
        ("num_epochs", "1"),
        ("#max_steps", "1000"),
        ("learning_rate", "1e-3"),
        ("lr_scheduler", "cosine"),
        ("cosine_min_lr_ratio", "0.1"),
        ("warmup_ratio", "0.02"),
        ("optimizer", "adamw_torch"),
        ("adam_beta2", "0.95"),
        ("weight_decay", "0.1"),
        ("#bf16", "auto"),
        ("#gradient_checkpointing", "true"),
    ],
];

const CONVERSATIONS: Lines = &[
    ("datasets", ""),
    ("  - path: conversations.jsonl", ""),
    ("    type: chat_template", ""),
    ("val_set_size", "0.02"),
    ("sequence_len", "1024"),
    ("sample_packing", "true"),
    ("#train_on_inputs", "true"),
    ("#train_on_last_turn_only", "true"),
];

const SFT: [Lines; 3] = [
    &[("base_model", "models/base")],
    CONVERSATIONS,
    &[
        ("micro_batch_size", "2"),
        ("gradient_accumulation_steps", "8"),
        ("num_epochs", "2"),
        ("learning_rate", "2e-5"),
        ("lr_scheduler", "cosine"),
        ("warmup_ratio", "0.03"),
        ("optimizer", "adamw_torch"),
        ("#bf16", "auto"),
        ("#neftune_noise_alpha", "5"),
        ("#gradient_checkpointing", "true"),
    ],
];

const LOW_RANK_STEPS: Lines = &[
    ("micro_batch_size", "2"),
    ("gradient_accumulation_steps", "8"),
    ("num_epochs", "2"),
    ("learning_rate", "2e-4"),
    ("lr_scheduler", "cosine"),
    ("warmup_ratio", "0.03"),
    ("optimizer", "adamw_torch"),
    ("#gradient_checkpointing", "true"),
];

const LORA: [Lines; 3] = [
    &[
        ("base_model", "models/base"),
        ("adapter", "lora"),
        ("lora_r", "16"),
        ("lora_alpha", "32"),
        ("lora_dropout", "0.05"),
        ("#lora_target_modules", "[q_proj, k_proj, v_proj, o_proj]"),
        ("#peft_use_dora", "true"),
        ("#peft_use_rslora", "true"),
    ],
    CONVERSATIONS,
    LOW_RANK_STEPS,
];

const QLORA: [Lines; 3] = [
    &[
        ("base_model", "models/base.gguf"),
        ("adapter", "qlora"),
        ("lora_r", "16"),
        ("lora_alpha", "32"),
        ("lora_dropout", "0.05"),
        ("#lora_target_modules", "[q_proj, k_proj, v_proj, o_proj]"),
        ("#peft_init_lora_weights", "loftq"),
    ],
    CONVERSATIONS,
    LOW_RANK_STEPS,
];

const DPO: [Lines; 3] = [
    &[
        ("base_model", "models/chat"),
        ("rl", "dpo"),
        ("rl_beta", "0.1"),
        ("#dpo_label_smoothing", "0.1"),
        ("#rpo_alpha", "1.0"),
    ],
    &[
        ("datasets", ""),
        ("  - path: preferences.jsonl", ""),
        ("    type: preference", ""),
        ("val_set_size", "0.02"),
        ("sequence_len", "1024"),
    ],
    &[
        ("micro_batch_size", "2"),
        ("gradient_accumulation_steps", "8"),
        ("num_epochs", "1"),
        ("learning_rate", "5e-7"),
        ("lr_scheduler", "linear"),
        ("warmup_ratio", "0.1"),
        ("optimizer", "adamw_torch"),
    ],
];

const GRPO: [Lines; 3] = [
    &[
        ("base_model", "models/chat"),
        ("rl", "grpo"),
        ("trl", ""),
        ("  num_generations: 8", ""),
        ("  max_completion_length: 256", ""),
        ("  temperature: 1.0", ""),
        ("  loss_type: dapo", ""),
        ("  beta: 0.0", ""),
        ("rewards", ""),
        ("  - type: exact", ""),
        ("    pattern: 'answer is (\\S+)'", ""),
    ],
    &[
        ("datasets", ""),
        ("  - path: questions.jsonl", ""),
        ("    type: prompt", ""),
        ("sequence_len", "1024"),
    ],
    &[
        ("micro_batch_size", "2"),
        ("gradient_accumulation_steps", "4"),
        ("max_steps", "200"),
        ("learning_rate", "1e-6"),
        ("lr_scheduler", "constant"),
        ("warmup_steps", "10"),
        ("optimizer", "adamw_torch"),
    ],
];

const RUN: Lines = &[
    ("max_grad_norm", "1.0"),
    ("seed", "42"),
    ("output_dir", "model-out"),
    ("save_steps", "200"),
    ("save_total_limit", "2"),
    ("logging_steps", "1"),
    ("#auto_resume_from_checkpoints", "true"),
    ("#sample_prompts", "[\"Once upon a time\"]"),
];

pub(super) fn write(kind: TemplateKind) -> String {
    let (about, lines) = kind.lines();
    let mut text = format!(
        "# {about}\n# Every key: docs/train-keys.md. Lines that begin with `#` and a key are there to be switched on.\n"
    );
    let mut section = "";
    for (key, value) in lines {
        let name = key.trim_start_matches('#');
        let Some(known) = find(table::keys(), name) else {
            text += &format!("{key}\n");
            continue;
        };
        let now = section_of(known);
        if now != section {
            text += &format!("\n# {now}\n");
            section = now;
        }
        let value = if value.is_empty() { String::new() } else { format!(" {value}") };
        text += &format!("{:<40} # {}\n", format!("{key}:{value}"), known.about);
    }
    text
}

fn section_of(key: &Key<TrainConfig>) -> &'static str {
    let found = table::SECTIONS.iter().find(|section| section.1.iter().any(|other| other.name == key.name));
    found.expect("every key has a section").0
}
