//! Text to tokens and back, exactly as the model's own tokenizer does it.
//!
//! Where:  owned by whoever owns a model; used by engine, training data, chat templates and the command line.
//! Idea:   one pipeline for every kind of file: cut out added tokens, normalize, split into pieces, let the model encode
//!         each piece, put special tokens around. The parts differ, the order does not.
//! Source: Hugging Face `tokenizers` 0.23, whose ids and text are the reference; SentencePiece and llama.cpp for their files.
//! Elsewhere: reading `json`, `sentencepiece`, `ggml`; training tokenizers (`wootz-data`).
//!
//! # Invariants
//! - Encoding and decoding never fail and never panic; whatever can be wrong is found when a tokenizer is built.
//! - Encoding costs O(n log n) in the text's length, whatever the text, unless a file's own regular expression costs more.

mod added;
mod bpe;
mod byte_level;
mod byte_texts;
mod charsmap;
mod classes;
mod config;
mod decoder;
mod error;
mod export;
mod fields;
mod ggml;
mod hash;
mod json;
mod model;
mod normalizer;
mod pairs;
mod pattern;
mod pieces;
mod post_processor;
mod pre_tokenizer;
mod scanner;
mod scripts;
mod sentencepiece;
mod stream;
mod table;
mod unigram;
mod wordpiece;
mod words;

use std::borrow::Cow;
use std::path::Path;

pub use added::AddedToken;
pub use byte_level::byte_spelling;
pub use config::SpecialTokens;
pub use error::TokenizerError;
pub use ggml::expression_of;
pub use stream::StreamDecoder;

use self::added::{AddedTokens, Phase};
use self::bpe::Scratch;
use self::byte_texts::ByteTexts;
use self::decoder::Decoder;
use self::model::Model;
use self::normalizer::{Normalized, Normalizer};
use self::post_processor::PostProcessor;
use self::pre_tokenizer::{Pieces, PreTokenizer};
use self::table::Tokens;
use crate::{TokenId, Vocab};

/// A tokenizer of any kind.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    parts: Parts,
    special: SpecialTokens,
    source: Option<Source>,
    byte_texts: Option<ByteTexts>,
}

/// The file that a tokenizer was made from, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `tokenizer.json`
    Json(Vec<u8>),
    /// SentencePiece's `tokenizer.model`
    SentencePiece(Vec<u8>),
}

/// What a tokenizer consists of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) tokens: Tokens,
    pub(crate) added: AddedTokens,
    pub(crate) normalizer: Option<Normalizer>,
    pub(crate) pre_tokenizer: Option<PreTokenizer>,
    pub(crate) model: Model,
    pub(crate) post_processor: PostProcessor,
    pub(crate) decoder: Option<Decoder>,
}

impl Parts {
    /// A token as the decoder sees it.
    fn spelled(&self, id: TokenId) -> Option<&str> {
        self.added.spelled(id).or_else(|| self.tokens.text_of(id))
    }
}

impl Tokenizer {
    /// From the contents of a `tokenizer.json`. Special tokens' roles (BOS, EOS …) stand in other files:
    /// [`read_config`](Tokenizer::read_config).
    ///
    /// # Errors
    /// Anything that the file says and this crate does not know, or that contradicts itself, by the field's path.
    pub fn from_json(bytes: Vec<u8>) -> Result<Self, TokenizerError> {
        let parts = json::read(&bytes)?;
        let mut special = SpecialTokens::default();
        special.guess(&parts);
        Ok(Self::new(parts, special, Some(Source::Json(bytes))))
    }

    /// From the contents of a SentencePiece `tokenizer.model`, BPE or Unigram. As in SentencePiece itself, no special tokens
    /// are added; they are recognised in text only where encoding is asked to.
    ///
    /// # Errors
    /// A file that is cut off or no SentencePiece model, by the field.
    pub fn from_sentencepiece(bytes: Vec<u8>) -> Result<Self, TokenizerError> {
        let (parts, special) = sentencepiece::read(&bytes)?;
        Ok(Self::new(parts, special, Some(Source::SentencePiece(bytes))))
    }

    /// From a vocabulary that came out of a GGUF.
    ///
    /// # Errors
    /// A list of the wrong length, an id outside the vocabulary, an unknown name of a pre-tokenizer: by the GGUF key.
    pub fn from_vocab(vocab: &Vocab) -> Result<Self, TokenizerError> {
        let (parts, special) = ggml::read(vocab)?;
        Ok(Self::new(parts, special, None))
    }

    /// From a model's folder: `tokenizer.json` or else `tokenizer.model`, with the roles that `tokenizer_config.json`,
    /// `special_tokens_map.json`, `generation_config.json` and `config.json` give to special tokens.
    ///
    /// # Errors
    /// As [`from_json`](Tokenizer::from_json), naming the file.
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        config::read_dir(dir)
    }

    /// Encodes a text.
    ///
    /// `add_special` puts the tokens around it that the model wants (BOS, CLS …). `parse_special` recognises special tokens
    /// that are spelled in the text; without it their spelling is ordinary text, which is what user input should be.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        self.encode_into(text, parse_special, &mut ids);
        if add_special { self.parts.post_processor.apply(ids) } else { ids }
    }

    /// Encodes a pair of texts with the special tokens between and around them: token ids and type ids.
    pub fn encode_pair(&self, first: &str, second: &str) -> (Vec<TokenId>, Vec<u32>) {
        let (mut first_ids, mut second_ids) = (Vec::new(), Vec::new());
        self.encode_into(first, true, &mut first_ids);
        self.encode_into(second, true, &mut second_ids);
        self.parts.post_processor.apply_pair(&first_ids, &second_ids)
    }

    /// Encodes a text with special tokens around it, its end left out where it would have more than `max_tokens`.
    pub fn encode_up_to(&self, text: &str, max_tokens: usize) -> Vec<TokenId> {
        let mut ids = Vec::new();
        self.encode_into(text, true, &mut ids);
        let n_special = self.parts.post_processor.apply(Vec::new()).len();
        ids.truncate(max_tokens.saturating_sub(n_special));
        self.parts.post_processor.apply(ids)
    }

    /// Encodes a pair as [`encode_pair`](Tokenizer::encode_pair) does, the end of the longer text left out first where
    /// both would have more than `max_tokens`.
    pub fn encode_pair_up_to(
        &self,
        first: &str,
        second: &str,
        max_tokens: usize,
    ) -> (Vec<TokenId>, Vec<u32>) {
        let (mut first_ids, mut second_ids) = (Vec::new(), Vec::new());
        self.encode_into(first, true, &mut first_ids);
        self.encode_into(second, true, &mut second_ids);
        let n_special = self.parts.post_processor.apply_pair(&[], &[]).0.len();
        let max_tokens = max_tokens.saturating_sub(n_special);
        let (n_first, n_second) = longest_first(first_ids.len(), second_ids.len(), max_tokens);
        first_ids.truncate(n_first);
        second_ids.truncate(n_second);
        self.parts.post_processor.apply_pair(&first_ids, &second_ids)
    }

    /// Encodes bytes that need not be UTF-8. A byte-level tokenizer keeps broken bytes as they are; others see U+FFFD.
    pub fn encode_bytes(&self, bytes: &[u8], add_special: bool, parse_special: bool) -> Vec<TokenId> {
        let mut ids = Vec::new();
        for chunk in bytes.utf8_chunks() {
            self.encode_into(chunk.valid(), parse_special, &mut ids);
            if chunk.invalid().is_empty() {
                continue;
            }
            match &self.parts.model {
                Model::Bpe(bpe) if bpe.takes_bytes() => {
                    let (bytes, mut scratch) = (chunk.invalid(), Scratch::default());
                    bpe.encode_part(bytes, 0, bytes.len(), &self.parts.tokens, &mut scratch, &mut ids);
                }
                _ => self.encode_into("\u{fffd}", false, &mut ids),
            }
        }
        if add_special { self.parts.post_processor.apply(ids) } else { ids }
    }

    /// The pieces of a text as the model sees them one by one, in order: normalized and cut, added tokens left out. A
    /// tokenizer is trained on these. Pieces of a byte-level vocabulary are plain text if all 256 bytes have tokens.
    pub fn each_piece(&self, text: &str, mut each: impl FnMut(&str)) {
        for stretch in self.parts.added.cut(text, Phase::Raw, true) {
            if stretch.token.is_some() || stretch.start == stretch.end {
                continue;
            }
            let text = Cow::Borrowed(&text[stretch.start..stretch.end]);
            let mut input = Normalized { text, at_start: stretch.start == 0 };
            if let Some(normalizer) = &self.parts.normalizer {
                normalizer.apply(&mut input);
            }
            match self.parts.pre_tokenizer.as_ref().map(|steps| (steps, steps.sole_scanner())) {
                None => each(&input.text),
                Some((_, Some(scanner))) => {
                    scanner.each(&input.text, |start, end| each(&input.text[start..end]));
                }
                Some((steps, None)) => {
                    let mut pieces = Pieces::whole(input.text, input.at_start);
                    steps.apply(&mut pieces);
                    pieces.iter().for_each(&mut each);
                }
            }
        }
    }

    /// Decodes tokens; unknown ids are left out, and so are special tokens if `skip_special`.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> String {
        if let Some(texts) = &self.byte_texts {
            return String::from_utf8(texts.join(ids, skip_special))
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        let tokens: Vec<String> =
            ids.iter().filter_map(|&id| self.spelled(id, skip_special)).map(String::from).collect();
        match &self.parts.decoder {
            _ if tokens.is_empty() => String::new(),
            Some(decoder) => decoder.apply(tokens).concat(),
            None => tokens.join(" "),
        }
    }

    /// Decodes tokens to bytes, which with a byte-level tokenizer are the exact bytes that were encoded.
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special: bool) -> Vec<u8> {
        match &self.byte_texts {
            Some(texts) => texts.join(ids, skip_special),
            None => self.decode(ids, skip_special).into_bytes(),
        }
    }

    /// A token as the vocabulary spells it (`Ġthe`, `▁the`, `##ing`).
    pub fn token_text(&self, id: TokenId) -> Option<&str> {
        let added = self.parts.added.get(id).map(|token| token.content.as_str());
        added.or_else(|| self.parts.tokens.text_of(id))
    }

    /// The bytes that a token adds in the middle of a text.
    pub fn token_bytes(&self, id: TokenId) -> Option<Vec<u8>> {
        let text = self.token_text(id)?;
        let is_added = self.parts.added.get(id).is_some();
        let Some(decoder) = &self.parts.decoder else { return Some(text.as_bytes().to_vec()) };
        Some(match decoder::fallback_byte(text).filter(|_| decoder.joins_bytes()) {
            Some(byte) => vec![byte],
            None if is_added => text.as_bytes().to_vec(),
            None if decoder.is_byte_level() => decoder::spelled_bytes(text),
            None => decoder.in_context(text).into_bytes(),
        })
    }

    /// The id of a token as spelled.
    pub fn token_id(&self, text: &str) -> Option<TokenId> {
        self.parts.added.id_of(text).or_else(|| self.parts.tokens.id_of(text))
    }

    /// One more than the largest id; a model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        let n_added = self.parts.added.max_id().map_or(0, |max| max as usize + 1);
        self.parts.tokens.n_ids().max(n_added)
    }

    /// The roles of special tokens.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The roles of special tokens, to be changed.
    pub fn special_mut(&mut self) -> &mut SpecialTokens {
        &mut self.special
    }

    /// Whether a token has a meaning instead of a text.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.parts.added.get(id).is_some_and(|token| token.special)
    }

    /// Whether generation ends at this token.
    pub fn is_eos(&self, id: TokenId) -> bool {
        self.special.eos.contains(&id)
    }

    /// All added tokens, by id.
    pub fn added_tokens(&self) -> Vec<(TokenId, &AddedToken)> {
        let mut tokens: Vec<_> = self.parts.added.iter().collect();
        tokens.sort_by_key(|token| token.0);
        tokens
    }

    /// The file that this tokenizer was made from; `None` if it was made from a [`Vocab`](crate::Vocab).
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Reads the roles that a `tokenizer_config.json` or `special_tokens_map.json` gives to special tokens.
    ///
    /// # Errors
    /// Invalid JSON. Tokens that the vocabulary lacks are passed over: such files often name some.
    pub fn read_config(&mut self, bytes: &[u8]) -> Result<(), TokenizerError> {
        let mut special = std::mem::take(&mut self.special);
        let result = special.read_config(bytes, |token| self.token_id(token));
        self.special = special;
        result
    }

    fn new(parts: Parts, special: SpecialTokens, source: Option<Source>) -> Self {
        let mut tokenizer = Self { parts, special, source, byte_texts: None };
        tokenizer.byte_texts = ByteTexts::new(&tokenizer.parts, tokenizer.vocab_size());
        tokenizer
    }

    /// A token as the decoder sees it; `None` if it is unknown or to be skipped.
    fn spelled(&self, id: TokenId, skip_special: bool) -> Option<&str> {
        let spelled = self.parts.spelled(id)?;
        (!skip_special || !self.parts.added.is_special(spelled)).then_some(spelled)
    }

    fn encode_into(&self, text: &str, parse_special: bool, out: &mut Vec<TokenId>) {
        if self.parts.added.is_empty() {
            return self.encode_stretch(text, true, parse_special, out);
        }
        for stretch in self.parts.added.cut(text, Phase::Raw, parse_special) {
            match stretch.token {
                Some(id) => out.push(id),
                None => {
                    let text = &text[stretch.start..stretch.end];
                    self.encode_stretch(text, stretch.start == 0, parse_special, out);
                }
            }
        }
    }

    /// A text without raw added tokens: normalize, cut out the others, encode what is left.
    fn encode_stretch(&self, text: &str, at_start: bool, parse_special: bool, out: &mut Vec<TokenId>) {
        let mut input = Normalized { text: Cow::Borrowed(text), at_start };
        if let Some(normalizer) = self.parts.normalizer.as_ref().filter(|_| !text.is_empty()) {
            normalizer.apply(&mut input);
        }
        for stretch in self.parts.added.cut(&input.text, Phase::Normalized, parse_special) {
            match stretch.token {
                Some(id) => out.push(id),
                None if stretch.start == stretch.end => {}
                None => {
                    let text = &input.text[stretch.start..stretch.end];
                    self.encode_pieces(text, input.at_start && stretch.start == 0, out);
                }
            }
        }
    }

    fn encode_pieces(&self, text: &str, at_start: bool, out: &mut Vec<TokenId>) {
        let (model, tokens) = (&self.parts.model, &self.parts.tokens);
        let mut scratch = Scratch::for_text(text.len());
        let Some(pre_tokenizer) = &self.parts.pre_tokenizer else {
            return model.encode(text, tokens, &mut scratch, out);
        };
        if let (Some(scanner), Model::Bpe(bpe)) = (pre_tokenizer.sole_scanner(), model) {
            // PERF: no list of pieces where one scanner makes them all.
            let bytes = text.as_bytes();
            return scanner
                .each(text, |start, end| bpe.encode_part(bytes, start, end, tokens, &mut scratch, out));
        }
        let mut pieces = Pieces::whole(Cow::Borrowed(text), at_start);
        pre_tokenizer.apply(&mut pieces);
        pieces.iter().for_each(|piece| model.encode(piece, tokens, &mut scratch, out));
    }
}

/// What is left of two texts that may have `max` tokens together: the longer one is cut to the other's length, then both,
/// the second getting what does not divide.
fn longest_first(first: usize, second: usize, max: usize) -> (usize, usize) {
    let (short, long) = (first.min(second), first.max(second));
    let (short, long) = match max {
        _ if short + long <= max => (short, long),
        _ if 2 * short <= max => (short, max - short),
        _ => (max / 2, max / 2 + max % 2),
    };
    if first > second { (long, short) } else { (short, long) }
}

/// The token of each byte in GPT-2's alphabet.
pub(crate) fn byte_symbols(tokens: &Tokens) -> Box<[Option<TokenId>; 256]> {
    let mut ids = Box::new([None; 256]);
    for byte in 0..=255_u8 {
        ids[usize::from(byte)] = tokens.id_of(byte_level::char_of(byte).encode_utf8(&mut [0; 4]));
    }
    ids
}

/// The token `<0x41>` of each byte.
pub(crate) fn byte_tokens(tokens: &Tokens) -> Box<[Option<TokenId>; 256]> {
    let mut ids = Box::new([None; 256]);
    for byte in 0..=255_u8 {
        ids[usize::from(byte)] = tokens.id_of(&format!("<0x{byte:02X}>"));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_lie_ready_agree_with_the_decoder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers");
        for name in ["bpe-gpt2", "bpe-llama3", "bpe-o200k", "bpe-qwen2"] {
            let file = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
            let tokenizer = Tokenizer::from_json(file).unwrap();
            let mut plain = tokenizer.clone();
            assert!(plain.byte_texts.take().is_some(), "{name}");
            let n_ids = tokenizer.vocab_size() as TokenId;
            let mut seed = 9_u64;
            for n_tokens in 0..200 {
                let ids: Vec<TokenId> = (0..n_tokens % 12)
                    .map(|_| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (seed >> 33) as TokenId % (n_ids + 3)
                    })
                    .chain(n_ids.checked_sub(n_tokens))
                    .collect();
                for skip_special in [false, true] {
                    assert_eq!(
                        tokenizer.decode(&ids, skip_special),
                        plain.decode(&ids, skip_special),
                        "{name}"
                    );
                }
            }
        }
    }
}
