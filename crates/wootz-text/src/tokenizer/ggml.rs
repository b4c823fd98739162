//! Vocabularies as GGUF files carry them.
//!
//! Where:  [`Tokenizer::from_vocab`](super::Tokenizer::from_vocab), from a [`Vocab`] that `wootz-model` filled.
//! Idea:   the four kinds are the same algorithms as everywhere; a table of names says which expressions cut the text
//!         before byte-level BPE, because GGUF only names them.
//! Source: ggml's `docs/gguf.md`; the expressions are those of the models' own `tokenizer.json`; defaults as llama.cpp has them.

use super::added::AddedTokens;
use super::bpe::{Bpe, CharSymbols, Symbols};
use super::decoder::Decoder;
use super::json::GPT2_REGEX;
use super::model::Model;
use super::normalizer::{BertRules, Normalizer, Protected, SentencePieceRules};
use super::pairs::{MAX_MERGES, Merge, Pairs};
use super::pattern::{Behavior, Pattern};
use super::pieces::{self, Scored, UserDefined};
use super::post_processor::PostProcessor;
use super::pre_tokenizer::PreTokenizer;
use super::table::{Tokens, shorten};
use super::wordpiece::WordPiece;
use super::{Parts, SpecialTokens, TokenizerError, byte_symbols, byte_tokens, charsmap::Charsmap};
use crate::{TokenId, TokenType, Vocab, VocabKind};

const SPACE: &str = "\u{2581}";

/// Builds the parts and the roles of special tokens.
pub(crate) fn read(vocab: &Vocab) -> Result<(Parts, SpecialTokens), TokenizerError> {
    check(vocab)?;
    let special = special(vocab);
    let parts = match vocab.kind {
        VocabKind::SentencePiece | VocabKind::Unigram => scored(vocab, &special)?,
        VocabKind::Bpe => bpe(vocab, &special)?,
        VocabKind::WordPiece => word_piece(vocab, &special)?,
    };
    Ok((parts, special))
}

fn check(vocab: &Vocab) -> Result<(), TokenizerError> {
    let n_tokens = vocab.tokens.len();
    let fail =
        |field: &str, message: String| Err(TokenizerError::field(format!("tokenizer.ggml.{field}"), message));
    if n_tokens == 0 {
        return fail("tokens", "expected at least one token, got none".into());
    }
    for (field, len) in [("scores", vocab.scores.len()), ("token_type", vocab.types.len())] {
        if len != 0 && len != n_tokens {
            return fail(field, format!("expected {n_tokens} entries, got {len}"));
        }
    }
    if let Some(score) = vocab.scores.iter().find(|score| !score.is_finite()) {
        return fail("scores", format!("expected finite numbers, got {score}"));
    }
    let named = [
        ("bos_token_id", vocab.bos),
        ("eos_token_id", vocab.eos),
        ("eot_token_id", vocab.eot),
        ("eom_token_id", vocab.eom),
        ("unknown_token_id", vocab.unk),
        ("seperator_token_id", vocab.sep),
        ("padding_token_id", vocab.pad),
        ("cls_token_id", vocab.cls),
        ("mask_token_id", vocab.mask),
    ];
    for (field, id) in named {
        if let Some(id) = id.filter(|&id| id as usize >= n_tokens) {
            return fail(field, format!("expected an id below {n_tokens}, got {id}"));
        }
    }
    Ok(())
}

/// Roles as the file names them, or where they lie by convention; control tokens known to end a turn end generation, too.
fn special(vocab: &Vocab) -> SpecialTokens {
    const ENDS: [&str; 11] = [
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eom_id|>",
        "<EOT>",
        "<|END_OF_TURN_TOKEN|>",
        "<｜end▁of▁sentence｜>",
        "<turn|>",
    ];
    let at = |id: TokenId| (vocab.tokens.len() > id as usize).then_some(id);
    let (bos, eos, unk) = match vocab.kind {
        VocabKind::SentencePiece => (at(1), at(2), at(0)),
        VocabKind::Unigram => (None, at(1), at(2)),
        VocabKind::WordPiece => (at(101), None, at(100)),
        VocabKind::Bpe => (None, None, None),
    };
    let mut special = SpecialTokens {
        bos: vocab.bos.or(vocab.cls).or(bos),
        unk: vocab.unk.or(unk),
        pad: vocab.pad,
        sep: vocab.sep,
        mask: vocab.mask,
        cls: vocab.cls,
        ..SpecialTokens::default()
    };
    if vocab.kind == VocabKind::WordPiece {
        special.cls = vocab.cls.or(special.bos);
        special.sep = vocab.sep.or(vocab.eos).or(at(102));
    }
    [vocab.eos.or(eos), vocab.eot, vocab.eom].into_iter().flatten().for_each(|id| special.add_eos(id));
    for (id, kind) in vocab.types.iter().enumerate() {
        if *kind == TokenType::Control && ENDS.contains(&vocab.tokens[id].as_str()) {
            special.add_eos(id as TokenId);
        }
    }
    special
}

fn kind_of(vocab: &Vocab, id: usize) -> TokenType {
    vocab.types.get(id).copied().unwrap_or_default()
}

fn all(vocab: &Vocab) -> Vec<Scored<'_>> {
    let score = |id: usize| vocab.scores.get(id).copied().unwrap_or(0.0);
    let tokens = vocab.tokens.iter().enumerate();
    tokens.map(|(id, text)| Scored { text, score: score(id), kind: kind_of(vocab, id) }).collect()
}

/// BOS and EOS around a text, by the file's flags or the kind's defaults.
fn around(vocab: &Vocab, special: &SpecialTokens, adds_bos: bool, adds_eos: bool) -> PostProcessor {
    let bos = special.bos.filter(|_| vocab.add_bos.unwrap_or(adds_bos));
    let eos = special.eos.first().copied().filter(|_| vocab.add_eos.unwrap_or(adds_eos));
    PostProcessor::around(bos.into_iter().collect(), eos.into_iter().collect())
}

/// `llama` and `t5`.
fn scored(vocab: &Vocab, special: &SpecialTokens) -> Result<Parts, TokenizerError> {
    let pieces = all(vocab);
    pieces::check_added(&pieces)?;
    let tokens = pieces::tokens(&pieces)?;
    let is_unigram = vocab.kind == VocabKind::Unigram;
    let map = Charsmap::parse(&vocab.precompiled_charsmap);
    let map = map.map_err(|message| TokenizerError::field("tokenizer.ggml.precompiled_charsmap", message))?;
    let mut rules = SentencePieceRules {
        charsmap: map,
        add_dummy_prefix: vocab.add_space_prefix.unwrap_or(true),
        // COMPAT: for `llama` vocabularies llama.cpp keeps all spaces, whatever the file says.
        remove_extra_whitespaces: is_unigram && vocab.remove_extra_whitespaces.unwrap_or(false),
        escape_whitespaces: true,
        ..SentencePieceRules::default()
    };
    let strips_space = rules.add_dummy_prefix;
    let defined = pieces.iter().filter(|piece| piece.kind == TokenType::UserDefined);
    rules.protected = Protected::new(defined.map(|piece| piece.text));
    let added = pieces::added(&pieces, UserDefined::Raw)?;
    let (model, post_processor) = if is_unigram {
        (Model::Unigram(pieces::unigram(&pieces, &tokens, special.unk)?), around(vocab, special, false, true))
    } else {
        (pieces::bpe(&pieces, &tokens, special.unk, false)?, around(vocab, special, true, false))
    };
    let normalizer = Some(Normalizer::SentencePiece(rules));
    let decoder = Some(pieces::decoder(strips_space));
    Ok(Parts { tokens, added, normalizer, pre_tokenizer: None, model, post_processor, decoder })
}

/// `bert`.
fn word_piece(vocab: &Vocab, special: &SpecialTokens) -> Result<Parts, TokenizerError> {
    let mut tokens = Tokens::default();
    let spelled: Vec<String> = vocab.tokens.iter().map(|token| spell_word(token)).collect();
    spelled.iter().enumerate().for_each(|(id, token)| tokens.push_over(token, id as TokenId));
    tokens.finish()?;
    let rules =
        BertRules { clean_text: true, handle_chinese_chars: true, strip_accents: true, lowercase: true };
    let added = added(vocab, &spelled)?;
    let model = WordPiece {
        prefix: "##".into(),
        unk: special.unk,
        max_word_chars: 100,
        max_token_bytes: tokens.iter().map(|(_, text)| text.len()).max().unwrap_or(0),
    };
    let post_processor = match (special.cls, special.sep) {
        (Some(cls), Some(sep)) => PostProcessor::bert(cls, sep),
        _ => PostProcessor::default(),
    };
    Ok(Parts {
        tokens,
        added,
        normalizer: Some(Normalizer::Bert(rules)),
        pre_tokenizer: Some(PreTokenizer::Bert),
        model: Model::WordPiece(model),
        post_processor,
        decoder: Some(Decoder::WordPiece { prefix: "##".into(), cleanup: true }),
    })
}

/// GGUF marks beginnings of words where BERT marks continuations.
fn spell_word(token: &str) -> String {
    let is_bracketed = token.starts_with('[') && token.ends_with(']');
    match token.strip_prefix(SPACE) {
        Some(word) => word.to_owned(),
        None if is_bracketed => token.to_owned(),
        None => format!("##{token}"),
    }
}

/// Control, unknown and user-defined tokens, matched in raw text.
fn added(vocab: &Vocab, spelled: &[String]) -> Result<AddedTokens, TokenizerError> {
    let mut added = AddedTokens::default();
    for (id, content) in spelled.iter().enumerate() {
        let kind = kind_of(vocab, id);
        let special = matches!(kind, TokenType::Control | TokenType::Unknown);
        if !content.is_empty() && (special || kind == TokenType::UserDefined) {
            added.insert(
                id as TokenId,
                super::AddedToken { content: content.clone(), special, ..Default::default() },
            );
        }
    }
    added.build(str::to_owned).map_err(|message| TokenizerError::field("tokenizer.ggml.tokens", message))?;
    Ok(added)
}

/// `gpt2`.
fn bpe(vocab: &Vocab, special: &SpecialTokens) -> Result<Parts, TokenizerError> {
    let n_bytes = vocab.tokens.iter().map(String::len).sum();
    let mut tokens = Tokens::with_capacity(vocab.tokens.len(), n_bytes);
    vocab.tokens.iter().enumerate().for_each(|(id, token)| tokens.push_over(token, id as TokenId));
    tokens.finish()?;
    let pre = pre_of(vocab.pre.as_deref().unwrap_or("default"))?;
    if vocab.merges.len() > MAX_MERGES {
        let message = format!("expected at most {MAX_MERGES} merges, got {}", vocab.merges.len());
        return Err(TokenizerError::field("tokenizer.ggml.merges", message));
    }
    let mut merges = Pairs::with_capacity(vocab.merges.len());
    let mut joined = String::new();
    for (rank, line) in vocab.merges.iter().enumerate() {
        let field = || format!("tokenizer.ggml.merges[{rank}]");
        let wrong =
            || TokenizerError::field(field(), format!("expected two tokens, got `{}`", shorten(line)));
        // A token may itself begin with a space where bytes are not spelled.
        let cut = line.char_indices().skip(1).find(|&(_, c)| c == ' ').ok_or_else(wrong)?.0;
        let (left, right) = (&line[..cut], &line[cut + 1..]);
        let id_of = |token: &str| {
            let message = || format!("expected tokens of the vocabulary, got `{}`", shorten(token));
            tokens.id_of(token).ok_or_else(|| TokenizerError::field(field(), message()))
        };
        joined.clear();
        joined.extend([left, right]);
        let merge = Merge { rank: rank as u32, id: id_of(&joined)? };
        let (left, right) = (id_of(left)?, id_of(right)?);
        // COMPAT: of a merge that is listed twice, llama.cpp keeps the first.
        if let Some(before) = merges.insert(left, right, merge) {
            merges.insert(left, right, before);
        }
    }
    let symbols = match pre.spelling {
        Spelling::Bytes => Symbols::Bytes(byte_symbols(&tokens)),
        Spelling::Pieces => Symbols::Chars(Box::new(CharSymbols {
            bytes: Some(byte_tokens(&tokens)),
            unk: special.unk,
            ..CharSymbols::default()
        })),
    };
    let mut model = Bpe::new(symbols, merges);
    model.learn_words(&tokens, pre.ignores_merges);
    let mut steps = Vec::new();
    for expression in pre.expressions {
        let pattern = Pattern::regex(expression, "tokenizer.ggml.pre")?;
        steps.push(PreTokenizer::Split { pattern, behavior: Behavior::Isolated, invert: false });
    }
    let (normalizer, decoder) = match pre.spelling {
        Spelling::Bytes => (None, Decoder::ByteLevel),
        Spelling::Pieces => {
            let rules = SentencePieceRules { escape_whitespaces: true, ..SentencePieceRules::default() };
            (Some(Normalizer::SentencePiece(rules)), pieces::decoder(false))
        }
    };
    let added = added(vocab, &vocab.tokens)?;
    let post_processor = around(vocab, special, pre.adds_bos, false);
    let model = Model::Bpe(model);
    let (pre_tokenizer, decoder) = (Some(PreTokenizer::Sequence(steps)), Some(decoder));
    Ok(Parts { tokens, added, normalizer, pre_tokenizer, model, post_processor, decoder })
}

/// What the name of a pre-tokenizer stands for.
pub(crate) struct Pre {
    pub(crate) names: &'static [&'static str],
    pub(crate) expressions: &'static [&'static str],
    /// Pieces that are tokens are not merged.
    pub(crate) ignores_merges: bool,
    /// BOS is added unless the file says otherwise.
    adds_bos: bool,
    spelling: Spelling,
}

impl Pre {
    /// Whether pieces that are tokens are not merged.
    pub(crate) fn ignores_merges(&self) -> bool {
        self.ignores_merges
    }

    /// Whether tokens are spelled in GPT-2's alphabet.
    pub(crate) fn spells_bytes(&self) -> bool {
        self.spelling == Spelling::Bytes
    }
}

/// How tokens spell text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// In GPT-2's alphabet.
    Bytes,
    /// As it is, with `▁` for spaces and bytes as `<0x41>`.
    Pieces,
}

/// Fields that most share.
const PLAIN: Pre = Pre {
    names: &[],
    expressions: &[GPT2_REGEX],
    ignores_merges: false,
    adds_bos: false,
    spelling: Spelling::Bytes,
};

/// The expression by which a well-known byte-level tokenizer cuts texts: `gpt2`, `llama3`, `qwen2`, `o200k`.
pub fn expression_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "gpt2" => GPT2_REGEX,
        "llama3" => LLAMA3_REGEX,
        "qwen2" => QWEN2_REGEX,
        "o200k" => O200K_REGEX,
        _ => return None,
    })
}

pub(crate) const LLAMA3_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const QWEN2_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const O200K_REGEX: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names that GGUF files use.
pub(crate) static PRES: &[Pre] = &[
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        expressions: &[LLAMA3_REGEX],
        ignores_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    Pre { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], expressions: &[LLAMA3_REGEX], ..PLAIN },
    Pre { names: &["glm4", "glm5"], expressions: &[LLAMA3_REGEX], ignores_merges: true, ..PLAIN },
    Pre {
        names: &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "grok-2", "solar-open"],
        expressions: &[QWEN2_REGEX],
        ..PLAIN
    },
    Pre {
        names: &["qwen35"],
        expressions: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Pre {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
        ],
        ..PLAIN
    },
    Pre { names: &["roberta-bpe", "jina-v1-en", "jina-v2-code"], ..PLAIN },
    Pre {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"],
        expressions: &[r"\p{N}", GPT2_REGEX],
        ..PLAIN
    },
    Pre {
        names: &["falcon"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2_REGEX, "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    Pre {
        names: &["default"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2_REGEX, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    Pre {
        names: &["deepseek-coder"],
        expressions: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u{800}-一가-\u{d7ff}]+", r"\p{N}"],
        ..PLAIN
    },
    Pre {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        expressions: &[
            r"\p{N}{1,3}",
            "[一-龥\u{3040}-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ],
        ..PLAIN
    },
    Pre {
        names: &["tekken"],
        expressions: &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    Pre { names: &["gpt-4o", "llama4", "kanana2"], expressions: &[O200K_REGEX], ..PLAIN },
    Pre {
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        expressions: &[r" ?[^(\s|.,!?…。，、।۔،)]+"],
        ..PLAIN
    },
    Pre { names: &["viking"], expressions: &[r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"], ..PLAIN },
    Pre {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        expressions: &[
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Pre {
        names: &["seed-coder"],
        expressions: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Pre { names: &["gemma4"], expressions: &[r"[^\n]+|[\n]+"], spelling: Spelling::Pieces, ..PLAIN },
];

fn pre_of(name: &str) -> Result<&'static Pre, TokenizerError> {
    PRES.iter().find(|pre| pre.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> = PRES.iter().map(|pre| pre.names[0]).collect();
        let message = format!("expected one of {} and their kin, got `{}`", known.join(", "), shorten(name));
        TokenizerError::field("tokenizer.ggml.pre", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles() {
        for pre in PRES {
            for expression in pre.expressions {
                Pattern::regex(expression, "pre").unwrap();
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let tokens = || ["<unk>", "<s>", "</s>", "a"].map(String::from).to_vec();
        let check = |vocab: Vocab, field: &str| {
            let error = read(&vocab).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        };
        check(Vocab::default(), "tokens");
        check(Vocab { tokens: tokens(), scores: vec![0.0], ..Vocab::default() }, "scores");
        check(Vocab { tokens: tokens(), bos: Some(4), ..Vocab::default() }, "bos_token_id");
        let bpe = || Vocab { kind: VocabKind::Bpe, tokens: tokens(), ..Vocab::default() };
        check(Vocab { pre: Some("magic".into()), ..bpe() }, "tokenizer.ggml.pre");
        check(Vocab { merges: vec!["a b".into()], ..bpe() }, "merges[0]");
    }
}
