//! Vocabularies of scored pieces, as SentencePiece trains them: BPE whose merges follow from scores, and Unigram.
//!
//! Where:  shared by `tokenizer.model` files ([`sentencepiece`](super::sentencepiece)) and GGUF ([`ggml`](super::ggml)).
//! Idea:   SentencePiece BPE has no list of merges: two neighbours merge if together they are a piece, best score first.
//!         All ways to cut every piece in two are listed once, which makes it the same BPE as everybody's.
//! Source: SentencePiece, `bpe_model.cc` and `unigram_model.cc`.

use std::collections::HashMap;

use super::added::{AddedToken, AddedTokens, MAX_ADDED};
use super::bpe::{Bpe, CharSymbols, Symbols};
use super::decoder::Decoder;
use super::model::Model;
use super::pairs::Merge;
use super::pattern::Pattern;
use super::table::Tokens;
use super::unigram::{MAX_PIECE_BYTES, Piece, Unigram};
use super::{TokenizerError, byte_tokens};
use crate::{TokenId, TokenType};

/// Most pieces of a BPE, and ways to make one of two others; the largest vocabulary that is known has 262,144 and 514,906.
const MAX_BPE_PIECES: usize = 1 << 19;
const MAX_MERGES: usize = 3 << 18;

/// One entry of such a vocabulary; its place is its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scored<'a> {
    pub(crate) text: &'a str,
    pub(crate) score: f32,
    pub(crate) kind: TokenType,
}

impl Scored<'_> {
    /// Whether text can become this piece.
    fn is_text(&self) -> bool {
        matches!(self.kind, TokenType::Normal | TokenType::UserDefined)
    }
}

/// All pieces by text and id.
pub(crate) fn tokens(pieces: &[Scored]) -> Result<Tokens, TokenizerError> {
    let mut tokens = Tokens::with_capacity(pieces.len(), pieces.iter().map(|piece| piece.text.len()).sum());
    pieces.iter().enumerate().for_each(|(id, piece)| tokens.push_over(piece.text, id as TokenId));
    tokens.finish()?;
    Ok(tokens)
}

/// Where user-defined pieces are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserDefined {
    /// Nowhere in particular: their score makes them win.
    Scored,
    /// In normalized text, as SentencePiece's BPE does.
    Normalized,
    /// In raw text, as llama.cpp does: what follows begins anew.
    Raw,
}

/// Refuses more pieces that are matched in text as they are than there may be added tokens.
///
/// # Errors
/// [`TokenizerError::Field`].
pub(crate) fn check_added(pieces: &[Scored]) -> Result<(), TokenizerError> {
    let n_added = pieces.iter().filter(|piece| piece.kind != TokenType::Normal).count();
    if n_added > MAX_ADDED {
        let message = format!("expected at most {MAX_ADDED} that are not normal, got {n_added}");
        return Err(TokenizerError::field("pieces", message));
    }
    Ok(())
}

/// Control and unknown pieces become special tokens, user-defined ones added tokens.
pub(crate) fn added(pieces: &[Scored], user_defined: UserDefined) -> Result<AddedTokens, TokenizerError> {
    let mut added = AddedTokens::default();
    for (id, piece) in pieces.iter().enumerate() {
        let special = matches!(piece.kind, TokenType::Control | TokenType::Unknown);
        let is_added = special || user_defined != UserDefined::Scored && piece.kind == TokenType::UserDefined;
        if !piece.text.is_empty() && is_added {
            let content = piece.text.to_owned();
            let normalized = !special && user_defined == UserDefined::Normalized;
            added.insert(id as TokenId, AddedToken { content, special, normalized, ..AddedToken::default() });
        }
    }
    added
        .build(|text| text.replace(' ', "\u{2581}"))
        .map_err(|message| TokenizerError::field("tokens", message))?;
    Ok(added)
}

/// BPE whose merges follow from scores.
pub(crate) fn bpe(
    pieces: &[Scored],
    tokens: &Tokens,
    unk: Option<TokenId>,
    fuse_unk: bool,
) -> Result<Model, TokenizerError> {
    let bytes = byte_tokens(tokens);
    let mut pseudo: HashMap<char, TokenId> = HashMap::new();
    let first_pseudo = pieces.len() as TokenId;
    if pieces.len() > MAX_BPE_PIECES {
        let message = format!("expected at most {MAX_BPE_PIECES} pieces of a BPE, got {}", pieces.len());
        return Err(TokenizerError::field("tokens", message));
    }
    let ranks = ranks(pieces);
    let mut merges: Vec<(TokenId, TokenId, Merge)> = Vec::new();
    for (id, piece) in pieces.iter().enumerate().filter(|(_, piece)| piece.is_text()) {
        if piece.text.len() > MAX_PIECE_BYTES {
            let message =
                format!("expected pieces of at most {MAX_PIECE_BYTES} bytes, got {}", piece.text.len());
            return Err(TokenizerError::field(format!("tokens[{id}]"), message));
        }
        if merges.len() > MAX_MERGES {
            let message = format!("expected at most {MAX_MERGES} ways to make pieces of pieces");
            return Err(TokenizerError::field("tokens", message));
        }
        let mut symbol = |text: &str| {
            if let Some(id) = tokens.id_of(text).filter(|&id| pieces[id as usize].is_text()) {
                return Some(id);
            }
            let mut chars = text.chars();
            let c = chars.next().filter(|_| chars.next().is_none())?;
            let next = first_pseudo + pseudo.len() as TokenId;
            Some(*pseudo.entry(c).or_insert(next))
        };
        let whole = tokens.id_of(piece.text).unwrap_or(id as TokenId);
        for (cut, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(cut);
            if let (Some(left), Some(right)) = (symbol(left), symbol(right)) {
                merges.push((left, right, Merge { rank: ranks[id], id: whole }));
            }
        }
    }
    let falls_back = bytes.iter().any(Option::is_some);
    let leftovers = pseudo.iter().map(|(c, &id)| {
        let ids: Option<Vec<TokenId>> =
            c.encode_utf8(&mut [0; 4]).bytes().map(|byte| bytes[usize::from(byte)]).collect();
        (id, ids.unwrap_or_else(|| unk.into_iter().collect()))
    });
    let leftovers = leftovers.collect();
    let chars =
        CharSymbols { pseudo, bytes: falls_back.then_some(bytes), unk, fuse_unk, ..CharSymbols::default() };
    let bpe = Bpe::new(Symbols::Chars(Box::new(chars)), merges.into_iter().collect())
        .with_leftovers(first_pseudo, leftovers);
    Ok(Model::Bpe(bpe))
}

/// Places in the order of falling scores, equal for equal scores.
fn ranks(pieces: &[Scored]) -> Vec<u32> {
    let score = |id: u32| pieces[id as usize].score;
    let mut order: Vec<u32> = (0..pieces.len() as u32).collect();
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut ranks = vec![0; pieces.len()];
    let mut rank = 0;
    for (i, &id) in order.iter().enumerate() {
        if i > 0 && score(order[i - 1]) != score(id) {
            rank += 1;
        }
        ranks[id as usize] = rank;
    }
    ranks
}

/// A Unigram model over the pieces that text can become.
pub(crate) fn unigram(
    pieces: &[Scored],
    tokens: &Tokens,
    unk: Option<TokenId>,
) -> Result<Unigram, TokenizerError> {
    let normal = || pieces.iter().filter(|piece| piece.kind == TokenType::Normal).map(|piece| piece.score);
    let min_score = normal().fold(f32::INFINITY, f32::min);
    // COMPAT: the least positive number, not the least of all, is where SentencePiece begins: the best score is then
    // nearly 0, and a user-defined piece wins against almost everything.
    let max_score = normal().fold(f32::MIN_POSITIVE, f32::max);
    let scored = pieces.iter().enumerate().filter(|(_, piece)| piece.is_text()).map(|(id, piece)| {
        // COMPAT: what the user defined always wins.
        let bonus = piece.text.chars().count() as f64 * f64::from(max_score) - 0.1;
        let score = if piece.kind == TokenType::UserDefined { bonus } else { f64::from(piece.score) };
        Piece { text: piece.text, score, id: id as TokenId }
    });
    let bytes = byte_tokens(tokens);
    let bytes = bytes.iter().any(Option::is_some).then_some(bytes);
    Unigram::new(scored, f64::from(min_score), unk, bytes)
        .map_err(|message| TokenizerError::field("tokens", message))
}

/// `▁` to spaces, byte tokens to text, and the space at the beginning taken back if one was added.
pub(crate) fn decoder(strips_space: bool) -> Decoder {
    let mut steps = vec![
        Decoder::Replace { pattern: Pattern::Literal("\u{2581}".into()), content: " ".into() },
        Decoder::ByteFallback,
        Decoder::Fuse,
    ];
    if strips_space {
        steps.push(Decoder::Strip { content: ' ', start: 1, stop: 0 });
    }
    Decoder::Sequence(steps)
}
