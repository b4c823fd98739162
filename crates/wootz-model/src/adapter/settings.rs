//! `adapter_config.json` of PEFT: which keys are honoured, without effect, or refused.

use std::path::Path;

use fancy_regex::Regex;
use serde_json::Value;

use crate::hf::Hf;
use crate::{Error, Result};

/// What a LoRA was trained with, as far as that decides what it computes.
#[derive(Clone, Debug)]
pub struct LoraSettings {
    hf: Hf,
    /// The rank of modules for which `rank_pattern` has no other.
    pub rank: usize,
    /// The same for `alpha_pattern`.
    pub alpha: f64,
    /// The scale is α/√r, else α/r (Kalajdzievski 2023, arXiv:2312.03732).
    pub use_rslora: bool,
    /// Magnitudes are trained apart from directions.
    pub use_dora: bool,
    /// `lora_B` has a bias.
    pub lora_bias: bool,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
    targets: Targets,
}

/// Which modules a file may change.
#[derive(Clone, Debug)]
enum Targets {
    All,
    Named(Vec<String>),
    Pattern(Regex),
}

/// Keys that decide what is computed; all are looked at here.
const HONOURED: [&str; 12] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "bias",
    "task_type",
    "init_lora_weights",
];

/// Keys without effect here: how it was trained, where the numbers of A and B came from, or, as `layers_to_transform` and
/// `fan_in_fan_out`, what the file's tensors say themselves.
const WITHOUT_EFFECT: [&str; 19] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

/// Ways to begin that change the model's own weights, which then are not those of its files.
const CHANGES_THE_MODEL: [&str; 6] = ["pissa", "olora", "corda", "loftq", "lora_ga", "monteclora"];

impl LoraSettings {
    /// Reads `adapter_config.json` of a folder.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("adapter_config.json");
        let text = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(file: &str, text: &[u8]) -> Result<Self> {
        let hf = Hf::parse(file, text)?;
        refuse_unknown(&hf)?;
        if hf.str("peft_type") != Some("LORA") {
            return Err(hf.error("peft_type", "`LORA`", hf.str("peft_type").unwrap_or("nothing")));
        }
        if let Some(kind) = hf.str("task_type").filter(|kind| *kind != "CAUSAL_LM") {
            return Err(hf.error("task_type", "`CAUSAL_LM`", kind));
        }
        let init = hf.str("init_lora_weights").unwrap_or_default();
        if CHANGES_THE_MODEL.iter().any(|kind| init.starts_with(kind)) {
            let expected =
                "one that leaves the model's own weights alone (PEFT can convert it to a plain LoRA)";
            return Err(hf.error("init_lora_weights", expected, init));
        }
        let bias = hf.str("bias").unwrap_or("none");
        if !["none", "all", "lora_only"].contains(&bias) {
            return Err(hf.error("bias", "`none`, `all` or `lora_only`", bias));
        }
        let targets = match hf.get("target_modules") {
            None => Targets::All,
            Some(Value::String(name)) if name == "all-linear" => Targets::All,
            Some(Value::String(pattern)) => Targets::Pattern(whole(&hf, "target_modules", pattern)?),
            Some(_) => {
                let names = hf.strings("target_modules");
                let names = names
                    .ok_or_else(|| hf.error("target_modules", "names or a pattern", "something else"))?;
                Targets::Named(names.into_iter().map(str::to_owned).collect())
            }
        };
        let settings = Self {
            rank: hf.positive("r")?,
            alpha: hf.f64("lora_alpha")?,
            use_rslora: hf.bool_or("use_rslora", false)?,
            use_dora: hf.bool_or("use_dora", false)?,
            lora_bias: hf.bool_or("lora_bias", false)?,
            ranks: patterns(&hf, "rank_pattern")?,
            alphas: patterns(&hf, "alpha_pattern")?,
            targets,
            hf,
        };
        if settings.use_dora && settings.lora_bias {
            return Err(settings.hf.error("lora_bias", "none together with `use_dora`", "both"));
        }
        Ok(settings)
    }

    /// The file's keys.
    pub fn hf(&self) -> &Hf {
        &self.hf
    }

    /// Whether biases of the model were trained along.
    pub(super) fn trains_biases(&self) -> bool {
        self.hf.str("bias").is_some_and(|bias| bias != "none")
    }

    /// The rank and the scale of a module.
    pub(super) fn rank_and_scale(&self, module: &str) -> (usize, f64) {
        let of = |patterns: &[(Regex, f64)], default: f64| {
            let found = patterns.iter().find(|(pattern, _)| pattern.is_match(module).unwrap_or(false));
            found.map_or(default, |(_, value)| *value)
        };
        let (rank, alpha) = (of(&self.ranks, self.rank as f64), of(&self.alphas, self.alpha));
        (rank as usize, alpha / if self.use_rslora { rank.sqrt() } else { rank })
    }

    /// Checks that `target_modules` has a module of which the file has tensors: PEFT would leave them out.
    pub(super) fn check_target(&self, module: &str) -> Result<()> {
        let is_target = match &self.targets {
            Targets::All => true,
            Targets::Named(names) => {
                let is_it = |name: &String| {
                    module
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                names.iter().any(is_it)
            }
            Targets::Pattern(pattern) => pattern.is_match(module).unwrap_or(false),
        };
        match is_target {
            true => Ok(()),
            false => Err(self.hf.error(
                "target_modules",
                &format!("`{module}`, which has tensors"),
                "it is not among them",
            )),
        }
    }
}

/// Refuses keys that nobody here knows, unless they say nothing.
fn refuse_unknown(hf: &Hf) -> Result<()> {
    for (key, value) in hf.map() {
        let says_nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        let is_trained = ["modules_to_save", "target_parameters"].contains(&key.as_str());
        if is_trained && !says_nothing {
            return Err(hf.error(key, "none: only linear layers take adapters here", &value.to_string()));
        }
        let is_known = HONOURED.contains(&key.as_str()) || WITHOUT_EFFECT.contains(&key.as_str());
        if !is_known && !says_nothing {
            return Err(hf.error(key, "none: it is not supported", &value.to_string()));
        }
    }
    Ok(())
}

/// A pattern that must match a whole name.
fn whole(hf: &Hf, key: &str, pattern: &str) -> Result<Regex> {
    if pattern.len() > 4096 {
        return Err(hf.error(key, "a pattern of up to 4,096 bytes", &format!("{} bytes", pattern.len())));
    }
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| hf.error(key, "a pattern", &error.to_string()))
}

/// Names or patterns of modules with a number each; like PEFT's, they match the end of a name, from a dot on.
fn patterns(hf: &Hf, key: &str) -> Result<Vec<(Regex, f64)>> {
    let Some(value) = hf.get(key) else { return Ok(Vec::new()) };
    let map = value.as_object().ok_or_else(|| hf.error(key, "an object", &value.to_string()))?;
    let one = |(pattern, value): (&String, &Value)| {
        let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        let number = number.ok_or_else(|| hf.error(key, "numbers above 0", &value.to_string()))?;
        Ok((whole(hf, key, &format!(r"(?:.*\.)?(?:{pattern})"))?, number))
    };
    map.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &str) -> Result<LoraSettings> {
        let text = format!(r#"{{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none"{more}}}"#);
        LoraSettings::parse("adapter_config.json", text.as_bytes())
    }

    #[test]
    fn ranks_and_scales_follow_patterns() {
        let settings = parse(
            r#", "rank_pattern": {"q_proj": 4, "layers\\.1\\.mlp\\.up_proj": 2}, "alpha_pattern": {"q_proj": 1}"#,
        )
        .unwrap();
        let check =
            |module: &str, expected: (usize, f64)| assert_eq!(settings.rank_and_scale(module), expected);
        check("model.layers.0.self_attn.q_proj", (4, 0.25));
        check("model.layers.1.mlp.up_proj", (2, 8.0));
        check("model.layers.11.mlp.up_proj", (8, 2.0));
        check("model.layers.0.self_attn.seq_proj", (8, 2.0));
        assert_eq!(parse(r#", "use_rslora": true"#).unwrap().rank_and_scale("v"), (8, 16.0 / 8_f64.sqrt()));
    }

    #[test]
    fn targets_are_names_patterns_or_all() {
        let refused = |targets: &str, module: &str| {
            parse(&format!(r#", "target_modules": {targets}"#)).unwrap().check_target(module).is_err()
        };
        assert!(!refused(r#"["q_proj"]"#, "model.layers.0.q_proj") && !refused(r#"["q_proj"]"#, "q_proj"));
        assert!(refused(r#"["proj"]"#, "model.layers.0.q_proj"));
        assert!(!refused(r#"".*\\.(q|k)_proj""#, "layers.0.k_proj"));
        assert!(refused(r#"".*\\.(q|k)_proj""#, "layers.0.v_proj"));
        assert!(!refused(r#""all-linear""#, "anything"));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let check = |more: &str, expected: &str| {
            let error = parse(more).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(r#", "modules_to_save": ["lm_head"]"#, "`modules_to_save`");
        check(r#", "target_parameters": ["experts.gate_up_proj"]"#, "`target_parameters`");
        check(r#", "use_qalora": true"#, "`use_qalora`");
        check(r#", "alora_invocation_tokens": [1]"#, "`alora_invocation_tokens`");
        check(r#", "trainable_token_indices": [1]"#, "`trainable_token_indices`");
        check(r#", "layer_replication": [[0, 1]]"#, "`layer_replication`");
        check(r#", "init_lora_weights": "pissa_niter_4""#, "`init_lora_weights`");
        check(r#", "task_type": "SEQ_CLS""#, "`task_type`");
        check(r#", "some_day": 1"#, "`some_day`");
        check(r#", "target_modules": "(""#, "`target_modules`");
        check(r#", "rank_pattern": {"a": "b"}"#, "`rank_pattern`");
        check(r#", "use_dora": true, "lora_bias": true"#, "`lora_bias`");
        assert!(parse(r#", "some_day": null, "use_qalora": false, "lora_dropout": 0.1"#).is_ok());
    }
}
