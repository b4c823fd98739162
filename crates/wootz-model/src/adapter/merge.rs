//! A model with an adapter in its weights: `W' = gain ⊙ (W + scale·B·A)`, `b' = gain ⊙ b + shift`.
//!
//! Where:  `wootz adapter merge`, which converts such a model.
//! Idea:   weights are merged one at a time as they are read, in f32, so that a merged model is written as any other is.

use std::collections::HashMap;

use wootz_graph::{Addition, HostTensor, Param, ParamKind, ParamSpec, Site};
use wootz_kernels::{TensorType, cast};

use super::resolve::{bias_of, to_f32};
use crate::{Error, Model, Result};

/// What is merged into a model's weights.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    by_weight: HashMap<Param, Addition>,
    /// The weight whose addition decides over a bias.
    by_bias: HashMap<Param, Param>,
}

impl Merged {
    /// # Errors
    /// What no weight can hold: a control vector, a shift of a layer without a bias, a head that is also the embedding.
    pub(crate) fn of(model: &Model, additions: Vec<Addition>) -> Result<Self> {
        let refuse = |message: String| Err(Error::Unsupported(message));
        let params = &model.network.params;
        let mut merged = Self::default();
        if model.network.config.arch == "bitnet" {
            return refuse("weights that are rounded to −1, 0 and 1 cannot hold an adapter".to_owned());
        }
        for addition in additions {
            let Site::Linear(param) = addition.site else {
                return refuse("a control vector cannot be merged: no weight is added there".to_owned());
            };
            let name = &params.spec(param).name;
            if name == "embed" {
                return refuse("the head is the embedding, which the adapter does not change".to_owned());
            }
            let bias = bias_of(name).and_then(|name| params.find(&name));
            match (bias, &addition.shift) {
                (Some(bias), _) => drop(merged.by_bias.insert(bias, param)),
                (None, None) => {}
                (None, Some(_)) => return refuse(format!("`{name}` has no bias to hold the adapter's")),
            }
            merged.by_weight.insert(param, addition);
        }
        Ok(merged)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_weight.is_empty()
    }

    /// A weight with what is merged into it.
    pub(crate) fn apply<'a>(&self, param: Param, spec: &ParamSpec, stored: HostTensor<'a>) -> HostTensor<'a> {
        let numbers = match (spec.kind, self.by_weight.get(&param), self.by_bias.get(&param)) {
            (ParamKind::Matrix, Some(addition), _) => product(addition, to_f32(&stored)),
            (ParamKind::Vector, _, Some(weight)) => bias(&self.by_weight[weight], to_f32(&stored)),
            _ => return stored,
        };
        HostTensor { ty: TensorType::F32, bytes: cast::bytes_of(&numbers).to_vec().into() }
    }
}

fn product(addition: &Addition, mut w: Vec<f32>) -> Vec<f32> {
    let Addition { shape: [_, k], rank, scale, .. } = *addition;
    let (a, b) = (to_f32(&addition.a), to_f32(&addition.b));
    for (i, row) in w.chunks_exact_mut(k).enumerate() {
        for (b, a) in b[i * rank..(i + 1) * rank].iter().zip(a.chunks_exact(k)) {
            row.iter_mut().zip(a).for_each(|(w, a)| *w += scale * b * a);
        }
        if let Some(gain) = &addition.gain {
            row.iter_mut().for_each(|w| *w *= gain[i]);
        }
    }
    w
}

fn bias(addition: &Addition, mut b: Vec<f32>) -> Vec<f32> {
    for (i, b) in b.iter_mut().enumerate() {
        *b = addition.gain.as_ref().map_or(1.0, |gain| gain[i]) * *b
            + addition.shift.as_ref().map_or(0.0, |shift| shift[i]);
    }
    b
}
