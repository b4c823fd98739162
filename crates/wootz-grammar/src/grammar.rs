//! From a constraint to a grammar over one vocabulary.
//!
//! Where:  compiled on the thread of whoever asks, never on the one that computes.
//! Idea:   a compiled grammar is a parser at its beginning; guides are copies of it. The last few are kept, since
//!         programs send the same schema with every request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use wootz_text::{Constraint, TokenId, Tokenizer};

use crate::closing::Closers;
use crate::error::brief;
use crate::form::{self, Specials};
use crate::vocab::GrammarVocab;
use crate::{GrammarError, Guide, Result, gbnf, schema};

/// Compiled grammars that are kept.
const MAX_KEPT: usize = 32;

/// Compiles constraints for one model.
pub struct Grammars {
    tokenizer: Option<Arc<Tokenizer>>,
    vocab_size: usize,
    end_tokens: Arc<[TokenId]>,
    factory: OnceLock<Result<Factory>>,
    kept: Mutex<VecDeque<(Constraint, Grammar)>>,
}

/// What is made once for a vocabulary.
struct Factory {
    parsers: ParserFactory,
    closers: Arc<Closers>,
    specials: Specials,
}

/// A constraint over one vocabulary, ready to guide answers. Cheap to clone.
#[derive(Clone)]
pub struct Grammar {
    start: Arc<Mutex<Matcher>>,
    closers: Arc<Closers>,
    /// Whether what is complete is free to go on, and not wound up.
    is_free: bool,
}

impl Grammars {
    /// For a model's vocabulary. Costs nothing until the first constraint is compiled.
    pub fn new(tokenizer: Option<Arc<Tokenizer>>, vocab_size: usize, end_tokens: &[TokenId]) -> Self {
        let kept = Mutex::new(VecDeque::new());
        Self { tokenizer, vocab_size, end_tokens: end_tokens.into(), factory: OnceLock::new(), kept }
    }

    /// Compiles a constraint, or finds it among the last ones.
    ///
    /// # Errors
    /// [`GrammarError::Compile`] naming the keyword or rule that is broken or not done; [`GrammarError::Vocab`] for a model
    /// without tokenizer or end token.
    pub fn compile(&self, constraint: &Constraint) -> Result<Grammar> {
        let lock = || self.kept.lock().expect("nothing panics while it holds the grammars");
        if let Some((_, grammar)) = lock().iter().find(|(kept, _)| kept == constraint) {
            return Ok(grammar.clone());
        }
        let factory = self.factory.get_or_init(|| self.factory()).as_ref().map_err(Clone::clone)?;
        let kind = kind(constraint);
        let broken = |message: String| GrammarError::Compile { kind, message };
        let top_level = top_level(constraint, &factory.specials).map_err(broken)?;
        let parser = factory.parsers.create_parser(top_level);
        let matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(broken(brief(&error)));
        }
        let is_free = matches!(constraint, Constraint::Form(_));
        let (start, closers) = (Arc::new(Mutex::new(matcher)), factory.closers.clone());
        let grammar = Grammar { start, closers, is_free };
        let mut kept = lock();
        kept.push_front((constraint.clone(), grammar.clone()));
        kept.truncate(MAX_KEPT);
        Ok(grammar)
    }

    fn factory(&self) -> Result<Factory> {
        let tokenizer = self.tokenizer.clone();
        let tokenizer = tokenizer.ok_or_else(|| GrammarError::Vocab("it has no tokenizer".to_owned()))?;
        let specials = Specials::new(&tokenizer, self.vocab_size, &self.end_tokens);
        let vocab = Arc::new(GrammarVocab::new(tokenizer, self.vocab_size, &self.end_tokens)?);
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let closers = Arc::new(Closers::new(vocab.tok_trie()));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let parsers = ParserFactory::new(&(vocab as _), capabilities, &slices);
        let mut parsers = parsers.map_err(|error| GrammarError::Vocab(brief(&error)))?;
        parsers.quiet();
        parsers.limits_mut().verbose_errors = false;
        Ok(Factory { parsers, closers, specials })
    }
}

impl Grammar {
    /// A guide for one answer from its beginning.
    pub fn guide(&self) -> Guide {
        let start = self.start.lock().expect("nothing panics while it copies a parser");
        Guide::new(start.deep_clone(), self.closers.clone(), self.is_free)
    }
}

fn kind(constraint: &Constraint) -> &'static str {
    match constraint {
        Constraint::JsonSchema(_) => "json schema",
        Constraint::Regex(_) => "regex",
        Constraint::Lark(_) => "lark grammar",
        Constraint::Gbnf(_) => "gbnf grammar",
        Constraint::Choice(_) => "choice",
        Constraint::Form(_) => "tools",
    }
}

fn top_level(constraint: &Constraint, specials: &Specials) -> Result<TopLevelGrammar, String> {
    Ok(match constraint {
        Constraint::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema::prepared(schema)),
        Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
        Constraint::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
        Constraint::Gbnf(source) => TopLevelGrammar::from_lark(gbnf::to_lark(source)?),
        Constraint::Form(form) => TopLevelGrammar::from_lark(form::to_lark(form, specials)),
        Constraint::Choice(texts) => {
            let literal = |text: &String| match text.is_empty() {
                true => Err("expected texts that are not empty".to_owned()),
                false => Ok(Value::from(text.as_str()).to_string()),
            };
            let literals = texts.iter().map(literal).collect::<Result<Vec<_>, String>>()?;
            TopLevelGrammar::from_lark(format!("start: {}", literals.join(" | ")))
        }
    })
}
