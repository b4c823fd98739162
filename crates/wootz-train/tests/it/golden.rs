//! Whole runs against TRL, transformers and PEFT: `golden/train`, made by `golden/train/make.py`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wootz_graph::{Cpu, Param, Randomness};
use wootz_kernels::{Isa, Precision, TensorType};
use wootz_model::Model;
use wootz_train::{
    Decay, Dpo, Grpo, GrpoNorm, Item, Kind, Kto, Learner, LearnerSettings, LowRank, MicroBatch, Objective,
    OptimizerKind, Orpo, PART_A, PART_B, PreferenceLoss, Room, Schedule, Sequence, Sft, Trainer,
    TrainerSettings, Trains,
};
use wootz_weights::Weights;

/// Cases that need what is not there: a loss of routers.
const LEFT_OUT: [&str; 1] = ["mixtral-sft-balance"];

#[test]
fn runs_agree_with_those_of_other_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root.join("golden/train"))
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    cases.sort();
    let mut n_checked = 0;
    for path in cases {
        let case: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        let name = case["case"].as_str().expect("a name");
        if LEFT_OUT.contains(&name) {
            continue;
        }
        check(&root, &case);
        n_checked += 1;
    }
    assert!(n_checked >= 39, "{n_checked} cases");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, got {value}"))
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("expected a count, got {value}")) as usize
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| count(id) as u32).collect()
}

/// A prompt and what is learned after it.
fn answered(prompt: &Value, answer: &Value) -> Sequence {
    let (prompt, answer) = (ids(prompt), ids(answer));
    let supervised = (0..prompt.len() + answer.len()).map(|i| i >= prompt.len()).collect();
    Sequence { token_ids: [prompt, answer].concat(), supervised, reference: None, sampled: None }
}

fn items(case: &Value) -> Vec<Item> {
    let rows = case["rows"].as_array().expect("rows");
    let item = |row: &Value| match case["method"].as_str().expect("a method") {
        "sft" => {
            let supervised =
                row["supervised"].as_array().expect("marks").iter().map(|is| count(is) == 1).collect();
            let sequence =
                Sequence { token_ids: ids(&row["ids"]), supervised, reference: None, sampled: None };
            vec![Item::plain(sequence)]
        }
        "dpo" | "orpo" | "simpo" => {
            let sequences = ["chosen", "rejected"].map(|side| answered(&row["prompt"], &row[side])).to_vec();
            vec![Item { kind: Kind::Pair, sequences }]
        }
        "kto" => {
            let kind = Kind::Labelled { is_good: row["label"].as_bool().expect("a label") };
            vec![Item { kind, sequences: vec![answered(&row["prompt"], &row["completion"])] }]
        }
        "grpo" => {
            let rewards: Vec<f64> = row["rewards"].as_array().expect("rewards").iter().map(number).collect();
            let advantages = wootz_train::advantages(&rewards, true);
            let completions = row["completions"].as_array().expect("completions").iter();
            completions
                .zip(advantages)
                .map(|(completion, advantage)| Item {
                    kind: Kind::Rewarded { advantage },
                    sequences: vec![answered(&row["prompt"], completion)],
                })
                .collect()
        }
        method => panic!("method `{method}`"),
    };
    rows.iter().flat_map(item).collect()
}

fn objective(case: &Value) -> Box<dyn Objective> {
    let settings = &case["settings"];
    let beta = || number(&settings["beta"]);
    match case["method"].as_str().expect("a method") {
        "sft" => Box::new(Sft),
        "dpo" => {
            let loss = match settings["loss_type"].as_str() {
                Some("ipo") => PreferenceLoss::Ipo,
                _ => PreferenceLoss::Sigmoid,
            };
            Box::new(Dpo { beta: beta(), loss, label_smoothing: 0.0, sft_weight: 0.0 })
        }
        "simpo" => {
            let loss = PreferenceLoss::SimPo { gamma: number(&settings["gamma"]) };
            Box::new(Dpo { beta: beta(), loss, label_smoothing: 0.0, sft_weight: 0.0 })
        }
        "orpo" => Box::new(Orpo { beta: beta() }),
        "kto" => Box::new(Kto {
            beta: beta(),
            good_weight: number(&settings["desirable_weight"]),
            bad_weight: number(&settings["undesirable_weight"]),
        }),
        _ => {
            let norm = match settings["loss_type"].as_str().expect("a type") {
                "grpo" => GrpoNorm::Sequences,
                "bnpo" => GrpoNorm::BatchTokens,
                "dapo" => GrpoNorm::Tokens,
                "dr_grpo" => GrpoNorm::Constant { n_tokens: count(&settings["max_completion_length"]) },
                other => panic!("loss type `{other}`"),
            };
            let clip = [number(&settings["epsilon"]); 2];
            let kl_times_ratio = settings["kl_times_ratio"].as_bool().unwrap_or(true);
            Box::new(Grpo { beta: number(&settings["beta"]), clip, norm, kl_times_ratio })
        }
    }
}

fn trains(case: &Value, model: &Model) -> Trains {
    let lora = &case["settings"]["lora"];
    if lora.is_null() {
        return Trains::All;
    }
    let targets = &lora["target_modules"];
    let is_site = |param: &Param| {
        let name = &model.network.params.spec(*param).name;
        let last =
            model.module_name(*param).expect("a module").rsplit('.').next().expect("a part").to_owned();
        match targets.as_array() {
            Some(targets) => targets.iter().any(|target| *target == *last),
            // To transformers, Mixtral's router is no linear layer.
            None => !name.ends_with(".router"),
        }
    };
    let sites = LowRank::all_layers(&model.network).into_iter().filter(is_site).collect();
    let (rank, alpha) = (count(&lora["r"]), number(&lora["lora_alpha"]));
    Trains::LowRank(LowRank { rank, alpha, rank_stabilised: false, magnitudes: false, sites, seed: 0 })
}

fn check(root: &Path, case: &Value) {
    let (name, settings) = (case["case"].as_str().expect("a name"), &case["settings"]);
    let model = Model::open(&root.join(case["model"].as_str().expect("a model"))).expect("a model");
    let cpu = Cpu::with(Isa::detect(), 2, Precision::Exact);
    let trains = trains(case, &model);
    let room = Room { n_rows: 512, n_sequences: 32 };
    let mut learner =
        Learner::new(&model.network, &cpu, &settings_of(&trains, TensorType::F32, room), &|spec| {
            model.tensor(spec)
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    if let Trains::LowRank(low_rank) = &trains {
        let adapter = Weights::open(
            root.join(settings["adapter"].as_str().expect("one")).join("adapter_model.safetensors"),
        )
        .expect("an adapter");
        for &site in &low_rank.sites {
            let (own, module) =
                (&model.network.params.spec(site).name, model.module_name(site).expect("a module"));
            for (part, theirs) in [(PART_A, "lora_A"), (PART_B, "lora_B")] {
                let tensor =
                    adapter.need(&format!("base_model.model.{module}.{theirs}.weight")).expect("a tensor");
                let param = learner.params().find(&format!("{own}{part}")).expect("declared");
                learner.executor().set_weight(param, TensorType::F32, &tensor.to_f32()).expect("its shape");
            }
        }
    }
    let n_steps = count(&settings["steps"]);
    let schedule = Schedule {
        lr: number(&settings["lr"]),
        n_warmup: count(&settings["warmup_steps"]) as u64,
        n_steps: n_steps as u64,
        decay: Decay::Cosine,
        min_share: 0.0,
    };
    let betas = ["adam_beta1", "adam_beta2"].map(|beta| number(&settings[beta]) as f32);
    let trainer_settings = TrainerSettings {
        schedule,
        optimizer: OptimizerKind::AdamW { betas, eps: number(&settings["adam_epsilon"]) as f32 },
        weight_decay: number(&settings["weight_decay"]),
        max_grad_norm: Some(number(&settings["max_grad_norm"])),
        seed: 1,
    };
    let mut trainer = Trainer::new(learner, objective(case), trainer_settings).expect("a trainer");
    let mut batches = batches(case);
    // The first weights are the reference; a LoRA has them still.
    if trainer.objective().compares() && trains == Trains::All {
        trainer.note_reference(&mut batches).expect("scores");
    }
    let mut worst = 0.0_f64;
    for step in 0..n_steps {
        if case["method"] == "grpo" && step % 2 == 0 {
            // A generation: two prompts, of which two steps learn.
            for index in in_step(case, step, batches.len()) {
                trainer.note_sampled(&mut batches[index..=index]).expect("scores");
            }
        }
        let mut of_step: Vec<MicroBatch> =
            in_step(case, step, batches.len()).into_iter().map(|index| batches[index].clone()).collect();
        let report = trainer.step(&mut of_step).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (what, got, want) in [
            ("loss", report.loss, number(&case["loss"][step])),
            ("grad_norm", report.grad_norm, number(&case["grad_norm"][step])),
        ] {
            let off = (got - want).abs() / want.abs().max(0.1);
            worst = worst.max(off);
            // What the issue asks is 1e-3, then 2e-2; rounding carries runs less than 2e-5 apart.
            assert!(off <= 1e-4, "{name}, step {}: {what} is {want}, got {got}", step + 1);
        }
        let lr = number(&case["lr"][step]);
        assert!((report.lr - lr).abs() <= 1e-8, "{name}, step {}: lr is {lr}, got {}", step + 1, report.lr);
    }
    if std::env::var_os("SHOW").is_some() {
        println!("{name}: at most {worst:.1e} off");
    }
}

/// Every micro-batch there is.
fn batches(case: &Value) -> Vec<MicroBatch> {
    let size = count(&case["settings"]["micro_batch"]);
    let items = items(case);
    let batch = |items: &[Item]| {
        let mut batch = MicroBatch { items: items.to_vec() };
        batch.add_others();
        batch
    };
    items.chunks(size).map(batch).collect()
}

/// Which of them make a step.
fn in_step(case: &Value, step: usize, n_batches: usize) -> Vec<usize> {
    let accumulation = count(&case["settings"]["accumulation"]);
    let of_run = step * accumulation..(step + 1) * accumulation;
    match case["method"] == "grpo" {
        true => of_run.map(|k| (2 * (k / 4) + k % 2) % n_batches).collect(),
        false => of_run.map(|k| k % n_batches).collect(),
    }
}

fn settings_of(trains: &Trains, dtype: TensorType, room: Room) -> LearnerSettings {
    LearnerSettings {
        trains: trains.clone(),
        dtype,
        room,
        randomness: Randomness::default(),
        recomputes_layers: false,
    }
}
