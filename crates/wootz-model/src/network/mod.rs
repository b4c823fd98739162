//! A model as weights and graphs: the one implementation that runs, trains, counts and is drawn.
//!
//! Where:  declared from a [`Config`]; graphs of it are planned and run by the engine and the trainer.
//! Idea:   a layer's parts are functions of the same few lines as in their papers; which of them a model has is
//!         decided by the config's enums, here, once.

mod attention;
mod ffn;
mod head;
mod latent;
mod mamba;
mod norm;

use wootz_graph::{Graph, Param, ParamKind, Params, Result, State, StateKind, StateSpec, Value};

use crate::config::{Config, Ffn, LayerConfig, Mixer, Residual};
use attention::AttentionWeights;
use ffn::FfnWeights;
use head::HeadWeights;
use latent::LatentWeights;
use mamba::{Mamba2Weights, MambaWeights};
use norm::NormWeights;

/// A model's declared weights, and the graphs over them.
#[derive(Debug)]
pub struct Network {
    /// The hyper-parameters.
    pub config: Config,
    /// The declared weights.
    pub params: Params,
    embed: EmbedWeights,
    layers: Vec<LayerWeights>,
    final_norm: Option<NormWeights>,
    /// (table's width, C), where that is not C.
    project_out: Option<Param>,
    head: HeadWeights,
}

#[derive(Debug)]
struct EmbedWeights {
    table: Param,
    /// (C, table's width), where that is not C.
    project_in: Option<Param>,
    positions: Option<Param>,
    token_types: Option<Param>,
    norm: Option<NormWeights>,
}

#[derive(Debug)]
struct LayerWeights {
    /// Before or after the mixer, as the residual says.
    mixer_norms: Vec<NormWeights>,
    mixer: MixerWeights,
    ffn_norms: Vec<NormWeights>,
    ffn: FfnWeights,
}

#[derive(Debug)]
enum MixerWeights {
    Attention(AttentionWeights),
    Latent(LatentWeights),
    Mamba(MambaWeights),
    Mamba2(Mamba2Weights),
}

/// Declares weights under a prefix, `layers.7.`.
struct Scope<'a> {
    params: &'a mut Params,
    prefix: String,
}

impl Scope<'_> {
    fn matrix(&mut self, name: &str, n: usize, k: usize) -> Param {
        self.declare(name, &[n, k], ParamKind::Matrix)
    }

    fn vector(&mut self, name: &str, shape: &[usize]) -> Param {
        self.declare(name, shape, ParamKind::Vector)
    }

    fn bias(&mut self, name: &str, n: usize, there: bool) -> Option<Param> {
        there.then(|| self.vector(name, &[n]))
    }

    fn declare(&mut self, name: &str, shape: &[usize], kind: ParamKind) -> Param {
        self.params.declare(format!("{}{name}", self.prefix), shape, kind)
    }
}

impl Network {
    /// Declares every weight of a model.
    pub fn declare(config: Config) -> Self {
        let mut params = Params::default();
        let mut root = Scope { params: &mut params, prefix: String::new() };
        let embed = EmbedWeights::declare(&mut root, &config);
        let mut layers = Vec::with_capacity(config.layers.len());
        for (i, layer) in config.layers.iter().enumerate() {
            let mut scope = Scope { params: root.params, prefix: format!("layers.{i}.") };
            layers.push(LayerWeights::declare(&mut scope, layer, config.d_model, i));
        }
        let final_norm =
            config.final_norm.map(|norm| NormWeights::declare(&mut root, "final_norm", norm, config.d_model));
        let project_out = config.embed.width.map(|width| root.matrix("project_out", width, config.d_model));
        let head = HeadWeights::declare(&mut root, &config, embed.table);
        Self { config, params, embed, layers, final_norm, project_out, head }
    }

    /// The last rows of all new tokens (T, C): transformers' `last_hidden_state`.
    ///
    /// With `stateful`, keys, values and recurrences are kept in states, which the graph declares layer by layer;
    /// without, every sequence of the batch is whole.
    pub fn hidden(&self, g: &mut Graph, stateful: bool) -> Result<Value> {
        let mut x = g.at("embed", |g| self.embed.build(g, &self.config))?;
        for (i, (layer, config)) in self.layers.iter().zip(&self.config.layers).enumerate() {
            x = g.at(format!("layers.{i}"), |g| {
                let y = layer.build(g, x, config, stateful)?;
                let y = g.steer(y, i)?;
                Ok(g.name(y, "resid"))
            })?;
        }
        if let Some(norm) = &self.final_norm {
            x = norm.build(g, x)?;
        }
        match self.project_out {
            Some(w) => g.linear(x, w),
            None => Ok(x),
        }
    }

    /// Logits (…, V) of rows (…, C) that [`hidden`](Self::hidden) gave.
    pub fn logits(&self, g: &mut Graph, x: Value) -> Result<Value> {
        g.at("head", |g| self.head.logits(g, x))
    }

    /// Log-probabilities (T) of `targets` (T) after rows (T, C), in nats.
    pub fn token_logprobs(&self, g: &mut Graph, x: Value, targets: Value) -> Result<Value> {
        g.at("head", |g| self.head.token_logprobs(g, x, targets))
    }

    /// Scores (B, labels) of whole sequences.
    pub fn classify(&self, g: &mut Graph, x: Value) -> Result<Value> {
        g.at("classifier", |g| self.head.classify(g, x))
    }
}

impl EmbedWeights {
    fn declare(scope: &mut Scope, config: &Config) -> Self {
        let c = config.d_model;
        let tied = matches!(config.head, crate::config::Head::Lm { tied: true, .. });
        let kind = if tied { ParamKind::Matrix } else { ParamKind::Table };
        Self {
            table: scope.declare("embed", &[config.vocab_size, config.d_hidden()], kind),
            project_in: config.embed.width.map(|width| scope.matrix("project_in", c, width)),
            positions: config
                .embed
                .n_positions
                .map(|n| scope.declare("positions", &[n, c], ParamKind::Table)),
            token_types: config
                .embed
                .n_token_types
                .map(|n| scope.declare("token_types", &[n, c], ParamKind::Table)),
            norm: config.embed.norm.map(|norm| NormWeights::declare(scope, "embed_norm", norm, c)),
        }
    }

    fn build(&self, g: &mut Graph, config: &Config) -> Result<Value> {
        let ids = g.token_ids();
        let x = g.embed(ids, self.table)?; // (T, C), or as wide as the table
        let mut x = g.randomize_embeddings(x)?;
        if let Some(w) = self.project_in {
            x = g.linear(x, w)?; // (T, C)
        }
        if config.embed.scale != 1.0 {
            x = g.scale(x, config.embed.scale)?;
        }
        if let Some(table) = self.positions {
            let positions = g.positions();
            let p = g.embed(positions, table)?;
            x = g.add(x, p)?;
        }
        if let Some(types) = self.token_types {
            let ids = g.token_types();
            let types = g.embed(ids, types)?;
            x = g.add(x, types)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.build(g, x)?;
        }
        let x = g.randomize_residual(x)?;
        Ok(g.name(x, "resid"))
    }
}

impl LayerWeights {
    fn declare(scope: &mut Scope, config: &LayerConfig, c: usize, index: usize) -> Self {
        let (mixer_norms, ffn_norms): (&[&str], &[&str]) = match config.residual {
            Residual::Pre if config.ffn == Ffn::None => (&["attn_norm"], &[]),
            Residual::PreSkippingFirst if index == 0 => (&[], &["ffn_norm"]),
            Residual::Pre | Residual::PreSkippingFirst | Residual::Post | Residual::Inner => {
                (&["attn_norm"], &["ffn_norm"])
            }
            Residual::Sandwich => (&["attn_norm", "post_attn_norm"], &["ffn_norm", "post_ffn_norm"]),
            Residual::Parallel => (&["attn_norm"], &[]),
            Residual::ParallelTwoNorms => (&["attn_norm"], &["ffn_norm"]),
        };
        let mut norms = |names: &[&str]| {
            names.iter().map(|name| NormWeights::declare(scope, name, config.norm, c)).collect::<Vec<_>>()
        };
        let (mixer_norms, ffn_norms) = (norms(mixer_norms), norms(ffn_norms));
        let mixer = match &config.mixer {
            Mixer::Attention(config) => MixerWeights::Attention(AttentionWeights::declare(scope, config, c)),
            Mixer::Latent(config) => MixerWeights::Latent(LatentWeights::declare(scope, config, c)),
            Mixer::Mamba(config) => MixerWeights::Mamba(MambaWeights::declare(scope, config, c)),
            Mixer::Mamba2(config) => MixerWeights::Mamba2(Mamba2Weights::declare(scope, config, c)),
        };
        let ffn = FfnWeights::declare(scope, &config.ffn, c);
        Self { mixer_norms, mixer, ffn_norms, ffn }
    }

    /// One layer: (T, C) → (T, C).
    fn build(&self, g: &mut Graph, x: Value, config: &LayerConfig, stateful: bool) -> Result<Value> {
        let mixer = |g: &mut Graph, x| g.at("attn", |g| self.mix(g, x, config, stateful));
        let ffn = |g: &mut Graph, x| g.at("ffn", |g| self.ffn.build(g, x, &config.ffn));
        let add = |g: &mut Graph, x, y| {
            let y = if config.residual_scale == 1.0 { y } else { g.scale(y, config.residual_scale)? };
            let y = g.randomize_residual(y)?;
            g.add(x, y)
        };
        let (before, after) = (self.mixer_norms.first(), self.mixer_norms.last());
        let (ffn_before, ffn_after) = (self.ffn_norms.first(), self.ffn_norms.last());
        let norm = |norm: Option<&NormWeights>, g: &mut Graph, x| match norm {
            Some(norm) => norm.build(g, x),
            None => Ok(x),
        };
        Ok(match config.residual {
            Residual::Pre | Residual::PreSkippingFirst => {
                let y = norm(before, g, x)?;
                let y = mixer(g, y)?;
                let x = add(g, x, y)?;
                if config.ffn == Ffn::None {
                    x
                } else {
                    let y = norm(ffn_before, g, x)?;
                    let y = ffn(g, y)?;
                    add(g, x, y)?
                }
            }
            Residual::Post => {
                let y = mixer(g, x)?;
                let y = add(g, x, y)?;
                let x = norm(after, g, y)?;
                let y = ffn(g, x)?;
                let y = add(g, x, y)?;
                norm(ffn_after, g, y)?
            }
            Residual::Inner => {
                let y = mixer(g, x)?;
                let y = norm(after, g, y)?;
                let x = add(g, x, y)?;
                let y = ffn(g, x)?;
                let y = norm(ffn_after, g, y)?;
                add(g, x, y)?
            }
            Residual::Sandwich => {
                let y = norm(before, g, x)?;
                let y = mixer(g, y)?;
                let y = norm(after, g, y)?;
                let x = add(g, x, y)?;
                let y = norm(ffn_before, g, x)?;
                let y = ffn(g, y)?;
                let y = norm(ffn_after, g, y)?;
                add(g, x, y)?
            }
            Residual::Parallel | Residual::ParallelTwoNorms => {
                let y = norm(before, g, x)?;
                let z = if ffn_before.is_some() { norm(ffn_before, g, x)? } else { y };
                let y = mixer(g, y)?;
                let z = ffn(g, z)?;
                let x = add(g, x, y)?;
                add(g, x, z)?
            }
        })
    }

    fn mix(&self, g: &mut Graph, x: Value, config: &LayerConfig, stateful: bool) -> Result<Value> {
        match (&self.mixer, &config.mixer) {
            (MixerWeights::Attention(weights), Mixer::Attention(config)) => {
                weights.build(g, x, config, stateful)
            }
            (MixerWeights::Latent(weights), Mixer::Latent(config)) => weights.build(g, x, config, stateful),
            (MixerWeights::Mamba(weights), Mixer::Mamba(config)) => weights.build(g, x, config, stateful),
            (MixerWeights::Mamba2(weights), Mixer::Mamba2(config)) => weights.build(g, x, config, stateful),
            _ => unreachable!("weights are declared from the same config"),
        }
    }
}

/// Declares a state when the graph keeps any.
fn state(g: &mut Graph, stateful: bool, name: &str, kind: StateKind) -> Option<State> {
    stateful.then(|| g.state(StateSpec { name: name.to_owned(), kind }))
}
