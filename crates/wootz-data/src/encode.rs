//! Examples as tokens, each supervised or not.
//!
//! Where:  the trainer's batches and `wootz data show`.
//! Idea:   the whole text is encoded once, as a model will see it. What is learned is a range of that text: from where the
//!         prompt would end, were the model asked there, to the token that ends the turn. Where a border falls inside a token,
//!         the token counts to what comes after it. A row that would teach nothing, or no end, is an error and not a loss of 0.
//! Source: the rule is that of `transformers`' `{% generation %}` masks, which are used where a template has them.

use wootz_text::{ChatInput, ChatTemplate, Message, Role, TokenId, Tokenizer, ToolSpec};

use crate::{Conversation, Said, Turn};

/// Tokens of an example.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// In order
    pub token_ids: Vec<TokenId>,
    /// Whether a token is learned, as many
    pub supervised: Vec<bool>,
}

impl Encoded {
    /// How many tokens are learned.
    pub fn n_supervised(&self) -> usize {
        self.supervised.iter().filter(|is| **is).count()
    }
}

/// Which turns are learned, where a row does not say it itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervise {
    /// Turns of these roles
    pub roles: Vec<Role>,
    /// Only the last of them
    pub last_only: bool,
}

impl Default for Supervise {
    /// Everything that the assistant says.
    fn default() -> Self {
        Self { roles: vec![Role::Assistant], last_only: false }
    }
}

/// Why a row cannot be learned from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlearnable {
    /// No token is supervised
    #[error("no token of it is supervised\nhint: which roles or turns are learned?")]
    Nothing,
    /// A turn is learned without its end
    #[error(
        "turn {turn}: none of its supervised tokens ends the answer, so a model would never learn to stop\n\
         hint: the tokenizer's end tokens are {ends}; the turn ends with `{tail}`"
    )]
    NoEnd {
        /// Counted from 1
        turn: usize,
        /// The end tokens there are
        ends: String,
        /// The last characters of the turn
        tail: String,
    },
    /// The text begins with two tokens that begin a text
    #[error("it begins with `{bos}` twice\nhint: the template writes one and the text brings another")]
    DoubledBos {
        /// The token
        bos: String,
    },
    /// What a template writes for earlier turns depends on later ones
    #[error(
        "turn {turn}: once others follow, the template writes what comes before it differently, so that no prompt would \
         lead to it\nhint: learn only the last turn"
    )]
    Rewritten {
        /// Counted from 1
        turn: usize,
    },
    /// What somebody says contains a token with a meaning
    #[error(
        "turn {turn} says `{token}`, which is a special token\nhint: a model would take it for its own sign"
    )]
    Spelled {
        /// Counted from 1
        turn: usize,
        /// The token
        token: String,
    },
    /// The template cannot render it
    #[error("the template cannot render it: {0}")]
    Template(String),
    /// More tokens than a row may have
    #[error(
        "it has {n_tokens} tokens, expected at most {max_tokens}\nhint: longer rows can be left out, cut or split"
    )]
    TooLong {
        /// Of the longest sequence
        n_tokens: usize,
        /// The most
        max_tokens: usize,
    },
    /// Plain text where turns are expected, or the other way round
    #[error("{0}")]
    Mixed(&'static str),
}

/// A text as it is: all of it is learned, its end too.
///
/// # Errors
/// Nothing to learn, a doubled beginning.
pub fn encode_text(tokenizer: &Tokenizer, text: &str) -> Result<Encoded, Unlearnable> {
    let mut token_ids = tokenizer.encode(text, true, false);
    let eos = tokenizer.special().eos.first();
    if let Some(&eos) = eos.filter(|eos| token_ids.last() != Some(eos)) {
        token_ids.push(eos);
    }
    let supervised = vec![true; token_ids.len()];
    check(tokenizer, Encoded { token_ids, supervised }, usize::from(eos.is_some()))
}

/// A completion after a prompt, both plain text: the completion and its end are learned.
///
/// # Errors
/// Nothing to learn, a doubled beginning.
pub fn encode_completion(
    tokenizer: &Tokenizer,
    prompt: &str,
    completion: &str,
) -> Result<Encoded, Unlearnable> {
    let mut token_ids = tokenizer.encode(&format!("{prompt}{completion}"), true, false);
    let start = n_alike(&tokenizer.encode(prompt, true, false), &token_ids);
    let eos = tokenizer.special().eos.first();
    if let Some(&eos) = eos.filter(|eos| token_ids.last() != Some(eos)) {
        token_ids.push(eos);
    }
    let supervised = (0..token_ids.len()).map(|at| at >= start).collect();
    check(tokenizer, Encoded { token_ids, supervised }, usize::from(eos.is_some()))
}

/// A conversation by a template: the chosen turns and the tokens that end them are learned.
///
/// # Errors
/// Every reason why the row would teach nothing, or something wrong.
pub fn encode_chat(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    conversation: &Conversation,
    supervise: &Supervise,
) -> Result<Encoded, Unlearnable> {
    let messages: Vec<Message> = conversation.turns.iter().map(|turn| turn.message.clone()).collect();
    for (i, message) in messages.iter().enumerate() {
        if let Some(token) = special_in(tokenizer, &message.text()) {
            return Err(Unlearnable::Spelled { turn: i + 1, token });
        }
    }
    let chat = Chat { tokenizer, template, messages: &messages, tools: &conversation.tools };
    let text = chat.render(messages.len(), false)?;
    let mut encoded = Encoded { token_ids: tokenizer.encode(&text, false, true), supervised: Vec::new() };
    encoded.supervised = vec![false; encoded.token_ids.len()];
    for turn in learned(&conversation.turns, supervise) {
        let (start, end) = chat.span(turn, &text, &encoded.token_ids)?;
        encoded.supervised[start..end].fill(true);
    }
    check(tokenizer, encoded, 0)
}

/// Turns before an answer and the answer, as [`encode_chat`] or [`encode_completion`] would: the answer is learned.
///
/// # Errors
/// As theirs.
pub fn encode_answer(
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    prompt: &Said,
    answer: &Said,
) -> Result<Encoded, Unlearnable> {
    let turn = |message: &Message, train| Turn { message: message.clone(), train: Some(train) };
    match (template, prompt, answer) {
        (None, Said::Text(prompt), Said::Text(answer)) => encode_completion(tokenizer, prompt, answer),
        (None, _, _) => {
            Err(Unlearnable::Mixed("expected plain text where there is no template, got messages"))
        }
        (Some(template), prompt, answer) => {
            let before = match prompt {
                Said::Text(text) => vec![turn(&Message::user(text.clone()), false)],
                Said::Turns(messages) => messages.iter().map(|message| turn(message, false)).collect(),
            };
            let after: Vec<Turn> = match answer {
                Said::Text(text) => vec![turn(&Message::assistant(text.clone()), true)],
                Said::Turns(messages) => {
                    messages.iter().map(|message| turn(message, message.role == Role::Assistant)).collect()
                }
            };
            let conversation = Conversation { turns: [before, after].concat(), tools: Vec::new() };
            encode_chat(tokenizer, template, &conversation, &Supervise::default())
        }
    }
}

/// A prompt up to where its answer would begin.
pub(crate) fn encode_prompt(
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    prompt: &Said,
) -> Result<Vec<TokenId>, Unlearnable> {
    let messages = match (template, prompt) {
        (None, Said::Text(text)) => return Ok(tokenizer.encode(text, true, false)),
        (None, Said::Turns(_)) => {
            return Err(Unlearnable::Mixed("expected plain text where there is no template, got messages"));
        }
        (Some(_), Said::Text(text)) => vec![Message::user(text.clone())],
        (Some(_), Said::Turns(messages)) => messages.clone(),
    };
    for (i, message) in messages.iter().enumerate() {
        if let Some(token) = special_in(tokenizer, &message.text()) {
            return Err(Unlearnable::Spelled { turn: i + 1, token });
        }
    }
    let template = template.expect("without one it is plain text");
    let chat = Chat { tokenizer, template, messages: &messages, tools: &[] };
    Ok(tokenizer.encode(&chat.render(messages.len(), true)?, false, true))
}

/// Which turns are learned: those whose row says so, and of the others those that the settings choose.
fn learned(turns: &[Turn], supervise: &Supervise) -> Vec<usize> {
    let of_role = |turn: &&Turn| supervise.roles.contains(&turn.message.role);
    let last = turns.iter().rposition(|turn| of_role(&turn));
    let is_learned = |(i, turn): &(usize, &Turn)| {
        turn.train.unwrap_or(of_role(turn) && (!supervise.last_only || Some(*i) == last))
    };
    turns.iter().enumerate().filter(is_learned).map(|(i, _)| i).collect()
}

struct Chat<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    messages: &'a [Message],
    tools: &'a [ToolSpec],
}

impl Chat<'_> {
    /// The text of the first turns.
    fn render(&self, n_turns: usize, asks: bool) -> Result<String, Unlearnable> {
        let input = ChatInput {
            messages: &self.messages[..n_turns],
            tools: self.tools,
            documents: &[],
            add_generation_prompt: asks,
            variables: serde_json::Map::new(),
            template: None,
            now: None,
        };
        let rendered = self.template.render(&input);
        rendered.map(|rendered| rendered.text).map_err(|error| Unlearnable::Template(error.to_string()))
    }

    /// The tokens of a turn, from the prompt's end to the token that ends it.
    fn span(&self, turn: usize, text: &str, token_ids: &[TokenId]) -> Result<(usize, usize), Unlearnable> {
        // A turn of the user's has no opening to ask with: it begins where the turns before it end.
        let asks = self.messages[turn].role == Role::Assistant;
        let before = self.render(turn, asks)?;
        let before = match text.strip_prefix(&before) {
            Some(_) => before,
            None => return Err(Unlearnable::Rewritten { turn: turn + 1 }),
        };
        let start = n_alike(&self.tokenizer.encode(&before, false, true), token_ids);
        let after = self.render(turn + 1, false)?;
        let until = match text.strip_prefix(&after) {
            Some("") => token_ids.len(),
            Some(_) => n_alike(&self.tokenizer.encode(&after, false, true), token_ids),
            // COMPAT: templates drop a turn's thoughts once another follows; its end is found by the token.
            None => token_ids.len(),
        };
        let end = token_ids[start..until].iter().position(|&id| self.tokenizer.is_eos(id));
        match end {
            Some(end) => Ok((start, start + end + 1)),
            None if !asks => Ok((start, until)),
            None => Err(self.no_end(turn, &token_ids[start..until])),
        }
    }

    fn no_end(&self, turn: usize, token_ids: &[TokenId]) -> Unlearnable {
        let ends: Vec<String> =
            self.tokenizer.special().eos.iter().map(|&id| spell(self.tokenizer, id)).collect();
        let ends = if ends.is_empty() { "none".to_owned() } else { ends.join(", ") };
        let tail: String = self.tokenizer.decode(token_ids, false);
        let n_chars = tail.chars().count();
        let tail = tail.chars().skip(n_chars.saturating_sub(24)).collect();
        Unlearnable::NoEnd { turn: turn + 1, ends, tail }
    }
}

/// How many tokens two encodings begin with alike.
fn n_alike(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn spell(tokenizer: &Tokenizer, id: TokenId) -> String {
    format!("`{}`", tokenizer.token_text(id).unwrap_or_default())
}

/// A special token that a text spells.
fn special_in(tokenizer: &Tokenizer, text: &str) -> Option<String> {
    let parsed = tokenizer.encode(text, false, true);
    let special = parsed.into_iter().filter(|&id| tokenizer.is_special(id));
    // A character that the vocabulary lacks is a special token, too, but not spelled there.
    special.filter_map(|id| tokenizer.token_text(id)).find(|token| text.contains(token)).map(str::to_owned)
}

/// The last checks. `n_empty` tokens would be learned of an empty text, too.
fn check(tokenizer: &Tokenizer, encoded: Encoded, n_empty: usize) -> Result<Encoded, Unlearnable> {
    if let Some(bos) = tokenizer.special().bos
        && encoded.token_ids.starts_with(&[bos, bos])
    {
        return Err(Unlearnable::DoubledBos {
            bos: tokenizer.token_text(bos).unwrap_or_default().to_owned(),
        });
    }
    if encoded.n_supervised() <= n_empty { Err(Unlearnable::Nothing) } else { Ok(encoded) }
}
