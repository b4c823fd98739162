//! How a normalized text is cut into the pieces that the model sees one by one.
//!
//! Where:  `pre_tokenizer` in `tokenizer.json`; also made for GGUF vocabularies.
//! Idea:   a closed list of steps over a list of pieces. Most steps only cut, so pieces are ranges of one buffer; the few
//!         that change text (`Metaspace`, `ByteLevel`) write a new one.
//! Source: Hugging Face `tokenizers`, `pre_tokenizers`.

use std::borrow::Cow;
use std::ops::Range;

use unicode_categories::UnicodeCategories;

use super::byte_level;
use super::pattern::{Behavior, Part, Pattern, parts_by};
use super::scanner::Scanner;
use super::scripts::Scripts;

/// One step, or several.
#[derive(Debug, Clone)]
pub(crate) enum PreTokenizer {
    /// Cuts by GPT-2's expression if there is one, then spells bytes in the alphabet unless the model wants bytes.
    ByteLevel {
        add_prefix_space: bool,
        regex: Option<Pattern>,
        spell: bool,
    },
    Metaspace {
        replacement: char,
        prepend: Prepend,
        split: bool,
    },
    /// Words and runs of symbols; what lies between vanishes.
    Whitespace(Pattern),
    WhitespaceSplit,
    Split {
        pattern: Pattern,
        behavior: Behavior,
        invert: bool,
    },
    Punctuation(Behavior),
    Digits {
        individual: bool,
    },
    Bert,
    UnicodeScripts(Scripts),
    CharDelimiter(char),
    FixedLength(usize),
    Sequence(Vec<PreTokenizer>),
}

/// Where `Metaspace` puts a replacement of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepend {
    Always,
    /// Only where the input begins.
    First,
    Never,
}

/// The pieces of a text, in order.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    text: Cow<'a, str>,
    spans: Vec<Range<usize>>,
    /// Whether the first piece begins where the whole input begins.
    at_start: bool,
}

impl<'a> Pieces<'a> {
    /// The whole text as one piece.
    pub(crate) fn whole(text: Cow<'a, str>, at_start: bool) -> Self {
        let whole = 0..text.len();
        Self { text, spans: vec![whole], at_start }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|span| &self.text[span.clone()])
    }

    /// Cuts every piece; empty pieces vanish.
    fn cut(&mut self, cut: impl Fn(&str) -> Vec<Range<usize>>) {
        let mut spans = Vec::with_capacity(self.spans.len());
        for (i, span) in self.spans.iter().enumerate() {
            let ranges = cut(&self.text[span.clone()]);
            if i == 0 {
                self.at_start &= ranges.first().is_some_and(|range| range.start == 0);
            }
            let shifted = ranges.into_iter().map(|range| range.start + span.start..range.end + span.start);
            spans.extend(shifted.filter(|range| !range.is_empty()));
        }
        self.spans = spans;
    }

    /// Rewrites every piece into a new buffer; `write` gets the piece and whether it begins the input.
    fn rewrite(&mut self, write: impl Fn(&str, bool, &mut String)) {
        let mut text = String::with_capacity(self.text.len() + self.text.len() / 2);
        let mut spans = Vec::with_capacity(self.spans.len());
        for (i, span) in self.spans.iter().enumerate() {
            let start = text.len();
            write(&self.text[span.clone()], self.at_start && i == 0, &mut text);
            spans.push(start..text.len());
        }
        self.text = Cow::Owned(text);
        self.spans = spans;
    }
}

impl PreTokenizer {
    /// The scanner that does all of the work, if there is one.
    pub(crate) fn sole_scanner(&self) -> Option<Scanner> {
        match self {
            Self::Split {
                pattern: Pattern::Scanner(scanner),
                behavior: Behavior::Isolated,
                invert: false,
            } => Some(*scanner),
            Self::ByteLevel {
                add_prefix_space: false,
                regex: Some(Pattern::Scanner(scanner)),
                spell: false,
            } => Some(*scanner),
            Self::Sequence(steps) => match steps.as_slice() {
                [step] | [step, Self::ByteLevel { add_prefix_space: false, regex: None, spell: false }] => {
                    step.sole_scanner()
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// How many bytes one byte of text becomes at most.
    pub(crate) fn growth(&self) -> u64 {
        match self {
            Self::ByteLevel { spell: true, .. } => 4, // a space before every piece, two bytes for each
            Self::ByteLevel { .. } => 2,
            Self::Metaspace { replacement, .. } => 2 * replacement.len_utf8() as u64,
            Self::Sequence(steps) => steps.iter().map(Self::growth).fold(1, u64::saturating_mul),
            _ => 1,
        }
    }

    pub(crate) fn apply(&self, pieces: &mut Pieces) {
        let by =
            |behavior: Behavior, parts: fn(&str) -> Vec<Part>| move |text: &str| behavior.pieces(parts(text));
        match self {
            Self::ByteLevel { add_prefix_space, regex, spell } => {
                if *add_prefix_space {
                    pieces.rewrite(|piece, _, out| {
                        if !piece.starts_with(' ') {
                            out.push(' ');
                        }
                        out.push_str(piece);
                    });
                }
                if let Some(regex) = regex {
                    pieces.cut(|text| Behavior::Isolated.pieces(regex.parts(text)));
                }
                if *spell {
                    pieces.rewrite(|piece, _, out| out.extend(piece.bytes().map(byte_level::char_of)));
                }
            }
            Self::Metaspace { replacement, prepend, split } => {
                pieces
                    .rewrite(|piece, at_start, out| metaspace(piece, at_start, *replacement, *prepend, out));
                if *split {
                    pieces.cut(|text| Behavior::MergedWithNext.pieces(parts_by(text, |c| c == *replacement)));
                }
            }
            Self::Whitespace(words) => pieces.cut(|text| {
                let mut found = Vec::new();
                words.each_match(text, |range| found.push(range));
                found
            }),
            Self::WhitespaceSplit => {
                pieces.cut(by(Behavior::Removed, |text| parts_by(text, char::is_whitespace)));
            }
            Self::Split { pattern, behavior, invert } => pieces.cut(|text| {
                let mut parts = pattern.parts(text);
                parts.iter_mut().for_each(|part| part.1 ^= invert);
                behavior.pieces(parts)
            }),
            Self::Punctuation(behavior) => pieces.cut(by(*behavior, |text| parts_by(text, is_punctuation))),
            Self::Digits { individual } => {
                let behavior = if *individual { Behavior::Isolated } else { Behavior::Contiguous };
                pieces.cut(by(behavior, |text| parts_by(text, char::is_numeric)));
            }
            Self::Bert => {
                pieces.cut(by(Behavior::Removed, |text| parts_by(text, char::is_whitespace)));
                pieces.cut(by(Behavior::Isolated, |text| parts_by(text, is_punctuation)));
            }
            Self::UnicodeScripts(scripts) => pieces.cut(|text| scripts.runs(text)),
            Self::CharDelimiter(delimiter) => {
                pieces.cut(|text| Behavior::Removed.pieces(parts_by(text, |c| c == *delimiter)));
            }
            Self::FixedLength(length) => pieces.cut(|text| fixed_length(text, *length)),
            Self::Sequence(steps) => steps.iter().for_each(|step| step.apply(pieces)),
        }
    }
}

fn metaspace(piece: &str, at_start: bool, replacement: char, prepend: Prepend, out: &mut String) {
    let begins_with_it = piece.starts_with(' ') || piece.starts_with(replacement);
    let prepends = match prepend {
        Prepend::Always => !begins_with_it,
        Prepend::First => !begins_with_it && at_start,
        Prepend::Never => false,
    };
    if prepends {
        out.push(replacement);
    }
    out.extend(piece.chars().map(|c| if c == ' ' { replacement } else { c }));
}

fn fixed_length(text: &str, length: usize) -> Vec<Range<usize>> {
    let mut starts: Vec<usize> = text.char_indices().map(|(start, _)| start).step_by(length).collect();
    starts.push(text.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

pub(crate) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(step: &PreTokenizer, text: &str, expected: &[&str]) {
        let mut pieces = Pieces::whole(Cow::Borrowed(text), true);
        step.apply(&mut pieces);
        assert_eq!(pieces.iter().collect::<Vec<_>>(), expected, "{step:?}");
    }

    #[test]
    fn steps_cut_as_hugging_face_documents() {
        let metaspace = |prepend, split| PreTokenizer::Metaspace { replacement: '▁', prepend, split };
        check(&metaspace(Prepend::Always, true), "Hey my  friend", &["▁Hey", "▁my", "▁", "▁friend"]);
        check(&metaspace(Prepend::Never, false), "a b", &["a▁b"]);
        check(&PreTokenizer::WhitespaceSplit, " Hi you! ", &["Hi", "you!"]);
        check(&PreTokenizer::Bert, "Hey friend!?", &["Hey", "friend", "!", "?"]);
        check(&PreTokenizer::Digits { individual: false }, "a123b", &["a", "123", "b"]);
        check(&PreTokenizer::Digits { individual: true }, "a12", &["a", "1", "2"]);
        check(&PreTokenizer::FixedLength(2), "añb", &["añ", "b"]);
        check(&PreTokenizer::CharDelimiter('-'), "a--b", &["a", "b"]);
    }

    #[test]
    fn metaspace_first_prepends_only_at_the_start_of_the_input() {
        let step = PreTokenizer::Sequence(vec![
            PreTokenizer::CharDelimiter('-'),
            PreTokenizer::Metaspace { replacement: '▁', prepend: Prepend::First, split: true },
        ]);
        check(&step, "a-b", &["▁a", "b"]);
        check(&step, "-a-b", &["a", "b"]);
    }
}
