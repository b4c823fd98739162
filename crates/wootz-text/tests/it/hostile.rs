//! Files and templates made to break their reader: each is an error that says where, or harmless; none panics or hangs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wootz_text::{ChatInput, ChatTemplate, Message, Tokenizer};

use crate::golden_tokenizers::{NAMES, folder};
use crate::memory::{alone, bounded, open_json, open_sentencepiece};

fn tokenizer_error(file: &Value, part: &str) {
    let bytes = serde_json::to_vec(file).unwrap();
    let mut error = match Tokenizer::from_json(bytes) {
        Ok(_) => panic!("{part}: expected an error for {file}"),
        Err(error) => error.to_string(),
    };
    if let Err(source) = Tokenizer::from_json(serde_json::to_vec(file).unwrap())
        && let Some(source) = std::error::Error::source(&source)
    {
        error = format!("{error}: {source}");
    }
    assert!(error.contains(part), "expected `{part}` in `{error}`");
}

fn bpe(vocab: Value, merges: Value) -> Value {
    json!({"model": {"type": "BPE", "vocab": vocab, "merges": merges}})
}

#[test]
fn broken_tokenizer_files_name_the_fault() {
    let _alone = alone();
    tokenizer_error(&bpe(json!({"a": 4_000_000_000_u32}), json!([])), "expected ids below");
    tokenizer_error(&bpe(json!({"a": -1}), json!([])), "-1");
    tokenizer_error(&bpe(json!({"a": 0, "b": 0}), json!([])), "share the id 0");
    tokenizer_error(&bpe(json!({"a": 0}), json!([["a", "b"]])), "model.merges[0]");
    tokenizer_error(&bpe(json!({"a": 0, "b": 1}), json!([["a", "b"]])), "model.merges[0]");
    tokenizer_error(&bpe(json!({"a": 0}), json!(["a b c"])), "two tokens");
    tokenizer_error(&json!({"model": {"type": "Magic"}}), "model.type");
    tokenizer_error(&json!({"model": {"type": "WordLevel", "vocab": {}, "colour": 1}}), "colour");
    tokenizer_error(&json!({"version": "2.0", "model": {"type": "WordLevel", "vocab": {}}}), "version");
    let with = |key: &str, value: Value| {
        let mut file = bpe(json!({"a": 0}), json!([]));
        file[key] = value;
        file
    };
    tokenizer_error(&with("surprise", json!(1)), "surprise");
    tokenizer_error(&with("normalizer", json!({"type": "Magic"})), "normalizer.type");
    tokenizer_error(&with("normalizer", json!({"type": "NFC", "extra": 1})), "normalizer.extra");
    let garbage = json!({"type": "Precompiled", "precompiled_charsmap": "////////"});
    tokenizer_error(&with("normalizer", garbage), "precompiled_charsmap");
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    tokenizer_error(&with("pre_tokenizer", split("(")), "pre_tokenizer.pattern");
    tokenizer_error(&with("pre_tokenizer", split(r"(?:a{1000}){1000}{1000}")), "cost at most");
    tokenizer_error(
        &with("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        "pre_tokenizer.length",
    );
    tokenizer_error(
        &with("decoder", json!({"type": "Strip", "content": "ab", "start": 0, "stop": 0})),
        "decoder.content",
    );
    let template = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}], "pair": []});
    tokenizer_error(&with("post_processor", template), "post_processor.single[0]");
    tokenizer_error(
        &with("added_tokens", json!([{"id": 1, "content": "x".repeat(2 << 20)}])),
        "added_tokens",
    );
    tokenizer_error(&with("normalizer", json!("x".repeat(5 << 20))), "normalizer");
}

#[test]
fn deep_nesting_is_refused() {
    let _alone = alone();
    for open in ["[", "{\"a\":", "{\"model\":"] {
        assert!(Tokenizer::from_json(open.repeat(100_000).into_bytes()).is_err());
    }
    let mut step = json!({"type": "NFC"});
    for _ in 0..60 {
        step = json!({"type": "Sequence", "normalizers": [step]});
    }
    let file = json!({"normalizer": step, "model": {"type": "WordLevel", "vocab": {"a": 0}}});
    let bytes = serde_json::to_vec(&file).unwrap();
    let _ = Tokenizer::from_json(bytes); // harmless, or refused by the reader's own limit
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let _alone = alone();
    for name in NAMES {
        let bytes = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
        let text = bytes.trim_ascii_end();
        for len in (0..text.len()).step_by(97).chain(text.len() - 60..text.len()) {
            assert!(open_json(&text[..len]).is_err(), "{name}");
        }
    }
    for name in ["sp-bpe", "sp-unigram"] {
        let bytes = std::fs::read(folder().join(format!("{name}.model"))).unwrap();
        for len in 0..bytes.len() {
            let _ = open_sentencepiece(&bytes[..len]); // between two fields a file may end
        }
    }
}

/// Texts that damaged tokenizers have to encode.
const TEXTS: [&str; 3] = ["Hello  world's\n\t12345", "Zażółć 你好 e\u{301}🦀\u{200d}", "<s>▁a</s>  x\u{0}"];

#[test]
fn a_damaged_file_is_refused_or_works_but_nothing_worse() {
    let _alone = alone();
    let mut random = 1_u64;
    let mut next = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    let names = NAMES.iter().map(|name| format!("{name}.json"));
    for name in names.chain(["sp-bpe.model".into(), "sp-unigram.model".into()]) {
        let good = std::fs::read(folder().join(&name)).unwrap();
        for _ in 0..400 {
            let mut bytes = good.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(6) {
                    0 => bytes[at] ^= 1 << next(8),
                    1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                    2 => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
                    3 => bytes.splice(at..at, *b"99999999999").for_each(drop),
                    4 => bytes[at] = b"{}[]\",:0"[next(8)],
                    _ => drop(bytes.drain(at..(at + next(9)).min(bytes.len()))),
                }
            }
            let opened = if name.ends_with("json") { open_json(&bytes) } else { open_sentencepiece(&bytes) };
            if let Ok(tokenizer) = opened {
                for text in TEXTS {
                    tokenizer.decode(&tokenizer.encode(text, true, true), false);
                }
            }
        }
    }
}

#[test]
fn merges_in_circles_and_exploding_expressions_end() {
    let _alone = alone();
    // Merges that lead back to their own parts, and a token that is twice itself.
    let vocab = json!({"a": 0, "aa": 1, "aaa": 2, "aaaa": 3});
    let merges = json!([["a", "a"], ["aa", "a"], ["a", "aa"], ["aa", "aa"], ["aaa", "a"]]);
    let tokenizer = Tokenizer::from_json(serde_json::to_vec(&bpe(vocab, merges)).unwrap()).unwrap();
    let ids = tokenizer.encode(&"a".repeat(100_001), false, false);
    assert_eq!(tokenizer.decode(&ids, false).replace(' ', "").len(), 100_001);

    let mut file = bpe(json!({"a": 0}), json!([]));
    file["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": r"(?:(a+)+)(?!a)b"}, "behavior": "Isolated", "invert": false});
    let tokenizer = Tokenizer::from_json(serde_json::to_vec(&file).unwrap()).unwrap();
    let start = Instant::now();
    tokenizer.encode(&"a".repeat(100_000), false, false);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn broken_sentencepiece_models_are_errors() {
    let _alone = alone();
    assert!(Tokenizer::from_sentencepiece(Vec::new()).is_err());
    let mut seed = 1_u64;
    for len in 0..300 {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 40) as u8
            })
            .collect();
        if let Ok(tokenizer) = Tokenizer::from_sentencepiece(bytes) {
            tokenizer.encode("hello world", true, true);
        }
    }
}

/// Renders a template that must end in an error (or in a text of bearable size) soon.
fn ends(source: &str) {
    let start = Instant::now();
    let messages = [Message::user("aaaaaaaaaa")];
    let input = ChatInput { messages: &messages, ..ChatInput::default() };
    let result =
        bounded(source.len(), || ChatTemplate::new(source).and_then(|template| template.render(&input)));
    if let Ok(rendered) = &result {
        assert!(rendered.text.len() < 32 << 20, "{source}: {} bytes", rendered.text.len());
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{source} took {:?}", start.elapsed());
}

#[test]
fn templates_that_want_gigabytes_are_stopped() {
    let _alone = alone();
    let grows = [
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=['a']) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = '%s%s'|format(ns.x, ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = '{0}{0}{0}'.format(ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x == 1 }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x, ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
        "{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('aa') }}",
        "{% macro m(x) %}{{ x }}{{ m(x) }}{{ m(x) }}{% endmacro %}{{ m('aa') }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 'aaaaaaaaaa' * 100000 * 100000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ '%.1000000000f' % 1.0 }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a\\na'|indent(1000000000) }}",
        "{{ [1]|tojson(indent=1000000000) }}",
        "{{ range(1000000000)|list }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% set r = range(100000)|list %}{% for i in r %}{% set x = r|sort|list %}{% endfor %}",
        "{% set r = range(100000)|list %}{% for i in r %}{% set x = r|map('string')|join %}{% endfor %}",
        "{{ 2 ** 10000000 }}{{ 10 ** 10 ** 10 }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}some text that is written again and again, more than a little of it{% endfor %}{% endfor %}",
    ];
    grows.iter().for_each(|source| ends(source));
}

#[test]
fn things_that_contain_themselves_end() {
    let _alone = alone();
    for source in [
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns|tojson }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns ~ '' }}{{ ns|string }}{{ [ns]|join }}",
        "{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns.me }}",
        "{% set a = namespace() %}{% set a.me = a %}{% set b = namespace() %}{% set b.me = b %}{{ a == b }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        ends(source);
    }
}

#[test]
fn templates_that_make_no_sense_say_where() {
    let _alone = alone();
    let check = |source: &str, line: usize| {
        let messages = [Message::user("x")];
        let input = ChatInput { messages: &messages, ..ChatInput::default() };
        let error = ChatTemplate::new(source).and_then(|template| template.render(&input)).unwrap_err();
        assert_eq!((error.name.as_deref(), error.line), (Some("default"), Some(line)), "{source}: {error}");
    };
    check("a\n{{ x", 2);
    check("a\nb\n{% if %}", 3);
    check("{% if x %}\n", 1);
    check("\n{{ messages[0].content.nope() }}", 2);
    check("\n\n{{ 1 + 'a' }}", 3);
    check("\n{{ raise_exception('no') }}", 2);
    check("{# x", 1);
    check("{% raw %}", 1);
    check("{{ 'x }}", 1);
    check("{{ __wootz_mark(0) }}", 1);
}

#[test]
fn whatever_the_characters_reading_a_template_ends() {
    let _alone = alone();
    let parts = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        "+",
        " ",
        "\n",
        "x",
        "'",
        "\"",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        ".",
        "if",
        "for",
        "in",
        "set",
        "=",
        "~",
        "*",
        "1",
        "raw",
        "endraw",
        "endif",
        "endfor",
        "generation",
        "is",
        "not",
        "é",
    ];
    let mut seed = 7_u64;
    for _ in 0..3000 {
        let mut source = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            source.push_str(parts[(seed >> 33) as usize % parts.len()]);
        }
        ends(&source);
    }
}
