//! Where things are kept: `$WOOTZ_HOME`, Hugging Face's cache, and what the environment says.
//!
//! Where:  the only file that reads environment variables.

use std::path::PathBuf;

/// `$WOOTZ_HOME`, or `~/.wootz`.
pub(crate) fn home() -> PathBuf {
    match std::env::var_os("WOOTZ_HOME") {
        Some(path) if !path.is_empty() => path.into(),
        _ => user_home().join(".wootz"),
    }
}

/// Hugging Face's cache of models: `$HF_HUB_CACHE`, `$HF_HOME/hub`, or `~/.cache/huggingface/hub`.
pub(crate) fn hf_cache() -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("HF_HUB_CACHE")
        .or_else(|| var("HF_HOME").map(|home| home.join("hub")))
        .unwrap_or_else(|| user_home().join(".cache/huggingface/hub"))
}

fn user_home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}
