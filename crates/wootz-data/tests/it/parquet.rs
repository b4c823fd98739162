//! Parquet files beside what Arrow reads in them.

use std::path::PathBuf;

use serde_json::Value;
use wootz_data::{Error, Rows};

use crate::golden;

const FILES: [&str; 7] = ["none", "snappy", "gzip", "zstd", "lz4", "v2", "encodings"];

fn file(name: &str) -> PathBuf {
    golden(&format!("parquet/{name}.parquet"))
}

fn read(path: PathBuf) -> Result<Vec<Value>, Error> {
    Rows::open(&[path])?.map(|row| row.map(|row| Value::Object(row.fields))).collect()
}

#[test]
fn rows_are_those_that_arrow_reads() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(golden("parquet/rows.json")).unwrap()).unwrap();
    let expected = expected["rows"].as_array().unwrap();
    for name in FILES {
        let rows = read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(rows.len(), expected.len(), "{name}");
        for (i, (row, expected)) in rows.iter().zip(expected).enumerate() {
            for (field, expected) in expected.as_object().unwrap() {
                assert_eq!(&row[field], expected, "{name}, row {i}, {field}");
            }
        }
    }
}

#[test]
fn damaged_files_are_errors_or_other_rows_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let mut random = 7_u64;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    for name in FILES {
        let whole = std::fs::read(file(name)).unwrap();
        for round in 0..60 {
            let mut bytes = whole.clone();
            match round % 4 {
                0 => bytes.truncate(below(whole.len())),
                // The footer is where most can be said.
                1 => bytes[whole.len() - 8 - below(4000)] = below(256) as u8,
                _ => (0..1 + round % 5).for_each(|_| bytes[below(whole.len())] = below(256) as u8),
            }
            std::fs::write(&path, bytes).unwrap();
            let rows = Rows::open(std::slice::from_ref(&path)).unwrap();
            let n = rows.take_while(Result::is_ok).take(10_000).count();
            assert!(round % 4 != 0 || n == 0, "a file that was cut has no rows");
        }
    }
}

#[test]
fn what_is_not_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], said: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = read(path).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    check("a.parquet", b"", "expected a Parquet file, got 0 bytes");
    check("a.parquet", b"PAR1\0\0\0\0....", "without its mark at the end");
    check("a.parquet", b"PAR1\0\0\0\0PARE", "it is encrypted");
    check("a.parquet", b"PAR1\xff\xff\0\0PAR1", "expected a footer within 12 bytes, got 65535");
    check("a.parquet.gz", b"", "expected a name that ends in");
}
