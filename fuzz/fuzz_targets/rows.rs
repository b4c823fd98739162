//! Fuzzing data files: any bytes under any known name are rows or an error, within bounded memory; a store of encoded
//! examples and a recipe likewise.
#![no_main]

mod memory;

use std::io::Write;

use wootz_data::{Example, Prepared, Rows};

/// Names that say a format.
const NAMES: &[&str] =
    &["a.parquet", "a.jsonl", "a.json", "a.csv", "a.txt", "a.jsonl.gz", "a.jsonl.zst", "a.prepared", "a.yaml"];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The first byte says the name.
    let Some((&first, contents)) = data.split_first() else { return };
    let name = NAMES[usize::from(first) % NAMES.len()];
    let path = std::env::temp_dir().join(format!("wootz-fuzz-{}-{name}", std::process::id()));
    let file = std::fs::File::create(&path).and_then(|mut file| file.write_all(contents));
    file.expect("the folder of temporary files can be written");
    memory::bounded(contents.len(), || match name {
        "a.yaml" => {
            let _ = std::str::from_utf8(contents).map(wootz_train::config::TrainConfig::parse);
        }
        "a.prepared" => {
            if let Ok(store) = Prepared::open(&path) {
                (0..store.len()).for_each(|i| drop(store.get(i)));
            }
        }
        _ => {
            let rows = Rows::open(std::slice::from_ref(&path)).expect("the file is there and its name is known");
            for row in rows.take_while(Result::is_ok).take(2000).flatten() {
                let _ = Example::of(&row, None);
            }
        }
    });
});
