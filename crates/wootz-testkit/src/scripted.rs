//! A language model whose answers are written down beforehand.
//!
//! Where:  tests of evaluation, agents, guards, serving; wherever a [`Generate`], [`Score`] or [`Rollout`] is wanted.
//! Idea:   replies are a queue; each is streamed in small pieces from its own thread, as a real model would; when the
//!         queue is empty, the last user message comes back, so that a test without a script still runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use wootz_text::{
    FinishReason, Generate, GenerateEvent, GenerateRequest, Handle, ModelError, Prompt, Role, Rollout,
    Sampled, Sampling, Score, ScoreRequest, Scored, Sink, TokenEvent, TokenId, Usage,
};

/// A scripted [`Generate`], [`Score`] and [`Rollout`]. Clones share the script and the record.
///
/// A "token" is one character, its id the character's number.
#[derive(Clone, Default)]
pub struct ScriptedModel {
    state: Arc<Mutex<State>>,
    pause: Duration,
}

#[derive(Default)]
struct State {
    replies: VecDeque<ScriptedReply>,
    requests: Vec<GenerateRequest>,
    weights_version: usize,
}

/// What a scripted model does with one request.
#[derive(Debug, Clone)]
pub enum ScriptedReply {
    /// Says this and stops; `max_tokens` and stop strings are honoured.
    Text(String),
    /// Says this, then fails.
    Failure {
        /// Streamed before the error.
        text: String,
        /// The last event.
        error: ModelError,
    },
    /// Refuses at once: [`Generate::generate`] itself returns the error.
    Refusal(ModelError),
}

impl From<&str> for ScriptedReply {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl ScriptedModel {
    /// A model that gives these answers in order.
    pub fn new<R: Into<ScriptedReply>>(replies: impl IntoIterator<Item = R>) -> Self {
        let model = Self::default();
        model.lock().replies.extend(replies.into_iter().map(Into::into));
        model
    }

    /// Waits this long before every token, for tests of cancelling and time-outs.
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Adds an answer to the queue.
    pub fn push(&self, reply: impl Into<ScriptedReply>) {
        self.lock().replies.push_back(reply.into());
    }

    /// Everything asked so far, oldest first.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.lock().requests.clone()
    }

    /// How often [`Rollout::weights_changed`] was called.
    pub fn weights_version(&self) -> usize {
        self.lock().weights_version
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the script")
    }

    fn next_reply(&self, request: &GenerateRequest) -> ScriptedReply {
        let mut state = self.lock();
        state.requests.push(request.clone());
        state.replies.pop_front().unwrap_or_else(|| ScriptedReply::Text(echo(&request.prompt)))
    }
}

impl Generate for ScriptedModel {
    fn generate(&self, request: GenerateRequest, sink: Sink) -> Result<Handle, ModelError> {
        request.sampling.validate()?;
        let mut answers = Vec::with_capacity(request.sampling.n);
        for _ in 0..request.sampling.n {
            match self.next_reply(&request) {
                ScriptedReply::Refusal(error) => return Err(error),
                reply => answers.push(reply),
            }
        }
        let (handle, cancelled) = Handle::new();
        let pause = self.pause;
        thread::spawn(move || {
            let mut sink = sink;
            let last = match stream(&request, answers, &mut sink, || {
                thread::sleep(pause);
                cancelled.get()
            }) {
                Ok(usage) => GenerateEvent::Usage(usage),
                Err(error) => GenerateEvent::Error(error),
            };
            sink(last);
        });
        Ok(handle)
    }
}

impl Score for ScriptedModel {
    /// Each character costs a tenth of a nat per letter's place in the alphabet: same text, same score.
    fn score(&self, batch: &[ScoreRequest]) -> Result<Vec<Scored>, ModelError> {
        Ok(batch.iter().map(score_one).collect())
    }
}

impl Rollout for ScriptedModel {
    fn sample(
        &mut self,
        prompts: &[Vec<TokenId>],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Sampled>>, ModelError> {
        let mut rows = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let request = GenerateRequest::new(prompt.clone(), sampling.clone());
            let answers = (0..sampling.n).map(|_| match self.next_reply(&request) {
                ScriptedReply::Text(text) => Ok(sampled(&text, sampling)),
                ScriptedReply::Failure { error, .. } | ScriptedReply::Refusal(error) => Err(error),
            });
            rows.push(answers.collect::<Result<_, _>>()?);
        }
        Ok(rows)
    }

    fn weights_changed(&mut self) {
        self.lock().weights_version += 1;
    }
}

/// Streams all answers, one after the other; `stop` is asked before every token.
fn stream(
    request: &GenerateRequest,
    answers: Vec<ScriptedReply>,
    sink: &mut Sink,
    stop: impl Fn() -> bool,
) -> Result<Usage, ModelError> {
    let prompt_tokens = prompt_chars(&request.prompt);
    let mut usage = Usage { prompt_tokens, ..Usage::default() };
    for (choice, answer) in answers.into_iter().enumerate() {
        let (text, failure) = match answer {
            ScriptedReply::Text(text) => (text, None),
            ScriptedReply::Failure { text, error } => (text, Some(error)),
            ScriptedReply::Refusal(error) => return Err(error),
        };
        let (text, reason) = cut(&text, &request.sampling);
        for c in text.chars() {
            if stop() {
                return Err(ModelError::Cancelled);
            }
            let logprob = request.sampling.logprobs.map(|_| char_logprob(c));
            sink(GenerateEvent::Token(TokenEvent { logprob, ..TokenEvent::new(choice, c as TokenId, c) }));
            usage.completion_tokens += 1;
        }
        if let Some(error) = failure {
            return Err(error);
        }
        sink(GenerateEvent::Finished { choice, reason });
    }
    Ok(usage)
}

/// Honours stop strings, then `max_tokens`.
fn cut<'a>(text: &'a str, sampling: &Sampling) -> (&'a str, FinishReason) {
    let found = |(i, stop): (usize, &String)| Some((text.find(stop.as_str())?, i));
    let end = sampling.stop.iter().enumerate().filter_map(found).min();
    let text = &text[..end.map_or(text.len(), |(end, _)| end)];
    let limit = sampling.max_tokens.unwrap_or(usize::MAX);
    match text.char_indices().nth(limit) {
        Some((end, _)) => (&text[..end], FinishReason::Length),
        None => (text, end.map_or(FinishReason::Stop, |(_, i)| FinishReason::StopString(i as u8))),
    }
}

fn sampled(text: &str, sampling: &Sampling) -> Sampled {
    let (text, finish_reason) = cut(text, sampling);
    Sampled {
        token_ids: text.chars().map(|c| c as TokenId).collect(),
        logprobs: text.chars().map(char_logprob).collect(),
        finish_reason,
    }
}

fn score_one(request: &ScoreRequest) -> Scored {
    let token_ids: Vec<TokenId> = match request {
        ScoreRequest::Text { continuation, .. } => continuation.chars().map(|c| c as TokenId).collect(),
        ScoreRequest::TokenIds { continuation, .. } => continuation.clone(),
    };
    let logprobs: Vec<f32> =
        token_ids.iter().map(|&id| char::from_u32(id).map_or(-5.0, char_logprob)).collect();
    Scored { is_greedy: token_ids.iter().all(|&id| id == 'a' as TokenId), token_ids, logprobs }
}

fn char_logprob(c: char) -> f32 {
    let place = if c.is_ascii_lowercase() { c as u8 - b'a' } else { 26 };
    -0.1 * f32::from(place + 1)
}

fn echo(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::TokenIds(ids) => ids.iter().filter_map(|&id| char::from_u32(id)).collect(),
        Prompt::Chat { messages, .. } => {
            let last = messages.iter().rev().find(|message| message.role == Role::User);
            last.map(|message| message.text()).unwrap_or_default()
        }
    }
}

fn prompt_chars(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text(text) => text.chars().count(),
        Prompt::TokenIds(ids) => ids.len(),
        Prompt::Chat { messages, .. } => messages.iter().map(|message| message.text().chars().count()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use wootz_text::{Message, collect};

    use super::*;

    fn ask(model: &ScriptedModel, sampling: Sampling) -> Result<wootz_text::Generation, ModelError> {
        collect(model, GenerateRequest::new(vec![Message::user("hello")], sampling))
    }

    #[test]
    fn replies_come_in_order_and_then_the_prompt_is_echoed() {
        let model = ScriptedModel::new(["one", "two"]);
        assert_eq!(ask(&model, Sampling::greedy()).unwrap().text(), "one");
        assert_eq!(ask(&model, Sampling::greedy()).unwrap().text(), "two");
        assert_eq!(ask(&model, Sampling::greedy()).unwrap().text(), "hello");
        assert_eq!(model.requests().len(), 3);
    }

    #[test]
    fn limits_and_stop_strings_are_honoured() {
        let model = ScriptedModel::new(["abcdef", "abcdef"]);
        let sampling = Sampling { max_tokens: Some(4), ..Sampling::greedy() };
        let choice = ask(&model, sampling).unwrap().choices.remove(0);
        assert_eq!((choice.text.as_str(), choice.finish_reason), ("abcd", FinishReason::Length));
        let sampling = Sampling { stop: vec!["d".into()], ..Sampling::greedy() };
        let choice = ask(&model, sampling).unwrap().choices.remove(0);
        assert_eq!((choice.text.as_str(), choice.finish_reason), ("abc", FinishReason::StopString(0)));
    }

    #[test]
    fn failures_arrive_as_the_last_event_and_refusals_at_once() {
        let failure = ScriptedReply::Failure { text: "ab".into(), error: ModelError::failed("lost") };
        let model = ScriptedModel::new([failure, ScriptedReply::Refusal(ModelError::Busy { queued: 9 })]);
        assert!(matches!(ask(&model, Sampling::greedy()), Err(ModelError::Failed(_))));
        assert!(matches!(ask(&model, Sampling::greedy()), Err(ModelError::Busy { queued: 9 })));
    }

    #[test]
    fn dropping_the_handle_ends_the_stream() {
        let model = ScriptedModel::new(["a long answer"]).with_pause(Duration::from_millis(5));
        let (sender, events) = mpsc::channel();
        let request = GenerateRequest::new("x", Sampling::greedy());
        let handle = model.generate(request, Box::new(move |event| drop(sender.send(event)))).unwrap();
        drop(handle);
        let last = events.into_iter().last();
        assert!(matches!(last, Some(GenerateEvent::Error(ModelError::Cancelled))));
    }

    #[test]
    fn rollouts_give_n_answers_per_prompt() {
        let mut model = ScriptedModel::new(["a", "b", "c", "d"]);
        let sampling = Sampling { n: 2, ..Sampling::default() };
        let rows = model.sample(&[vec![1], vec![2]], &sampling).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1][0].token_ids, ['c' as TokenId]);
        model.weights_changed();
        assert_eq!(model.weights_version(), 1);
    }
}
