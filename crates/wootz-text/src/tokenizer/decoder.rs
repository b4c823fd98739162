//! From spelled tokens back to text.
//!
//! Where:  `decoder` in `tokenizer.json`; also made for SentencePiece and GGUF vocabularies.
//! Idea:   a chain of steps over a list of strings, which are joined at the end; exactly Hugging Face's, quirks included,
//!         because generated text is compared with theirs.
//! Source: Hugging Face `tokenizers`, `decoders`.
//! Elsewhere: decoding token by token ([`StreamDecoder`](super::StreamDecoder)).

use super::byte_level;
use super::pattern::Pattern;

/// One step, or several.
#[derive(Debug, Clone)]
pub(crate) enum Decoder {
    ByteLevel,
    Metaspace { replacement: char, drops_first: bool },
    WordPiece { prefix: String, cleanup: bool },
    ByteFallback,
    Fuse,
    Strip { content: char, start: usize, stop: usize },
    Replace { pattern: Pattern, content: String },
    Bpe { suffix: String },
    Ctc { pad_token: String, word_delimiter: String, cleanup: bool },
    Sequence(Vec<Decoder>),
}

impl Decoder {
    pub(crate) fn apply(&self, tokens: Vec<String>) -> Vec<String> {
        match self {
            Self::ByteLevel => {
                let bytes: Vec<u8> = tokens.iter().flat_map(|token| spelled_bytes(token)).collect();
                vec![String::from_utf8_lossy(&bytes).into_owned()]
            }
            Self::Metaspace { replacement, drops_first } => {
                let unescape = |(i, token): (usize, String)| {
                    if i == 0 && *drops_first {
                        token.replace(*replacement, "")
                    } else {
                        token.replace(*replacement, " ")
                    }
                };
                tokens.into_iter().enumerate().map(unescape).collect()
            }
            Self::WordPiece { prefix, cleanup } => {
                let join = |(i, token): (usize, String)| {
                    let token = match token.strip_prefix(prefix.as_str()) {
                        _ if i == 0 => token,
                        Some(rest) => rest.to_owned(),
                        None => format!(" {token}"),
                    };
                    if *cleanup { clean_up(&token) } else { token }
                };
                tokens.into_iter().enumerate().map(join).collect()
            }
            Self::ByteFallback => byte_fallback(tokens),
            Self::Fuse => vec![tokens.concat()],
            Self::Strip { content, start, stop } => {
                tokens.iter().map(|token| strip(token, *content, *start, *stop)).collect()
            }
            Self::Replace { pattern, content } => {
                tokens.iter().map(|token| replace(token, pattern, content)).collect()
            }
            Self::Bpe { suffix } => {
                let last = tokens.len().saturating_sub(1);
                let end =
                    |(i, token): (usize, String)| token.replace(suffix, if i == last { "" } else { " " });
                tokens.into_iter().enumerate().map(end).collect()
            }
            Self::Ctc { pad_token, word_delimiter, cleanup } => {
                let mut tokens = tokens;
                tokens.dedup();
                let clean = |token: String| {
                    let token = token.replace(pad_token, "");
                    if *cleanup { clean_up(&token).replace(word_delimiter, " ") } else { token }
                };
                tokens.into_iter().map(clean).filter(|token| !token.is_empty()).collect()
            }
            Self::Sequence(steps) => steps.iter().fold(tokens, |tokens, step| step.apply(tokens)),
        }
    }

    /// How many bytes one byte of a token becomes at most.
    pub(crate) fn growth(&self) -> u64 {
        match self {
            Self::Fuse | Self::Strip { .. } | Self::Metaspace { .. } => 1,
            Self::WordPiece { .. } | Self::Bpe { .. } | Self::Ctc { .. } => 2, // a space more, at most for each
            Self::ByteLevel | Self::ByteFallback => 3,                         // a broken byte becomes U+FFFD
            Self::Replace { pattern, content } => pattern.growth(content),
            Self::Sequence(steps) => steps.iter().map(Self::growth).fold(1, u64::saturating_mul),
        }
    }

    /// Whether tokens simply spell bytes, so that text can be decoded token by token.
    pub(crate) fn is_byte_level(&self) -> bool {
        match self {
            Self::ByteLevel => true,
            Self::Sequence(steps) => steps.len() == 1 && steps[0].is_byte_level(),
            _ => false,
        }
    }

    /// What a token adds in the middle of a text.
    pub(crate) fn in_context(&self, token: &str) -> String {
        const ANCHOR: &str = "x";
        let text = match self {
            Self::Bpe { suffix } => return token.replace(suffix, " "),
            _ => self.apply(vec![ANCHOR.to_owned(), token.to_owned()]).concat(),
        };
        text.strip_prefix(ANCHOR).map_or(text.clone(), str::to_owned)
    }

    /// Whether runs of `<0x41>` tokens are decoded together.
    pub(crate) fn joins_bytes(&self) -> bool {
        match self {
            Self::ByteFallback => true,
            Self::Sequence(steps) => steps.iter().any(Self::joins_bytes),
            _ => false,
        }
    }
}

/// The bytes of a token in GPT-2's alphabet; a token with other characters stands for its UTF-8.
pub(crate) fn spelled_bytes(token: &str) -> Vec<u8> {
    byte_level::bytes_of(token).unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The byte that `<0x41>` stands for.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // COMPAT: a sign before one digit is accepted, as by Rust's parser in the original.
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// A run of byte tokens is UTF-8 as a whole, or each of its bytes is a replacement character.
fn byte_fallback(tokens: Vec<String>) -> Vec<String> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut run: Vec<u8> = Vec::new();
    let end_run = |run: &mut Vec<u8>, out: &mut Vec<String>| {
        let n_bytes = run.len();
        if n_bytes > 0 {
            match String::from_utf8(std::mem::take(run)) {
                Ok(text) => out.push(text),
                Err(_) => out.extend(std::iter::repeat_n("\u{fffd}".to_owned(), n_bytes)),
            }
        }
    };
    for token in tokens {
        match fallback_byte(&token) {
            Some(byte) => run.push(byte),
            None => {
                end_run(&mut run, &mut out);
                out.push(token);
            }
        }
    }
    end_run(&mut run, &mut out);
    out
}

fn strip(token: &str, content: char, start: usize, stop: usize) -> String {
    let n_start = token.chars().take(start).take_while(|&c| c == content).count();
    let n_stop = token.chars().rev().take(stop).take_while(|&c| c == content).count();
    let n_kept = token.chars().count().saturating_sub(n_start + n_stop);
    token.chars().skip(n_start).take(n_kept).collect()
}

fn replace(token: &str, pattern: &Pattern, content: &str) -> String {
    let mut out = String::with_capacity(token.len());
    for (range, matched) in pattern.parts(token) {
        out.push_str(if matched { content } else { &token[range] });
    }
    out
}

/// Takes back the spaces before punctuation and English contractions.
fn clean_up(text: &str) -> String {
    const PAIRS: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    PAIRS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(decoder: &Decoder, tokens: &[&str], expected: &str) {
        let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
        assert_eq!(decoder.apply(tokens).concat(), expected, "{decoder:?}");
    }

    #[test]
    fn decoders_undo_what_their_models_do() {
        check(&Decoder::ByteLevel, &["Hel", "lo", "ĠÃ", "©"], "Hello é");
        check(&Decoder::Metaspace { replacement: '▁', drops_first: true }, &["▁Hi", "▁you"], "Hi you");
        let word_piece = Decoder::WordPiece { prefix: "##".into(), cleanup: true };
        check(&word_piece, &["##un", "##able", "man", ".", "do", "n't"], "##unable man. don't");
        check(
            &Decoder::ByteFallback,
            &["a", "<0xE5>", "<0x8f>", "<0xab>", "b", "<0xE5>", "<0x8f>"],
            "a叫b��",
        );
        check(&Decoder::Bpe { suffix: "</w>".into() }, &["a</w>", "b", "c</w>"], "a bc");
        let ctc = Decoder::Ctc { pad_token: "<pad>".into(), word_delimiter: "|".into(), cleanup: true };
        check(&ctc, &["<pad>", "h", "h", "e", "l", "<pad>", "l", "o", "|", "a"], "hello a");
        check(&Decoder::Strip { content: ' ', start: 1, stop: 1 }, &["  a ", " ", ""], " a");
    }
}
