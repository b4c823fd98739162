//! Constraints over a small byte-level vocabulary: what they let through, what they force, what they refuse.

mod forms;

use std::sync::Arc;

use serde_json::{Value, json};
use wootz_grammar::{Grammars, Guide};
use wootz_text::{Constraint, Tokenizer};

fn tokenizer() -> Arc<Tokenizer> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/tokenizers/bpe-llama3.json");
    Arc::new(Tokenizer::from_json(std::fs::read(path).unwrap()).unwrap())
}

/// The vocabulary with one end token behind all others.
fn grammars() -> (Arc<Tokenizer>, Grammars, u32) {
    let tokenizer = tokenizer();
    let end = tokenizer.vocab_size() as u32;
    (tokenizer.clone(), Grammars::new(Some(tokenizer), end as usize + 64, &[end, end + 1]), end)
}

fn is_allowed(guide: &mut Guide, id: u32) -> bool {
    guide.mask().unwrap()[id as usize / 32] >> (id % 32) & 1 == 1
}

/// Whether an answer of this text can be completed, token by token of its own tokenization.
fn accepts(constraint: &Constraint, text: &str) -> bool {
    let (tokenizer, grammars, end) = grammars();
    let mut guide = grammars.compile(constraint).unwrap().guide();
    for id in tokenizer.encode_bytes(text.as_bytes(), false, false) {
        if !is_allowed(&mut guide, id) {
            return false;
        }
        guide.accept(id).unwrap();
    }
    is_allowed(&mut guide, end) && is_allowed(&mut guide, end + 1)
}

fn check(constraint: Constraint, accepted: &[&str], refused: &[&str]) {
    for text in accepted {
        assert!(accepts(&constraint, text), "{constraint:?} should take `{text}`");
    }
    for text in refused {
        assert!(!accepts(&constraint, text), "{constraint:?} should refuse `{text}`");
    }
}

#[test]
fn each_notation_takes_what_it_describes() {
    let schema = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": "^[A-Z][a-z]+$"}, "age": {"type": "integer", "minimum": 0}},
        "required": ["name", "age"],
        "additionalProperties": false
    });
    check(
        Constraint::JsonSchema(schema),
        &[r#"{"name": "Ada", "age": 36}"#],
        &[r#"{"name": "ada", "age": 36}"#, r#"{"name": "Ada", "age": -1}"#, r#"{"name": "Ada"}"#, "{}"],
    );
    check(Constraint::JsonSchema(json!({"type": "object"})), &["{}", r#"{"a": [1, true, null]}"#], &["[]"]);
    check(Constraint::JsonSchema(json!(true)), &["1", r#"{"a": "b"}"#], &["x"]);
    check(Constraint::Regex("(a|b)+c?".into()), &["a", "abbac", "bc"], &["c", "ac c", "abcc"]);
    check(
        Constraint::Choice(vec!["yes".into(), "no".into(), "not \"now\"".into()]),
        &["yes", "no", "not \"now\""],
        &["n", "yes!"],
    );
    check(
        Constraint::Lark("start: \"a\" start \"b\" | \"c\"".into()),
        &["c", "acb", "aacbb"],
        &["ac", "acbb"],
    );
    let gbnf = "root ::= expr\nexpr ::= term (ws [-+*/] ws term)*\nterm ::= number | \"(\" ws expr ws \")\"\n\
                number ::= \"-\"? [0-9]{1,6} (\".\" [0-9]+)?\nws ::= [ \\t]*";
    check(Constraint::Gbnf(gbnf.into()), &["1", "(1 + 2)*-3.5", "((7))"], &["", "1 +", "(1", "1234567"]);
    check(
        Constraint::Gbnf("root ::= [a-z]* \"end\"".into()),
        &["end", "enend", "xend", "endxend"],
        &["en", "endx"],
    );
    check(Constraint::Gbnf("root ::= [^\\n\"]+ \"\\u00e9\"?".into()), &["ab é", "é"], &["", "a\nb"]);
}

#[test]
fn what_is_forced_is_what_the_masks_allow() {
    let schema = json!({
        "type": "object",
        "properties": {"temperature_celsius": {"type": "number"}, "unit": {"const": "C"}},
        "required": ["temperature_celsius", "unit"],
        "additionalProperties": false
    });
    let (tokenizer, grammars, _) = grammars();
    let mut guide = grammars.compile(&Constraint::JsonSchema(schema)).unwrap().guide();
    let forced = guide.forced();
    assert_eq!(tokenizer.decode(&forced, false), r#"{"temperature_celsius": "#.trim_end());
    for id in forced {
        let mask: u32 = guide.mask().unwrap().iter().map(|word| word.count_ones()).sum();
        assert_eq!(mask, 1);
        assert!(is_allowed(&mut guide, id));
        guide.accept(id).unwrap();
    }
    let copy = guide.clone();
    for id in tokenizer.encode(" 2", false, false) {
        guide.accept(id).unwrap();
    }
    assert!(guide.forced().is_empty(), "a number may go on");
    drop(copy);
}

#[test]
fn an_answer_that_cannot_go_on_is_done() {
    let (tokenizer, grammars, end) = grammars();
    let mut guide = grammars.compile(&Constraint::Choice(vec!["yes".into(), "no".into()])).unwrap().guide();
    assert!(!guide.is_done());
    let ids = tokenizer.encode("yes", false, false);
    assert_eq!(guide.n_allowed(&[ids.as_slice(), &ids].concat()), ids.len());
    for id in ids {
        guide.accept(id).unwrap();
    }
    assert!(guide.is_done());
    assert!(is_allowed(&mut guide, end));
    assert!(guide.clone().accept(5).is_err());
}

#[test]
fn what_is_broken_or_not_done_is_named() {
    let (tokenizer, grammars, _) = grammars();
    let refuse = |constraint: Constraint, message: &str| {
        let Err(error) = grammars.compile(&constraint) else { panic!("{constraint:?} compiles") };
        let error = error.to_string();
        assert!(error.contains(message), "{error}");
        assert!(error.len() < 800, "{error}");
    };
    let schema = |schema: Value| Constraint::JsonSchema(schema);
    refuse(schema(json!({"type": "array", "uniqueItems": true})), "uniqueItems");
    refuse(schema(json!({"not": {"type": "string"}})), "not");
    refuse(schema(json!({"type": "strnig"})), "strnig");
    refuse(schema(json!({"type": "string", "format": "klingon"})), "klingon");
    refuse(schema(json!({"$ref": "#/$defs/nowhere"})), "nowhere");
    refuse(schema(json!({"$ref": "https://example.com/schema.json"})), "example.com");
    refuse(schema(json!(false)), "json schema");
    refuse(Constraint::Regex("(a".into()), "regex");
    refuse(Constraint::Lark("start: nothing".into()), "nothing");
    refuse(Constraint::Gbnf("root ::= nothing".into()), "nothing");
    refuse(Constraint::Choice(vec![String::new()]), "not empty");
    let none = Grammars::new(Some(tokenizer), 10, &[]);
    assert!(none.compile(&Constraint::Regex("a".into())).is_err(), "no end token");
}

#[test]
fn the_short_way_ends_with_a_valid_document() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "size": {"type": "number"},
            "more": {"type": "object"},
            "email": {"type": "string", "format": "email"},
            "when": {"type": "string", "format": "date-time"}
        },
        "required": ["name", "tags", "size", "email", "when"],
        "additionalProperties": false
    });
    let (tokenizer, grammars, end) = grammars();
    for start in ["", "{\"name\": \"a }", "{\"name\": \"ab\", \"tags\": [\"x\", \"}"] {
        let grammar = grammars.compile(&Constraint::JsonSchema(schema.clone())).unwrap();
        let mut guide = grammar.guide();
        let mut ids = tokenizer.encode_bytes(start.as_bytes(), false, false);
        ids.iter().for_each(|&id| guide.accept(id).unwrap());
        let n = guide.n_to_close(120).unwrap();
        for _ in 0..n {
            let mask = guide.closing_mask().unwrap();
            let allowed = guide.mask().unwrap();
            assert!(mask.iter().zip(allowed).all(|(closing, all)| closing & !all == 0));
            let word = mask.iter().position(|bits| *bits != 0).unwrap();
            let id = word as u32 * 32 + mask[word].trailing_zeros();
            guide.accept(id).unwrap();
            ids.push(id);
        }
        let text = tokenizer.decode(&ids, false);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        assert!(guide.is_done() || is_allowed(&mut guide, end), "{text}");
        assert!(n < 99, "{n} tokens: {text}");
    }
}
