//! Settings that a recipe can name and that are not built: refused before anything is read.

use anyhow::bail;
use wootz_train::config::{AdapterKind, LoraInit, OptimizerName, Rl, TrainConfig};

/// # Errors
/// The first setting that nothing here honours, by name.
pub(crate) fn refuse_what_is_missing(config: &TrainConfig) -> anyhow::Result<()> {
    let missing: [(bool, &str); 10] = [
        (config.rl == Some(Rl::Grpo), "rl: grpo (sampling while training)"),
        (config.adapter == Some(AdapterKind::PromptTuning), "adapter: prompt_tuning"),
        (config.adapter == Some(AdapterKind::PrefixTuning), "adapter: prefix_tuning"),
        (config.lora.init == LoraInit::Loftq, "peft_init_lora_weights: loftq"),
        (config.lora.start.is_some(), "lora_model_dir"),
        (config.optimizer == OptimizerName::Muon, "optimizer: muon"),
        (
            config.optimizer == OptimizerName::ScheduleFree,
            "optimizer: schedule_free (the average that is to be kept)",
        ),
        (config.ema_decay.is_some(), "ema_decay"),
        (!config.special_tokens.is_empty(), "special_tokens"),
        (!config.sample_prompts.is_empty(), "sample_prompts"),
    ];
    match missing.iter().find(|(asked, _)| *asked) {
        Some((_, name)) => bail!("`{name}` is not built yet"),
        None => Ok(()),
    }
}
