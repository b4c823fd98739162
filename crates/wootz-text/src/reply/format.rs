//! Which format a model writes, told from its chat template.
//!
//! Idea:   a template shows earlier calls to the model in the format that it was trained to write, so the marks are in it.

use super::command_r::CommandR;
use super::deepseek::DeepSeek;
use super::functionary::{Addressed, Tagged};
use super::gemma::Gemma;
use super::llama3::Llama3;
use super::marked::Marked;
use super::mistral::Mistral;
use super::reasoning::{self, ReasoningMarks};
use super::{Body, Plain, granite, hermes, phi};

/// How a model writes thoughts and calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFormat {
    /// How it calls tools.
    pub tools: ToolFormat,
    pub(super) reasoning: Option<ReasoningMarks>,
}

/// How a family writes tool calls; the files of this folder are named alike and say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// Not at all.
    None,
    /// `<tool_call>{…}</tool_call>`: Hermes, Qwen.
    Hermes,
    /// Bare JSON or `<|python_tag|>`.
    Llama3,
    /// `[TOOL_CALLS]`
    Mistral,
    /// `>>>name`: Functionary 3.2.
    Addressed,
    /// `<function=name>{…}</function>`: Functionary 3.1.
    Tagged,
    /// `<|tool_call|>[…]<|/tool_call|>`
    Phi,
    /// Python in a `tool_code` fence.
    Gemma,
    /// `<｜tool▁call▁begin｜>`
    DeepSeek,
    /// `<|tool_call|>[…]`
    Granite,
    /// `Action:` or `<|START_ACTION|>`
    CommandR,
}

/// Marks in templates, the telling ones first.
const MARKS: &[(&str, ToolFormat)] = &[
    ("<|START_ACTION|>", ToolFormat::CommandR),
    ("Action: ```json", ToolFormat::CommandR),
    ("Action:```json", ToolFormat::CommandR),
    ("<｜tool▁call▁begin｜>", ToolFormat::DeepSeek),
    ("[TOOL_CALLS]", ToolFormat::Mistral),
    (">>>all", ToolFormat::Addressed),
    ("<function=", ToolFormat::Tagged),
    ("<|/tool_call|>", ToolFormat::Phi),
    ("<|tool_call|>", ToolFormat::Granite),
    ("<tool_call>", ToolFormat::Hermes),
    ("<|python_tag|>", ToolFormat::Llama3),
    ("\"parameters\": dictionary of argument name", ToolFormat::Llama3),
    ("tool_code", ToolFormat::Gemma),
    ("<start_of_turn>", ToolFormat::Gemma),
];

impl ReplyFormat {
    /// Text and nothing else.
    pub const PLAIN: Self = Self { tools: ToolFormat::None, reasoning: None };

    /// Nothing but `{"name": …, "parameters": {…}}`, as a grammar may force it.
    pub const BARE_CALLS: Self = Self { tools: ToolFormat::Llama3, reasoning: None };

    /// The format of a model with that chat template.
    pub fn of_template(source: &str) -> Self {
        let tools = MARKS
            .iter()
            .find(|(mark, _)| source.contains(mark))
            .map_or(ToolFormat::None, |(_, tools)| *tools);
        let reasoning = match () {
            () if source.contains("<|START_THINKING|>") => Some(reasoning::COMMAND_R),
            () if source.contains("[THINK]") => Some(reasoning::MISTRAL),
            () if source.contains("<think>") || source.contains("</think>") => Some(reasoning::THINK),
            () => None,
        };
        Self { tools, reasoning }
    }

    /// The same without calls, for a request without tools.
    pub fn without_tools(self) -> Self {
        // Markers around the answer stay the parser's business.
        let tools = if self.tools == ToolFormat::CommandR || self.tools == ToolFormat::Addressed {
            self.tools
        } else {
            ToolFormat::None
        };
        Self { tools, ..self }
    }

    /// Whether a prompt ends inside the thoughts of the reply, as some templates open them.
    pub fn prompt_opens_reasoning(self, prompt: &str) -> bool {
        self.reasoning.is_some_and(|marks| marks.open.iter().any(|open| prompt.trim_end().ends_with(open)))
    }

    /// Whether this model marks thoughts.
    pub fn has_reasoning(self) -> bool {
        self.reasoning.is_some()
    }

    pub(super) fn body(self, known: Vec<String>) -> Box<dyn Body> {
        match self.tools {
            ToolFormat::None => Box::new(Plain),
            ToolFormat::Hermes => Box::new(Marked::new(&hermes::MARKS)),
            ToolFormat::Llama3 => Box::new(Llama3::new(known)),
            ToolFormat::Mistral => Box::new(Mistral::new()),
            ToolFormat::Addressed => Box::new(Addressed::new()),
            ToolFormat::Tagged => Box::new(Tagged::new()),
            ToolFormat::Phi => Box::new(Marked::new(&phi::MARKS)),
            ToolFormat::Gemma => Box::new(Gemma::new()),
            ToolFormat::DeepSeek => Box::new(DeepSeek::new()),
            ToolFormat::Granite => Box::new(Marked::new(&granite::MARKS)),
            ToolFormat::CommandR => Box::new(CommandR::new()),
        }
    }
}
