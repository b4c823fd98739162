//! Every format on what its models write, whole, cut anywhere, and broken.

use serde_json::json;

use super::*;
use crate::ToolSpec;

const FORMATS: &[ToolFormat] = &[
    ToolFormat::None,
    ToolFormat::Hermes,
    ToolFormat::Llama3,
    ToolFormat::Mistral,
    ToolFormat::Addressed,
    ToolFormat::Tagged,
    ToolFormat::Phi,
    ToolFormat::Gemma,
    ToolFormat::DeepSeek,
    ToolFormat::Granite,
    ToolFormat::CommandR,
];

/// Pieces of which broken replies are made.
const PIECES: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    ">>>",
    "f\n",
    "all\n",
    "<function=f>",
    "</function>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "functools",
    "```tool_code\n",
    "```",
    "f(a=1)",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "Action: ```json",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "{\"name\": \"f\", ",
    "\"arguments\": {",
    "\"parameters\": {\"a\": \"}\\\"\"}",
    "\"tool_name\": \"f\"",
    "}",
    "]",
    "[",
    "{",
    ",",
    "\"",
    " ",
    "\n",
    "Hi",
    "é",
    "<",
    ":",
    "null",
    "12",
];

fn tools() -> Vec<ToolSpec> {
    ["f", "g", "python"]
        .map(|name| ToolSpec {
            name: name.into(),
            description: String::new(),
            parameters: json!({}),
            strict: false,
        })
        .to_vec()
}

fn format(tools: ToolFormat) -> ReplyFormat {
    let reasoning = match tools {
        ToolFormat::CommandR => Some(reasoning::COMMAND_R),
        _ => Some(reasoning::THINK),
    };
    ReplyFormat { tools, reasoning }
}

fn parse<'a>(tools_format: ToolFormat, pieces: impl IntoIterator<Item = &'a str>) -> Reply {
    let mut parser = ReplyParser::new(format(tools_format), &tools(), false);
    let mut reply = Reply::default();
    for piece in pieces {
        parser.push(piece).iter().for_each(|delta| reply.add(delta));
    }
    parser.finish().iter().for_each(|delta| reply.add(delta));
    reply
}

/// `text | f{"a":1} g{} | thoughts`
fn shown(reply: &Reply) -> String {
    let one = |call: &ReplyCall| {
        let id = call.id.as_ref().map_or(String::new(), |id| format!("#{id}"));
        format!("{}{id}{}", call.name, call.arguments)
    };
    let calls: Vec<String> = reply.calls.iter().map(one).collect();
    let mut text = reply.text.clone();
    if !calls.is_empty() {
        text += &format!("|{}", calls.join("|"));
    }
    if !reply.reasoning.is_empty() {
        text = format!("({}){text}", reply.reasoning);
    }
    text
}

/// A generator without a dependency: the same cuts on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

fn check(format: ToolFormat, input: &str, expected: &str) {
    assert_eq!(shown(&parse(format, [input])), expected, "{format:?}: {input}");
}

#[test]
fn each_family_s_calls_are_found() {
    use ToolFormat::*;
    check(
        Hermes,
        "Hi.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}\n</tool_call>",
        "Hi.|f{\"a\": \"x\"}",
    );
    check(
        Hermes,
        "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call>",
        "|f{\"a\": 1}|g{}",
    );
    check(
        Hermes,
        "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>",
        "|f{\"a\": 1}",
    );
    check(
        Hermes,
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>\"}}</tool_call> Done.",
        "Done.|f{\"a\": \"</tool_call>\"}",
    );
    check(Llama3, "{\"name\": \"f\", \"parameters\": {\"a\": {\"b\": []}}}", "|f{\"a\": {\"b\": []}}");
    check(
        Llama3,
        "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"x\": 1}}",
        "|f{}|g{\"x\": 1}",
    );
    check(Llama3, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "|f{}");
    check(Llama3, "<|python_tag|>brave_search.call(query=\"rust\")", "|brave_search{\"query\":\"rust\"}");
    check(
        Llama3,
        "<|python_tag|>x = [1, 2]\nprint(\"é\")",
        "|python{\"code\": \"x = [1, 2]\\nprint(\\\"é\\\")\"}",
    );
    check(
        Mistral,
        "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abc123def\"}]",
        "|f{\"a\": 1}",
    );
    check(
        Mistral,
        "[TOOL_CALLS] [{\"id\": \"x1\", \"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {}}]",
        "|f#x1{}|g{}",
    );
    check(
        Mistral,
        "Ok[TOOL_CALLS]f[ARGS]{\"a\": \"}\"}[TOOL_CALLS]g[CALL_ID]id9[ARGS]{}",
        "Ok|f{\"a\": \"}\"}|g#id9{}",
    );
    check(
        Addressed,
        "all\nHi.\n>>>f\n{\"a\": 1}>>>python\nprint(1)",
        "Hi.|f{\"a\": 1}|python{\"code\": \"print(1)\"}",
    );
    check(Tagged, "Ok <function=f>{\"a\": 1}</function><function=g>{}</function>", "Ok|f{\"a\": 1}|g{}");
    check(
        Phi,
        "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {}}]<|/tool_call|>",
        "|f{}|g{}",
    );
    check(Phi, "functools[{\"name\": \"f\", \"arguments\": {\"a\": null}}]", "|f{\"a\": null}");
    check(Gemma, "Sure:\n```tool_code\nprint(f(a=1, b='x'))\n```", "Sure:|f{\"a\":1,\"b\":\"x\"}");
    check(
        Gemma,
        "Sure:\n```tool_code\n{\"name\": \"f\", \"parameters\": {\"a\": \"```\"}}\n```",
        "Sure:|f{\"a\": \"```\"}",
    );
    check(
        DeepSeek,
        "Ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "Ok|f{\"a\": 1}|g{}",
    );
    check(
        DeepSeek,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "|f{\"a\": 1}",
    );
    check(Granite, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", "|f{\"a\": 1}");
    check(
        CommandR,
        "Action: ```json\n[{\"tool_name\": \"f\", \"parameters\": {\"a\": 1}}]\n```",
        "|f{\"a\": 1}",
    );
    check(
        CommandR,
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n{\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {}}\n]<|END_ACTION|>",
        "(Hm.)|f#0{}",
    );
    check(CommandR, "<|START_RESPONSE|>Hello.<|END_RESPONSE|>", "Hello.");
}

#[test]
fn thoughts_come_first_or_not_at_all() {
    check(ToolFormat::None, "\n<think>\nHm,\nwell.\n</think>\n\nYes.\n", "(Hm,\nwell.)Yes.\n");
    check(ToolFormat::Hermes, "<think>a</think><tool_call>{\"name\": \"f\"}</tool_call>", "(a)|f{}");
    check(ToolFormat::None, "<think>cut off", "(cut off)");
    check(ToolFormat::None, "A <think> later</think>", "A <think> later</think>");
    check(ToolFormat::None, "<thin", "<thin");
    let mut parser = ReplyParser::new(format(ToolFormat::None), &[], true);
    let mut reply = Reply::default();
    parser.push("so</think>Yes").iter().for_each(|delta| reply.add(delta));
    parser.finish().iter().for_each(|delta| reply.add(delta));
    assert_eq!(shown(&reply), "(so)Yes");
}

#[test]
fn what_is_no_call_stays_text() {
    use ToolFormat::*;
    for same in [
        "<tool_call>",
        "<tool_call>no</tool_call>",
        "<tool_call>{\"nam",
        "a < b",
        "<tool_cal",
        "{\"name\": \"Ada\"}",
    ] {
        check(Hermes, same, same);
    }
    for same in [
        "{\"name\": \"Ada\", \"age\": 3}",
        "{\"name\": \"h\", \"parameters\": {}}",
        "{\"a\": {\"name\": \"f\"}}",
        "{",
        "<|python_tag|>",
    ] {
        check(Llama3, same, same);
    }
    check(Mistral, "[TOOL_CALLS]", "[TOOL_CALLS]");
    check(Mistral, "[1] [TOOL", "[1] [TOOL");
    check(Gemma, "```tool_code\nx = 1 + 2\n```", "```tool_code\nx = 1 + 2\n```");
    check(Gemma, "```python\nf()\n```", "```python\nf()\n```");
    check(Gemma, "```tool_code\n{\"a\": 1}\n```", "```tool_code\n{\"a\": 1}\n```");
    check(Gemma, "```tool_code\n{\"name\": \"f\"", "```tool_code\n{\"name\": \"f\"");
    check(Addressed, "Hi there!", "Hi there!");
    check(Tagged, "<function= >x", "<function= >x");
}

#[test]
fn a_call_that_is_cut_off_keeps_what_came() {
    check(ToolFormat::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"lo", "|f{\"a\": \"lo");
    check(ToolFormat::Llama3, "{\"name\": \"f\", \"parameters\": {", "|f{");
}

#[test]
fn deltas_do_not_depend_on_cuts() {
    let mut random = Random(7);
    for round in 0..4000 {
        let text: String = (0..1 + random.below(14)).map(|_| PIECES[random.below(PIECES.len())]).collect();
        let format = FORMATS[round % FORMATS.len()];
        let whole = parse(format, [text.as_str()]);
        let mut cuts: Vec<usize> =
            text.char_indices().map(|(at, _)| at).filter(|_| random.below(3) == 0).collect();
        cuts.push(text.len());
        let mut from = 0;
        let pieces: Vec<&str> = cuts.iter().map(|&to| &text[std::mem::replace(&mut from, to)..to]).collect();
        assert_eq!(parse(format, pieces), whole, "{format:?}: {text}");
    }
}

#[test]
fn an_answer_without_marks_is_unchanged() {
    let mut random = Random(11);
    let words = ["Hi", " ", "\n", "é", "{", "}", "\"", "<", ">", "[", "]", "`", "a b", "∑"];
    for round in 0..2000 {
        let text: String = (0..random.below(20)).map(|_| words[random.below(words.len())]).collect();
        let format = FORMATS[round % FORMATS.len()];
        // `>>>` and a first line are addresses to Functionary.
        if format != ToolFormat::Addressed {
            assert_eq!(shown(&parse(format, [text.as_str()])), text, "{format:?}");
        }
    }
}

#[test]
fn templates_tell_the_format() {
    let tools = |source: &str| ReplyFormat::of_template(source).tools;
    assert_eq!(tools("{% for m in messages %}{{ m.content }}{% endfor %}"), ToolFormat::None);
    assert_eq!(tools("... <tool_call> ... </tool_call>"), ToolFormat::Hermes);
    assert_eq!(tools("[TOOL_CALLS] [AVAILABLE_TOOLS]"), ToolFormat::Mistral);
    let r1 = ReplyFormat::of_template("<｜tool▁call▁begin｜> {{'<｜Assistant｜><think>\\n'}}");
    assert_eq!(r1.tools, ToolFormat::DeepSeek);
    assert!(
        r1.prompt_opens_reasoning("<｜Assistant｜><think>\n")
            && !r1.prompt_opens_reasoning("<｜Assistant｜>")
    );
}
