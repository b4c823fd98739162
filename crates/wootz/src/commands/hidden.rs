//! `wootz hidden`: a model's last rows.

use serde_json::json;
use wootz_graph::{Batch, Device, Graph, Plan, PlanOptions, StateCapacity};
use wootz_kernels::TensorType;

use super::{Ids, parse_ids, print_json};
use crate::commands::logits::check_ids;
use crate::model_choice::ModelChoice;
use crate::session::RunningArgs;

/// Show the last hidden state of every token
///
/// It is what transformers calls `last_hidden_state`: the rows after the final norm, before any head.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  wootz hidden models/bert --ids 5,6,7 --json")]
pub(crate) struct HiddenArgs {
    /// Model: a path, a name in the home, hf:org/name; the built-in one without it
    model: Option<String>,
    /// Token ids; nothing is added to them
    #[arg(long, value_parser = parse_ids)]
    ids: Ids,
    /// Print {"hidden": [[…] per token]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunningArgs,
}

impl HiddenArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let model = ModelChoice::find(self.model.as_deref())?.open()?;
        let network = &model.network;
        check_ids(&self.ids.0, network.config.vocab_size, self.running.context(network))?;
        let device = self.running.device();
        let weights = model.load(&device)?;
        let batch = Batch::of_sequences(&[&self.ids.0]);
        let mut g = Graph::new(&network.params);
        let x = network.hidden(&mut g, false)?;
        let plan = Plan::new(&g, &[x], &PlanOptions { capacity: batch.rows().rounded_up() })?;
        let none = StateCapacity { n_blocks: 0, block_len: 64, n_slots: 0, kv_type: TensorType::F32 };
        let mut executor = device.executor(&weights, &[], none)?;
        executor.run(&plan, &batch, None)?;
        let hidden = executor.output(&plan, &batch, 0);
        let rows: Vec<&[f32]> = hidden.chunks_exact(network.config.d_hidden()).collect();
        if self.json {
            return print_json(&json!({"hidden": rows}));
        }
        for (id, row) in self.ids.0.iter().zip(rows) {
            let shown: Vec<String> = row.iter().take(8).map(|x| format!("{x:9.4}")).collect();
            println!("{id:>7} {}{}", shown.join(" "), if row.len() > 8 { " …" } else { "" });
        }
        Ok(())
    }
}
