//! Files that lie: each gives an error that names the file and the field; none panics, hangs or takes much memory.
//!
//! Elsewhere: the fuzz targets (`fuzz/`), which look for more of them.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use wootz_weights::Weights;

use crate::archive::{self, Pickle};
use crate::golden;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Held while memory is measured, because tests run side by side.
static MEASURING: Mutex<()> = Mutex::new(());

/// Opens bytes, reads everything in them, and holds the memory that takes against the promise.
fn open(bytes: &[u8]) -> Result<Weights, String> {
    let bytes = bytes.to_vec();
    let allowed = 4 * bytes.len() + (64 << 20);
    let measuring = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let weights = Weights::from_bytes("evil", bytes);
    let used = MEMORY.peak_usage().saturating_sub(before);
    drop(measuring);
    assert!(used <= allowed, "{used} bytes of memory, {allowed} allowed");
    let weights = weights.map_err(|e| e.to_string())?;
    for tensor in weights.iter() {
        assert_eq!(weights.info(tensor.name).unwrap().n_bytes(), Some(tensor.bytes.len()));
    }
    if let Some(gguf) = weights.gguf() {
        gguf.iter().for_each(|(key, value)| assert_eq!(gguf.get(key).unwrap().kind(), value.kind()));
    }
    Ok(weights)
}

#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    let error = open(bytes).expect_err(expected);
    assert!(error.starts_with("evil: ") && error.contains(expected), "wanted `{expected}`, got: {error}");
}

const GOOD: [&str; 8] = [
    "v3.gguf",
    "v2.gguf",
    "all.safetensors",
    "all.bin",
    "module.pth",
    "checkpoint.pt",
    "whole_module.pt",
    "complex.pt",
];

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    for name in GOOD {
        let bytes = std::fs::read(golden(name)).unwrap();
        for len in 0..bytes.len() {
            if let Err(error) = open(&bytes[..len]) {
                assert!(error.starts_with("evil: "), "{error}");
            } else {
                // Only the padding after the last tensor may be missing.
                assert!(name.ends_with("gguf") && len + 64 > bytes.len(), "{name} cut at {len}");
            }
        }
    }
}

#[test]
fn a_damaged_file_is_refused_or_read_but_nothing_worse() {
    let mut random = 1u64;
    let mut next = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    for name in GOOD {
        let good = std::fs::read(golden(name)).unwrap();
        for _ in 0..4000 {
            let mut bytes = good.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] ^= 1 << next(8),
                    1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                    2 => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
                    _ => drop(bytes.drain(at..(at + next(9)).min(bytes.len()))),
                }
            }
            open(&bytes).map_or_else(|error| assert!(error.starts_with("evil: "), "{error}"), drop);
        }
    }
}

#[test]
fn files_of_no_known_kind_say_what_they_are() {
    check(b"", "an empty file is not supported");
    check(b"not a model", "a file that starts with [6e, 6f");
    check(b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer");
    check(b"lmgg\0\0\0\0\0\0", "GGML's format from before GGUF");
    check(&[0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc], "PyTorch's format from before version 1.6");
}

// GGUF.

/// A GGUF file from raw parts: counts, keys and tensors may lie.
fn gguf(n_tensors: u64, n_keys: u64, rest: &[&[u8]]) -> Vec<u8> {
    [b"GGUF", &3u32.to_le_bytes()[..], &n_tensors.to_le_bytes(), &n_keys.to_le_bytes(), &rest.concat()]
        .concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name.as_bytes()), &kind.to_le_bytes()[..], value].concat()
}

fn array(kind: u32, len: u64, values: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), &len.to_le_bytes()[..], values].concat()
}

fn tensor(name: &str, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let dims: Vec<u8> = (dims.len() as u32)
        .to_le_bytes()
        .into_iter()
        .chain(dims.iter().flat_map(|d| d.to_le_bytes()))
        .collect();
    [&text(name.as_bytes()), &dims[..], &ty.to_le_bytes(), &offset.to_le_bytes()].concat()
}

#[test]
fn gguf_with_a_wrong_head_is_refused() {
    let big_endian = [b"GGUF", &3u32.to_be_bytes()[..], &[0; 32]].concat();
    check(&big_endian, "a big-endian GGUF file is not supported");
    check(&[b"GGUF", &1u32.to_le_bytes()[..], &[0; 32]].concat(), "GGUF version 1 is not supported");
    check(&[b"GGUF", &4u32.to_le_bytes()[..], &[0; 32]].concat(), "GGUF version 4 is not supported");
    check(b"GGUF", "version: expected 4 bytes at byte 4");
    check(&gguf(u64::MAX, 0, &[]), "tensor count: expected at most 0, as many as fit in the file");
    check(&gguf(0, 1 << 40, &[&[0; 4096]]), "metadata key count: expected at most 315");
    check(&gguf(0, 1 << 17, &[&[0; 1 << 22]]), "metadata key count: expected at most 65536, got 131072");
    check(&gguf(1 << 17, 0, &[&[0; 1 << 22]]), "tensor count: expected at most 65536, got 131072");
}

#[test]
fn gguf_with_wrong_metadata_is_refused() {
    let one = |key: &[u8]| gguf(0, 1, &[key, &[0; 64]]);
    let huge = u64::MAX.to_le_bytes();
    check(&one(&huge), "metadata key 0: expected 18446744073709551615 bytes at byte");
    check(&one(&text(b"\xff")), "metadata key 0: expected UTF-8, got an invalid byte at 0");
    check(&one(&key("k", 13, &[])), "key `k`: expected a value of a kind from 0 to 12, got 13");
    check(&one(&key("k", 7, &[2])), "key `k`: expected a bool, 0 or 1, got 2");
    check(&one(&key("k", 8, &huge)), "key `k`: expected 18446744073709551615 bytes");
    check(&one(&key("k", 8, &text(b"a\xff"))), "key `k`: expected UTF-8, got an invalid byte at 1");
    check(
        &one(&key("k", 9, &array(10, u64::MAX / 8 + 2, &[]))),
        "key `k`: expected 18446744073709551615 bytes",
    );
    check(&one(&key("k", 9, &array(8, 1 << 60, &text(b"a")))), "key `k`, string ");
    check(
        &one(&key("k", 9, &array(99, 0, &[]))),
        "key `k`: expected an array of a kind from 0 to 12, got 99",
    );
    check(&one(&key("k", 9, &array(9, 1 << 60, &[]))), "key `k`: expected 8 bytes");
    let twice = array(9, 1, &array(9, 1, &array(4, 0, &[])));
    check(&one(&key("k", 9, &twice)), "key `k`: expected arrays nested at most once");
    let deep = array(9, 1, &[]).repeat(10_000);
    check(&one(&key("k", 9, &deep)), "key `k`: expected arrays nested at most once");
    let again = [key("k", 0, &[1]), key("k", 0, &[1])].concat();
    check(&gguf(0, 2, &[&again, &[0; 64]]), "key `k`: expected one value, got a second one");
    for alignment in [0u32, 3, 48] {
        let alignment = key("general.alignment", 4, &alignment.to_le_bytes());
        check(&one(&alignment), "key `general.alignment`: expected a power of two");
    }
    check(
        &one(&key("general.alignment", 8, &text(b"32"))),
        "key `general.alignment`: expected a power of two",
    );
}

#[test]
fn gguf_with_wrong_tensors_is_refused() {
    let one = |tensor: &[u8]| gguf(1, 0, &[tensor, &[0; 256]]);
    check(&one(&tensor("w", &[1; 5], 0, 0)), "tensor `w`: expected at most 4 dimensions, got 5");
    check(&one(&tensor("w", &[1 << 63], 0, 0)), "tensor `w`: expected a dimension below 2^63");
    check(&one(&tensor("w", &[1 << 40, 1 << 40], 0, 0)), "tensor `w`: expected rows of whole f32 blocks");
    check(&one(&tensor("w", &[33], 8, 0)), "tensor `w`: expected rows of whole q8_0 blocks (32 numbers)");
    check(&one(&tensor("w", &[32], 4, 0)), "tensor `w`: expected a ggml type, got 4, which ggml has removed");
    check(&one(&tensor("w", &[32], 777, 0)), "tensor `w`: expected a ggml type, got 777");
    check(&one(&tensor("w", &[4], 0, 4)), "tensor `w`: expected an offset that is a multiple of 32, got 4");
    check(
        &one(&tensor("w", &[400], 0, 0)),
        "tensor `w`: expected 1600 bytes at 64 + 0, got a file of 313 bytes",
    );
    check(
        &one(&tensor("w", &[4], 0, u64::MAX - 31)),
        "tensor `w`: expected 16 bytes at 64 + 18446744073709551584",
    );
    let two = [tensor("a", &[16], 0, 0), tensor("b", &[4], 0, 32)].concat();
    check(&gguf(2, 0, &[&two, &[0; 256]]), "tensor `b`: expected bytes of its own, got an overlap with `a`");
    let same = [tensor("a", &[4], 0, 0), tensor("a", &[4], 0, 32)].concat();
    check(&gguf(2, 0, &[&same, &[0; 256]]), "tensor `a`: expected one of this name, got a second one");
    let empty = [tensor("a", &[0], 0, 0), tensor("b", &[u64::MAX >> 1, 0, 7], 0, 0)].concat();
    assert_eq!(open(&gguf(2, 0, &[&empty])).unwrap().need("b").unwrap().bytes, [0u8; 0]);
}

// safetensors.

fn safetensors(json: &str, n_data: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; n_data]].concat()
}

/// A header of one tensor `w` with this inside.
fn one(fields: &str) -> String {
    format!(r#"{{"w":{{{fields}}}}}"#)
}

#[test]
fn safetensors_with_a_wrong_header_is_refused() {
    let length = |len: u64| [&len.to_le_bytes()[..], b"{}      "].concat();
    check(&length(100), "header: expected 100 bytes at byte 8, got the end of the file after 8");
    check(&length(u64::MAX), "header length: expected at most 100000000, got 18446744073709551615");
    check(&length(1), "header: expected JSON as the format has it");
    check(&safetensors("{} x", 0), "trailing characters");
    check(&safetensors("{\"w\":3}", 0), "an object with dtype, shape and data_offsets for tensor `w`");
    check(&safetensors(&format!("{{\"w\":{}", "[".repeat(200_000)), 0), "header: expected JSON");
    check(&safetensors(&one(&format!("\"x\":{}", "{\"y\":".repeat(200_000))), 0), "header: expected JSON");
    check(&safetensors("{\"__metadata__\":{\"a\":1}}", 0), "invalid type: integer `1`, expected a string");
    check(&safetensors("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0), "`__metadata__`: a second `a`");
    check(&safetensors("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "a second `__metadata__`");
    check(&safetensors("{}", 4), "file length: expected 0 bytes of data, got 4 bytes of data");
}

#[test]
fn safetensors_with_a_wrong_tensor_is_refused() {
    let good = r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#;
    assert_eq!(open(&safetensors(&one(good), 8)).unwrap().len(), 1);
    let mut table: Vec<(String, &str)> = Vec::new();
    let mut with = |from: &str, to: &str, expected| table.push((one(&good.replace(from, to)), expected));
    with("F32", "F31", "tensor `w`: dtype `F31`, expected F64, F32");
    with("[2]", "[-2]", "tensor `w`: shape: invalid value: integer `-2`");
    with("[2]", "[2.0]", "tensor `w`: shape: invalid type: floating point");
    with("[2]", "[1,1,1,1,1,1,1,1,2]", "tensor `w`: shape: more than 8 numbers");
    with("[2]", "[3]", "tensor `w`: expected 12 bytes for shape [3], got 8");
    with("[2]", "[4294967296,4294967296,2]", "tensor `w`: expected a size below 2^64");
    with("[2]", "[18446744073709551616]", "tensor `w`: shape: ");
    with("[0,8]", "[8]", "tensor `w`: data_offsets: expected two numbers");
    with("[0,8]", "[0,8,8]", "tensor `w`: data_offsets: more than 2 numbers");
    with("[0,8]", "[8,0]", "tensor `w`: expected data from byte 0");
    with("[0,8]", "[1,9]", "tensor `w`: expected data from byte 0, where the one before it ends, got 1..9");
    with("[0,8]", "[0,18446744073709551615]", "file length: expected 18446744073709551615 bytes of data");
    with(r#""shape":[2],"#, "", "tensor `w`: no `shape`");
    with(r#""shape":[2]"#, r#""shape":[2],"shape":[2]"#, "tensor `w`: a second `shape`");
    with(r#""shape":[2]"#, r#""shape":[2],"extra":{}"#, "tensor `w`: unknown field `extra`");
    for (json, expected) in table {
        check(&safetensors(&json, 8), expected);
    }
    let two = |a: &str, b: &str| {
        let tensor = |name: &str, offsets: &str| {
            format!(r#""{name}":{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#)
        };
        safetensors(&format!("{{{},{}}}", tensor("a", a), tensor("b", b)), 8)
    };
    assert_eq!(open(&two("[4,8]", "[0,4]")).unwrap().len(), 2);
    check(&two("[0,4]", "[2,6]"), "tensor `b`: expected data from byte 4");
    check(&two("[0,4]", "[5,9]"), "tensor `b`: expected data from byte 4");
    check(&two("[0,4]", "[0,4]"), "tensor `b`: expected data from byte 4");
    check(&two("[0,4]", "[4,7]"), "file length: expected 7 bytes of data, got 8");
    let twice = format!("{{\"w\":{{{good}}},\"w\":{{{}}}}}", good.replace("[0,8]", "[8,16]"));
    check(&safetensors(&twice, 16), "tensor `w`: expected one of this name, got a second one");
}

#[test]
fn safetensors_of_very_many_tensors_is_refused_before_it_takes_memory() {
    let tensors: Vec<String> = (0..70_000)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0,1,1,1,1,1,1,1],"data_offsets":[0,0]}}"#))
        .collect();
    check(&safetensors(&format!("{{{}}}", tensors.join(",")), 0), "more than 65536 tensors");
    assert_eq!(open(&safetensors(&format!("{{{}}}", tensors[..65_536].join(",")), 0)).unwrap().len(), 65_536);
    let keys: Vec<String> = (0..70_000).map(|i| format!(r#""{i}":"""#)).collect();
    check(&safetensors(&format!("{{\"__metadata__\":{{{}}}}}", keys.join(",")), 0), "more than 65536 keys");
    let shape = "1,".repeat(1 << 20);
    check(&safetensors(&one(&format!(r#""dtype":"F32","shape":[{shape}1]"#)), 0), "more than 8 numbers");
}

// PyTorch archives.

fn torch(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    archive::zip(&[("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", storage)])
}

/// `{"w": tensor}` over a storage of `len` f32.
fn view(len: u64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    Pickle::new().tensor_dict("w", len, offset, shape, strides).done()
}

#[test]
fn a_pickle_cannot_name_what_is_not_listed() {
    for (module, name) in [
        ("os", "system"),
        ("builtins", "eval"),
        ("posix", "system"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        ("collections", "Counter"),
        ("torch", "QUInt8Storage"),
    ] {
        let lines = Pickle::new().global(module, name).text("echo").raw(&[0x85, b'R']).done();
        check(&torch(&lines, &[]), &format!("`{module}.{name}` in a pickle is not supported"));
        let stacked = Pickle::new().text(module).text(name).raw(&[0x93]).done();
        check(&torch(&stacked, &[]), &format!("`{module}.{name}` in a pickle is not supported"));
    }
    for opcode in *b"PIFLVSgipo" {
        let pickle = Pickle::new().raw(&[opcode]).done();
        check(
            &torch(&pickle, &[]),
            &format!("expected an opcode that state dicts use, got opcode {opcode:#04x}"),
        );
    }
}

#[test]
fn a_pickle_that_makes_no_sense_is_refused() {
    let raw = |bytes: &[u8]| torch(&Pickle::new().raw(bytes).done(), &[]);
    check(&raw(b""), "expected a value on the stack, got none");
    check(&raw(b"N"), "expected a dict of tensors, got none");
    check(&raw(b"}"), "expected a dict of tensors, got a dict without any");
    check(&raw(b"0"), "expected a value on the stack");
    check(&raw(b"N\x86"), "expected 2 values on the stack, got fewer");
    check(&raw(b"t"), "expected a mark on the stack, got none");
    check(&raw(b"(0"), "expected a value on the stack");
    check(&raw(b"NNR"), "expected a function and a tuple");
    check(&raw(b"N)R"), "expected a function and a tuple to call it with, got none");
    check(&raw(b"NNs"), "expected a value on the stack");
    check(&raw(b"NNNs"), "expected a dict to set items of, got none");
    check(&raw(b"}(Nu"), "expected a value for each key, got a key alone");
    check(&raw(b"NNa"), "expected a list to append to");
    check(&raw(b"h\x05"), "expected a value remembered as 5, got none");
    check(&raw(b"NQ"), "expected a storage's description, got none");
    check(&raw(b"NNb"), "expected a dict to set attributes of");
    check(&raw(b"\x8a\x09123456789"), "expected an integer of 64 bits, got one of 9 bytes");
    check(&raw(b"X\xff\xff\xff\xffabc"), "pickle text: expected 4294967295 bytes");
    check(
        &raw(&[0x8d, 255, 255, 255, 255, 255, 255, 255, 255]),
        "pickle text: expected 18446744073709551615 bytes",
    );
    check(&raw(&[b"c", &[b'a'; 1000][..]].concat()), "expected a global's name of at most 256 bytes");
    check(&torch(&[0x80, 9, b'.'], &[]), "expected protocol 2 to 5, got 9");
    check(&torch(&[0x80, 2, b'N'], &[]), "pickle: expected 1 bytes");
    check(&torch(b"", &[]), "pickle: expected 1 bytes");
}

#[test]
fn a_pickle_that_grows_without_end_is_refused() {
    // Tuples of tuples: 2^20,000 values if anyone counted them, but each is made once.
    let doubling = b"2\x86".repeat(20_000);
    check(
        &torch(&Pickle::new().raw(b"N").raw(&doubling).done(), &[]),
        "expected a dict of tensors, got a tuple of 2",
    );
    // The same by the memo, one pickled value after the other.
    let memo: Vec<u8> =
        (0..=255u8).cycle().take(50_000).flat_map(|i| [b'h', i, b'h', i, 0x86, b'q', i]).collect();
    let start: Vec<u8> = (0..=255u8).flat_map(|i| [b'N', b'q', i]).collect();
    check(
        &torch(&Pickle::new().raw(&start).raw(&memo).done(), &[]),
        "expected a dict of tensors, got a tuple of 2",
    );
    for opcode in [b"}", b"]", b"(", b"N", b")"] {
        let many = opcode.repeat(1 << 20);
        check(&torch(&Pickle::new().raw(&many).done(), &[]), "got too many opcodes");
    }
    // A dict that is its own state dict, and a list of itself.
    let itself = Pickle::new().raw(b"}q\x00").text("state_dict").raw(b"h\x00s").done();
    check(&torch(&itself, &[]), "expected a dict of tensors, got a dict without any");
    check(&torch(&Pickle::new().raw(b"]q\x00h\x00a").done(), &[]), "got a list of 1");
    // One list of pairs, copied by many calls.
    let pairs = Pickle::new().raw(b"](").raw(&b"NN\x86".repeat(50_000)).raw(b"e\x85q\x00");
    let calls = pairs.global("collections", "OrderedDict").raw(b"q\x01").raw(&b"h\x01h\x00R".repeat(10_000));
    check(&torch(&calls.done(), &[]), "got too many opcodes");
    // As many tensors as one pickle can describe.
    let many = Pickle::new().tensor_many_times(70_000);
    check(&torch(&many.done(), &[0; 4]), "got too many opcodes");
}

#[test]
fn a_tensor_outside_its_storage_is_refused() {
    let open_view =
        |len, offset, shape: &[i64], strides: &[i64]| torch(&view(len, offset, shape, strides), &[0; 24]);
    assert_eq!(open(&open_view(6, 0, &[2, 3], &[3, 1])).unwrap().len(), 1);
    assert_eq!(open(&open_view(6, 99, &[0, 3], &[i64::MAX, 1])).unwrap().len(), 1);
    assert_eq!(open(&open_view(6, 5, &[1, 1], &[i64::MAX, i64::MAX])).unwrap().len(), 1);
    check(
        &open_view(6, 1, &[2, 3], &[3, 1]),
        "tensor `w`: expected numbers within its storage of 6, got shape [2, 3]",
    );
    check(&open_view(6, 6, &[], &[]), "tensor `w`: expected numbers within its storage");
    check(&open_view(6, 0, &[2, 2], &[i64::MAX, 1]), "tensor `w`: expected numbers within its storage");
    check(&open_view(6, i64::MAX, &[2], &[i64::MAX]), "tensor `w`: expected numbers within its storage");
    check(&open_view(6, 0, &[1 << 40, 1 << 40], &[0, 0]), "tensor `w`: expected numbers within its storage");
    check(&open_view(6, 0, &[1 << 34], &[0]), "tensor `w`: expected at most 16778176 bytes of views");
    check(&open_view(7, 0, &[6], &[1]), "tensor `w`: expected a storage of Elements(7), got 24 bytes");
    check(&open_view(6, 0, &[6], &[1, 1]), "expected 1 strides, got 2");
    check(&open_view(6, -1, &[6], &[1]), "expected a count, got the integer -1");
    check(&open_view(6, 0, &[6], &[-1]), "expected a count, got the integer -1");
    check(&open_view(6, 0, &[1; 9], &[1; 9]), "expected at most 8 dimensions, got 9");
    let expanded = open(&open_view(6, 0, &[1000, 1000], &[0, 0])).unwrap();
    assert_eq!(expanded.need("w").unwrap().bytes.len(), 4_000_000);
}

#[test]
fn an_archive_that_is_no_archive_is_refused() {
    let good = torch(&view(1, 0, &[1], &[1]), &[0; 4]);
    assert_eq!(open(&good).unwrap().len(), 1);
    check(&good[..good.len() - 1], "zip: expected the end of its central directory");
    let pickle = view(1, 0, &[1], &[1]);
    let zip = |entries: &[(&str, &[u8])]| archive::zip(entries);
    check(&zip(&[("a/data.pkl", &pickle)]), "tensor `w`: expected an entry `data/0`, got none");
    check(&zip(&[("a/x", &pickle)]), "archive: expected one entry named `…/data.pkl`, got 0 of them among 1");
    check(&zip(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)]), "got 2 of them among 2 entries");
    check(&zip(&[("a/x", &pickle), ("a/x", &pickle)]), "zip entry `a/x`: expected one, got a second");
    check(&zip(&[("a/data.pkl", &pickle), ("a/byteorder", b"big")]), "a big-endian archive is not supported");
    check(
        &zip(&[("a/data.pkl", &pickle), ("a/constants.pkl", b"")]),
        "a TorchScript archive is not supported",
    );

    let directory = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    check(
        &changed(directory + 10, &[8, 0]),
        "zip entry `a/data.pkl`, compressed or encrypted, is not supported",
    );
    check(
        &changed(directory + 8, &[1, 0]),
        "zip entry `a/data.pkl`, compressed or encrypted, is not supported",
    );
    check(&changed(directory + 20, &[0xfe; 8]), "zip entry `a/data.pkl`: expected 4278124286 bytes");
    check(
        &changed(directory + 20, &[0xff; 8]),
        "zip entry `a/data.pkl`: expected a zip64 field for its sizes",
    );
    check(
        &changed(directory + 42, &[0xfe; 4]),
        "zip entry `a/data.pkl`: expected 4 bytes at byte 4278124286",
    );
    check(&changed(directory + 42, &[1, 0, 0, 0]), "zip entry `a/data.pkl`: expected signature 04034b50");
    check(&changed(directory, b"XX"), "zip entry 0: expected signature 02014b50");
    let end = good.len() - 22;
    check(&changed(end + 10, &[0xff; 2]), "zip entry 3: expected signature 02014b50");
    check(&changed(end + 16, &[0xff; 4]), "zip entry 0: expected 4 bytes at byte 4294967295");
}

#[test]
fn archives_with_zip64_fields_are_read() {
    let zip = archive::zip64(&[("a/data.pkl", &view(1, 0, &[1], &[1])), ("a/data/0", &2.5f32.to_le_bytes())]);
    assert_eq!(open(&zip).unwrap().need("w").unwrap().to_f32(), [2.5]);
    for len in 0..zip.len() {
        open(&zip[..len]).unwrap_err();
    }
}
