//! What a model's files say about text: tokenizer, chat template, end tokens.
//!
//! Where:  beside the weights; those who run a model put both together.
//! Idea:   a folder and a GGUF say the same things in other words; here they become one.

use std::path::Path;
use std::sync::Arc;

use wootz_text::{ChatInput, ChatTemplate, Message, TokenId, Tokenizer, ToolSpec};

use crate::gguf::{Keys, template_of, vocab_of};
use crate::load::Model;
use crate::{Error, Result};

/// Text files of a folder that travel with a model.
const FOLDER_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// What a model's files say about text.
#[derive(Clone, Debug)]
pub struct Words {
    /// The tokenizer, where there is one.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The chat template, where there is one.
    pub template: Option<Arc<ChatTemplate>>,
    /// Tokens that end a generation.
    pub end_tokens: Vec<TokenId>,
}

impl Words {
    /// Reads what lies beside a model's weights.
    ///
    /// # Errors
    /// A tokenizer that is there but broken, by file and field.
    pub fn of(model: &Model) -> Result<Self> {
        let (tokenizer, template) = match Keys::of(model.weights())? {
            Some(keys) => of_gguf(&keys)?,
            None => of_folder(model.weights().path())?,
        };
        let mut end_tokens = model.network.config.eos_tokens.clone();
        for &id in tokenizer.iter().flat_map(|tokenizer| &tokenizer.special().eos) {
            if !end_tokens.contains(&id) {
                end_tokens.push(id);
            }
        }
        Ok(Self { tokenizer: tokenizer.map(Arc::new), template: template.map(Arc::new), end_tokens })
    }

    /// A conversation as the model's template writes it; with `opened`, the assistant's turn begins at the end.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a template, and what the template raises.
    pub fn render_chat(&self, messages: &[Message], tools: &[ToolSpec], opened: bool) -> Result<String> {
        let Some(template) = &self.template else {
            return Err(Error::Unsupported("the model has no chat template".to_owned()));
        };
        let input = ChatInput { messages, tools, add_generation_prompt: opened, ..ChatInput::default() };
        let rendered = template.render(&input).map_err(|error| Error::Unsupported(error.to_string()))?;
        Ok(rendered.text)
    }

    /// A conversation as tokens, the assistant's turn opened.
    ///
    /// # Errors
    /// As [`render_chat`](Self::render_chat), and without a tokenizer.
    pub fn encode_chat(&self, messages: &[Message], tools: &[ToolSpec]) -> Result<Vec<TokenId>> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(Error::Unsupported("the model has no tokenizer".to_owned()));
        };
        Ok(tokenizer.encode(&self.render_chat(messages, tools, true)?, false, true))
    }
}

fn of_gguf(keys: &Keys) -> Result<(Option<Tokenizer>, Option<ChatTemplate>)> {
    let broken = |error: wootz_text::TokenizerError| Error::Unsupported(format!("{}: {error}", keys.file()));
    let source = |name: &str| keys.gguf().find::<&str>(&format!("wootz.source.{name}"));
    let tokenizer = match (source("tokenizer.json")?, vocab_of(keys)?) {
        (Some(json), _) => {
            let mut tokenizer = Tokenizer::from_json(json.as_bytes().to_vec()).map_err(broken)?;
            if let Some(config) = source("tokenizer_config.json")? {
                tokenizer.read_config(config.as_bytes()).map_err(broken)?;
            }
            Some(tokenizer)
        }
        (None, Some(vocab)) => Some(Tokenizer::from_vocab(&vocab).map_err(broken)?),
        (None, None) => None,
    };
    let Some(source) = template_of(keys)? else { return Ok((tokenizer, None)) };
    // Templates name special tokens by their text.
    let mut config = serde_json::Map::from_iter([("chat_template".to_owned(), source.into())]);
    if let Some(tokenizer) = &tokenizer {
        let roles = tokenizer.special();
        for (name, id) in [
            ("bos_token", roles.bos),
            ("eos_token", roles.eos.first().copied()),
            ("pad_token", roles.pad),
            ("unk_token", roles.unk),
        ] {
            if let Some(text) = id.and_then(|id| tokenizer.token_text(id)) {
                config.insert(name.to_owned(), text.into());
            }
        }
    }
    let template = ChatTemplate::from_config(serde_json::Value::from(config).to_string().as_bytes());
    Ok((tokenizer, template.map_err(|error| Error::Unsupported(error.to_string()))?))
}

fn of_folder(folder: &Path) -> Result<(Option<Tokenizer>, Option<ChatTemplate>)> {
    let has_tokenizer = ["tokenizer.json", "tokenizer.model"].iter().any(|f| folder.join(f).is_file());
    if !has_tokenizer {
        return Ok((None, None));
    }
    let tokenizer = Tokenizer::from_dir(folder).map_err(|error| Error::Unsupported(error.to_string()))?;
    let template = ChatTemplate::from_dir(folder).map_err(|error| Error::Unsupported(error.to_string()))?;
    Ok((Some(tokenizer), template))
}

impl Model {
    /// The text files that a GGUF keeps to become the same folder again: name and contents.
    pub(crate) fn source_files(&self) -> Vec<(String, String)> {
        let folder = self.weights().path();
        let read = |name: &&str| Some(((*name).to_owned(), std::fs::read_to_string(folder.join(name)).ok()?));
        FOLDER_FILES.iter().filter_map(read).collect()
    }

    /// The text files of a folder that holds this model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a GGUF that does not say its `config.json`.
    pub(crate) fn folder_files(&self) -> Result<Vec<(String, String)>> {
        if let Some(files) = self.made_files() {
            return Ok(files);
        }
        let Some(gguf) = self.weights().gguf() else { return Ok(self.source_files()) };
        let mut files = Vec::new();
        for name in FOLDER_FILES {
            if let Some(text) = gguf.find::<&str>(&format!("wootz.source.{name}"))? {
                files.push(((*name).to_owned(), text.to_owned()));
            }
        }
        if files.iter().all(|(name, _)| name != "config.json") {
            let said = self.hf().map(|hf| serde_json::to_string_pretty(hf.map()));
            let said = said.transpose().ok().flatten();
            let said =
                said.ok_or_else(|| Error::Unsupported("the GGUF does not say its `config.json`".to_owned()))?;
            if gguf.get("tokenizer.ggml.tokens").is_some() {
                let message =
                    "a vocabulary of a GGUF that was not written here cannot become a `tokenizer.json` yet";
                return Err(Error::Unsupported(message.to_owned()));
            }
            files.push(("config.json".to_owned(), said));
        }
        Ok(files)
    }
}
