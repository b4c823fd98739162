//! Every key of a recipe: the honoured ones with what they take and mean, those without effect, those that are refused.
//!
//! Where:  parsing, `docs/train-keys.md` and templates read these tables and nothing else.
//! Source: names from axolotl; those that it lacks are ours and say so in no other way than by being here.

use serde_json::{Map, Value as Json};
use wootz_data::Shape;
use wootz_text::Role;

use super::keys::{
    ANY_COUNT, AT_LEAST_1, Given, Key, NOT_NEGATIVE, Named, POSITIVE, SHARE, Shown, Takes, names, nearest,
    read_keys,
};
use super::values::{Dataset, Every, GrpoConfig, HeldOut, Precision, Reward, Warmup};
use super::yaml::{Node, Value};
use super::{AdapterKind, ConfigError, TrainConfig};

/// A row whose value is kept as it is given.
macro_rules! key {
    ($name:literal, $takes:expr, $about:literal, $($field:ident).+: $as:ident) => {
        key!($name, [], $takes, $about, $($field).+: $as)
    };
    ($name:literal, [$($also:literal),*], $takes:expr, $about:literal, $($field:ident).+: $as:ident) => {
        Key {
            name: $name,
            also: &[$($also),*],
            takes: $takes,
            about: $about,
            set: |kept, given| {
                kept.$($field).+ = given.$as().into();
                Ok(())
            },
            get: |kept| kept.$($field).+.shown(),
        }
    };
}

/// A row with a name for each of its values.
macro_rules! choice {
    ($name:literal, $choice:ty, $about:literal, $($field:ident).+) => {
        Key {
            name: $name,
            also: &[],
            takes: Takes::Choice(names::<$choice>),
            about: $about,
            set: |kept, given| {
                kept.$($field).+ = given.one::<$choice>().into();
                Ok(())
            },
            get: |kept| Option::<$choice>::from(kept.$($field).+).map(|choice| choice.name().to_owned()),
        }
    };
}

/// A row with a meaning of its own.
macro_rules! own {
    ($name:literal, [$($also:literal),*], $takes:expr, $about:literal, $set:expr, $get:expr) => {
        Key { name: $name, also: &[$($also),*], takes: $takes, about: $about, set: $set, get: $get }
    };
}

/// A row of something that is done now and then.
macro_rules! every {
    ($name:literal, $about:literal, $field:ident: $unit:ident) => {
        Key {
            name: $name,
            also: &[],
            takes: AT_LEAST_1,
            about: $about,
            set: |config, given| {
                config.$field = Every::$unit(given.count());
                Ok(())
            },
            get: |config| match config.$field {
                Every::$unit(n) => n.shown(),
                _ => None,
            },
        }
    };
}

/// 0 to below 1.
const BETA: Takes = Takes::Number { min: 0.0, with_min: true, max: 1.0 - f64::EPSILON };

/// Honoured keys by what they are about.
pub(super) static SECTIONS: &[(&str, &[Key<TrainConfig>])] = &[
    ("Model", MODEL),
    ("Adapters", ADAPTERS),
    ("Data", DATA),
    ("Preferences and rewards", PREFERENCES),
    ("Steps", STEPS),
    ("Runs", RUNS),
];

static MODEL: &[Key<TrainConfig>] = &[
    key!("base_model", Takes::Text, "The model to begin with: a folder, a GGUF, a name", base_model: text),
    own!(
        "architecture",
        [],
        Takes::Keys,
        "A new model instead, as its `config.json` would say it (`model_type: llama`, …)",
        |config, given| architecture(given.node()).map(|made| config.architecture = Some(made)),
        |config| config.architecture.as_ref().map(|made| Json::Object(made.clone()).to_string())
    ),
    key!("tokenizer", ["tokenizer_config"], Takes::Text, "Folder or file of the tokenizer, if not the model's own", tokenizer: text),
    key!("chat_template", ["chat_template_jinja"], Takes::Text,
        "The template, as text or as a file; unset is the tokenizer's own", chat_template: text),
    key!("special_tokens", Takes::Pairs, "Special tokens by use: `bos_token`, `eos_token`, `pad_token`, `unk_token`", special_tokens: pairs),
];

static ADAPTERS: &[Key<TrainConfig>] = &[
    own!(
        "adapter",
        [],
        Takes::Choice(|| [names::<AdapterKind>(), vec!["dora", "rslora"]].concat()),
        "What is trained instead of all weights: `lora`, `qlora` (on 4 bits, or on a GGUF as it is), `dora`, `rslora`, \
         `prompt_tuning`, `prefix_tuning`",
        |config, given| {
            config.adapter = match given {
                Given::Text(name) if name == "dora" => {
                    config.lora.magnitudes = true;
                    Some(AdapterKind::Lora)
                }
                Given::Text(name) if name == "rslora" => {
                    config.lora.rank_stabilised = true;
                    Some(AdapterKind::Lora)
                }
                given => Some(given.one()),
            };
            Ok(())
        },
        |config| config.adapter.map(|adapter| adapter.name().to_owned())
    ),
    key!("lora_r", Takes::Count(1, 4096), "Rank", lora.rank: count),
    key!("lora_alpha", POSITIVE, "The change counts alpha/r", lora.alpha: number),
    key!("lora_dropout", SHARE, "Share of the inputs that are left out", lora.dropout: number),
    own!(
        "lora_target_modules",
        [],
        Takes::Texts,
        "Ends of the names of the layers that change: `q_proj`, `down_proj`; unset, or `all-linear`, is every linear layer but the head",
        |config, given| {
            config.lora.targets = given.texts();
            config.lora.targets.retain(|target| target != "all-linear");
            Ok(())
        },
        |config| config.lora.targets.shown()
    ),
    key!("lora_target_linear", Takes::Flag, "The same as no `lora_target_modules`", lora.target_linear: flag),
    key!("peft_use_rslora", Takes::Flag, "The change counts alpha/√r", lora.rank_stabilised: flag),
    key!("peft_use_dora", Takes::Flag, "Magnitudes learn apart from directions", lora.magnitudes: flag),
    choice!(
        "peft_init_lora_weights",
        super::LoraInit,
        "First values: `zero` changes nothing, `loftq` makes good what quantization lost",
        lora.init
    ),
    key!("lora_model_dir", Takes::Text, "An adapter to go on from", lora.start: text),
    key!("load_in_4bit", Takes::Flag, "What `adapter: qlora` implies", lora.load_in_4bit: flag),
    key!("num_virtual_tokens", Takes::Count(1, 4096), "Rows of prompt and prefix tuning", num_virtual_tokens: count),
];

static DATA: &[Key<TrainConfig>] = &[
    own!(
        "datasets",
        [],
        Takes::Rows,
        "What is learned from; see below",
        |config, given| datasets(given.node(), "datasets").map(|made| config.datasets = made),
        |_| None
    ),
    own!(
        "test_datasets",
        [],
        Takes::Rows,
        "What is measured with, besides `val_set_size`",
        |config, given| datasets(given.node(), "test_datasets").map(|made| config.test_datasets = made),
        |_| None
    ),
    own!(
        "val_set_size",
        [],
        NOT_NEGATIVE,
        "What is held out to measure with: a share below 1, or a number of rows",
        |config, given| {
            config.held_out = match given.number() {
                0.0 => HeldOut::None,
                share if share < 1.0 => HeldOut::Share(share),
                rows => HeldOut::Rows(rows as u64),
            };
            Ok(())
        },
        |config| match config.held_out {
            HeldOut::None => 0_u64.shown(),
            HeldOut::Share(share) => share.shown(),
            HeldOut::Rows(rows) => rows.shown(),
        }
    ),
    key!("dataset_prepared_path", Takes::Text, "Where encoded examples are kept; unset is within the run", dataset_prepared_path: text),
    key!("sequence_len", Takes::Count(2, 1 << 20), "Most tokens of a row", sequence_len: count),
    choice!(
        "excess_length_strategy",
        super::TooLong,
        "Examples longer than that: `drop`, `truncate`, `split` (texts become several rows), `raise`",
        too_long
    ),
    key!("sample_packing", Takes::Flag, "Put several examples into a row; they do not see each other", sample_packing: flag),
    key!("shuffle_merged_datasets", ["shuffle"], Takes::Flag, "Another order each epoch, by `seed`", shuffle: flag),
    key!("train_on_inputs", Takes::Flag, "Learn what others say, too", train_on_inputs: flag),
    own!(
        "roles_to_train",
        [],
        Takes::Texts,
        "Whose turns are learned: `assistant`, `user`, `system`, `tool`",
        |config, given| roles(given.texts()).map(|made| config.roles_to_train = made),
        |config| config.roles_to_train.shown()
    ),
    key!("train_on_last_turn_only", Takes::Flag, "Of these turns, only a conversation's last", last_turn_only: flag),
];

static PREFERENCES: &[Key<TrainConfig>] = &[
    choice!(
        "rl",
        super::Rl,
        "Learn from preferences (`dpo`, `ipo`, `kto`, `orpo`, `simpo`) or rewards (`grpo`)",
        rl
    ),
    key!("rl_beta", ["beta", "orpo_alpha"], NOT_NEGATIVE, "How much the log-ratio counts; unset is 2 for SimPO, `trl.beta` for GRPO, else 0.1", preference.beta: number),
    key!("dpo_label_smoothing", Takes::Number { min: 0.0, with_min: true, max: 0.5 }, "Share of pairs that are taken to be labelled wrongly", preference.label_smoothing: number),
    key!("rpo_alpha", ["cpo_alpha"], NOT_NEGATIVE, "Weight of the chosen answers' own loss, for DPO and SimPO", preference.sft_weight: number),
    key!("simpo_gamma", NOT_NEGATIVE, "The margin that SimPO asks for", preference.gamma: number),
    key!("kto_desirable_weight", POSITIVE, "Weight of KTO's good answers", preference.desirable_weight: number),
    key!("kto_undesirable_weight", POSITIVE, "Weight of KTO's bad answers", preference.undesirable_weight: number),
    own!(
        "trl",
        [],
        Takes::Keys,
        "Settings of GRPO; see below",
        |config, given| read_keys(&mut config.grpo, GRPO, &given.node(), "trl."),
        |_| None
    ),
    own!(
        "rewards",
        [],
        Takes::Rows,
        "What GRPO's answers are judged by; see below",
        |config, given| rewards(given.node()).map(|made| config.rewards = made),
        |_| None
    ),
];

static STEPS: &[Key<TrainConfig>] = &[
    key!("micro_batch_size", AT_LEAST_1, "Rows (pairs, groups of answers) that go through the model at once", micro_batch_size: count),
    key!("gradient_accumulation_steps", AT_LEAST_1, "Micro-batches of a step; the loss is a mean over supervised tokens of them all", gradient_accumulation_steps: count),
    key!("num_epochs", POSITIVE, "Times that everything is seen", num_epochs: number),
    key!("max_steps", AT_LEAST_1, "Most steps", max_steps: count),
    key!("learning_rate", ["lr"], POSITIVE, "The highest rate", learning_rate: number),
    choice!("lr_scheduler", super::Scheduler, "How the rate falls", lr_scheduler),
    key!("cosine_min_lr_ratio", ["min_lr_ratio"], SHARE, "The lowest rate, as a share of the highest", min_lr_ratio: number),
    key!("wsd_decay_ratio", SHARE, "Share of the steps that fall in `warmup_stable_decay`", decay_ratio: number),
    own!(
        "warmup_steps",
        [],
        ANY_COUNT,
        "Steps over which the rate rises",
        |config, given| {
            config.warmup = Warmup::Steps(given.count());
            Ok(())
        },
        |config| match config.warmup {
            Warmup::Steps(steps) => steps.shown(),
            Warmup::Share(_) => None,
        }
    ),
    own!(
        "warmup_ratio",
        [],
        SHARE,
        "The same as a share of all steps",
        |config, given| {
            config.warmup = Warmup::Share(given.number());
            Ok(())
        },
        |config| match config.warmup {
            Warmup::Steps(_) => None,
            Warmup::Share(share) => share.shown(),
        }
    ),
    choice!("optimizer", super::OptimizerName, "How weights follow gradients", optimizer),
    key!("adam_beta1", BETA, "β₁", adam_beta1: number),
    key!("adam_beta2", BETA, "β₂", adam_beta2: number),
    key!("adam_epsilon", POSITIVE, "ε", adam_epsilon: number),
    key!("momentum", BETA, "Of `sgd` and `muon`; unset is 0 and 0.95", momentum: number),
    key!("weight_decay", NOT_NEGATIVE, "Decay of weights that are neither norms nor biases", weight_decay: number),
    own!(
        "max_grad_norm",
        [],
        NOT_NEGATIVE,
        "Longest gradient; 0 does not clip",
        |config, given| {
            config.max_grad_norm = Some(given.number()).filter(|norm| *norm > 0.0);
            Ok(())
        },
        |config| config.max_grad_norm.unwrap_or(0.0).shown()
    ),
    key!("neftune_noise_alpha", ["noisy_embedding_alpha"], NOT_NEGATIVE, "Noise on embeddings", neftune_noise_alpha: number),
    key!("ema_decay", BETA, "Keep a running average of the weights with this decay", ema_decay: number),
    key!("gradient_checkpointing", Takes::Flag, "Compute blocks again instead of keeping what they need", gradient_checkpointing: flag),
    own!(
        "bf16",
        [],
        Takes::FlagOrAuto,
        "Compute in bf16; optimizers keep f32",
        |config, given| {
            config.precision = match given {
                Given::Text(_) => Precision::Auto,
                given => {
                    if given.flag() {
                        Precision::Bf16
                    } else {
                        Precision::F32
                    }
                }
            };
            Ok(())
        },
        |config| Some(
            match config.precision {
                Precision::F32 => "false",
                Precision::Bf16 => "true",
                Precision::Auto => "auto",
            }
            .to_owned()
        )
    ),
    key!("seed", ANY_COUNT, "Of all that is random", seed: count),
];

static RUNS: &[Key<TrainConfig>] = &[
    key!("output_dir", Takes::Text, "Where everything is written", output_dir: text),
    every!("save_steps", "Steps between checkpoints; unset is at the end alone", save: Steps),
    every!("saves_per_epoch", "Checkpoints an epoch, instead", save: PerEpoch),
    own!(
        "save_total_limit",
        [],
        ANY_COUNT,
        "Most checkpoints that stay; 0 keeps all",
        |config, given| {
            config.save_total_limit = Some(given.count()).filter(|most| *most > 0);
            Ok(())
        },
        |config| config.save_total_limit.unwrap_or(0).shown()
    ),
    every!("eval_steps", "Steps between measurements of the held-out loss; unset is at the end alone", eval: Steps),
    every!("evals_per_epoch", "Measurements an epoch, instead", eval: PerEpoch),
    key!("logging_steps", AT_LEAST_1, "Steps between lines of the log", logging_steps: count),
    key!("early_stopping_patience", AT_LEAST_1, "Measurements without a lower loss that end the run", early_stopping_patience: count),
    key!("resume_from_checkpoint", Takes::Text, "A checkpoint to go on from", resume_from_checkpoint: text),
    key!("auto_resume_from_checkpoints", Takes::Flag, "Go on from the newest checkpoint in `output_dir`", auto_resume: flag),
    key!("sample_prompts", Takes::Texts, "Prompts that are answered along the way", sample_prompts: texts),
    key!("sample_steps", AT_LEAST_1, "Steps between these answers; unset is whenever is measured", sample_steps: count),
];

/// Keys of an entry of `datasets`.
static DATASET: &[Key<Dataset>] = &[
    key!("path", Takes::Text, "A file, a folder, a glob, or a data set's name on a hub", path: text),
    own!(
        "type",
        [],
        Takes::Choice(type_names),
        "What rows look like; unset: their fields tell",
        |dataset, given| {
            let name = given.text();
            dataset.shape = TYPES.iter().find(|named| named.0 == name).and_then(|named| named.1);
            Ok(())
        },
        |dataset| TYPES.iter().find(|named| named.1 == dataset.shape).map(|named| named.0.to_owned())
    ),
    key!("data_files", Takes::Texts, "Of a folder or a data set: these files", data_files: texts),
    key!("name", Takes::Text, "A data set's configuration", name: text),
    key!("split", Takes::Text, "A data set's part", split: text),
    key!("revision", Takes::Text, "A data set's version", revision: text),
    key!("field", Takes::Text, "The field of plain texts; unset is `text`", field: text),
    key!("field_messages", Takes::Text, "The field of conversations; unset is `messages` or `conversations`", field_messages: text),
    own!(
        "weight",
        [],
        NOT_NEGATIVE,
        "Share among the datasets; where none says it, each row comes once an epoch",
        |dataset, given| {
            (dataset.weight, dataset.is_weighted) = (given.number(), true);
            Ok(())
        },
        |dataset| dataset.weight.shown()
    ),
    key!("limit", AT_LEAST_1, "Most rows", limit: count),
];

/// Names of shapes. `completion` is plain text elsewhere and a completion of a prompt here: the row's fields tell.
static TYPES: &[(&str, Option<Shape>)] = &[
    ("auto", None),
    ("chat_template", None),
    ("completion", None),
    ("text", Some(Shape::Text)),
    ("messages", Some(Shape::Messages)),
    ("sharegpt", Some(Shape::ShareGpt)),
    ("alpaca", Some(Shape::Alpaca)),
    ("prompt_completion", Some(Shape::Completion)),
    ("preference", Some(Shape::Preference)),
    ("label", Some(Shape::Label)),
    ("prompt", Some(Shape::Prompt)),
];

fn type_names() -> Vec<&'static str> {
    TYPES.iter().map(|named| named.0).collect()
}

/// Keys of `trl`.
static GRPO: &[Key<GrpoConfig>] = &[
    key!("beta", NOT_NEGATIVE, "Weight of the distance to the first weights; 0 needs no reference", beta: number),
    key!("num_generations", Takes::Count(2, 4096), "Answers of a prompt", num_generations: count),
    key!("max_completion_length", Takes::Count(1, 1 << 20), "Most tokens of an answer", max_completion_length: count),
    key!("num_iterations", AT_LEAST_1, "Times that a generation is learned from", num_iterations: count),
    key!("epsilon", POSITIVE, "How far a ratio may fall below 1", epsilon: number),
    key!("epsilon_high", POSITIVE, "How far it may rise above 1; unset is `epsilon`", epsilon_high: number),
    choice!(
        "loss_type",
        super::GrpoLoss,
        "Sums over tokens are divided by: the step's tokens (`dapo`), each answer's and the answers (`grpo`), the micro-batch's (`bnpo`), `max_completion_length` an answer (`dr_grpo`)",
        loss
    ),
    choice!(
        "scale_rewards",
        super::ScaleRewards,
        "Advantages are divided by how rewards differ in the `group`, the `batch`, or `none`",
        scale_rewards
    ),
    key!("temperature", POSITIVE, "Of sampling", temperature: number),
    key!("top_p", Takes::Number { min: 0.0, with_min: false, max: 1.0 }, "Of sampling", top_p: number),
    key!("top_k", ANY_COUNT, "Of sampling; 0 is all", top_k: count),
];

/// Keys of an entry of `rewards`.
static REWARD: &[Key<Reward>] = &[
    choice!(
        "type",
        super::RewardKind,
        "`exact` (is the row's `answer`), `regex`, `json_schema`, `command` (ends with code 0; the answer is its input), `judge`",
        kind
    ),
    key!("weight", Takes::Number { min: f64::MIN, with_min: true, max: f64::MAX }, "What its 1 counts", weight: number),
    key!("pattern", Takes::Text, "`regex`: what must be found; `exact`: what finds the answer in the text, as its first group", pattern: text),
    key!("schema", Takes::Text, "`json_schema`: the schema's file", schema: text),
    key!("command", Takes::Texts, "`command`: program and arguments", command: texts),
    key!("model", Takes::Text, "`judge`: the model that judges", model: text),
    key!("prompt", Takes::Text, "`judge`: what it is asked", prompt: text),
    key!("timeout_s", Takes::Count(1, 3600), "Longest that a judgement takes", timeout_s: count),
];

/// Keys that change nothing here: how others reach memory, machines and services.
static NO_EFFECT: &[&str] = &[
    "activation_offloading",
    "accelerator_config",
    "bnb_config_kwargs",
    "cut_cross_entropy",
    "dataset_keep_in_memory",
    "dataset_num_proc",
    "dataset_processes",
    "debug",
    "device",
    "device_map",
    "eager_attention",
    "embeddings_skip_upcast",
    "eval_batch_size",
    "eval_sample_packing",
    "flash_attention",
    "flash_attn_cross_entropy",
    "flash_attn_fuse_mlp",
    "flash_attn_rms_norm",
    "flash_optimum",
    "flex_attention",
    "gpu_memory_limit",
    "gradient_checkpointing_kwargs",
    "hf_use_auth_token",
    "include_tokens_per_second",
    "is_falcon_derived_model",
    "is_llama_derived_model",
    "is_mistral_derived_model",
    "is_qwen_derived_model",
    "local_rank",
    "low_cpu_mem_usage",
    "lora_fan_in_fan_out",
    "lora_mlp_kernel",
    "lora_o_kernel",
    "lora_qkv_kernel",
    "model_type",
    "multipack_real_batches",
    "pad_to_sequence_len",
    "plugins",
    "profiler_steps",
    "s2_attention",
    "save_safetensors",
    "sdp_attention",
    "strict",
    "tf32",
    "tokenizer_legacy",
    "tokenizer_type",
    "tokenizer_use_fast",
    "trust_remote_code",
    "use_mlflow",
    "use_tensorboard",
    "use_wandb",
    "world_size",
    "xformers_attention",
];

/// The beginnings of more of them.
static NO_EFFECT_PREFIXES: &[&str] = &[
    "comet_",
    "dataloader_",
    "ddp_",
    "deepspeed",
    "fsdp",
    "liger_",
    "mlflow_",
    "ray_",
    "sample_packing_",
    "swanlab_",
    "torch_compile",
    "trackio_",
    "unsloth_",
    "wandb_",
];

/// A key that has an effect elsewhere and is not available.
pub(super) struct Refused {
    pub name: &'static str,
    /// Values that ask for nothing
    pub unless: &'static [&'static str],
    pub why: &'static str,
}

const fn refused(name: &'static str, unless: &'static [&'static str], why: &'static str) -> Refused {
    Refused { name, unless, why }
}

/// They would change what is learned, and do not here.
pub(super) static REFUSED: &[Refused] = &[
    refused(
        "auto_find_batch_size",
        &["false"],
        "memory is planned before the first step; `micro_batch_size` says how much",
    ),
    refused("batch_size", &[], "`micro_batch_size` and `gradient_accumulation_steps` say it"),
    refused("context_parallel_size", &["1"], "one machine trains"),
    refused("eval_strategy", &["steps"], "`eval_steps` or `evals_per_epoch` say it"),
    refused("fp16", &["false", "auto"], "`bf16`, or f32 without it"),
    refused("gptq", &["false"], "a GGUF may be in any type, with `adapter: qlora`"),
    refused("group_by_length", &["false"], "the order is `seed`'s; `sample_packing` saves what this would"),
    refused("hub_model_id", &[], "nothing is uploaded"),
    refused("label_smoothing_factor", &["0", "0.0"], "not built"),
    refused("lisa_n_layers", &[], "not built"),
    refused("load_in_8bit", &["false"], "a GGUF in `q8_0` with `adapter: qlora` does the same"),
    refused("lora_modules_to_save", &[], "not built; without `adapter` all weights are trained"),
    refused("loraplus_lr_ratio", &["1", "1.0"], "not built"),
    refused("optim_args", &[], "`adam_beta1`, `adam_beta2`, `adam_epsilon`, `momentum` say it"),
    refused("optim_target_modules", &[], "not built"),
    refused("pretraining_dataset", &[], "`datasets` with `type: text` says it"),
    refused("process_reward_model", &["false"], "not built"),
    refused("push_dataset_to_hub", &[], "nothing is uploaded"),
    refused("qat", &[], "not built"),
    refused("quantization", &[], "a trained model is quantized afterwards"),
    refused("relora", &["false"], "not built"),
    refused("relora_steps", &[], "not built"),
    refused("reward_model", &["false"], "not built"),
    refused("save_only_model", &["false"], "a checkpoint can always be gone on from"),
    refused("save_strategy", &["steps", "no"], "`save_steps` or `saves_per_epoch` say it"),
    refused("sequence_parallel_degree", &["1"], "one machine trains"),
    refused("tokens", &[], "a tokenizer is not changed by training"),
    refused("added_tokens_overrides", &[], "a tokenizer is not changed by training"),
    refused("train_on_eos", &["turn", "all"], "the end of a learned turn is always learned"),
    refused("train_on_eot", &["turn", "all"], "the end of a learned turn is always learned"),
    refused("unfrozen_parameters", &[], "not built"),
];

/// All honoured keys.
pub(super) fn keys() -> impl Iterator<Item = &'static Key<TrainConfig>> {
    SECTIONS.iter().flat_map(|section| section.1)
}

pub(super) fn has_no_effect(name: &str) -> bool {
    NO_EFFECT.contains(&name) || NO_EFFECT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Every name that is known, for guesses.
pub(super) fn known_names() -> impl Iterator<Item = &'static str> {
    let honoured = keys().flat_map(|key| std::iter::once(key.name).chain(key.also.iter().copied()));
    honoured.chain(NO_EFFECT.iter().copied()).chain(REFUSED.iter().map(|refused| refused.name))
}

/// Whether a key is about low-rank changes.
pub(super) fn is_lora(name: &str) -> bool {
    ADAPTERS.iter().any(|key| key.name == name)
        && !["adapter", "num_virtual_tokens", "load_in_4bit"].contains(&name)
}

/// Whether a key needs `rl`.
pub(super) fn is_preference(name: &str) -> bool {
    PREFERENCES.iter().any(|key| key.name == name) && name != "rl"
}

/// The role of a name.
pub(super) fn role(name: &str) -> Option<Role> {
    Some(match name {
        "assistant" | "gpt" | "model" => Role::Assistant,
        "user" | "human" => Role::User,
        "system" => Role::System,
        "tool" => Role::Tool,
        _ => return None,
    })
}

fn roles(named: Vec<String>) -> Result<Vec<String>, ConfigError> {
    match named.iter().find(|name| role(name).is_none()) {
        Some(name) => {
            let near = nearest(name, ["assistant", "user", "system", "tool"].into_iter());
            let hint = near.map(|near| format!("\nhint: did you mean `{near}`?")).unwrap_or_default();
            let message = format!("expected assistant, user, system or tool, got `{name}`{hint}");
            Err(ConfigError::Conflict { key: "roles_to_train", message })
        }
        None => Ok(named),
    }
}

fn datasets(node: Node, key: &'static str) -> Result<Vec<Dataset>, ConfigError> {
    list(node, key, DATASET, |dataset: &Dataset| match dataset.path.is_empty() {
        true => Some(("path", "expected a file, a folder or a name, got nothing")),
        false => None,
    })
}

fn rewards(node: Node) -> Result<Vec<Reward>, ConfigError> {
    list(node, "rewards", REWARD, |reward: &Reward| {
        use super::RewardKind as Is;
        match reward.kind {
            Is::Regex if reward.pattern.is_none() => {
                Some(("pattern", "expected what must be found, got nothing"))
            }
            Is::JsonSchema if reward.schema.is_none() => Some(("schema", "expected a file, got nothing")),
            Is::Command if reward.command.is_empty() => Some(("command", "expected a program, got nothing")),
            Is::Judge if reward.prompt.is_none() => Some(("prompt", "expected what is asked, got nothing")),
            _ => None,
        }
    })
}

/// Reads a list of keys of their own. `lacks` is what an entry lacks.
fn list<T: Default>(
    node: Node,
    name: &str,
    keys: &'static [Key<T>],
    lacks: impl Fn(&T) -> Option<(&'static str, &'static str)>,
) -> Result<Vec<T>, ConfigError> {
    let Value::List(nodes) = node.value else { panic!("`Takes::Rows` was checked") };
    let read = |(i, node): (usize, &Node)| {
        let mut made = T::default();
        read_keys(&mut made, keys, node, &format!("{name}[{i}]."))?;
        match lacks(&made) {
            Some((key, message)) => {
                let message = format!("`{name}[{i}].{key}`: {message}");
                Err(ConfigError::Yaml { line: node.line, message })
            }
            None => Ok(made),
        }
    };
    nodes.iter().enumerate().map(read).collect()
}

/// A `config.json` in YAML: values as JSON would have them.
fn architecture(node: Node) -> Result<Map<String, Json>, ConfigError> {
    let line = node.line;
    let Json::Object(made) = json(&node) else { panic!("`Takes::Keys` was checked") };
    match made.get("model_type") {
        Some(Json::String(_)) => Ok(made),
        _ => {
            let message =
                "`architecture.model_type`: expected a family such as `llama`, got nothing".to_owned();
            Err(ConfigError::Yaml { line, message })
        }
    }
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar { text, is_plain: false } => Json::from(text.as_str()),
        Value::Scalar { text, is_plain: true } => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            text => {
                let whole = text.parse::<i64>().ok().map(Json::from);
                let number =
                    || text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Json::Number);
                whole.or_else(number).unwrap_or_else(|| Json::from(text))
            }
        },
        Value::List(nodes) => nodes.iter().map(json).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect())
        }
    }
}

/// The page of `docs/train-keys.md`.
pub(super) fn markdown() -> String {
    let mut page = "# Keys of a recipe\n\n\
        Printed by `cargo run -p wootz-train --example train_keys`; a test compares. A key is honoured, or without effect here and\n\
        said so once on stderr, or stops the run: with the reason where it is known elsewhere, with the nearest known key where it\n\
        is not. A key without a value counts as absent.\n"
        .to_owned();
    let config = TrainConfig::default();
    for (title, keys) in SECTIONS {
        page += &format!("\n## {title}\n\n{}", rows(keys, &config));
    }
    page +=
        &format!("\n## An entry of `datasets` and `test_datasets`\n\n{}", rows(DATASET, &Dataset::default()));
    page += "\n`chat_template` and `completion` leave it to each row's fields, as `auto` does: rows with `text` are texts, rows with\n\
        `prompt` and `completion` are completions of prompts.\n";
    page += &format!("\n## Keys of `trl`\n\n{}", rows(GRPO, &GrpoConfig::default()));
    page += &format!("\n## An entry of `rewards`\n\n{}", rows(REWARD, &Reward::default()));
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    page += &format!(
        "\n## Without effect\n\n{}; and what begins with {}.\n",
        quoted(NO_EFFECT),
        quoted(NO_EFFECT_PREFIXES)
    );
    page += "\n## Refused\n\n";
    for refused in REFUSED {
        let unless = match refused.unless {
            [] => String::new(),
            values => format!(", unless {}", quoted(values)),
        };
        page += &format!("- `{}`{unless}: {}\n", refused.name, refused.why);
    }
    page
}

fn rows<T>(keys: &[Key<T>], default: &T) -> String {
    let mut table = "| key | takes | unset | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys {
        let also: String = key.also.iter().map(|name| format!(", `{name}`")).collect();
        let unset = (key.get)(default)
            .filter(|value| value != "\"\"")
            .map(|value| format!("`{value}`"))
            .unwrap_or_default();
        table += &format!("| `{}`{also} | {} | {unset} | {} |\n", key.name, key.takes.expected(), key.about);
    }
    table
}
