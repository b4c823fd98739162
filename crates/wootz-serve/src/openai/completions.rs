//! `POST /v1/completions`

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use wootz_text::{
    FinishReason, GenerateEvent, GenerateRequest, Prompt, ScoreRequest, TokenEvent, TokenId, Tokenizer, Usage,
};

use super::chat::tell;
use super::wire::chat_answer::FINGERPRINT;
use super::wire::completion::{
    Completion, CompletionCall, CompletionChoice, CompletionRequest, TextLogprobs,
};
use crate::api_error::{ApiError, ApiResult};
use crate::app::{App, now_s};
use crate::bridge::{Generation, Place, cannot};
use crate::catalog::ServedModel;
use crate::http::body::WireBody;
use crate::http::json::Json;
use crate::sse::{self, Gone, Kind, Writer};

/// Prompts of one request that run side by side.
const SIDE_BY_SIDE: usize = 8;

/// Continues texts.
pub(super) async fn completions(
    State(app): State<App>,
    place: Place,
    WireBody(request): WireBody<CompletionRequest>,
) -> ApiResult<Response> {
    let (stream, with_usage) = (request.stream, request.stream_options.include_usage);
    let model = app.open(&request.model).await?;
    let mut call = request.validate(&app.limits)?;
    if let Some(suffix) = call.suffix.take() {
        let model = model.clone();
        let prompts = call.prompts;
        call.prompts = app.blocking(move || fill_in(&model, &prompts, &suffix)).await?;
    }
    let job = Job { id: app.new_id("cmpl-"), created: now_s(), app, model, place, call };
    if !stream {
        return Ok(Json(job.whole().await?).into_response());
    }
    // What can be refused is refused before the head is sent.
    let first = match job.call.is_silent {
        true => Vec::new(),
        false => job.start(0).await?,
    };
    let app = job.app.clone();
    Ok(sse::respond(&app, Kind::Events, move |writer| async move {
        let _ = job.stream(first, &writer, with_usage).await;
    }))
}

/// One request.
struct Job {
    id: String,
    created: u64,
    app: App,
    model: Arc<ServedModel>,
    place: Place,
    call: CompletionCall,
}

/// A choice while it grows.
#[derive(Default)]
struct Draft {
    text: String,
    tokens: Vec<TokenEvent>,
    reason: Option<FinishReason>,
}

/// A prompt as it is given back.
#[derive(Default)]
struct Echo {
    text: String,
    logprobs: TextLogprobs,
    n_tokens: usize,
}

impl Job {
    fn frame(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.card.name.clone(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage: usage.map(Into::into),
        }
    }

    /// Starts the prompts from `from` on, as many as run side by side.
    async fn start(&self, from: usize) -> ApiResult<Vec<Generation>> {
        let mut started = Vec::new();
        for prompt in self.call.prompts.iter().skip(from).take(SIDE_BY_SIDE) {
            let request = GenerateRequest::new(prompt.clone(), self.call.sampling.clone());
            started.push(self.app.generate(&self.place, &self.model, request).await?);
        }
        Ok(started)
    }

    async fn whole(self) -> ApiResult<Completion> {
        let n = self.call.sampling.n;
        let (mut choices, mut usage) = (Vec::new(), Usage::default());
        for from in (0..self.call.prompts.len()).step_by(SIDE_BY_SIDE) {
            let started = if self.call.is_silent { Vec::new() } else { self.start(from).await? };
            let mut started = started.into_iter();
            for i in from..(from + SIDE_BY_SIDE).min(self.call.prompts.len()) {
                let echo = if self.call.echo { Some(self.echo(i).await?) } else { None };
                let drafts = match started.next() {
                    Some(generation) => collect(generation, n, &mut usage).await?,
                    None => {
                        usage.prompt_tokens += echo.as_ref().map_or(0, |echo| echo.n_tokens);
                        (0..n).map(|_| Draft::default()).collect()
                    }
                };
                for (j, draft) in drafts.into_iter().enumerate() {
                    choices.push(self.choice(i * n + j, draft, echo.as_ref()));
                }
            }
        }
        Ok(self.frame(choices, Some(usage)))
    }

    fn choice(&self, index: usize, draft: Draft, echo: Option<&Echo>) -> CompletionChoice {
        let mut text = echo.map_or(String::new(), |echo| echo.text.clone());
        let logprobs = self.call.sampling.logprobs.map(|_| {
            let mut logprobs = TextLogprobs::default();
            if let Some(echo) = echo {
                for (i, token) in echo.logprobs.tokens.iter().enumerate() {
                    let (logprob, offset) = (echo.logprobs.token_logprobs[i], echo.logprobs.text_offset[i]);
                    logprobs.push_prompt(token.clone(), logprob, offset);
                }
            }
            let mut offset = text.chars().count();
            for token in &draft.tokens {
                logprobs.push(&self.model, token, offset);
                offset += token.text.chars().count();
            }
            logprobs
        });
        text.push_str(&draft.text);
        let finish_reason = CompletionChoice::ended(draft.reason.unwrap_or(FinishReason::Length));
        CompletionChoice { index, text, logprobs, finish_reason }
    }

    /// The prompt's text, and its tokens' log-probabilities if they were asked for.
    async fn echo(&self, i: usize) -> ApiResult<Echo> {
        let prompt = self.call.prompts[i].clone();
        if self.call.sampling.logprobs.is_none()
            && !self.call.is_silent
            && let Prompt::Text(text) = prompt
        {
            return Ok(Echo { text, ..Echo::default() });
        }
        let wants_logprobs = self.call.sampling.logprobs.is_some();
        let model = self.model.clone();
        let work = move || {
            let echo = scored(&model, prompt, wants_logprobs)?;
            let n_tokens = echo.as_ref().map_or(0, |echo| echo.n_tokens);
            Ok((echo, n_tokens))
        };
        self.app.batch(self.place.caller(), &self.model, work).await?.0
    }

    async fn stream(self, first: Vec<Generation>, writer: &Writer, with_usage: bool) -> Result<(), Gone> {
        match self.pieces(first, writer).await {
            Ok(Ok(usage)) => {
                if with_usage {
                    writer.data(&self.frame(Vec::new(), Some(usage))).await?;
                }
                writer.done().await
            }
            Ok(Err(error)) => tell(&error, writer).await,
            Err(gone) => Err(gone),
        }
    }

    /// Writes everything but the end: prompt after prompt, each as it is made.
    async fn pieces(&self, first: Vec<Generation>, writer: &Writer) -> Result<ApiResult<Usage>, Gone> {
        let mut usage = Usage::default();
        let mut started = first.into_iter();
        for i in 0..self.call.prompts.len() {
            if self.call.echo {
                let echo = match self.echo(i).await {
                    Ok(echo) => echo,
                    Err(error) => return Ok(Err(error)),
                };
                for j in 0..self.call.sampling.n {
                    self.write_text(writer, i, j, echo.text.clone(), None).await?;
                }
            }
            if self.call.is_silent {
                for j in 0..self.call.sampling.n {
                    self.write_end(writer, i, j, FinishReason::Length).await?;
                }
                continue;
            }
            let mut generation = match started.next() {
                Some(generation) => generation,
                None => match self.start(i).await {
                    Ok(more) => {
                        started = more.into_iter();
                        started.next().expect("a prompt was started")
                    }
                    Err(error) => return Ok(Err(error)),
                },
            };
            loop {
                match generation.next().await {
                    Ok(Some(GenerateEvent::Token(token))) => {
                        let wanted = self.call.sampling.logprobs.is_some();
                        let (choice, text) = (token.choice, token.text.clone());
                        if wanted || !text.is_empty() {
                            self.write_text(writer, i, choice, text, wanted.then_some(token)).await?;
                        }
                    }
                    Ok(Some(GenerateEvent::Finished { choice, reason })) => {
                        self.write_end(writer, i, choice, reason).await?;
                    }
                    Ok(Some(GenerateEvent::Usage(more))) => add(&mut usage, more),
                    Ok(Some(GenerateEvent::Error(error))) => return Ok(Err(error.into())),
                    Ok(None) => break,
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        Ok(Ok(usage))
    }

    async fn write_text(
        &self,
        writer: &Writer,
        i: usize,
        choice: usize,
        text: String,
        token: Option<TokenEvent>,
    ) -> Result<(), Gone> {
        let logprobs = token.map(|token| {
            let mut logprobs = TextLogprobs::default();
            logprobs.push(&self.model, &token, 0);
            logprobs
        });
        let index = i * self.call.sampling.n + choice;
        let choice = CompletionChoice { index, text, logprobs, finish_reason: None };
        writer.data(&self.frame(vec![choice], None)).await
    }

    async fn write_end(
        &self,
        writer: &Writer,
        i: usize,
        choice: usize,
        reason: FinishReason,
    ) -> Result<(), Gone> {
        let index = i * self.call.sampling.n + choice;
        let finish_reason = CompletionChoice::ended(reason);
        let choice = CompletionChoice { index, text: String::new(), logprobs: None, finish_reason };
        writer.data(&self.frame(vec![choice], None)).await
    }
}

fn add(usage: &mut Usage, more: Usage) {
    usage.prompt_tokens += more.prompt_tokens;
    usage.cached_tokens += more.cached_tokens;
    usage.completion_tokens += more.completion_tokens;
}

async fn collect(mut generation: Generation, n: usize, usage: &mut Usage) -> ApiResult<Vec<Draft>> {
    let mut drafts: Vec<Draft> = (0..n).map(|_| Draft::default()).collect();
    while let Some(event) = generation.next().await? {
        match event {
            GenerateEvent::Token(token) => {
                let draft = drafts.get_mut(token.choice).ok_or_else(odd_choice)?;
                draft.text.push_str(&token.text);
                draft.tokens.push(token);
            }
            GenerateEvent::Finished { choice, reason } => {
                drafts.get_mut(choice).ok_or_else(odd_choice)?.reason = Some(reason);
            }
            GenerateEvent::Usage(more) => add(usage, more),
            GenerateEvent::Error(error) => return Err(error.into()),
        }
    }
    Ok(drafts)
}

fn odd_choice() -> ApiError {
    ApiError::internal("the model told of a choice that was not asked for")
}

/// A prompt's text and, if wanted, the log-probability of each token given those before it.
fn scored(
    model: &ServedModel,
    prompt: Prompt,
    wants_logprobs: bool,
) -> Result<ApiResult<Echo>, wootz_text::ModelError> {
    let (Some(tokenizer), Some(tokenize)) = (&model.tokenizer, &model.tokenize) else {
        return Ok(Err(cannot(model, "tell its tokens")));
    };
    let token_ids = tokenize(prompt)?;
    let mut logprobs = vec![None];
    if wants_logprobs && token_ids.len() > 1 {
        let Some(score) = &model.score else {
            return Ok(Err(cannot(model, "give log-probabilities of a prompt")));
        };
        let (first, rest) = token_ids.split_at(1);
        let request = ScoreRequest::TokenIds { prompt: first.to_vec(), continuation: rest.to_vec() };
        let scored = score.score(&[request])?;
        logprobs.extend(scored.into_iter().flat_map(|scored| scored.logprobs).map(Some));
    }
    let mut echo = Echo { n_tokens: token_ids.len(), ..Echo::default() };
    echo.text = tokenizer.decode(&token_ids, true);
    let mut offset = 0;
    for (&id, logprob) in token_ids.iter().zip(logprobs) {
        let token = tokenizer.decode(&[id], false);
        let shown = tokenizer.decode(&[id], true).chars().count();
        echo.logprobs.push_prompt(token, logprob, offset);
        offset += shown;
    }
    Ok(Ok(echo))
}

/// Marks for filling in, each as before, after, here; `true`: what comes after is written first.
const FILL_MARKS: &[([&str; 3], bool)] = &[
    (["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], false),
    (["<fim_prefix>", "<fim_suffix>", "<fim_middle>"], false),
    (["<fim-prefix>", "<fim-suffix>", "<fim-middle>"], false),
    (["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"], false),
    (["▁<PRE>", "▁<SUF>", "▁<MID>"], false),
    (["[PREFIX]", "[SUFFIX]", ""], true),
];

/// Prompts that ask for what stands between a text and `suffix`, in the way that the model was trained for.
fn fill_in(model: &ServedModel, prompts: &[Prompt], suffix: &str) -> ApiResult<Vec<Prompt>> {
    let cannot_fill = || {
        ApiError::unsupported("suffix", format!("model `{}` has no tokens for filling in", model.card.name))
    };
    let tokenizer = model.tokenizer.as_ref().ok_or_else(cannot_fill)?;
    let ids = |mark: &str| match mark {
        "" => Some(Vec::new()),
        mark => tokenizer.token_id(mark).map(|id| vec![id]),
    };
    let marks = FILL_MARKS.iter().find_map(|(marks, suffix_first)| {
        Some(([ids(marks[0])?, ids(marks[1])?, ids(marks[2])?], *suffix_first))
    });
    let (marks, suffix_first) = marks.ok_or_else(cannot_fill)?;
    let one = |prompt: &Prompt| match prompt {
        Prompt::Text(text) => Ok(Prompt::TokenIds(around(tokenizer, text, suffix, &marks, suffix_first))),
        _ => Err(ApiError::unsupported("suffix", "expected a `prompt` that is text beside it")),
    };
    prompts.iter().map(one).collect()
}

fn around(
    tokenizer: &Tokenizer,
    text: &str,
    suffix: &str,
    marks: &[Vec<TokenId>; 3],
    suffix_first: bool,
) -> Vec<TokenId> {
    let [before, after, here] = marks;
    let bos = tokenizer.special().bos.filter(|&bos| tokenizer.encode("", true, false).first() == Some(&bos));
    let prefix = [before.clone(), tokenizer.encode(text, false, false)].concat();
    let suffix = [after.clone(), tokenizer.encode(suffix, false, false)].concat();
    let parts = if suffix_first { [suffix, prefix] } else { [prefix, suffix] };
    bos.into_iter().chain(parts.concat()).chain(here.iter().copied()).collect()
}
