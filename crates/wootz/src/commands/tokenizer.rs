//! `wootz tokenizer train`: a tokenizer learned from texts.

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::{Value, json};
use wootz_data::{Algorithm, Cut, Documents, Field, Learned, Stage, VocabularySettings, learn_tokenizer};
use wootz_weights::AtomicFile;

use super::print_json;
use crate::machine;
use crate::output::{self, bytes};

/// The usual form of a conversation, where `--chat` asks for it.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
     {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Train a tokenizer
#[derive(clap::Args)]
pub(crate) struct TokenizerArgs {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(clap::Subcommand)]
enum TokenizerCommand {
    Train(TrainArgs),
}

/// Learn a tokenizer from texts
///
/// Writes `tokenizer.json` and `tokenizer_config.json`. Byte-level BPE gives the merges that Hugging Face's trainer gives.
/// The result depends on what the texts say, not on threads or their order.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz tokenizer train corpus/*.jsonl.zst --vocab-size 32000 -o tokenizers/mine
  wootz tokenizer train book.txt --vocab-size 8000 --algorithm unigram --byte-fallback -o tokenizers/pieces
  wootz tokenizer train talk.jsonl --vocab-size 16000 --chat -o tokenizers/chat")]
struct TrainArgs {
    /// Files: .txt (a text a line), .jsonl (fields text, messages, prompt …), also packed (.gz, .zst)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Tokens in all, special tokens and alphabet included
    #[arg(long, value_name = "N")]
    vocab_size: usize,
    /// How tokens are learned
    #[arg(long, value_enum, default_value = "bpe")]
    algorithm: AlgorithmName,
    /// How texts are cut first: by the expression of a known tokenizer, in bytes; at spaces; as BERT does [default: llama3
    /// for bpe, spaces for unigram, bert for wordpiece]
    #[arg(long, value_enum)]
    cut: Option<CutName>,
    /// Folder to write
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// A special token, several times; ids are given in this order [default: <|endoftext|> for byte-level vocabularies, <unk>
    /// <s> </s> for those cut at spaces, [PAD] [UNK] [CLS] [SEP] [MASK] for wordpiece]
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
    /// Add <|im_start|> and <|im_end|>, and a chat template that uses them
    #[arg(long)]
    chat: bool,
    /// Spell characters outside the vocabulary as tokens of single bytes (with --cut spaces)
    #[arg(long)]
    byte_fallback: bool,
    /// Join no pair that occurs less often (bpe, wordpiece)
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_count: u64,
    /// Most characters of a token; bytes for byte-level vocabularies [default: no limit; 16 for unigram]
    #[arg(long, value_name = "N")]
    max_token_len: Option<usize>,
    /// Share of the texts' characters that the alphabet covers, where it is one of characters
    #[arg(long, value_name = "SHARE", default_value_t = 0.9995)]
    coverage: f64,
    /// Make texts lower-case (with --cut bert)
    #[arg(long)]
    lowercase: bool,
    /// Read this field of JSON rows
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Different pieces held in memory; beyond them the rarest are forgotten
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    max_words: usize,
    /// Threads
    #[arg(long, short)]
    threads: Option<NonZeroUsize>,
    /// Overwrite a tokenizer that is there
    #[arg(long)]
    force: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum AlgorithmName {
    Bpe,
    Unigram,
    Wordpiece,
}

#[derive(Clone, Copy, ValueEnum)]
enum CutName {
    Gpt2,
    Llama3,
    Qwen2,
    O200k,
    Spaces,
    Bert,
}

impl TokenizerArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            TokenizerCommand::Train(args) => args.run(),
        }
    }
}

impl TrainArgs {
    fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let target = self.output.join("tokenizer.json");
        if target.exists() && !self.force {
            bail!("{} is there already\nhint: --force overwrites it", target.display());
        }
        let settings = self.settings();
        let field = self.field.clone().map_or(Field::Usual, Field::Named);
        let documents = Documents::open(&self.files, field)?;
        let mut shown = Shown { start, last: None, is_terminal: std::io::stderr().is_terminal() };
        let learned = learn_tokenizer(documents, &settings, &mut |stage| shown.show(stage))?;
        shown.end();
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("making the folder {}", self.output.display()))?;
        write(&target, &learned.json)?;
        let config = serde_json::to_vec_pretty(&self.config(&settings)).expect("strings are JSON");
        write(&self.output.join("tokenizer_config.json"), &config)?;
        self.report(&learned, start.elapsed().as_secs_f64())
    }

    fn settings(&self) -> VocabularySettings {
        let algorithm = match self.algorithm {
            AlgorithmName::Bpe => Algorithm::Bpe,
            AlgorithmName::Unigram => Algorithm::Unigram,
            AlgorithmName::Wordpiece => Algorithm::WordPiece,
        };
        let cut = match self.cut {
            Some(CutName::Gpt2) => Cut::Gpt2,
            Some(CutName::Llama3) => Cut::Llama3,
            Some(CutName::Qwen2) => Cut::Qwen2,
            Some(CutName::O200k) => Cut::O200k,
            Some(CutName::Spaces) => Cut::Metaspace,
            Some(CutName::Bert) => Cut::Bert,
            None => match algorithm {
                Algorithm::Bpe => Cut::Llama3,
                Algorithm::Unigram => Cut::Metaspace,
                Algorithm::WordPiece => Cut::Bert,
            },
        };
        let usual: &[&str] = match cut {
            Cut::Metaspace => &["<unk>", "<s>", "</s>"],
            Cut::Bert => &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            Cut::Gpt2 | Cut::Llama3 | Cut::Qwen2 | Cut::O200k => &["<|endoftext|>"],
        };
        let mut special_tokens = self.special.clone();
        if special_tokens.is_empty() {
            special_tokens = usual.iter().map(|&token| token.to_owned()).collect();
        }
        if self.chat {
            for token in ["<|im_start|>", "<|im_end|>"].map(str::to_owned) {
                if !special_tokens.contains(&token) {
                    special_tokens.push(token);
                }
            }
        }
        let cpu = machine::Cpu::detect();
        VocabularySettings {
            algorithm,
            vocab_size: self.vocab_size,
            cut,
            min_count: self.min_count,
            max_token_len: self.max_token_len,
            special_tokens,
            byte_fallback: self.byte_fallback,
            character_coverage: self.coverage,
            lowercase: self.lowercase,
            max_words: self.max_words,
            n_threads: self
                .threads
                .or(NonZeroUsize::new(machine::compute_threads(&cpu)))
                .unwrap_or(NonZeroUsize::MIN),
        }
    }

    /// The roles of special tokens whose names say them.
    fn config(&self, settings: &VocabularySettings) -> Value {
        let known = |names: &[&'static str]| -> Option<&'static str> {
            let has = |name: &&&str| settings.special_tokens.iter().any(|token| token == *name);
            names.iter().find(has).copied()
        };
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "bos_token": known(&["<s>", "<|begin_of_text|>", "<|endoftext|>"]),
            "eos_token": known(if self.chat { &["<|im_end|>"] } else { &["</s>", "<|end_of_text|>", "<|endoftext|>"] }),
        });
        let roles = [
            ("unk_token", &["<unk>", "[UNK]"][..]),
            ("pad_token", &["<pad>", "[PAD]", "<|endoftext|>"]),
            ("cls_token", &["[CLS]"]),
            ("sep_token", &["[SEP]"]),
            ("mask_token", &["[MASK]", "<mask>"]),
        ];
        for (role, names) in roles {
            if let Some(name) = known(names) {
                config[role] = Value::from(name);
            }
        }
        if self.chat {
            config["chat_template"] = Value::from(CHATML);
        }
        config
    }

    fn report(&self, learned: &Learned, seconds: f64) -> anyhow::Result<()> {
        let stats = learned.stats;
        let n_tokens = learned.tokenizer.vocab_size();
        if self.json {
            return print_json(&json!({
                "output": self.output.display().to_string(), "vocab_size": n_tokens, "texts": stats.n_texts,
                "bytes": stats.n_bytes, "words": stats.n_words, "forgotten": stats.n_forgotten, "seconds": seconds,
            }));
        }
        output::print(&format!("{}", self.output.display()))?;
        let size = bytes(stats.n_bytes);
        eprintln!(
            "{n_tokens} tokens from {size} in {} texts, {} different words, {seconds:.1} s",
            stats.n_texts, stats.n_words
        );
        if n_tokens < self.vocab_size {
            eprintln!(
                "fewer than the {} asked for: nothing else occurs {} times",
                self.vocab_size, self.min_count
            );
        }
        if stats.n_forgotten > 0 {
            eprintln!(
                "{} occurrences of rare words were forgotten; --max-words holds more",
                stats.n_forgotten
            );
        }
        Ok(())
    }
}

fn write(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let mut file = AtomicFile::create(path)?;
        file.write(contents)?;
        Ok(file.commit()?)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// One line of progress.
struct Shown {
    start: Instant,
    last: Option<Instant>,
    is_terminal: bool,
}

impl Shown {
    fn show(&mut self, stage: Stage) {
        if !self.is_terminal || self.last.is_some_and(|last| last.elapsed() < SHOW_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let seconds = self.start.elapsed().as_secs_f64().max(1e-3);
        match stage {
            Stage::Counting { bytes: n } => {
                eprint!("\r{} counted, {:.0} MB/s   ", bytes(n), n as f64 / seconds / 1e6);
            }
            Stage::Learning { n_tokens, goal } => eprint!("\r{n_tokens} of {goal} tokens, {seconds:.0} s   "),
        }
    }

    fn end(&self) {
        if self.is_terminal {
            eprintln!();
        }
    }
}
