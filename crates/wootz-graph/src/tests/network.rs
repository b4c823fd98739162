//! A Llama of a few hundred weights, built from the graph's operators alone.
//!
//! Source: Touvron et al. 2023, arXiv:2302.13971.

use std::collections::BTreeMap;

use super::cases::attention_spec;
use super::rng::Rng;
use crate::ParamKind::{Matrix, Table, Vector};
use crate::{
    Activation, Batch, Data, Device, Executor, Graph, HostTensor, LogitTransform, Param, ParamSpec, Params,
    Result, RopeStyle, RopeTable, StateCapacity, StateKind, StateSpec, Value,
};

#[derive(Debug)]
pub(super) struct TinyLlama {
    pub(super) d_model: usize,
    pub(super) d_ff: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) n_layers: usize,
    pub(super) params: Params,
    by_name: BTreeMap<String, Param>,
}

impl TinyLlama {
    pub(super) fn declare() -> Self {
        Self::of_layers(2)
    }

    pub(super) fn of_layers(n_layers: usize) -> Self {
        let (d_model, d_ff, n_heads, n_kv_heads, head_dim, vocab_size) = (12, 20, 4, 2, 6, 17);
        let mut params = Params::default();
        params.declare("embed", &[vocab_size, d_model], Table);
        for i in 0..n_layers {
            let mut declare = |name: &str, shape: &[usize]| {
                let kind = if shape.len() == 1 { Vector } else { Matrix };
                params.declare(format!("layers.{i}.{name}"), shape, kind);
            };
            declare("attn_norm", &[d_model]);
            declare("wq", &[n_heads * head_dim, d_model]);
            declare("wk", &[n_kv_heads * head_dim, d_model]);
            declare("wv", &[n_kv_heads * head_dim, d_model]);
            declare("wo", &[d_model, n_heads * head_dim]);
            declare("ffn_norm", &[d_model]);
            declare("w_gate", &[d_ff, d_model]);
            declare("w_up", &[d_ff, d_model]);
            declare("w_down", &[d_model, d_ff]);
        }
        params.declare("final_norm", &[d_model], Vector);
        params.declare("head", &[vocab_size, d_model], Matrix);
        let by_name = params.iter().map(|(param, spec)| (spec.name.clone(), param)).collect();
        Self { d_model, d_ff, n_heads, n_kv_heads, head_dim, n_layers, params, by_name }
    }

    pub(super) fn param(&self, name: &str) -> Param {
        self.by_name[name]
    }

    fn layer(&self, g: &mut Graph, x: Value, i: usize, stateful: bool) -> Result<Value> {
        let Self { n_heads, n_kv_heads, head_dim, .. } = *self;
        let w = |name: &str| self.param(&format!("layers.{i}.{name}"));
        let rope = RopeTable::plain(10_000.0, head_dim);
        let y = g.rms_norm(x, w("attn_norm"), 1e-5)?;
        let y = g.at("attn", |g| {
            let [t, _c] = g.dims(y)?;
            let q = g.linear(y, w("wq"))?;
            let k = g.linear(y, w("wk"))?;
            let v = g.linear(y, w("wv"))?;
            let q = g.reshape(q, (t, n_heads, head_dim))?; // (T, H, D)
            let q = g.rope(q, &rope, RopeStyle::Halves)?;
            let q = g.reshape(q, (t, n_heads * head_dim))?;
            let k = g.reshape(k, (t, n_kv_heads, head_dim))?; // (T, K, D)
            let k = g.rope(k, &rope, RopeStyle::Halves)?;
            let k = g.reshape(k, (t, n_kv_heads * head_dim))?;
            let kind =
                StateKind::Kv { n_kv_heads, d_k: head_dim, d_v: head_dim, v_in_k: false, window: None };
            let state = stateful.then(|| g.state(StateSpec { name: format!("layers.{i}.kv"), kind }));
            let kv = g.append(state, k, v)?;
            let y = g.attend(q, kv, attention_spec(n_heads, n_kv_heads, head_dim, head_dim))?;
            g.linear(y, w("wo"))
        })?;
        let x = g.add(x, y)?;
        let y = g.rms_norm(x, w("ffn_norm"), 1e-5)?;
        let y = g.at("ffn", |g| {
            let gate = g.linear(y, w("w_gate"))?;
            let up = g.linear(y, w("w_up"))?;
            let y = g.gated(gate, up, Activation::Silu)?;
            g.linear(y, w("w_down"))
        })?;
        let x = g.add(x, y)?;
        Ok(g.name(x, "resid"))
    }

    /// All layers over rows (T, C) → (T, C).
    pub(super) fn layers(&self, g: &mut Graph, mut x: Value, stateful: bool) -> Result<Value> {
        for i in 0..self.n_layers {
            x = g.at(format!("layers.{i}"), |g| self.layer(g, x, i, stateful))?;
        }
        g.rms_norm(x, self.param("final_norm"), 1e-5)
    }

    pub(super) fn hidden_graph(&self) -> (Graph<'_>, Value) {
        let mut g = Graph::new(&self.params);
        let ids = g.token_ids();
        let x = g.embed(ids, self.param("embed")).unwrap();
        let x = self.layers(&mut g, x, false).unwrap();
        (g, x)
    }

    /// Tokens to the log-probabilities of `targets`.
    pub(super) fn logprobs(&self, g: &mut Graph, x: Value) -> Result<Value> {
        let x = self.layers(g, x, false)?;
        let targets = g.targets();
        g.at("head", |g| {
            g.token_logprobs(
                x,
                self.param("head"),
                None,
                targets,
                LogitTransform { scale: 1.0, softcap: None },
            )
        })
    }

    /// The loss, and its gradients with respect to these weights.
    pub(super) fn gradients_of(&self, names: &[&str]) -> (Graph<'_>, Vec<Value>) {
        let mut g = Graph::new(&self.params);
        let ids = g.token_ids();
        let x = g.embed(ids, self.param("embed")).unwrap();
        let logprobs = self.logprobs(&mut g, x).unwrap();
        let weights = g.loss_weights();
        let sum = g.weighted_sum(logprobs, weights).unwrap();
        let loss = g.scale(sum, -1.0).unwrap();
        let wrt: Vec<Value> = names.iter().map(|name| g.weight(self.param(name))).collect();
        let mut outputs = vec![loss];
        outputs.extend(g.backward(loss, &wrt).unwrap());
        (g, outputs)
    }

    /// The loss, and the gradients of all weights in order.
    pub(super) fn training_graph(&self) -> (Graph<'_>, Vec<Value>) {
        let names: Vec<&str> = self.params.specs().iter().map(|spec| &spec.name[..]).collect();
        self.gradients_of(&names)
    }

    /// Random weights on a device: norms near 1, the rest small.
    pub(super) fn executor(
        &self,
        device: &dyn Device,
        capacity: StateCapacity,
        states: &[StateSpec],
    ) -> Box<dyn Executor> {
        let source = |spec: &ParamSpec| {
            let mut rng = Rng::seeded(self.param(&spec.name).index() as u64 + 1);
            let is_norm = spec.kind == Vector;
            let number = |x: f32| if is_norm { 1.0 + 0.1 * x } else { 0.4 * x };
            let numbers: Vec<f32> = rng.normals(spec.n_elements()).into_iter().map(number).collect();
            Ok(HostTensor { ty: super::F32, bytes: wootz_kernels::cast::bytes_of(&numbers).to_vec().into() })
        };
        device.executor(&device.load(&self.params, &source).unwrap(), states, capacity).unwrap()
    }
}

/// Packed sequences of random tokens, each followed by the next, all tokens of equal weight.
pub(super) fn sequences(lengths: &[usize], seed: u64) -> Batch {
    let mut rng = Rng::seeded(seed);
    let draw = |rng: &mut Rng, n: usize| -> Vec<u32> { (0..n).map(|_| rng.below(17) as u32).collect() };
    let ids: Vec<Vec<u32>> = lengths.iter().map(|&n| draw(&mut rng, n + 1)).collect();
    let inputs: Vec<&[u32]> = ids.iter().map(|ids| &ids[..ids.len() - 1]).collect();
    let mut batch = Batch::of_sequences(&inputs);
    let n: usize = lengths.iter().sum();
    batch.set("targets", Data::U32(ids.iter().flat_map(|ids| ids[1..].to_vec()).collect()));
    batch.set("loss_weights", Data::F32(vec![1.0 / n as f32; n]));
    batch
}
