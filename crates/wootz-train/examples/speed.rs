//! Speed of training steps on random tokens: `cargo run --release -p wootz-train --example speed -- 110m f32 512 4 3 [lora]`
//! (shape, type, tokens of a sequence, sequences, steps).

use std::time::Instant;

use wootz_graph::{Cpu, Randomness};
use wootz_kernels::{Isa, Peaks, Precision, TensorType};
use wootz_model::Model;
use wootz_train::{
    Decay, Initial, Item, Learner, LearnerSettings, LowRank, MicroBatch, OptimizerKind, Room, Schedule,
    Sequence, Sft, Trainer, TrainerSettings, Trains,
};

/// d_model, d_ff, layers, heads, KV heads, vocabulary.
const SHAPES: [(&str, [usize; 6]); 4] = [
    ("1m", [128, 256, 3, 4, 2, 1024]),
    ("10m", [256, 688, 6, 8, 4, 16384]),
    ("110m", [768, 2048, 12, 12, 12, 32000]),
    ("135m", [576, 1536, 30, 9, 3, 49152]),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_owned());
    let number = |i: usize, default: &str| arg(i, default).parse::<usize>().expect("a number");
    let shape = arg(0, "10m");
    let &(_, [c, f, l, h, k, v]) = SHAPES.iter().find(|(name, _)| *name == shape).expect("a shape");
    let dtype = TensorType::from_name(&arg(1, "f32")).expect("f32 or bf16");
    let (len, n_sequences, n_steps) = (number(2, "512"), number(3, "4"), number(4, "3"));
    let is_lora = arg(5, "full") == "lora";
    let config = format!(
        r#"{{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": {c}, "intermediate_size": {f},
            "num_hidden_layers": {l}, "num_attention_heads": {h}, "num_key_value_heads": {k}, "vocab_size": {v},
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
            "tie_word_embeddings": {tied}, "bos_token_id": 1, "eos_token_id": 2}}"#,
        tied = shape == "135m",
    );
    let initial = Initial { deviation: 0.02, n_layers: l, seed: 1 };
    let model =
        Model::made(&config, Vec::new(), Box::new(move |spec| Some(initial.numbers(spec)))).expect("a model");
    let precision = if dtype == TensorType::F32 { Precision::Exact } else { Precision::Fast };
    let cpu = Cpu::with(Isa::detect(), 2, precision);
    let peaks = Peaks::measure(cpu.isa(), cpu.pool());
    let trains = match is_lora {
        false => Trains::All,
        true => {
            let low_rank = LowRank {
                rank: 16,
                alpha: 32.0,
                rank_stabilised: false,
                magnitudes: false,
                sites: LowRank::all_layers(&model.network),
                seed: 1,
            };
            Trains::LowRank(low_rank)
        }
    };
    let room = Room { n_rows: len * n_sequences, n_sequences };
    let start = Instant::now();
    let learner =
        Learner::new(&model.network, &cpu, &settings_of(&trains, dtype, room), &|spec| model.tensor(spec))
            .expect("a learner");
    println!(
        "loaded in {:.1} s, arena {:.0} MiB",
        start.elapsed().as_secs_f64(),
        learner.arena_bytes() as f64 / 1048576.0
    );
    let settings = TrainerSettings {
        schedule: Schedule { lr: 1e-4, n_warmup: 0, n_steps: 1000, decay: Decay::Constant, min_share: 0.0 },
        optimizer: OptimizerKind::AdamW { betas: [0.9, 0.999], eps: 1e-8 },
        weight_decay: 0.01,
        max_grad_norm: Some(1.0),
        seed: 1,
    };
    let mut trainer = Trainer::new(learner, Box::new(Sft), settings).expect("a trainer");
    let sequence = |i: usize| {
        let token_ids = (0..=len).map(|t| ((t * 7919 + i * 104_729) * 31 % v) as u32).collect();
        Sequence { token_ids, supervised: vec![true; len + 1], reference: None, sampled: None }
    };
    let batch = MicroBatch { items: (0..n_sequences).map(|i| Item::plain(sequence(i))).collect() };
    let flops = trainer.learner().cost(&batch).flops;
    trainer.learner().executor().take_times();
    for step in 0..n_steps {
        let start = Instant::now();
        let report = trainer.step(&mut [batch.clone()]).expect("a step");
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "step {step}: loss {:.4}, {:.2} s, {:.0} tok/s, {:.0} GFLOP/s of {:.0} (f32) and {:.0} (bf16)",
            report.loss,
            seconds,
            report.n_tokens as f64 / seconds,
            flops / seconds / 1e9,
            peaks.f32_gflop_per_s,
            peaks.bf16_gflop_per_s.unwrap_or(0.0),
        );
    }
    let mut times = trainer.learner().executor().take_times();
    times.sort_by_key(|time| std::cmp::Reverse(time.time));
    for time in times.iter().take(25) {
        let ms = time.time.as_secs_f64() * 1e3 / n_steps as f64;
        println!("{ms:9.1} ms a step  {:>4} × {} {}", time.n_calls / n_steps, time.name, time.shape);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{peak}");
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
