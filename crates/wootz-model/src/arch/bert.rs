//! BERT, and RoBERTa, which counts positions from behind the padding token's. Devlin et al. 2018, arXiv:1810.04805;
//! Liu et al. 2019, arXiv:1907.11692; XLM-R: Conneau et al. 2019, arXiv:1911.02116.

use wootz_graph::Activation;

use super::{Architecture, activation, encoder};
use crate::Result;
use crate::config::{
    ClassifierConfig, Config, EmbedConfig, Ffn, Head, LayerConfig, Mixer, Norm, Position, Residual,
};
use crate::hf::Hf;
use crate::names::{Names, Part};

pub(super) const BERT: Architecture =
    Architecture { name: "bert", model_types: &["bert"], from_hf: bert, hf_names: bert_names };

pub(super) const ROBERTA: Architecture = Architecture {
    name: "roberta",
    model_types: &["roberta", "xlm-roberta"],
    from_hf: roberta,
    hf_names: roberta_names,
};

fn bert(hf: &Hf) -> Result<Config> {
    let n_positions = hf.usize_or("max_position_embeddings", 512)?;
    config(hf, "bert", n_positions, 0)
}

fn roberta(hf: &Hf) -> Result<Config> {
    let n_positions = hf.usize_or("max_position_embeddings", 512)?;
    let first = hf.usize_or("pad_token_id", 1)? + 1;
    if n_positions <= first {
        let expected = format!("more than the {first} positions up to the padding token's");
        return Err(hf.error("max_position_embeddings", &expected, &n_positions.to_string()));
    }
    config(hf, "roberta", n_positions - first, first)
}

/// `n_positions` are those that texts use, behind `n_skipped` that they do not.
fn config(hf: &Hf, arch: &'static str, n_positions: usize, n_skipped: usize) -> Result<Config> {
    hf.require("position_embedding_type", "absolute")?;
    let usual = encoder::usual(hf)?;
    let norm = Norm::Layer { eps: hf.f32_or("layer_norm_eps", 1e-12)?, bias: true };
    let layer = LayerConfig {
        residual: Residual::Post,
        norm,
        mixer: Mixer::Attention(encoder::attention(&usual, Position::None, true)),
        ffn: Ffn::Plain {
            d_ff: hf.positive("intermediate_size")?,
            activation: activation(hf, "hidden_act", "gelu")?,
            bias: true,
        },
        residual_scale: 1.0,
    };
    let classifier = |n_labels| {
        let activation = Activation::Tanh;
        Head::Classifier(ClassifierConfig { n_labels, activation, dense_bias: true, norm: None, mean: false })
    };
    Ok(Config {
        arch,
        vocab_size: hf.positive("vocab_size")?,
        d_model: usual.d_model,
        max_seq_len: n_positions,
        embed: EmbedConfig {
            n_positions: Some(n_positions),
            n_skipped_positions: n_skipped,
            n_token_types: Some(hf.usize_or("type_vocab_size", 2)?),
            norm: Some(norm),
            ..EmbedConfig::default()
        },
        layers: vec![layer; usual.n_layers],
        final_norm: None,
        head: encoder::n_labels(hf)?.map_or(Head::None, classifier),
        bos_token: hf.token_ids("bos_token_id").first().copied(),
        eos_tokens: hf.token_ids("eos_token_id"),
    })
}

fn bert_names(_: &Config) -> Names {
    body_names().under(&["", "bert."]).and(&[
        ("classifier.dense", "pooler.dense.weight"),
        ("classifier.dense_b", "pooler.dense.bias"),
        ("classifier.out", "classifier.weight"),
        ("classifier.out_b", "classifier.bias"),
    ])
}

fn roberta_names(config: &Config) -> Names {
    let names = body_names().under(&["", "roberta."]).and(&[
        ("classifier.dense", "classifier.dense.weight"),
        ("classifier.dense_b", "classifier.dense.bias"),
        ("classifier.out", "classifier.out_proj.weight"),
        ("classifier.out_b", "classifier.out_proj.bias"),
    ]);
    let (start, len) = (config.embed.n_skipped_positions, config.embed.n_positions.unwrap_or(0));
    names.part("positions", "embeddings.position_embeddings.weight", Part::Rows { groups: 1, start, len })
}

fn body_names() -> Names {
    let mut names = Names::whole(&[
        ("embed", "embeddings.word_embeddings.weight"),
        ("positions", "embeddings.position_embeddings.weight"),
        ("token_types", "embeddings.token_type_embeddings.weight"),
    ]);
    let layer = |name: &str| format!("encoder.layer.{{}}.{name}");
    for (matrix, bias, file) in [
        ("wq", "bq", "attention.self.query"),
        ("wk", "bk", "attention.self.key"),
        ("wv", "bv", "attention.self.value"),
        ("wo", "bo", "attention.output.dense"),
        ("w_up", "b_up", "intermediate.dense"),
        ("w_down", "b_down", "output.dense"),
    ] {
        names = names.and(&[
            (&format!("layers.{{}}.{matrix}"), &layer(&format!("{file}.weight"))),
            (&format!("layers.{{}}.{bias}"), &layer(&format!("{file}.bias"))),
        ]);
    }
    let norms = [
        ("embed_norm", "embeddings.LayerNorm".to_owned()),
        ("layers.{}.attn_norm", layer("attention.output.LayerNorm")),
        ("layers.{}.ffn_norm", layer("output.LayerNorm")),
    ];
    for (norm, file) in norms {
        // Files from before 2019 call weight and bias after the paper's letters.
        names = names
            .and(&[(norm, &format!("{file}.weight")), (&format!("{norm}_b"), &format!("{file}.bias"))])
            .or(norm, &format!("{file}.gamma"), Part::Whole)
            .or(&format!("{norm}_b"), &format!("{file}.beta"), Part::Whole);
    }
    names
}
