//! Recipes that say what they mean, and recipes that cannot.

use super::*;

const LEAST: &str = "base_model: m\ndatasets: [{path: a.jsonl}]\nlearning_rate: 1e-4\n";

fn parse(more: &str) -> Result<Parsed, ConfigError> {
    TrainConfig::parse(&format!("{LEAST}{more}"))
}

#[test]
fn a_recipe_says_what_it_says() {
    let text = "
base_model: models/llama
adapter: lora
lora_r: 8
lora_target_modules: [q_proj, v_proj]
datasets:
  - path: a.jsonl
    type: chat_template
  - path: b/*.jsonl.zst
    type: alpaca
    weight: 3
val_set_size: 0.05
learning_rate: 2e-4
optimizer: adamw_bnb_8bit
warmup_ratio: 0.1
bf16: auto
shuffle: no
flash_attention: true
wandb_project:
";
    let Parsed { config, without_effect } = TrainConfig::parse(text).unwrap();
    assert_eq!(without_effect, ["flash_attention", "wandb_project"]);
    assert_eq!((config.adapter, config.lora.rank), (Some(AdapterKind::Lora), 8));
    assert_eq!((config.lora.targets.len(), config.beta()), (2, 0.1));
    assert_eq!(config.datasets[1].weight, 3.0);
    assert_eq!(config.datasets[1].shape, Some(wootz_data::Shape::Alpaca));
    assert_eq!((config.held_out, config.learning_rate), (HeldOut::Share(0.05), 2e-4));
    assert_eq!((config.optimizer, config.precision), (OptimizerName::AdamW8, Precision::Auto));
    assert!(!config.shuffle);
    assert_eq!(config.schedule(101).n_warmup, 11);
    assert_eq!(config.supervise(), Supervise::default());
}

#[test]
fn an_architecture_is_a_config_json() {
    let text = "architecture: {model_type: llama, hidden_size: 64, rms_norm_eps: 1e-5, tie_word_embeddings: true}\n\
                datasets: [{path: a.txt}]\nlr: 1e-3\n";
    let made = TrainConfig::parse(text).unwrap().config.architecture.unwrap();
    let expected = serde_json::json!({"model_type": "llama", "hidden_size": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true});
    assert_eq!(Json::Object(made), expected);
}

#[test]
fn whatever_is_wrong_is_named_with_its_line() {
    for (more, said) in [
        ("learing_rate: 1", "line 4: unknown key `learing_rate`\nhint: did you mean `learning_rate`?"),
        ("zzzzzzzz: 1", "line 4: unknown key `zzzzzzzz`"),
        ("lora_r: 0\nadapter: lora", "line 4: `lora_r`: expected a whole number, 1 to 4096, got `0`"),
        ("seed: x", "line 4: `seed`: expected a whole number, got `x`"),
        ("seed: [1]", "`seed`: expected a whole number, got a list"),
        ("weight_decay: -1", "expected a number, at least 0, got `-1`"),
        ("weight_decay: .inf", "expected a number, at least 0, got `.inf`"),
        ("bf16: maybe", "`bf16`: expected true, false or auto, got `maybe`"),
        ("optimizer: adamx", "`optimizer`: expected one of adamw_torch,"),
        ("fp16: true", "line 4: `fp16` is not available: `bf16`, or f32 without it"),
        ("beta: 0.1\nrl_beta: 0.2\nrl: dpo", "line 5: `rl_beta` is another name of `rl_beta`"),
        ("lora_r: 8", "`lora_r`: expected only with `adapter: lora`"),
        (
            "adapter: lora\nlora_target_linear: true\nlora_target_modules: q_proj",
            "`lora_target_linear`: expected without",
        ),
        ("rl_beta: 0.1", "`rl_beta`: expected only with `rl`"),
        ("rl: grpo", "`rewards`: expected at least one with `rl: grpo`, got none"),
        (
            "rl: grpo\ntrl: {num_generation: 4}",
            "line 5: unknown key `trl.num_generation`\nhint: did you mean `trl.num_generations`?",
        ),
        (
            "rl: grpo\nrewards: [{type: regex}]",
            "`rewards[0].pattern`: expected what must be found, got nothing",
        ),
        (
            "test_datasets: [{typ: text}]",
            "unknown key `test_datasets[0].typ`\nhint: did you mean `test_datasets[0].type`?",
        ),
        (
            "test_datasets: [{type: text}]",
            "`test_datasets[0].path`: expected a file, a folder or a name, got nothing",
        ),
        (
            "test_datasets: a.jsonl",
            "`test_datasets`: expected a list, each entry with keys of its own, got `a.jsonl`",
        ),
        ("warmup_steps: 3\nwarmup_ratio: 0.1", "`warmup_ratio`: expected without `warmup_steps`, got both"),
        ("eval_steps: 10", "`eval_steps`: expected with `val_set_size` or `test_datasets`, got neither"),
        ("roles_to_train: [asistant]", "got `asistant`\nhint: did you mean `assistant`?"),
        ("architecture: {model_type: llama}", "`architecture`: expected without `base_model`, got both"),
        (
            "architecture: {hidden_size: 1}",
            "`architecture.model_type`: expected a family such as `llama`, got nothing",
        ),
        ("a: &a [1]\nb: *a", "expected plain YAML, got an alias"),
    ] {
        let error = parse(more).unwrap_err().to_string();
        assert!(error.contains(said), "{more}: {error}");
    }
    for (text, said) in [
        ("", "`base_model`: expected a model, or `architecture` to make one, got neither"),
        ("base_model: m", "`datasets`: expected at least one, got none"),
        ("base_model: m\ndatasets: [{path: a}]", "`learning_rate`: expected a number above 0, got nothing"),
        ("- a", "line 1: expected keys with values, got a list"),
    ] {
        let error = TrainConfig::parse(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_key_without_a_value_is_absent() {
    assert_eq!(parse("lora_r:\nfp16:\nseed: ~\nrl: null\n").unwrap(), parse("").unwrap());
    assert!(parse("fp16: false\nload_in_8bit: false\ntrain_on_eos: turn\n").is_ok());
}

#[test]
fn every_key_has_one_meaning_and_its_default_parses_to_itself() {
    let mut names: Vec<&str> = table::known_names().collect();
    let n = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n, "a name stands in two places");
    let config = parse("adapter: lora\nrl: dpo\nval_set_size: 1\n").unwrap().config;
    for (name, value) in config.settings() {
        if ["base_model", "adapter", "num_virtual_tokens", "rl", "val_set_size", "learning_rate"]
            .contains(&name)
        {
            continue;
        }
        let again = parse(&format!("adapter: lora\nrl: dpo\nval_set_size: 1\n{name}: {value}\n"));
        assert_eq!(again.unwrap().config, config, "{name}: {value}");
    }
}

#[test]
fn templates_parse_as_they_are_and_with_everything_switched_on() {
    for (name, kind) in TemplateKind::NAMES {
        let text = TrainConfig::template(kind);
        let parsed = TrainConfig::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        assert!(parsed.without_effect.is_empty(), "{name}");
        let is_key = |line: &str| {
            line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        };
        let switched: Vec<&str> =
            text.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
        assert!(switched.join("\n") != text.trim_end(), "{name} switches nothing on");
        TrainConfig::parse(&switched.join("\n"))
            .unwrap_or_else(|error| panic!("{name}, switched on: {error}"));
    }
}

#[test]
fn the_page_of_keys_is_what_the_table_says() {
    let written = include_str!("../../../../docs/train-keys.md");
    let hint = "cargo run -p wootz-train --example train_keys > docs/train-keys.md";
    assert!(written == TrainConfig::keys_markdown(), "{hint}");
}
