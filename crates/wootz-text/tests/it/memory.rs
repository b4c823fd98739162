//! Files made to take much memory: opening one takes at most 4 × the file + 64 MiB.
//!
//! Idea:   every allocation of the test program is counted; tests that measure, or that take much, run one at a time.
//! Elsewhere: the fuzz targets (`fuzz/`), which hold small files against the same bound.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use wootz_text::{ChatInput, ChatTemplate, Message, Tokenizer, TokenizerError};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Held by tests that measure memory or take much, because tests run side by side.
pub fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` and holds the memory that it takes against what an input of `n_bytes` may cost.
#[track_caller]
pub fn bounded<T>(n_bytes: usize, work: impl FnOnce() -> T) -> T {
    let allowed = 4 * n_bytes + (64 << 20);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = work();
    let used = MEMORY.peak_usage().saturating_sub(before);
    assert!(used <= allowed, "{used} bytes of memory, {allowed} allowed");
    result
}

/// Opens a `tokenizer.json` within the bound.
#[track_caller]
pub fn open_json(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    bounded(bytes.len(), || Tokenizer::from_json(bytes.to_vec()))
}

/// Opens a SentencePiece model within the bound.
#[track_caller]
pub fn open_sentencepiece(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    bounded(bytes.len(), || Tokenizer::from_sentencepiece(bytes.to_vec()))
}

/// Size of the large files.
const N_BYTES: usize = 8 << 20;

/// `item(0), item(1), …` with commas between, until the text is large.
fn many(item: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for i in 0.. {
        if text.len() > N_BYTES {
            break;
        }
        if i > 0 {
            text.push(',');
        }
        text.push_str(&item(i));
    }
    text
}

/// A short key, another one for every number.
fn key(mut i: usize) -> String {
    const DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut key = String::new();
    loop {
        key.push(char::from(DIGITS[i % 64]));
        i /= 64;
        if i == 0 {
            return key;
        }
    }
}

fn model(model: &str) -> String {
    format!(r#"{{"model":{{{model}}}}}"#)
}

fn beside(field: &str) -> String {
    format!(r#"{{{field},"model":{{"type":"WordLevel","vocab":{{"a":0}}}}}}"#)
}

/// A file with a sequence of `n` equal steps.
fn steps(field: &str, list: &str, n: usize, step: &str) -> String {
    beside(&format!(r#""{field}":{{"type":"Sequence","{list}":[{}]}}"#, vec![step; n].join(",")))
}

/// A file with a pre-tokenizer that splits by an expression.
fn split(n: usize, regex: &str) -> String {
    let step =
        format!(r#"{{"type":"Split","pattern":{{"Regex":"{regex}"}},"behavior":"Isolated","invert":false}}"#);
    steps("pre_tokenizer", "pretokenizers", n, &step)
}

#[test]
fn large_vocabularies_stay_within_the_bound() {
    let _alone = alone();
    let vocab = |factor: usize| many(|i| format!(r#""{}":{}"#, key(i), factor * i));
    let bpe = |rest: &str| model(&format!(r#""type":"BPE",{rest}"#));
    let merges =
        |item: fn(usize) -> String| bpe(&format!(r#""vocab":{{"a":0,"aa":1}},"merges":[{}]"#, many(item)));
    let unigram = |item: fn(usize) -> String| {
        model(&format!(r#""type":"Unigram","unk_id":0,"vocab":[{}]"#, many(item)))
    };
    let bytes = r#"{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"#;
    let cases = [
        ("words", model(&format!(r#""type":"WordLevel","vocab":{{{}}}"#, vocab(1)))),
        ("sparse words", model(&format!(r#""type":"WordPiece","vocab":{{{}}}"#, vocab(4)))),
        ("symbols", bpe(&format!(r#""vocab":{{{}}},"merges":[]"#, vocab(1)))),
        (
            "bytes",
            format!(
                r#"{bytes}"model":{{"type":"BPE","ignore_merges":true,"vocab":{{{}}},"merges":[]}}}}"#,
                vocab(1)
            ),
        ),
        (
            "pairs",
            format!(
                r#"{bytes}"model":{{"type":"BPE","vocab":{{{}}},"merges":[{}]}}}}"#,
                pairs().0,
                pairs().1
            ),
        ),
        ("equal merges", merges(|_| r#""a a""#.into())),
        ("unknown merges", merges(|i| format!(r#""{} a""#, key(i)))),
        ("empty merges", merges(|_| r#""""#.into())),
        ("merges as arrays", merges(|_| r#"["a","a"]"#.into())),
        ("pieces", unigram(|i| format!(r#"["{}",0]"#, key(i)))),
        ("equal pieces", unigram(|_| r#"["a",0]"#.into())),
        ("empty pieces", unigram(|_| r#"["",0]"#.into())),
        ("long pieces", unigram(|i| format!(r#"["{}{}",0]"#, key(i), "x".repeat(400)))),
        ("one piece", unigram(|_| format!(r#"["{}",0]"#, "x".repeat(N_BYTES)))),
    ];
    cases.iter().for_each(|(name, file)| open_soon(name, file));
}

/// All pairs of two letters as tokens, and their merges.
fn pairs() -> (String, String) {
    let letters: Vec<char> = ('!'..='~').filter(|c| !matches!(c, '"' | '\\')).collect();
    let mut vocab: Vec<String> = letters.iter().enumerate().map(|(i, c)| format!(r#""{c}":{i}"#)).collect();
    let mut merges = Vec::new();
    for (i, left) in letters.iter().enumerate() {
        for (j, right) in letters.iter().enumerate() {
            vocab.push(format!(r#""{left}{right}":{}"#, (i + 1) * letters.len() + j));
            merges.push(format!(r#""{left} {right}""#));
        }
    }
    (vocab.join(","), merges.join(","))
}

#[test]
fn small_parts_that_want_much_stay_within_the_bound() {
    let _alone = alone();
    let ids = vec!["1"; 30_000].join(",");
    let slots = vec![r#"{"SpecialToken":{"id":"x","type_id":0}}"#; 10_000].join(",");
    let template = |slots: &str, ids: &str| {
        let special = format!(r#"{{"x":{{"id":"x","ids":[{ids}],"tokens":[]}}}}"#);
        beside(&format!(
            r#""post_processor":{{"type":"TemplateProcessing","single":[{slots}],"pair":[],"special_tokens":{special}}}"#
        ))
    };
    let added = |item: fn(usize) -> String| beside(&format!(r#""added_tokens":[{}]"#, many(item)));
    let twice = r#"{"type":"Replace","pattern":{"String":"a"},"content":"aa"}"#;
    let letters = |n: usize| (0..n).map(|i| key(i * 7919)).collect::<String>();
    let cases = [
        ("added tokens", added(|i| format!(r#"{{"content":"{}"}}"#, key(i)))),
        ("equal added tokens", added(|_| r#"{"content":"a"}"#.into())),
        ("empty added tokens", added(|_| r#"{"content":""}"#.into())),
        ("long added tokens", added(|i| format!(r#"{{"content":"{}{}"}}"#, key(i), "x".repeat(3000)))),
        ("one added token", beside(&format!(r#""added_tokens":[{{"content":"{}"}}]"#, letters(1 << 20)))),
        ("added tokens in a table", {
            let tokens: Vec<String> =
                (0..2).map(|i| format!(r#"{{"content":"{i}{}"}}"#, letters(600))).collect();
            beside(&format!(r#""added_tokens":[{}]"#, tokens.join(",")))
        }),
        ("numbers", beside(&format!(r#""normalizer":[{}]"#, vec!["0"; 2_000_000].join(",")))),
        ("objects", beside(&format!(r#""decoder":[{}]"#, vec!["{}"; 60_000].join(",")))),
        ("scripts", steps("pre_tokenizer", "pretokenizers", 20_000, r#"{"type":"UnicodeScripts"}"#)),
        ("doubling", steps("normalizer", "normalizers", 100, twice)),
        ("doubling decoder", steps("decoder", "decoders", 100, twice)),
        (
            "spelling",
            steps("pre_tokenizer", "pretokenizers", 100, r#"{"type":"ByteLevel","add_prefix_space":true}"#),
        ),
        ("copied class", split(1, r"\\w{110}")),
        ("copied letters", split(1, r"(?i:\\p{L}){55}")),
        ("copied group", split(3, r"(?:(?:x|y|é){100}){10}")),
        ("classes", split(50, r"[^\\p{L}]")),
        ("looking ahead", split(1, &r"(?=\\w)".repeat(100))),
        ("too many classes", split(500, r"[\\p{L}\\w]{250}")),
        ("slots", template(&slots, "1")),
        ("ids", template("", &ids)),
        ("slots of ids", template(&slots[..40 * 200 - 1], &vec!["1"; 4000].join(","))),
    ];
    cases.iter().for_each(|(name, file)| open_soon(name, file));
}

#[track_caller]
fn open_soon(name: &str, file: &str) {
    let start = Instant::now();
    let result = open_json(file.as_bytes());
    if let Ok(tokenizer) = result {
        tokenizer.encode("a <x> aaa'll 123", true, true);
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{name} took {:?}", start.elapsed());
}

/// A field of a protocol buffer that holds bytes.
fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len >= 0x80 {
        field.push(len as u8 | 0x80);
        len >>= 7;
    }
    field.push(len as u8);
    field.extend(bytes);
    field
}

/// A field that holds a number below 128.
fn number_field(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

#[test]
fn large_sentencepiece_models_stay_within_the_bound() {
    let _alone = alone();
    let piece = |text: &str, kind: u8| {
        bytes_field(1, &[bytes_field(1, text.as_bytes()), number_field(3, kind)].concat())
    };
    let many = |item: &dyn Fn(usize) -> Vec<u8>| {
        let mut file = Vec::new();
        (0..).map_while(|i| (file.len() < N_BYTES).then(|| file.extend(item(i)))).count();
        file
    };
    let bpe = bytes_field(2, &number_field(3, 2));
    let bodies = [
        ("pieces", many(&|i| piece(&key(i), 1))),
        ("pieces of little", many(&|i| bytes_field(1, &bytes_field(1, key(i).as_bytes())))),
        ("user-defined", many(&|i| piece(&key(i), 4))),
        ("control", many(&|i| piece(&key(i), 3))),
        ("empty", many(&|_| bytes_field(1, &[]))),
        ("equal", many(&|_| piece("a", 1))),
        ("long", many(&|i| piece(&format!("{}{}", key(i), "x".repeat(400)), 1))),
        ("runs", many(&|i| piece(&"x".repeat(1 + i % 512), 1))),
        ("one", piece(&"x".repeat(N_BYTES), 1)),
        (
            "map",
            [piece("a", 1), bytes_field(3, &bytes_field(2, &[&[0; 4][..], &vec![b'x'; N_BYTES]].concat()))]
                .concat(),
        ),
        ("trie", {
            let units = (1_000_000_u32..2_000_000).flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
            let map = [&(units.len() as u32).to_le_bytes()[..], &units, b"x\0"].concat();
            [piece("a", 1), bytes_field(3, &bytes_field(2, &map))].concat()
        }),
    ];
    for (name, body) in bodies {
        for file in [body.clone(), [&body[..], &bpe].concat()] {
            let start = Instant::now();
            let result = open_sentencepiece(&file);
            if let Ok(tokenizer) = result {
                tokenizer.encode(&"xxa ".repeat(1000), true, true);
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{name} took {:?}", start.elapsed());
        }
    }
}

#[test]
fn large_templates_stay_within_the_bound() {
    let _alone = alone();
    let messages = [Message::user("hello"), Message::assistant("a ".repeat(100))];
    let input = ChatInput { messages: &messages, ..ChatInput::default() };
    let repeated = |unit: &str, n_bytes: usize| unit.repeat(n_bytes / unit.len());
    for (unit, prefix, suffix) in [
        ("{{x}}", "", ""),
        ("{{1}}{{''}}", "", ""),
        ("{%if x%}{%endif%}", "", ""),
        ("{%for a in messages%}{{a}}{%endfor%}", "", ""),
        ("{%set x=[1,2]%}", "", ""),
        ("{%macro m()%}{%endmacro%}", "", ""),
        ("{%generation%}{%endgeneration%}", "", ""),
        ("x|upper|", "{{", "upper}}"),
        ("[", "{{", "}}"),
        ("(", "{{", "}}"),
        ("not ", "{{", "x}}"),
        ("-", "{{", "x}}"),
        ("1+", "{{", "1}}"),
        ("1,", "{{[", "1]}}"),
        ("'a':1,", "{{{", "}}}"),
        ("x.", "{{", "x}}"),
        ("a~", "{{", "a}}"),
        ("{%if x%}", "", ""),
        ("{%elif x%}", "{%if x%}", "{%endif%}"),
        ("[0]", "{{x", "}}"),
        ("()", "{{x", "}}"),
        ("'a'", "{{", "}}"),
        (" if x", "{{x", "}}"),
        (" is x", "{{x", "}}"),
        (" and x", "{{x", "}}"),
        ("*x", "{{x", "}}"),
        ("(", "{{x", "}}"),
        ("\n", "{{x}}", "{{"),
        ("{#", "", ""),
    ] {
        for n_bytes in [100_000, (1 << 19) - 40, 4 << 20] {
            let source = format!("{prefix}{}{suffix}", repeated(unit, n_bytes));
            let start = Instant::now();
            let result = bounded(source.len(), || {
                ChatTemplate::new(&source).and_then(|template| template.render(&input))
            });
            assert!(n_bytes < 4 << 20 || result.is_err(), "{unit}: a template of {n_bytes} bytes was read");
            assert!(start.elapsed() < Duration::from_secs(30), "{unit} took {:?}", start.elapsed());
        }
    }
}

#[test]
fn templates_at_the_limits_of_nesting_do_not_overflow_the_stack() {
    let _alone = alone();
    let nested = |n: usize, text: &str| format!("{}{text}{}", "(".repeat(n), ")".repeat(n));
    for source in [
        format!("{{{{x{}}}}}", "|upper".repeat(399)),
        format!("{{{{{}}}}}", nested(36, &format!("x{}", "|upper".repeat(390)))),
        format!("{{%if y%}}{}{{%endif%}}", "{%elif y%}".repeat(200)),
        format!("{}{}{}", "{%if 1%}".repeat(140), "{{x|upper}}", "{%endif%}".repeat(140)),
        format!(
            "{}{{%if y%}}{}{{%else%}}{{{{{}}}}}{{%endif%}}{}",
            "{%if 1%}".repeat(60),
            "{%elif y%}".repeat(190),
            nested(28, &format!("x{}", "|upper".repeat(330))),
            "{%endif%}".repeat(60)
        ),
    ] {
        let template = ChatTemplate::new(&source).unwrap_or_else(|error| panic!("{error}: {source}"));
        template.render(&ChatInput::default()).unwrap();
    }
}
