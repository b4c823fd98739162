//! SentencePiece's `tokenizer.model`: a protocol buffer of pieces, training and normalization settings.
//!
//! Where:  [`Tokenizer::from_sentencepiece`](super::Tokenizer::from_sentencepiece).
//! Idea:   five message types and a dozen fields do not need a protobuf library: fields are (number, wire type, value)
//!         triples, and what is not needed is skipped.
//! Source: SentencePiece, `sentencepiece_model.proto`; Protocol Buffers encoding.

use super::model::Model;
use super::normalizer::{Normalizer, Protected, SentencePieceRules};
use super::pieces::{self, Scored, UserDefined};
use super::post_processor::PostProcessor;
use super::table::{MAX_TOKENS, shorten};
use super::{Parts, SpecialTokens, TokenizerError, charsmap::Charsmap};
use crate::{TokenId, TokenType, Vocab, VocabKind};

/// Reads the parts and the roles of special tokens.
pub(crate) fn read(bytes: &[u8]) -> Result<(Parts, SpecialTokens), TokenizerError> {
    let file = ModelFile::parse(bytes)?;
    let special = file.special();
    let tokens = pieces::tokens(&file.pieces)?;
    // In BPE a user-defined piece is never part of another; in Unigram its score decides.
    let user_defined = if file.model_type == BPE { UserDefined::Normalized } else { UserDefined::Scored };
    let added = pieces::added(&file.pieces, user_defined)?;
    let model = match file.model_type {
        UNIGRAM => Model::Unigram(pieces::unigram(&file.pieces, &tokens, special.unk)?.rounding()),
        BPE => pieces::bpe(&file.pieces, &tokens, special.unk, true)?,
        other => {
            let message = format!("expected 1 (Unigram) or 2 (BPE), got {other}");
            return Err(TokenizerError::field("trainer_spec.model_type", message));
        }
    };
    let strips_space = file.rules.add_dummy_prefix || file.rules.remove_extra_whitespaces;
    let parts = Parts {
        tokens,
        added,
        normalizer: Some(Normalizer::SentencePiece(file.rules)),
        pre_tokenizer: None,
        model,
        post_processor: PostProcessor::default(),
        decoder: Some(pieces::decoder(strips_space)),
    };
    Ok((parts, special))
}

/// The file as a vocabulary for GGUF, without roles and flags.
pub(crate) fn describe(bytes: &[u8]) -> Result<Vocab, TokenizerError> {
    let file = ModelFile::parse(bytes)?;
    let kind = if file.model_type == BPE { VocabKind::SentencePiece } else { VocabKind::Unigram };
    Ok(Vocab {
        kind,
        tokens: file.pieces.iter().map(|piece| piece.text.to_owned()).collect(),
        scores: file.pieces.iter().map(|piece| piece.score).collect(),
        types: file.pieces.iter().map(|piece| piece.kind).collect(),
        add_space_prefix: Some(file.rules.add_dummy_prefix),
        remove_extra_whitespaces: Some(file.rules.remove_extra_whitespaces),
        precompiled_charsmap: file.rules.charsmap.to_bytes(),
        ..Vocab::default()
    })
}

/// Memory that a piece takes while a model is read, and memory that any file may take.
const PIECE_BYTES: usize = 100;
const SPARE_BYTES: usize = 60 << 20;

const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

/// What is needed of `ModelProto`.
struct ModelFile<'a> {
    pieces: Vec<Scored<'a>>,
    rules: SentencePieceRules,
    model_type: u64,
    /// `unk_id`, `bos_id`, `eos_id`, `pad_id`; negative where there is none.
    ids: [i64; 4],
}

impl<'a> ModelFile<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, TokenizerError> {
        let n_pieces = Message::new(bytes, "model").flatten().filter(|field| field.number == 1).count();
        // What reading takes must be in proportion to the file: a piece without a text of its own is cheap to write.
        let max_pieces = MAX_TOKENS.min((3 * bytes.len() + SPARE_BYTES) / PIECE_BYTES);
        if n_pieces > max_pieces {
            let message =
                format!("expected at most {max_pieces} pieces in {} bytes, got {n_pieces}", bytes.len());
            return Err(TokenizerError::field("pieces", message));
        }
        let mut file = Self {
            pieces: Vec::with_capacity(n_pieces),
            rules: SentencePieceRules {
                add_dummy_prefix: true,
                remove_extra_whitespaces: true,
                escape_whitespaces: true,
                ..SentencePieceRules::default()
            },
            model_type: UNIGRAM,
            ids: [0, 1, 2, -1],
        };
        for field in Message::new(bytes, "model") {
            let field = field?;
            match (field.number, field.value) {
                (1, Wire::Bytes(piece)) => file.read_piece(piece)?,
                (2, Wire::Bytes(spec)) => file.read_trainer(spec)?,
                (3, Wire::Bytes(spec)) => file.read_normalizer(spec)?,
                _ => {}
            }
        }
        if file.pieces.is_empty() {
            return Err(TokenizerError::field("pieces", "expected at least one piece, got none"));
        }
        pieces::check_added(&file.pieces)?;
        let defined = file.pieces.iter().filter(|piece| piece.kind == TokenType::UserDefined);
        file.rules.protected = Protected::new(defined.map(|piece| piece.text));
        Ok(file)
    }

    fn read_piece(&mut self, bytes: &'a [u8]) -> Result<(), TokenizerError> {
        let path = || format!("pieces[{}]", self.pieces.len());
        let mut piece = Scored { text: "", score: 0.0, kind: TokenType::Normal };
        for field in Message::new(bytes, "piece") {
            let field = field?;
            match (field.number, field.value) {
                (1, Wire::Bytes(text)) => {
                    let text = std::str::from_utf8(text);
                    piece.text = text.map_err(|_| TokenizerError::field(path(), "expected UTF-8"))?;
                }
                (2, Wire::Fixed32(score)) => piece.score = f32::from_bits(score),
                (3, Wire::Varint(kind)) => {
                    // The numbers of GGUF's token types are SentencePiece's.
                    let known = i64::try_from(kind).ok().and_then(TokenType::from_ggml);
                    let message = || format!("expected a type from 1 to 6, got {kind}");
                    piece.kind = known.ok_or_else(|| TokenizerError::field(path(), message()))?;
                }
                _ => {}
            }
        }
        if piece.text.is_empty() {
            return Err(TokenizerError::field(path(), "expected a text, got an empty one"));
        }
        if !piece.score.is_finite() {
            let message =
                format!("piece `{}`: expected a finite score, got {}", shorten(piece.text), piece.score);
            return Err(TokenizerError::field(path(), message));
        }
        self.pieces.push(piece);
        Ok(())
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Result<(), TokenizerError> {
        for field in Message::new(bytes, "trainer_spec") {
            let field = field?;
            match (field.number, field.value) {
                (3, Wire::Varint(kind)) => self.model_type = kind,
                (24, Wire::Varint(1)) => {
                    let message = "expected false: spaces as suffixes are not supported";
                    return Err(TokenizerError::field("trainer_spec.treat_whitespace_as_suffix", message));
                }
                // int32 is sent as a sign-extended varint.
                (number @ 40..=43, Wire::Varint(id)) => self.ids[number as usize - 40] = id as i64,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<(), TokenizerError> {
        for field in Message::new(bytes, "normalizer_spec") {
            let field = field?;
            match (field.number, field.value) {
                (2, Wire::Bytes(map)) => {
                    let map = Charsmap::parse(map);
                    let path = "normalizer_spec.precompiled_charsmap";
                    self.rules.charsmap = map.map_err(|message| TokenizerError::field(path, message))?;
                }
                (3, Wire::Varint(flag)) => self.rules.add_dummy_prefix = flag != 0,
                (4, Wire::Varint(flag)) => self.rules.remove_extra_whitespaces = flag != 0,
                (5, Wire::Varint(flag)) => self.rules.escape_whitespaces = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn special(&self) -> SpecialTokens {
        let id = |number: usize| {
            let id = usize::try_from(self.ids[number]).ok()?;
            let piece = self.pieces.get(id)?;
            matches!(piece.kind, TokenType::Control | TokenType::Unknown).then_some(id as TokenId)
        };
        let unk = self.pieces.iter().position(|piece| piece.kind == TokenType::Unknown);
        SpecialTokens {
            unk: unk.map(|id| id as TokenId),
            bos: id(1),
            eos: id(2).into_iter().collect(),
            pad: id(3),
            ..SpecialTokens::default()
        }
    }
}

/// The fields of one message.
struct Message<'a> {
    rest: &'a [u8],
    name: &'static str,
}

struct Field<'a> {
    number: u64,
    value: Wire<'a>,
}

enum Wire<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Message<'a> {
    fn new(bytes: &'a [u8], name: &'static str) -> Self {
        Self { rest: bytes, name }
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed64)?,
            2 => {
                let len = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(len).ok()?)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some(Field { number: key >> 3, value })
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Message<'a> {
    type Item = Result<Field<'a>, TokenizerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[]; // one error, then the end
        }
        Some(field.ok_or_else(|| TokenizerError::field(self.name, "not a protocol buffer, or cut off")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, wire: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | wire];
        if wire == 2 {
            bytes.push(body.len() as u8);
        }
        bytes.extend(body);
        bytes
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let body =
            [field(1, 2, text.as_bytes()), field(2, 5, &score.to_le_bytes()), field(3, 0, &[kind])].concat();
        field(1, 2, &body)
    }

    #[test]
    fn a_small_model_encodes_by_scores() {
        let pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁a", -1.0, 1), ("bc", -2.0, 1)];
        let chars = [("▁", -9.0, 1), ("a", -9.0, 1), ("b", -9.0, 1), ("c", -9.0, 1)];
        let mut bytes: Vec<u8> =
            pieces.iter().chain(&chars).flat_map(|&(text, score, kind)| piece(text, score, kind)).collect();
        bytes.extend(field(2, 2, &field(3, 0, &[2])));
        let (parts, special) = read(&bytes).unwrap();
        assert_eq!((special.bos, special.eos.as_slice(), special.unk), (Some(1), &[2][..], Some(0)));
        let mut ids = Vec::new();
        parts.model.encode("▁abcx", &parts.tokens, &mut Default::default(), &mut ids);
        assert_eq!(ids, [3, 4, 0]);
        for cut in 0..bytes.len() {
            let _ = read(&bytes[..cut]); // an error or a smaller model, never a panic
        }
    }
}
