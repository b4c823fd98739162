//! Replies with strict tools, in every family's format: whatever a grammar lets through is parsed into calls that follow
//! their schemas, and what the families write is let through.

use std::sync::Arc;

use serde_json::{Value, json};
use wootz_grammar::{Grammars, Guide};
use wootz_text::{
    Constraint, Form, FormRules, Reply, ReplyFormat, ReplyParser, TokenId, Tokenizer, ToolSpec,
};

/// What tells a template's format, and whether the marks are special tokens.
const TEMPLATES: &[&str] = &[
    "<tool_call> <think>",
    "<|python_tag|>",
    "[TOOL_CALLS] [THINK]",
    ">>>all",
    "<function=",
    "<|tool_call|> <|/tool_call|>",
    "tool_code",
    "<｜tool▁call▁begin｜> <think>",
    "<|tool_call|> <think>",
    "<|START_ACTION|> <|START_THINKING|>",
];

/// Marks that some vocabularies have as special tokens.
const SPECIAL: &[&str] = &[
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "<tool_call>",
    "</tool_call>",
    "[THINK]",
    "[/THINK]",
];

/// What a model might come to write, rightly and wrongly.
const PIECES: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "[THINK]",
    "[/THINK]",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    ">>>",
    "f\n",
    "g\n",
    "all\n",
    "<function=",
    "f>",
    "</function>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "functools[",
    "functools",
    "```tool_code",
    "```",
    "f(a=\"x\")",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "function",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "Action: ```json",
    "<|START_ACTION|>",
    "<|START_RESPONSE|>",
    "[{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}]",
    "{\"name\": \"h\", \"arguments\": {\"a\": 1}}",
    "{\"name\": \"f\", \"parameters\": {\"a\": \"x\"}}",
    "{ \"name\": \"f\", \"parameters\": {}}",
    "[{\"tool_name\": \"f\", \"parameters\": {\"b\": 1}}]",
    "f{\"a\": null}",
    "{",
    "[",
    "\n",
    " ",
    "Hi é",
    "12",
];

fn tools() -> Vec<ToolSpec> {
    let schema = json!({
        "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false
    });
    let tool = |name: &str, parameters: &Value, strict| ToolSpec {
        name: name.into(),
        description: String::new(),
        parameters: parameters.clone(),
        strict,
    };
    vec![tool("f", &schema, true), tool("g", &json!({}), false)]
}

/// A byte-level vocabulary in which those marks are special.
fn tokenizer(special: &[&str]) -> Arc<Tokenizer> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/tokenizers/bpe-llama3.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let added = json["added_tokens"].as_array_mut().unwrap();
    let first = 1 + added.iter().map(|token| token["id"].as_u64().unwrap()).max().unwrap();
    for (i, mark) in special.iter().enumerate() {
        let (id, flags) = (first + i as u64, false);
        added.push(json!({"id": id, "content": mark, "special": true, "single_word": flags, "lstrip": flags, "rstrip": flags, "normalized": flags}));
    }
    Arc::new(Tokenizer::from_json(json.to_string().into_bytes()).unwrap())
}

struct Rig {
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
    end: TokenId,
}

impl Rig {
    fn new(special: &[&str]) -> Self {
        let tokenizer = tokenizer(special);
        let end = tokenizer.vocab_size() as TokenId;
        let grammars = Grammars::new(Some(tokenizer.clone()), end as usize + 1, &[end]);
        Self { tokenizer, grammars, end }
    }

    fn guide(&self, format: ReplyFormat, thinks_already: bool, single_call: bool) -> Guide {
        let rules = FormRules { thinks_already, single_call, answer: None };
        let form = Form::of_calls(format, &tools(), rules).unwrap();
        self.grammars.compile(&Constraint::Form(form)).unwrap().guide()
    }

    fn ids(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode(text, false, true)
    }

    /// The text of tokens, special ones spelled out.
    fn text(&self, ids: &[TokenId]) -> String {
        let bytes = ids.iter().flat_map(|&id| match self.tokenizer.is_special(id) {
            true => self.tokenizer.token_text(id).unwrap().as_bytes().to_vec(),
            false => self.tokenizer.token_bytes(id).unwrap(),
        });
        String::from_utf8(bytes.collect()).unwrap()
    }

    fn takes(&self, guide: &mut Guide, text: &str) -> bool {
        let ids = self.ids(text);
        let all = ids.iter().all(|&id| is_allowed(guide, id) && guide.accept(id).is_ok());
        all && (guide.is_done() || is_allowed(guide, self.end))
    }
}

fn is_allowed(guide: &mut Guide, id: TokenId) -> bool {
    !guide.is_done() && guide.mask().unwrap()[id as usize / 32] >> (id % 32) & 1 == 1
}

fn parse(format: ReplyFormat, text: &str, thinks_already: bool) -> Reply {
    let mut parser = ReplyParser::new(format, &tools(), thinks_already);
    let mut reply = Reply::default();
    parser.push(text).iter().for_each(|delta| reply.add(delta));
    parser.finish().iter().for_each(|delta| reply.add(delta));
    reply
}

#[test]
fn what_families_write_is_taken_and_wrong_arguments_are_not() {
    let check = |template: &str, taken: &[&str], refused: &[&str]| {
        let format = ReplyFormat::of_template(template);
        for special in [SPECIAL, &[]] {
            let rig = Rig::new(special);
            for text in taken {
                assert!(
                    rig.takes(&mut rig.guide(format, false, false), text),
                    "{template}, {special:?}: {text}"
                );
                let calls = parse(format, text, false).calls;
                assert!(calls.iter().all(|call| call.name == "f" || call.name == "g"), "{text}: {calls:?}");
            }
            for text in refused {
                let is_taken = rig.takes(&mut rig.guide(format, false, false), text);
                assert!(!is_taken, "{template}, {special:?}: {text}");
            }
        }
    };
    check(
        "<tool_call> <think>",
        &[
            "Hi there. {\"a\": [1]}",
            "<think>\nWell <tool_call>?\n</think>\n\nYes.",
            "Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
            "<think>so</think>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {\"x\": []}}\n</tool_call>\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": -2}}\n</tool_call>",
        ],
        &[
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"1\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"h\", \"arguments\": {}}\n</tool_call>",
            "<tool_call>",
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call> More.",
        ],
    );
    check(
        "<|python_tag|>",
        &[
            "Hi {}.",
            "",
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}",
            "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}",
        ],
        &["{\"name\": \"f\", \"parameters\": {\"a\": {}}}", "\n { \"name\"", "<|python_tag|>print(1)"],
    );
    check(
        "[TOOL_CALLS] [THINK]",
        &[
            "[1] [TOOL",
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"f\", \"arguments\": {\"a\": 2}}]",
            "Ok[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]abc123def[ARGS]{}",
        ],
        &["[TOOL_CALLS]f[ARGS]{\"a\": 1.5}", "[TOOL_CALLS]"],
    );
    check(
        ">>>all",
        &["all\nHi.", "f\n{\"a\": 1}>>>g\n{}", "all\nHi.\n>>>f\n{\"a\": 1}"],
        &["f\n{}", "h\n{}", "all\nHi>>>f\n{\"a\": null}"],
    );
    check(
        "<function=",
        &["Hi <b>", "Ok <function=f>{\"a\": 1}</function><function=g>{}</function>"],
        &["<function=f>{}</function>"],
    );
    check(
        "<|tool_call|> <|/tool_call|>",
        &[
            "See functools.reduce",
            "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]<|/tool_call|>",
            "functools[{\"name\": \"g\", \"arguments\": {}}]",
        ],
        &["functools[{\"name\": \"f\", \"arguments\": {}}]", "<|tool_call|>[]<|/tool_call|>"],
    );
    check(
        "tool_code",
        &["```python\nf(1)\n```", "Ok\n```tool_code\n{\"name\": \"f\", \"parameters\": {\"a\": 1}}\n```"],
        &["```tool_code\nf(a='x')\n```"],
    );
    let begin = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>";
    let end = "<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(
        "<｜tool▁call▁begin｜> <think>",
        &[
            "<think>a</think>b",
            &format!("Ok{begin}function<｜tool▁sep｜>f\n```json\n{{\"a\": 1}}\n```{end}"),
            &format!(
                "{begin}f<｜tool▁sep｜>{{\"a\": 1}}<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>g<｜tool▁sep｜>{{}}{end}"
            ),
        ],
        &[&format!("{begin}f<｜tool▁sep｜>{{}}{end}")],
    );
    check(
        "<|tool_call|> <think>",
        &["<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"],
        &["<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": true}}]"],
    );
    check(
        "<|START_ACTION|> <|START_THINKING|>",
        &[
            "<|START_RESPONSE|>Hello.<|END_RESPONSE|>",
            "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n{\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {\"a\": 1}}]<|END_ACTION|>"
                .replace("[\n", "[")
                .as_str(),
            "Action: ```json\n[{\"tool_name\": \"f\", \"parameters\": {\"a\": 1}}]\n```",
        ],
        &["Action: ```json\n[{\"tool_name\": \"f\", \"parameters\": {}}]\n```"],
    );
}

/// A generator without a dependency: the same ways on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

#[test]
fn whatever_a_grammar_lets_through_calls_tools_as_their_schemas_say() {
    let mut random = Random(5);
    let (mut n_calls, mut n_texts) = (0, 0);
    for special in [SPECIAL, &[]] {
        let rig = Rig::new(special);
        for (round, template) in TEMPLATES.iter().cycle().take(30 * TEMPLATES.len()).enumerate() {
            let format = ReplyFormat::of_template(template);
            let (single, thinks) = (
                (round / TEMPLATES.len()).is_multiple_of(2),
                format.has_reasoning() && round.is_multiple_of(3),
            );
            let mut guide = rig.guide(format, thinks, single);
            let mut ids = Vec::new();
            for _ in 0..30 {
                for id in rig.ids(PIECES[random.below(PIECES.len())]) {
                    if !is_allowed(&mut guide, id) {
                        break;
                    }
                    guide.accept(id).unwrap();
                    ids.push(id);
                }
            }
            close(&rig, &mut guide, &mut ids);
            let text = rig.text(&ids);
            let reply = parse(format, &text, thinks);
            for call in &reply.calls {
                let arguments: Value = serde_json::from_str(&call.arguments)
                    .unwrap_or_else(|error| panic!("{template}: {error} in {call:?} of {text:?}"));
                let is_right = match call.name.as_str() {
                    "f" => {
                        arguments["a"].as_f64().is_some_and(|a| a.fract() == 0.0)
                            && arguments.as_object().unwrap().len() == 1
                    }
                    "g" => arguments.is_object(),
                    _ => false,
                };
                assert!(is_right, "{template}: {call:?} in {text:?}");
            }
            assert!(!single || reply.calls.len() <= 1, "{template}: {text:?}");
            n_calls += reply.calls.len();
            n_texts += usize::from(!reply.text.is_empty());
        }
    }
    assert!(n_calls > 150 && n_texts > 150, "{n_calls} calls, {n_texts} texts");
}

/// Goes the short way to the end.
fn close(rig: &Rig, guide: &mut Guide, ids: &mut Vec<TokenId>) {
    for _ in 0..300 {
        if guide.is_done() || is_allowed(guide, rig.end) {
            return;
        }
        let mask = guide.closing_mask().unwrap();
        let (word, bits) = mask.iter().enumerate().find(|(_, bits)| **bits != 0).unwrap();
        let id = word as TokenId * 32 + bits.trailing_zeros();
        guide.accept(id).unwrap();
        ids.push(id);
    }
    panic!("no end of {:?}", rig.text(ids));
}

#[test]
fn a_schema_s_references_point_into_itself() {
    let parameters = json!({
        "$defs": {"Side": {"enum": ["left", "right"]}},
        "type": "object",
        "properties": {"side": {"$ref": "#/$defs/Side"}},
        "required": ["side"],
        "additionalProperties": false
    });
    let tool = ToolSpec { name: "turn".into(), description: String::new(), parameters, strict: true };
    let rig = Rig::new(&[]);
    let rules = FormRules { thinks_already: false, single_call: false, answer: None };
    let forms = [
        (Form::bare_call([&tool]), "{\"name\": \"turn\", \"parameters\": {\"side\": \"left\"}}", ""),
        (
            Form::of_calls(ReplyFormat::of_template("<tool_call>"), &[tool], rules).unwrap(),
            "<tool_call>{\"name\": \"turn\", \"arguments\": {\"side\": \"left\"}}",
            "</tool_call>",
        ),
    ];
    for (form, call, end) in forms {
        let guide = rig.grammars.compile(&Constraint::Form(form)).unwrap().guide();
        assert!(rig.takes(&mut guide.clone(), &format!("{call}{end}")));
        assert!(!rig.takes(&mut guide.clone(), &format!("{}{end}", call.replace("left", "up"))));
    }
}
