//! Sentence encoders and cross-encoders against sentence-transformers, from the folders that `golden/encoders.py` made.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wootz_graph::{Cpu, Device, Reference};
use wootz_model::{CrossEncoder, SentenceEncoder};
use wootz_text::{Embed, EmbedKind, Rerank};

/// Tiny weights are spread wide, so rounding shows more than in trained models.
const ATOL: f32 = 5e-6;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders").join(name)
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name).join("expected.json")).unwrap()).unwrap()
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    value.as_array().unwrap().iter().map(row).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The largest difference, and the place of the row that has it.
fn worst(got: &[Vec<f32>], want: &[Vec<f32>]) -> (f32, usize) {
    assert_eq!(got.len(), want.len());
    let of_row = |(i, (got, want)): (usize, (&Vec<f32>, &Vec<f32>))| {
        assert_eq!(got.len(), want.len());
        (got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max), i)
    };
    got.iter().zip(want).enumerate().map(of_row).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a })
}

fn devices() -> [Box<dyn Device>; 2] {
    [Box::new(Reference), Box::new(Cpu::new(2))]
}

fn check_sentences(name: &str) {
    let expected = expected(name);
    let lines = texts(&expected["texts"]);
    for device in devices() {
        let encoder = SentenceEncoder::open(&golden(name), &*device).unwrap();
        let kinds =
            [(EmbedKind::Plain, "plain"), (EmbedKind::Query, "query"), (EmbedKind::Document, "document")];
        for (kind, key) in kinds {
            let Some(want) = expected.get(key).map(rows) else { continue };
            let got = encoder.embed(&lines, kind).unwrap();
            assert_eq!(encoder.dim(), got[0].len());
            let (worst, at) = worst(&got, &want);
            println!("{name} {key} {}: worst {worst:e}", device.name());
            assert!(worst <= ATOL, "{name} {key} on {}: {worst:e} at {:?}", device.name(), lines[at]);
        }
    }
}

fn check_pairs(name: &str) {
    let expected = expected(name);
    let (pairs, want) = (expected["pairs"].as_array().unwrap(), rows(&expected["scores"]));
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
    for device in devices() {
        let encoder = CrossEncoder::open(&golden(name), &*device).unwrap();
        assert_eq!(encoder.n_labels(), want[0].len());
        let (worst, at) = worst(&encoder.score_pairs(&pairs).unwrap(), &want);
        println!("{name} {}: worst {worst:e}", device.name());
        assert!(worst <= ATOL, "{name} on {}: {worst:e} at {:?}", device.name(), pairs[at]);
    }
}

#[test]
fn bert_with_mean_and_prompts() {
    check_sentences("bert_mean");
}

#[test]
fn bert_with_two_poolings_a_dense_layer_and_a_default_prompt() {
    check_sentences("bert_cls_dense");
}

#[test]
fn roberta_with_maximum_normalisation_and_a_dense_layer_behind() {
    check_sentences("roberta_max");
}

#[test]
fn modernbert_with_its_first_token_in_lower_case() {
    check_sentences("modernbert_cls");
}

#[test]
fn a_decoder_with_its_last_token() {
    check_sentences("qwen3_last");
}

#[test]
fn a_bert_cross_encoder_tells_texts_apart_by_type() {
    check_pairs("bert_cross");
}

#[test]
fn a_roberta_cross_encoder_with_three_labels() {
    check_pairs("roberta_cross");
    let encoder = CrossEncoder::open(&golden("roberta_cross"), &Cpu::new(1)).unwrap();
    assert!(encoder.rerank("query", &["document"]).is_err());
}

#[test]
fn a_modernbert_cross_encoder_over_the_mean() {
    check_pairs("modernbert_cross");
}

#[test]
fn one_score_for_each_document() {
    let encoder = CrossEncoder::open(&golden("bert_cross"), &Cpu::new(1)).unwrap();
    let documents = ["a model turns a text into a vector", "Oslo is the capital of Norway."];
    let scores = encoder.rerank("What is the capital of Norway?", &documents).unwrap();
    let pairs = documents.map(|document| ("What is the capital of Norway?", document));
    let expected: Vec<f32> = encoder.score_pairs(&pairs).unwrap().concat();
    assert_eq!(scores, expected);
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
}

/// Vectors of `all-MiniLM-L6-v2`, whose weights are not kept in the repository.
#[test]
fn minilm_embeds_as_sentence_transformers_does() {
    let Some(folder) = std::env::var_os("WOOTZ_MINILM") else {
        println!("skipped: WOOTZ_MINILM does not name the folder of all-MiniLM-L6-v2");
        return;
    };
    let lines: Vec<String> = serde_json::from_slice(&std::fs::read(golden("minilm.json")).unwrap()).unwrap();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let numbers = std::fs::read(golden("minilm.f32")).unwrap();
    let numbers: Vec<f32> = numbers.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
    let want: Vec<Vec<f32>> = numbers.chunks_exact(384).map(<[f32]>::to_vec).collect();
    let encoder = SentenceEncoder::open(Path::new(&folder), &Cpu::new(2)).unwrap();
    let got = encoder.embed(&lines, EmbedKind::Plain).unwrap();
    let (worst, at) = worst(&got, &want);
    println!("all-MiniLM-L6-v2, {} texts: worst {worst:e}", lines.len());
    assert!(worst <= 1e-4, "{worst:e} at {:?}", lines[at]);
}

/// What `change` makes of a folder's file must not open, and the error must name `word`.
fn check_refused(name: &str, file: &str, change: (&str, &str), word: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    copy(&golden(name), folder);
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    assert!(text.contains(change.0), "{name}/{file} has no {:?}", change.0);
    std::fs::write(folder.join(file), text.replacen(change.0, change.1, 1)).unwrap();
    let error = SentenceEncoder::open(folder, &Cpu::new(1)).unwrap_err().to_string();
    assert!(error.contains(word) && error.contains(file), "{error}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let modules = "modules.json";
    check_refused("bert_mean", modules, ("normalize.Normalize", "lstm.LSTM"), "LSTM");
    check_refused("bert_mean", modules, ("sentence_transformers.base.modules.norm", "mine.norm"), "mine");
    check_refused("bert_mean", modules, ("2_Normalize", "../elsewhere"), "elsewhere");
    let pooling = "1_Pooling/config.json";
    check_refused("bert_mean", pooling, ("\"mean\"", "\"weightedmean\""), "weightedmean");
    check_refused("bert_mean", pooling, ("include_prompt", "weighting"), "weighting");
    check_refused("bert_mean", "sentence_bert_config.json", ("feature-extraction", "fill-mask"), "fill-mask");
    check_refused("bert_cls_dense", "2_Dense/config.json", ("Tanh", "Softsign"), "Softsign");
    check_refused("bert_cls_dense", "2_Dense/config.json", ("32", "31"), "in_features");
    check_refused(
        "bert_mean",
        "tokenizer_config.json",
        ("{", "{\"truncation_side\": \"left\", "),
        "truncation_side",
    );
    check_refused(
        "bert_mean",
        "config.json",
        ("{", "{\"position_embedding_type\": \"relative_key\", "),
        "relative_key",
    );
}
