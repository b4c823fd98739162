//! The form of a reply whose calls are held to schemas: which text is free, and what must follow a family's marks.
//!
//! Where:  a [`Constraint`](crate::Constraint) of a request with strict tools, with a call that must happen, or with one
//!         call at most; compiled by `wootz-grammar`.
//! Idea:   what [`ReplyParser`](super::ReplyParser) would read as a call is what the form gives no other way to write. Free
//!         text comes first and calls last, as every template has it.
//! Source: the files beside this one name the families.
//!
//! # Invariants
//! - A reply that has such a form is parsed into text, thoughts and calls whose arguments follow their tools' schemas.

use serde_json::{Value, json};

use super::ReplyFormat;
use super::format::ToolFormat;
use crate::ToolSpec;

/// A form of text. Special tokens are written as they are spelled.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// This text.
    Literal(String),
    /// A JSON document of this schema.
    Json(Value),
    /// A little white space, or none.
    Space,
    /// Letters and digits.
    Word,
    /// Free text to the end, or up to the first of these marks, behind which it goes on as said there.
    Text {
        /// How free it is.
        free: Free,
        /// Marks with what follows them.
        until: Vec<(String, Form)>,
    },
    /// One behind the other.
    All(Vec<Form>),
    /// One of them.
    OneOf(Vec<Form>),
    /// Any number of it, from none on.
    Many(Box<Form>),
}

/// How free a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Free {
    /// An answer: anything but special tokens that the form names.
    Answer,
    /// The same, which does not begin with a brace.
    AnswerWithoutBrace,
    /// Anything but its own marks: others mean nothing there.
    Thoughts,
    /// White space.
    Blank,
}

/// What a reply may hold beside its calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FormRules<'a> {
    /// Whether the prompt ended inside the thoughts ([`ReplyFormat::prompt_opens_reasoning`]).
    pub thinks_already: bool,
    /// At most one call.
    pub single_call: bool,
    /// An answer without calls is a JSON document of this schema.
    pub answer: Option<&'a Value>,
}

impl Form {
    /// A call as [`ReplyFormat::BARE_CALLS`] reads it, of one of these tools, and nothing else.
    pub fn bare_call<'a>(tools: impl IntoIterator<Item = &'a ToolSpec>) -> Self {
        Self::OneOf(
            tools.into_iter().map(|tool| object(tool, "name", "parameters", &tool.parameters)).collect(),
        )
    }

    /// The form of replies in this format: arguments of strict tools follow their schemas, of others they are objects.
    /// `None` if the format knows no calls.
    pub fn of_calls(format: ReplyFormat, tools: &[ToolSpec], rules: FormRules) -> Option<Self> {
        let family = Family { tools, single_call: rules.single_call };
        let body = family.body(format.tools, rules.answer)?;
        let Some(marks) = format.reasoning else { return Some(body) };
        let text = |free, marks: &[&str], next: &Form| Self::Text {
            free,
            until: marks.iter().map(|mark| ((*mark).to_owned(), next.clone())).collect(),
        };
        let thoughts = text(Free::Thoughts, marks.close, &Self::All(vec![Self::Space, body.clone()]));
        Some(match rules.thinks_already {
            true => thoughts,
            false => Self::OneOf(vec![text(Free::Blank, marks.open, &thoughts), body]),
        })
    }

    /// Bytes of its literals and schemas.
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::Literal(text) => text.len(),
            Self::Json(schema) => schema.to_string().len(),
            Self::Space | Self::Word => 1,
            Self::Text { until, .. } => until.iter().map(|(mark, next)| mark.len() + next.n_bytes()).sum(),
            Self::All(forms) | Self::OneOf(forms) => forms.iter().map(Self::n_bytes).sum(),
            Self::Many(form) => form.n_bytes(),
        }
    }
}

/// What the forms of all families are made of.
struct Family<'a> {
    tools: &'a [ToolSpec],
    single_call: bool,
}

impl Family<'_> {
    /// What stands behind the thoughts.
    fn body(&self, format: ToolFormat, answer: Option<&Value>) -> Option<Form> {
        let marked = match format {
            ToolFormat::None => return None,
            ToolFormat::Hermes => {
                let call =
                    vec![Form::Space, self.object("name", "arguments"), Form::Space, literal("</tool_call>")];
                vec![("<tool_call>", self.lines(Form::All(call), "<tool_call>"))]
            }
            ToolFormat::Llama3 => {
                let calls = Form::All(vec![Form::Space, self.row(self.object("name", "parameters"), "; ")]);
                let tagged = vec![("<|python_tag|>", calls.clone())];
                return Some(Form::OneOf(vec![calls, text_or(answer, Free::AnswerWithoutBrace, tagged)]));
            }
            ToolFormat::Mistral => {
                let id = || {
                    Form::OneOf(vec![Form::All(vec![literal("[CALL_ID]"), Form::Word]), Form::All(vec![])])
                };
                let one = |tool: &ToolSpec| {
                    Form::All(vec![literal(&tool.name), id(), literal("[ARGS]"), Form::Json(arguments(tool))])
                };
                let named = self.row(self.one_of(one), "[TOOL_CALLS]");
                let listed = Form::All(vec![Form::Space, self.list(self.object("name", "arguments"))]);
                vec![("[TOOL_CALLS]", Form::OneOf(vec![listed, named]))]
            }
            ToolFormat::Addressed => {
                let one = |tool: &ToolSpec| {
                    Form::All(vec![literal(&format!("{}\n", tool.name)), Form::Json(arguments(tool))])
                };
                let calls = self.row(self.one_of(one), ">>>");
                let said = text_or(answer, Free::Answer, vec![(">>>", calls.clone())]);
                return Some(Form::OneOf(vec![Form::All(vec![literal("all\n"), said]), calls]));
            }
            ToolFormat::Tagged => {
                let one = |tool: &ToolSpec| {
                    let (open, close) = (literal(&format!("{}>", tool.name)), literal("</function>"));
                    Form::All(vec![open, Form::Json(arguments(tool)), close])
                };
                vec![("<function=", self.lines(self.one_of(one), "<function="))]
            }
            ToolFormat::Phi => {
                let calls = self.row(self.object("name", "arguments"), ", ");
                let marked = Form::All(vec![literal("["), calls.clone(), literal("]<|/tool_call|>")]);
                // The word alone may well be about Python.
                vec![("<|tool_call|>", marked), ("functools[", Form::All(vec![calls, literal("]")]))]
            }
            ToolFormat::Granite => {
                let list = Form::All(vec![Form::Space, self.list(self.object("name", "arguments"))]);
                vec![("<|tool_call|>", list.clone()), ("<tool_call>", list)]
            }
            ToolFormat::Gemma => {
                let call = vec![literal("\n"), self.object("name", "parameters"), literal("\n```")];
                vec![("```tool_code", self.lines(Form::All(call), "```tool_code"))]
            }
            ToolFormat::DeepSeek => {
                let one = |tool: &ToolSpec| {
                    let (name, json) = (tool.name.as_str(), Form::Json(arguments(tool)));
                    let typed = literal(&format!("function<｜tool▁sep｜>{name}\n```json\n"));
                    let typed = Form::All(vec![typed, json.clone(), literal("\n```")]);
                    let named = Form::All(vec![literal(&format!("{name}<｜tool▁sep｜>")), json]);
                    Form::All(vec![Form::OneOf(vec![typed, named]), literal("<｜tool▁call▁end｜>")])
                };
                let call = self.one_of(one);
                let begun = self.lines(call, "<｜tool▁call▁begin｜>");
                let ends = [Form::Space, literal("<｜tool▁calls▁end｜>")];
                let opened = [Form::Space, literal("<｜tool▁call▁begin｜>"), begun.clone()];
                vec![
                    ("<｜tool▁calls▁begin｜>", Form::All(opened.into_iter().chain(ends).collect())),
                    ("<｜tool▁call▁begin｜>", begun),
                ]
            }
            ToolFormat::CommandR => {
                let counted = |tool: &ToolSpec| {
                    let head = vec![literal("{\"tool_call_id\": \""), Form::Word, literal("\", ")];
                    let Form::All(mut rest) = object(tool, "tool_name", "parameters", &arguments(tool))
                    else {
                        unreachable!("an object is a row of parts")
                    };
                    // The brace stands in the head.
                    if let Some(Form::Literal(text)) = rest.first_mut() {
                        text.remove(0);
                    }
                    Form::All(head.into_iter().chain(rest).collect())
                };
                let call = Form::OneOf(vec![self.object("tool_name", "parameters"), self.one_of(counted)]);
                let list = |close| {
                    Form::All(vec![Form::Space, self.list(call.clone()), Form::Space, literal(close)])
                };
                vec![
                    ("Action: ```json", list("```")),
                    ("Action:```json", list("```")),
                    ("<|START_ACTION|>", list("<|END_ACTION|>")),
                ]
            }
        };
        Some(text_or(answer, Free::Answer, marked))
    }

    fn one_of(&self, one: impl Fn(&ToolSpec) -> Form) -> Form {
        Form::OneOf(self.tools.iter().map(one).collect())
    }

    fn object(&self, name: &str, parameters: &str) -> Form {
        self.one_of(|tool| object(tool, name, parameters, &arguments(tool)))
    }

    /// One call or, where several may be made, more of them with this between them.
    fn row(&self, call: Form, between: &str) -> Form {
        self.more(call, vec![literal(between)])
    }

    /// The same, perhaps on lines of their own.
    fn lines(&self, call: Form, opening: &str) -> Form {
        self.more(call, vec![Form::Space, literal(opening)])
    }

    fn more(&self, call: Form, between: Vec<Form>) -> Form {
        if self.single_call {
            return call;
        }
        let more = Form::All(between.into_iter().chain([call.clone()]).collect());
        Form::All(vec![call, Form::Many(Box::new(more))])
    }

    fn list(&self, call: Form) -> Form {
        Form::All(vec![literal("["), self.row(call, ", "), literal("]")])
    }
}

/// `{"name": …, "arguments": …}`
fn object(tool: &ToolSpec, name: &str, parameters: &str, schema: &Value) -> Form {
    let head = format!("{{\"{name}\": {}, \"{parameters}\": ", Value::from(tool.name.as_str()));
    Form::All(vec![Form::Literal(head), Form::Json(schema.clone()), literal("}")])
}

fn arguments(tool: &ToolSpec) -> Value {
    if tool.strict { tool.parameters.clone() } else { json!({"type": "object"}) }
}

fn literal(text: &str) -> Form {
    Form::Literal(text.to_owned())
}

/// Free text, or a document in place of it, and the marks of calls.
fn text_or(answer: Option<&Value>, free: Free, marked: Vec<(&str, Form)>) -> Form {
    let marked = marked.into_iter().map(|(mark, form)| (mark.to_owned(), form));
    match answer {
        None => Form::Text { free, until: marked.collect() },
        Some(schema) => {
            let calls = marked.map(|(mark, form)| Form::All(vec![Form::Literal(mark), form]));
            Form::OneOf(std::iter::once(Form::Json(schema.clone())).chain(calls).collect())
        }
    }
}
