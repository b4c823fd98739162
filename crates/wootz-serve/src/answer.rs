//! A conversation's next turn: asked once, in domain types, for every API that has conversations.
//!
//! Where:  OpenAI's chat and responses, Anthropic's messages, Ollama's chat convert from and to this.
//! Idea:   the model's text runs through the parser of its format as it comes, so a stream and a whole answer are made of
//!         the same deltas. A call that must happen is a grammar: the reply is then the call and nothing else. So is what is
//!         promised of calls that may happen: text is free, calls are not.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value};
use wootz_text::{
    ChatInput, Constraint, FinishReason, Form, FormRules, GenerateEvent, GenerateRequest, Message, Prompt,
    Reply, ReplyDelta, ReplyFormat, ReplyParser, Sampling, TokenEvent, TokenId, ToolFormat, ToolSpec, Usage,
};

use crate::api_error::{ApiError, ApiResult};
use crate::app::Shared;
use crate::beginning::{Beginning, Spelling};
use crate::bridge::{Generation, Place};
use crate::catalog::ServedModel;

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub messages: Vec<Message>,
    pub tools: Vec<ToolSpec>,
    pub tool_choice: ToolChoice,
    /// Whether at most one tool may be called.
    pub single_call: bool,
    /// Variables of the template.
    pub variables: Map<String, Value>,
    /// Whether the last message is the beginning of the answer.
    pub continues: bool,
    pub sampling: Sampling,
}

/// Whether tools are called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// Some tool must be called.
    Required,
    /// This tool must be called.
    Named(String),
}

/// A turn that is being answered.
pub(crate) struct Answering {
    generation: Generation,
    parsers: Vec<Choice>,
    /// What is told before anything is generated.
    given: VecDeque<Said>,
    /// Whether log-probabilities were asked for.
    tells_tokens: bool,
}

struct Choice {
    parser: ReplyParser,
    has_calls: bool,
    /// Where an answer was begun for the model, its tokens are spelled here.
    spelling: Option<Spelling>,
}

/// What happens while a turn is answered.
pub(crate) enum Said {
    /// More of a choice; the token is there where log-probabilities were asked for.
    More { choice: usize, deltas: Vec<ReplyDelta>, token: Option<TokenEvent> },
    /// A choice is complete; the last deltas come with it.
    End { choice: usize, deltas: Vec<ReplyDelta>, reason: FinishReason },
    /// Everything is complete.
    Usage(Usage),
}

/// A whole answer.
pub(crate) struct Answer {
    pub choices: Vec<AnswerChoice>,
    pub usage: Usage,
}

/// One of its choices.
pub(crate) struct AnswerChoice {
    pub reply: Reply,
    pub tokens: Vec<TokenEvent>,
    pub reason: FinishReason,
}

impl Shared {
    /// Begins to answer a turn.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        place: &Place,
        model: &Arc<ServedModel>,
        turn: Turn,
    ) -> ApiResult<Answering> {
        self.answer_from(place, model, turn, Vec::new()).await
    }

    /// Begins to answer a turn with these tokens, which are a part of the answer; the model goes on from there.
    pub(crate) async fn answer_from(
        self: &Arc<Self>,
        place: &Place,
        model: &Arc<ServedModel>,
        turn: Turn,
        begins: Vec<TokenId>,
    ) -> ApiResult<Answering> {
        let n = turn.sampling.n;
        let tells_tokens = turn.sampling.logprobs.is_some();
        let beginning = Beginning::new(begins, model, &turn)?;
        let (mut request, reading) = turn.prepare(model)?;
        if let Some(beginning) = &beginning {
            let (model, prompt, begins) = (model.clone(), request.prompt, beginning.token_ids.clone());
            request.prompt = self.blocking(move || Beginning::prompt(&model, prompt, &begins)).await?;
        }
        let keep_special = request.sampling.keep_special;
        let generation = self.generate(place, model, request).await?;
        let mut parsers: Vec<Choice> = (0..n).map(|_| Choice::new(reading.parser())).collect();
        let mut given = VecDeque::new();
        if let Some(beginning) = beginning {
            for (choice, draft) in parsers.iter_mut().enumerate() {
                let (text, spelling) = beginning.spell(keep_special);
                draft.spelling = Some(spelling);
                given.push_back(Said::More { choice, deltas: draft.push(&text), token: None });
            }
        }
        Ok(Answering { generation, parsers, given, tells_tokens })
    }
}

/// How the reply is read.
struct Reading {
    format: ReplyFormat,
    tools: Vec<ToolSpec>,
    thinks_already: bool,
}

impl Reading {
    fn parser(&self) -> ReplyParser {
        ReplyParser::new(self.format, &self.tools, self.thinks_already)
    }
}

impl Turn {
    /// The request for the model, and how its reply will be read.
    fn prepare(mut self, model: &ServedModel) -> ApiResult<(GenerateRequest, Reading)> {
        let mut format = model.reply_format();
        let wants_tools = !self.tools.is_empty() && self.tool_choice != ToolChoice::None;
        if wants_tools && !model.knows_tools() {
            return Err(ApiError::unsupported(
                "tools",
                format!("the chat template of `{}` knows no `tools`", model.card.name),
            ));
        }
        let thinks_already =
            !self.continues && format.has_reasoning() && opens_reasoning(model, format, &self.variables);
        if let Some(call) = self.forced()? {
            self.sampling.constraint = Some(call);
            format = ReplyFormat::BARE_CALLS;
        } else if wants_tools && self.holds_calls() {
            self.sampling.constraint = Some(self.held(format, thinks_already)?);
        } else if self.sampling.constraint.is_some() {
            // What a grammar forms has no place for thoughts or markers.
            format = ReplyFormat::PLAIN;
        } else if !wants_tools {
            format = format.without_tools();
        }
        let thinks_already = thinks_already && format.has_reasoning();
        let tools = if wants_tools { self.tools } else { Vec::new() };
        self.sampling.keep_special = format != ReplyFormat::PLAIN;
        let prompt = Prompt::Chat {
            messages: self.messages,
            tools: tools.clone(),
            variables: self.variables,
            continues: self.continues,
        };
        Ok((GenerateRequest::new(prompt, self.sampling), Reading { format, tools, thinks_already }))
    }

    /// The grammar of a call that must happen.
    fn forced(&self) -> ApiResult<Option<Constraint>> {
        let candidates: Vec<&ToolSpec> = match &self.tool_choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(None),
            ToolChoice::Required => self.tools.iter().collect(),
            ToolChoice::Named(name) => self.tools.iter().filter(|tool| tool.name == *name).collect(),
        };
        if candidates.is_empty() {
            return Err(ApiError::invalid("tool_choice", "expected a tool that is in `tools`"));
        }
        if self.sampling.constraint.is_some() {
            return Err(ApiError::invalid(
                "tool_choice",
                "expected no `response_format` beside a call that must happen",
            ));
        }
        Ok(Some(Constraint::Form(Form::bare_call(candidates))))
    }

    /// Whether calls that may happen must have a certain form.
    pub(crate) fn holds_calls(&self) -> bool {
        let has_answer = self.sampling.constraint.is_some();
        let is_held = self.single_call || has_answer || self.tools.iter().any(|tool| tool.strict);
        self.tool_choice == ToolChoice::Auto && !self.tools.is_empty() && is_held
    }

    /// The grammar of a reply that may call tools.
    fn held(&self, format: ReplyFormat, thinks_already: bool) -> ApiResult<Constraint> {
        let answer = match &self.sampling.constraint {
            None => None,
            Some(Constraint::JsonSchema(schema)) => Some(schema),
            Some(_) => {
                let message = "expected `tool_choice` `none` beside a grammar that is no JSON schema";
                return Err(ApiError::unsupported("tools", message));
            }
        };
        let rules = FormRules { thinks_already, single_call: self.single_call, answer };
        Form::of_calls(format, &self.tools, rules).map(Constraint::Form).ok_or_else(|| {
            debug_assert_eq!(format.tools, ToolFormat::None, "every other format has a form");
            let message = "the chat template does not tell how this model writes calls, so nothing can be promised of them";
            ApiError::unsupported("tools", message)
        })
    }
}

/// Whether the template opens the thoughts by itself, told from the shortest conversation.
fn opens_reasoning(model: &ServedModel, format: ReplyFormat, variables: &Map<String, Value>) -> bool {
    let messages = [Message::user("x")];
    let input = ChatInput {
        messages: &messages,
        add_generation_prompt: true,
        variables: variables.clone(),
        ..ChatInput::default()
    };
    let rendered = model.template.as_ref().and_then(|template| template.render(&input).ok());
    rendered.is_some_and(|rendered| format.prompt_opens_reasoning(&rendered.text))
}

impl Answering {
    /// What is said next; `None` after the end.
    pub(crate) async fn next(&mut self) -> ApiResult<Option<Said>> {
        if let Some(said) = self.given.pop_front() {
            return Ok(Some(said));
        }
        let Some(event) = self.generation.next().await? else { return Ok(None) };
        Ok(Some(match event {
            GenerateEvent::Token(token) => {
                let deltas = self.choice(token.choice)?.token(&token);
                Said::More { choice: token.choice, deltas, token: self.tells_tokens.then_some(token) }
            }
            GenerateEvent::Finished { choice, reason } => {
                let draft = self.choice(choice)?;
                let deltas = draft.finish();
                let reason = match reason {
                    FinishReason::Stop if draft.has_calls => FinishReason::ToolCalls,
                    reason => reason,
                };
                Said::End { choice, deltas, reason }
            }
            GenerateEvent::Usage(usage) => Said::Usage(usage),
            GenerateEvent::Error(error) => return Err(error.into()),
        }))
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> ApiResult<Answer> {
        let new = |_: &Choice| AnswerChoice {
            reply: Reply::default(),
            tokens: Vec::new(),
            reason: FinishReason::Stop,
        };
        let mut choices: Vec<AnswerChoice> = self.parsers.iter().map(new).collect();
        loop {
            match self.next().await? {
                Some(Said::More { choice, deltas, token }) => {
                    deltas.iter().for_each(|delta| choices[choice].reply.add(delta));
                    choices[choice].tokens.extend(token);
                }
                Some(Said::End { choice, deltas, reason }) => {
                    deltas.iter().for_each(|delta| choices[choice].reply.add(delta));
                    choices[choice].reason = reason;
                }
                Some(Said::Usage(usage)) => return Ok(Answer { choices, usage }),
                None => return Err(ApiError::internal("the model's events stopped before the end")),
            }
        }
    }

    fn choice(&mut self, index: usize) -> ApiResult<&mut Choice> {
        self.parsers
            .get_mut(index)
            .ok_or_else(|| ApiError::internal(format!("the model told of a choice {index}")))
    }
}

impl Choice {
    fn new(parser: ReplyParser) -> Self {
        Self { parser, has_calls: false, spelling: None }
    }

    fn token(&mut self, token: &TokenEvent) -> Vec<ReplyDelta> {
        match &mut self.spelling {
            None => self.push(&token.text),
            Some(spelling) => {
                let text = token.id.map_or_else(String::new, |id| spelling.push(id));
                self.push(&text)
            }
        }
    }

    fn push(&mut self, text: &str) -> Vec<ReplyDelta> {
        let deltas = self.parser.push(text);
        self.noted(deltas)
    }

    fn finish(&mut self) -> Vec<ReplyDelta> {
        let rest = self.spelling.as_mut().map(Spelling::finish).unwrap_or_default();
        let mut deltas = if rest.is_empty() { Vec::new() } else { self.parser.push(&rest) };
        deltas.extend(self.parser.finish());
        self.noted(deltas)
    }

    fn noted(&mut self, deltas: Vec<ReplyDelta>) -> Vec<ReplyDelta> {
        self.has_calls |= deltas.iter().any(|delta| matches!(delta, ReplyDelta::Call { .. }));
        deltas
    }
}
