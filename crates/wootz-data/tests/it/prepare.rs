//! Corpora as stores of encoded examples.

use std::path::{Path, PathBuf};

use serde_json::json;
use wootz_data::{
    Error, Examples, Fingerprint, LongExamples, Preparation, Prepared, PreparedExample, PreparedStats,
    PreparedWriter, Rows, Supervise, prepare,
};
use wootz_text::{ChatTemplate, Tokenizer};

use crate::encode::{CHATML, tokenizer};

struct Corpus {
    folder: tempfile::TempDir,
    file: PathBuf,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

impl Corpus {
    fn of(rows: &[serde_json::Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.jsonl");
        let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        Self { folder, file, tokenizer: tokenizer("bpe-qwen2"), template: ChatTemplate::new(CHATML).unwrap() }
    }

    fn prepare(
        &self,
        n_threads: usize,
        max_tokens: usize,
        too_long: LongExamples,
    ) -> Result<(Prepared, PreparedStats), Error> {
        let supervise = Supervise::default();
        let preparation = Preparation {
            tokenizer: &self.tokenizer,
            template: Some(&self.template),
            supervise: &supervise,
            max_tokens,
            too_long,
            n_threads,
        };
        let vocab_size = self.tokenizer.vocab_size() as u32;
        let writer = PreparedWriter::create(&self.store(), Fingerprint::default(), vocab_size).unwrap();
        let rows = Rows::open(std::slice::from_ref(&self.file)).unwrap();
        prepare(Examples::new(rows, None), &preparation, writer, &mut |_| {})
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("rows.prepared")
    }

    fn n_files(&self) -> usize {
        Path::read_dir(self.folder.path()).unwrap().count()
    }
}

#[test]
fn every_shape_is_prepared_in_its_place_whatever_the_threads() {
    let mut rows = vec![
        json!({"text": "once upon a time"}),
        json!({"messages": [{"role": "user", "content": "one and one"}, {"role": "assistant", "content": "two"}]}),
        json!({"prompt": "a", "chosen": "good", "rejected": "bad"}),
        json!({"prompt": "a", "completion": "good", "label": true}),
        json!({"prompt": "a and b", "answer": "c"}),
    ];
    rows.extend((0..400).map(|i| json!({"text": format!("row {i}")})));
    let corpus = Corpus::of(&rows);
    let (store, stats) = corpus.prepare(1, 1000, LongExamples::Refuse).unwrap();
    assert_eq!((stats.n_rows, stats.n_examples, store.len()), (405, 405, 405));
    let kinds: Vec<_> = (0..5).map(|i| store.get(i).unwrap()).collect();
    assert!(matches!(&kinds[..], [
        PreparedExample::Plain(_),
        PreparedExample::Plain(_),
        PreparedExample::Pair { .. },
        PreparedExample::Label { is_good: true, .. },
        PreparedExample::Prompt { answer: Some(answer), .. },
    ] if answer == "c"));
    let PreparedExample::Prompt { token_ids, .. } = &kinds[4] else { panic!("a prompt") };
    let asked = "<|im_start|>user\na and b<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(corpus.tokenizer.decode(token_ids, false), asked);
    let bytes = std::fs::read(corpus.store()).unwrap();
    corpus.prepare(3, 1000, LongExamples::Refuse).unwrap();
    assert!(std::fs::read(corpus.store()).unwrap() == bytes, "threads change the store");
}

#[test]
fn long_examples_are_dropped_cut_split_or_refused() {
    let long = "word ".repeat(50);
    let turns = json!([{"role": "user", "content": &long}, {"role": "assistant", "content": "yes"}]);
    let corpus = Corpus::of(&[json!({"text": &long}), json!({"text": "short"}), json!({"messages": turns})]);
    let check = |too_long, expected: [u64; 3]| {
        let (store, stats) = corpus.prepare(2, 16, too_long).unwrap();
        assert!((0..store.len()).all(|i| store.n_tokens(i) <= 16));
        assert_eq!([stats.n_rows, stats.n_examples, stats.n_too_long], expected, "{too_long:?}");
    };
    check(LongExamples::Drop, [3, 1, 2]);
    check(LongExamples::Truncate, [3, 2, 1]); // of the conversation, only the question would be left
    let (store, stats) = corpus.prepare(2, 16, LongExamples::Split).unwrap();
    assert!(stats.n_examples > 5 && (0..store.len()).all(|i| store.n_supervised(i) > 0));
    let error = corpus.prepare(2, 16, LongExamples::Refuse).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl, line 1: it has") && error.contains("expected at most 16"), "{error}");
    let error = corpus.prepare(2, 2, LongExamples::Drop).unwrap_err().to_string();
    assert!(error.contains("none of 3 rows is left to learn from"), "{error}");
}

#[test]
fn a_row_that_teaches_nothing_is_named_and_leaves_no_store() {
    let rows = [json!({"text": "fine"}), json!({"messages": [{"role": "user", "content": "only asks"}]})];
    let corpus = Corpus::of(&rows);
    let error = corpus.prepare(2, 100, LongExamples::Drop).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl, line 2: no token of it is supervised"), "{error}");
    assert_eq!(corpus.n_files(), 1);
}
