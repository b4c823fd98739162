//! `tokenizer train` and what `tokenize` makes of it.

use std::fmt::Write;

use crate::{fail, json, wootz};

#[test]
fn a_tokenizer_is_trained_and_used() {
    let home = tempfile::tempdir().unwrap();
    let (rows, folder) = (home.path().join("rows.jsonl"), home.path().join("mine"));
    let mut text = String::new();
    for i in 0..200 {
        writeln!(text, r#"{{"text":"the cat saw the other cat {i} times"}}"#).unwrap();
    }
    std::fs::write(&rows, text).unwrap();
    let train = |home: &std::path::Path| {
        let mut command = wootz(home);
        command.args(["tokenizer", "train", "--vocab-size", "280", "--chat", "--json", "-o"]);
        command.arg(&folder).arg(&rows);
        command
    };
    let made = json(&mut train(home.path()));
    assert_eq!((made["vocab_size"].as_u64(), made["texts"].as_u64()), (Some(280), Some(200)));
    let said = fail(&mut train(home.path()), 1);
    assert!(said.contains("is there already") && said.contains("--force"), "{said}");
    json(train(home.path()).arg("--force"));

    let tokenizer = wootz_text::Tokenizer::from_dir(&folder).unwrap();
    let ids = tokenizer.encode("the cat<|im_end|>", false, true);
    let texts: Vec<_> = ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    assert_eq!(texts, ["the", "Ġcat", "<|im_end|>"]);
    assert!(tokenizer.is_eos(ids[2]));
}
