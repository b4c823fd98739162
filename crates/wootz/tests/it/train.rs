//! `wootz train`: a model from nothing, adapters, preferences; killed at any moment, and with broken recipes and rows.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::{fail, succeed, wootz};

/// A folder with a tokenizer, texts, conversations and pairs.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        let words = [
            "the cat sat on the mat",
            "a dog ran over the hill",
            "one fox and two owls slept",
            "rain fell on old stones",
        ];
        let lines =
            |row: &dyn Fn(usize) -> Value| (0..60).map(|i| format!("{}\n", row(i))).collect::<String>();
        let text = |i: usize| format!("{}. {}.", words[i % 4], words[(i * 7 + i / 3) % 4]);
        scene.write("text.jsonl", &lines(&|i| serde_json::json!({"text": text(i)})));
        scene.write(
            "chat.jsonl",
            &lines(&|i| {
                let (asked, said) = (format!("Tell me of {i}"), text(i));
                serde_json::json!({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]})
            }),
        );
        scene.write(
            "pairs.jsonl",
            &lines(&|i| serde_json::json!({"prompt": format!("Go on {i}: "), "chosen": text(i), "rejected": "no no no"})),
        );
        let tokenizer = scene.path("tokenizer");
        succeed(
            wootz(scene.folder.path())
                .args(["tokenizer", "train", "--vocab-size", "400", "--chat", "-o"])
                .arg(&tokenizer)
                .arg(scene.path("text.jsonl")),
        );
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A recipe that makes a model of two layers in `output`.
    fn recipe(&self, output: &str, more: &str) -> PathBuf {
        let text = format!(
            "architecture: {{model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2,\n  num_attention_heads: 4, num_key_value_heads: 2}}\n\
             tokenizer: {}\ndatasets:\n  - path: {}\nsequence_len: 64\nsample_packing: true\nmicro_batch_size: 2\n\
             gradient_accumulation_steps: 2\nlearning_rate: 3e-3\nwarmup_steps: 2\noutput_dir: {}\n{more}",
            self.path("tokenizer").display(),
            self.path("text.jsonl").display(),
            self.path(output).display(),
        );
        self.write(&format!("{output}.yaml"), &text)
    }

    fn train(&self, recipe: &Path) -> Vec<Value> {
        let text = succeed(wootz(self.folder.path()).arg("train").arg(recipe).args([
            "--json",
            "--resume",
            "--threads",
            "2",
        ]));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn a_model_from_nothing_learns_and_says_so_in_documented_lines() {
    let scene = Scene::new();
    let lines =
        scene.train(&scene.recipe("made", "max_steps: 20\nval_set_size: 0.1\nflash_attention: true\n"));
    let (done, rest) = lines.split_last().unwrap();
    assert_eq!(done["done"], true);
    let steps: Vec<&Value> = rest.iter().filter(|line| line.get("loss").is_some()).collect();
    assert_eq!(steps.len(), 20);
    for (i, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], i + 1);
        for key in ["grad_norm", "lr", "tokens", "supervised_tokens", "tok_per_s", "mfu", "rss_mib"] {
            assert!(step[key].is_number(), "`{key}` in {step}");
        }
    }
    let loss = |i: usize| steps[i]["loss"].as_f64().unwrap();
    assert!(loss(19) < loss(0) - 0.5, "{} {}", loss(0), loss(19));
    assert!(rest.iter().any(|line| line.get("val_loss").is_some()));
    let made = done["checkpoint"].as_str().unwrap();
    let said = succeed(wootz(scene.folder.path()).args([
        "run",
        "--model",
        made,
        "the cat",
        "-n",
        "3",
        "--temperature",
        "0",
    ]));
    assert!(!said.is_empty());
    // The last loss that was measured is what the finished model has.
    let adapter = format!(
        "base_model: {made}\nadapter: lora\nlora_r: 2\nlora_target_modules: [q_proj, down_proj]\ndatasets:\n  - path: {}\n\
         learning_rate: 1e-2\nmax_steps: 3\noutput_dir: {}\n",
        scene.path("text.jsonl").display(),
        scene.path("lora").display()
    );
    let recipe = scene.write("lora.yaml", &adapter);
    let lines = scene.train(&recipe);
    assert_eq!(lines.len(), 4);
    let lora = scene.path("lora");
    let run = |with_adapter: bool| {
        let mut command = wootz(scene.folder.path());
        command.args(["run", "--model", made, "the cat", "-n", "8", "--temperature", "0"]);
        if with_adapter {
            command.arg("--adapter").arg(&lora);
        }
        succeed(&mut command)
    };
    assert!(!run(true).is_empty() && !run(false).is_empty());
    let dpo = format!(
        "base_model: {made}\nrl: dpo\nchat_template: \"{{% for m in messages %}}{{{{ m.content }}}}{{% if m.role == 'assistant' %}}<|im_end|>{{% endif %}}{{% endfor %}}\"\n\
         datasets:\n  - path: {}\nlearning_rate: 1e-3\nmax_steps: 6\nmicro_batch_size: 4\noutput_dir: {}\n",
        scene.path("pairs.jsonl").display(),
        scene.path("dpo").display()
    );
    let lines = scene.train(&scene.write("dpo.yaml", &dpo));
    let first = lines[0]["loss"].as_f64().unwrap();
    assert!(
        (first - std::f64::consts::LN_2).abs() < 1e-6,
        "before the first step nothing is preferred: {first}"
    );
    assert!(lines[5]["loss"].as_f64().unwrap() < first);
}

#[test]
fn a_run_that_is_killed_ends_at_the_same_bytes() {
    let scene = Scene::new();
    let more = "max_steps: 40\nsave_steps: 1\nsave_total_limit: 2\n";
    scene.train(&scene.recipe("undisturbed", more));
    let recipe = scene.recipe("killed", more);
    let mut n_killed = 0;
    for i in 0_u64..20 {
        let mut child = wootz(scene.folder.path())
            .arg("train")
            .arg(&recipe)
            .args(["--resume", "--threads", "1"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Moments that are spread over a step and its checkpoint.
        std::thread::sleep(Duration::from_millis(60 + i * 37 % 230));
        n_killed += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(n_killed >= 1, "it was always done before it could be killed");
    scene.train(&recipe);
    for name in ["model.safetensors", "checkpoint-40/training.safetensors", "config.json"] {
        let read = |run: &str| std::fs::read(scene.path(run).join(name)).unwrap();
        assert!(read("undisturbed") == read("killed"), "`{name}` differs");
    }
    // The store knows both, and what they were set to differently.
    let list = succeed(wootz(scene.folder.path()).args(["runs", "list", "--json"]));
    let runs: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> =
        runs.iter().map(|run| (&run["name"], &run["status"], &run["numbers"]["steps"])).collect();
    assert_eq!(states.len(), 2, "{states:?}");
    assert!(states.iter().all(|(_, status, steps)| *status == "finished" && *steps == 40), "{states:?}");
    let compared =
        succeed(wootz(scene.folder.path()).args(["runs", "compare", "undisturbed", "killed", "--json"]));
    let compared: Value = serde_json::from_str(&compared).unwrap();
    let keys: Vec<&Value> = compared["settings"].as_array().unwrap().iter().map(|d| &d["key"]).collect();
    assert_eq!(keys, ["output_dir"]);
    assert!(succeed(wootz(scene.folder.path()).args(["runs", "show", "killed"])).contains("finished"));
    let steps = |run: &str| {
        let text = std::fs::read_to_string(scene.path(run).join("metrics.jsonl")).unwrap();
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["step"].as_u64().unwrap(), line["loss"].to_string(), line["grad_norm"].to_string())
        };
        text.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(steps("undisturbed"), steps("killed"));
}

#[test]
fn broken_recipes_rows_and_folders_are_errors_that_say_where() {
    let scene = Scene::new();
    let check = |recipe: &Path, expected: &[&str]| {
        let said = fail(wootz(scene.folder.path()).arg("train").arg(recipe), 1);
        for part in expected {
            assert!(said.contains(part), "expected `{part}` in:\n{said}");
        }
    };
    check(
        &scene.recipe("a", "lerning_rate: 3\n"),
        &["line 13", "unknown key `lerning_rate`", "did you mean `learning_rate`"],
    );
    check(&scene.recipe("b", "num_epochs: many\n"), &["`num_epochs`", "many"]);
    check(&scene.recipe("c", "ema_decay: 0.99\n"), &["`ema_decay`"]);
    scene.write("bad.jsonl", "{\"text\": \"fine\"}\n{\"texte\": \"no\"}\n");
    let text = std::fs::read_to_string(scene.recipe("d", "max_steps: 2\n"))
        .unwrap()
        .replace("text.jsonl", "bad.jsonl");
    check(&scene.write("d.yaml", &text), &["bad.jsonl", "line 2"]);
    let text = text.replace("bad.jsonl", "missing.jsonl");
    check(&scene.write("d.yaml", &text), &["missing.jsonl"]);
    // A rate that tears the weights apart: the batch is kept, and the checkpoint before it.
    let recipe = scene.recipe(
        "torn",
        "max_steps: 40\nsave_steps: 1\noptimizer: sgd\nlearning_rate: 1e30\nmax_grad_norm: 0\n",
    );
    let text = std::fs::read_to_string(&recipe).unwrap().replace("learning_rate: 3e-3\n", "");
    let said = fail(wootz(scene.folder.path()).arg("train").arg(scene.write("torn.yaml", &text)), 1);
    assert!(said.contains("bad-batch.json") && said.contains("weights are as they were"), "{said}");
    assert!(scene.path("torn/bad-batch.json").is_file());
    let checkpoints = std::fs::read_dir(scene.path("torn")).unwrap().flatten();
    assert!(checkpoints.into_iter().any(|entry| entry.path().join("training.safetensors").is_file()));
}

#[test]
fn a_recipe_to_begin_with_is_printed_for_every_kind() {
    let home = tempfile::tempdir().unwrap();
    for kind in ["pretrain", "sft", "lora", "qlora", "dpo", "grpo"] {
        let text = succeed(wootz(home.path()).args(["train", "--init", kind]));
        assert!(text.contains("output_dir"), "{kind}: {text}");
    }
}
