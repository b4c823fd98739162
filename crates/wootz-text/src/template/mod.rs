//! Chat templates: from messages to the text that a model was trained on.
//!
//! Where:  `chat_template` in `tokenizer_config.json`, `chat_template.jinja`, `tokenizer.chat_template` in GGUF.
//! Idea:   templates come from strangers. They are rewritten once ([`rewrite`]), then rendered by minijinja under a
//!         budget of steps and of bytes, intermediate strings included; without I/O, without a clock of their own.
//! Source: `transformers` 5, `apply_chat_template`; Jinja2.
//!
//! # Invariants
//! - Rendering the same input gives the same text: time is an argument ([`Now`]).
//! - Whatever the template, rendering ends and holds at most a small multiple of its budget in memory.

mod budget;
mod functions;
mod lexer;
mod methods;
mod python;
mod rewrite;
mod strftime;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::ErrorKind;
use serde_json::{Map, Value as Json};

pub use strftime::Now;

use self::budget::Budget;
use crate::{Content, ContentPart, Message, ToolSpec};

/// Longest template.
const MAX_TEMPLATE_BYTES: usize = 1 << 19;
/// Bytes that a rendering may make, besides some for each byte of its input.
const BASE_BYTES: u64 = 16 << 20;
const BYTES_PER_INPUT_BYTE: u64 = 64;
/// Instructions that a rendering may take.
const MAX_STEPS: u64 = 4_000_000;

/// A model's chat template, or several by name.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    templates: Vec<Named>,
    /// What templates see besides the conversation: `bos_token`, `eos_token` and their kin.
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Named {
    name: String,
    source: String,
    rewritten: String,
}

/// What a template is rendered with.
#[derive(Debug, Clone, Default)]
pub struct ChatInput<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// Tools that the model may call.
    pub tools: &'a [ToolSpec],
    /// Documents to answer from, as `{"title", "text"}`.
    pub documents: &'a [Json],
    /// Whether the text ends with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables that the template knows (`enable_thinking`).
    pub variables: Map<String, Json>,
    /// The template's name; `None`: `tool_use` if there are tools and it exists, else `default`.
    pub template: Option<&'a str>,
    /// What `strftime_now` shows; `None`: the system's clock in UTC.
    pub now: Option<Now>,
}

/// Behind a message that goes on; nobody writes letters of the private area at the end of a text.
const OPEN_END: &str = "\u{f8f0}\u{e0e0}\u{f8f1}";

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text, to be encoded with special tokens parsed and none added.
    pub text: String,
    /// What the assistant said, as byte ranges of the text; empty unless the template marks it with `{% generation %}`.
    pub assistant: Vec<Range<usize>>,
}

/// Why a template cannot be read or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chat template{}{}: {message}", name.as_ref().map_or(String::new(), |name| format!(" `{name}`")), line.map_or(String::new(), |line| format!(", line {line}")))]
pub struct TemplateError {
    /// The template's name, or the file.
    pub name: Option<String>,
    /// The line, counting from 1.
    pub line: Option<usize>,
    /// What went wrong.
    pub message: String,
}

impl TemplateError {
    fn at(line: usize, message: impl Into<String>) -> Self {
        Self { name: None, line: Some(line), message: message.into() }
    }

    fn new(name: &str, message: impl Into<String>) -> Self {
        Self { name: Some(name.to_owned()), line: None, message: message.into() }
    }

    fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }
}

impl ChatTemplate {
    /// From one template's source.
    ///
    /// # Errors
    /// A template that is too long or cannot be parsed, with its line.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        Self::from_named([("default", source)])
    }

    /// From several templates with their names, `default` among them.
    ///
    /// # Errors
    /// As [`new`](ChatTemplate::new), or if there is no template at all.
    pub fn from_named<'a>(
        templates: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, TemplateError> {
        let read = |(name, source): (&str, &str)| read(name, source).map_err(|error| error.named(name));
        let templates = templates.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if templates.is_empty() {
            return Err(TemplateError::new("default", "expected at least one template"));
        }
        Ok(Self { templates, variables: BTreeMap::new() })
    }

    /// From a `tokenizer_config.json`: `chat_template` as a string or as a list of `{"name", "template"}`, and the special
    /// tokens as variables. `None` if it has no template.
    ///
    /// # Errors
    /// Invalid JSON, a field of the wrong type, or a template that cannot be parsed.
    pub fn from_config(bytes: &[u8]) -> Result<Option<Self>, TemplateError> {
        let config: Json = serde_json::from_slice(bytes)
            .map_err(|error| TemplateError::new("tokenizer_config.json", format!("not JSON: {error}")))?;
        let wrong = || {
            TemplateError::new(
                "tokenizer_config.json",
                "`chat_template`: expected a string or a list of templates",
            )
        };
        let mut template = match config.get("chat_template") {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::String(source)) => Self::new(source)?,
            Some(Json::Array(entries)) => {
                let text =
                    |entry: &'_ Json, key: &str| entry.get(key).and_then(Json::as_str).map(String::from);
                let entry = |entry: &Json| Some((text(entry, "name")?, text(entry, "template")?));
                let named: Option<Vec<_>> = entries.iter().map(entry).collect();
                let named = named.ok_or_else(wrong)?;
                Self::from_named(named.iter().map(|(name, source)| (name.as_str(), source.as_str())))?
            }
            Some(_) => return Err(wrong()),
        };
        template.read_tokens(&config);
        Ok(Some(template))
    }

    /// From a model's folder: `chat_template.jinja` (and `additional_chat_templates/`), else `tokenizer_config.json`.
    ///
    /// # Errors
    /// As [`from_config`](ChatTemplate::from_config), and files that cannot be read.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>, TemplateError> {
        let config = read_file(&dir.join("tokenizer_config.json"))?;
        let Some(source) = read_file(&dir.join("chat_template.jinja"))? else {
            return config.map_or(Ok(None), |config| Self::from_config(config.as_bytes()));
        };
        let mut named = vec![("default".to_owned(), source)];
        if let Ok(entries) = std::fs::read_dir(dir.join("additional_chat_templates")) {
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in
                paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "jinja"))
            {
                let name =
                    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                named.extend(read_file(path)?.map(|source| (name, source)));
            }
        }
        let mut template =
            Self::from_named(named.iter().map(|(name, source)| (name.as_str(), source.as_str())))?;
        if let Some(config) = config {
            let config = serde_json::from_str(&config)
                .map_err(|error| TemplateError::new("tokenizer_config.json", format!("not JSON: {error}")))?;
            template.read_tokens(&config);
        }
        Ok(Some(template))
    }

    /// The names of the templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().map(|template| template.name.as_str())
    }

    /// A template as its author wrote it.
    pub fn source(&self, name: &str) -> Option<&str> {
        self.templates.iter().find(|template| template.name == name).map(|template| template.source.as_str())
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// What the template raises, with its line; a budget that is used up; an unknown template's name.
    pub fn render(&self, input: &ChatInput) -> Result<Rendered, TemplateError> {
        let template = self.choose(input)?;
        let context = Json::Object(self.context(input));
        let input_text = context.to_string();
        let marks = free_marks(&input_text, &template.source).ok_or_else(|| {
            TemplateError::new(&template.name, "all marks for `generation` occur in the input")
        })?;
        let budget = Budget::new(BASE_BYTES + BYTES_PER_INPUT_BYTE * input_text.len() as u64);
        let env = functions::environment(&budget, MAX_STEPS, input.now.unwrap_or_else(Now::utc), marks);
        let compiled = env
            .template_from_named_str(&template.name, &template.rewritten)
            .map_err(|error| convert(&error, &template.name))?;
        let text =
            compiled.render(python::from_json(&context)).map_err(|error| convert(&error, &template.name))?;
        Ok(without_marks(&text, marks))
    }

    /// Renders a conversation whose last message goes on: the text ends where its content does.
    ///
    /// The place is found by a mark behind the content. The opening of a turn is not added.
    ///
    /// # Errors
    /// Those of [`render`](Self::render); a last message without text, or a template that does not show its end.
    pub fn render_open(&self, input: &ChatInput) -> Result<Rendered, TemplateError> {
        let wrong = |what: &str| TemplateError::new(input.template.unwrap_or("default"), what);
        let mut messages = input.messages.to_vec();
        let last = messages.last_mut().filter(|last| last.tool_calls.is_empty());
        let last = last.ok_or_else(|| wrong("the last message cannot go on: it calls tools or is none"))?;
        match &mut last.content {
            Content::Text(text) => text.push_str(OPEN_END),
            Content::Parts(parts) => match parts.last_mut() {
                Some(ContentPart::Text(text)) => text.push_str(OPEN_END),
                _ => return Err(wrong("the last message cannot go on: it does not end with a text")),
            },
        }
        let mut rendered =
            self.render(&ChatInput { messages: &messages, add_generation_prompt: false, ..input.clone() })?;
        let end = rendered.text.rfind(OPEN_END);
        let end = end.ok_or_else(|| wrong("the template does not show the end of the last message"))?;
        if rendered.text[..end].contains(OPEN_END) {
            return Err(wrong("the template shows the last message twice"));
        }
        rendered.text.truncate(end);
        rendered.assistant.retain(|range| range.start < end);
        if let Some(range) = rendered.assistant.last_mut() {
            range.end = range.end.min(end);
        }
        Ok(rendered)
    }

    fn choose(&self, input: &ChatInput) -> Result<&Named, TemplateError> {
        let find = |name: &str| self.templates.iter().find(|template| template.name == name);
        if let Some(name) = input.template {
            return find(name).ok_or_else(|| TemplateError::new(name, "no template of this name"));
        }
        let for_tools = if input.tools.is_empty() { None } else { find("tool_use") };
        let chosen = for_tools.or_else(|| find("default"));
        chosen.or(self.templates.first()).ok_or_else(|| TemplateError::new("default", "no template"))
    }

    fn context(&self, input: &ChatInput) -> Map<String, Json> {
        let list = |items: Vec<Json>| if items.is_empty() { Json::Null } else { Json::Array(items) };
        let mut context = Map::new();
        context.extend(self.variables.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str()))));
        context.extend(input.variables.clone());
        context.insert("messages".into(), input.messages.iter().map(message).collect());
        context.insert("tools".into(), list(input.tools.iter().map(ToolSpec::to_json).collect()));
        context.insert("documents".into(), list(input.documents.to_vec()));
        context.insert("add_generation_prompt".into(), input.add_generation_prompt.into());
        context
    }

    /// `bos_token` and its kin, as strings or as objects with `content`.
    fn read_tokens(&mut self, config: &Json) {
        const KEYS: [&str; 7] =
            ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
        for key in KEYS {
            let value = config.get(key);
            let text = value.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
            if let Some(text) = text {
                self.variables.insert(key.to_owned(), text.to_owned());
            }
        }
    }
}

fn read(name: &str, source: &str) -> Result<Named, TemplateError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        let message = format!("expected at most {MAX_TEMPLATE_BYTES} bytes, got {}", source.len());
        return Err(TemplateError::new(name, message));
    }
    let rewritten = rewrite::rewrite(source)?;
    let mut env = minijinja::Environment::new();
    env.set_undefined_behavior(minijinja::UndefinedBehavior::Lenient);
    env.template_from_str(&rewritten).map_err(|error| convert(&error, name))?;
    Ok(Named { name: name.to_owned(), source: source.to_owned(), rewritten })
}

/// A message as `transformers` shows it: reasoning under all of its names.
fn message(message: &Message) -> Json {
    let mut json = message.to_json();
    if let Some(reasoning) = &message.reasoning {
        json["thinking"] = reasoning.as_str().into();
    }
    json
}

fn convert(error: &minijinja::Error, name: &str) -> TemplateError {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let message = match error.kind() {
        ErrorKind::OutOfFuel if error.detail().is_none() => "the template takes too many steps".to_owned(),
        ErrorKind::InvalidOperation | ErrorKind::OutOfFuel => detail,
        kind if error.detail().is_some() => format!("{kind}: {detail}"),
        _ => detail,
    };
    // Names of the rewriter's functions mean nothing to the template's author.
    TemplateError {
        name: Some(name.to_owned()),
        line: error.line(),
        message: message.replace(rewrite::PREFIX, ""),
    }
}

/// Two noncharacters that occur neither in the input nor in the template.
fn free_marks(input: &str, source: &str) -> Option<[char; 2]> {
    let mut free = ('\u{fdd0}'..='\u{fdef}').filter(|&c| !input.contains(c) && !source.contains(c));
    Some([free.next()?, free.next()?])
}

fn without_marks(text: &str, [open, close]: [char; 2]) -> Rendered {
    let mut rendered = Rendered { text: String::with_capacity(text.len()), assistant: Vec::new() };
    let mut start = None;
    for part in text.split_inclusive([open, close]) {
        rendered.text.push_str(part.trim_end_matches([open, close]));
        let here = rendered.text.len();
        if part.ends_with(open) {
            start = Some(here);
        } else if part.ends_with(close)
            && let Some(start) = start.take()
        {
            rendered.assistant.push(start..here);
        }
    }
    rendered
}

fn read_file(path: &Path) -> Result<Option<String>, TemplateError> {
    let fail =
        |message: String| TemplateError { name: Some(path.display().to_string()), line: None, message };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(format!("could not be read: {error}"))),
        Ok(metadata) if metadata.len() > 16 << 20 => return Err(fail("expected at most 16 MiB".into())),
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| fail(format!("could not be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_can_go_on() {
        let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        let template = ChatTemplate::new(source).unwrap();
        let messages = [Message::user("Say it."), Message::assistant("It is ")];
        let input = ChatInput { messages: &messages, add_generation_prompt: true, ..ChatInput::default() };
        assert_eq!(template.render_open(&input).unwrap().text, "<user>Say it.</s><assistant>It is ");
        let hidden = ChatTemplate::new("{{ messages[0].content }}").unwrap();
        assert!(hidden.render_open(&input).unwrap_err().to_string().contains("does not show the end"));
        let none = ChatInput::default();
        assert!(template.render_open(&none).is_err());
    }
}
