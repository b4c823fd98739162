//! From the last rows to logits, log-probabilities or scores of a sequence.

use wootz_graph::{Activation, Graph, LogitTransform, Param, Pooling, Result, Value};

use super::Scope;
use super::norm::NormWeights;
use crate::config::{ClassifierConfig, Config, Head};

/// A head's weights.
#[derive(Debug)]
pub(super) enum HeadWeights {
    None,
    Lm {
        w: Param,
        b: Option<Param>,
        transform: LogitTransform,
    },
    Classifier {
        dense: Param,
        dense_b: Option<Param>,
        norm: Option<NormWeights>,
        out: Param,
        out_b: Param,
        config: ClassifierConfig,
    },
}

impl HeadWeights {
    pub(super) fn declare(scope: &mut Scope, config: &Config, table: Param) -> Self {
        let c = config.d_hidden();
        match &config.head {
            Head::None => HeadWeights::None,
            &Head::Lm { tied, bias, scale, softcap } => HeadWeights::Lm {
                w: if tied { table } else { scope.matrix("head", config.vocab_size, c) },
                b: scope.bias("head_b", config.vocab_size, bias),
                transform: LogitTransform { scale, softcap },
            },
            Head::Classifier(classifier) => HeadWeights::Classifier {
                dense: scope.matrix("classifier.dense", c, c),
                dense_b: scope.bias("classifier.dense_b", c, classifier.dense_bias),
                norm: classifier.norm.map(|norm| NormWeights::declare(scope, "classifier.norm", norm, c)),
                out: scope.matrix("classifier.out", classifier.n_labels, c),
                out_b: scope.vector("classifier.out_b", &[classifier.n_labels]),
                config: classifier.clone(),
            },
        }
    }

    pub(super) fn logits(&self, g: &mut Graph, x: Value) -> Result<Value> {
        let HeadWeights::Lm { w, b, transform } = self else { panic!("an encoder has no logits") };
        let mut z = g.linear_bias(x, *w, *b)?;
        if transform.scale != 1.0 {
            z = g.scale(z, transform.scale)?;
        }
        if let Some(cap) = transform.softcap {
            z = g.activate(z, Activation::Softcap(cap))?;
        }
        Ok(z)
    }

    pub(super) fn token_logprobs(&self, g: &mut Graph, x: Value, targets: Value) -> Result<Value> {
        let HeadWeights::Lm { w, b, transform } = self else { panic!("an encoder has no logits") };
        g.token_logprobs(x, *w, *b, targets, *transform)
    }

    pub(super) fn classify(&self, g: &mut Graph, x: Value) -> Result<Value> {
        let HeadWeights::Classifier { dense, dense_b, norm, out, out_b, config } = self else {
            panic!("only a classifier scores sequences")
        };
        let x = g.pool(x, if config.mean { Pooling::Mean } else { Pooling::Cls })?; // (B, C)
        let x = g.linear_bias(x, *dense, *dense_b)?;
        let mut x = g.activate(x, config.activation)?;
        if let Some(norm) = norm {
            x = norm.build(g, x)?;
        }
        g.linear_bias(x, *out, Some(*out_b)) // (B, labels)
    }
}
