//! Runs of one script, for the pre-tokenizer `UnicodeScripts`.
//!
//! Where:  built when a `tokenizer.json` asks for it.
//! Idea:   the ranges of every script come from `regex-syntax`' tables, merged into one sorted list.
//! Source: Hugging Face `tokenizers`, `UnicodeScripts`; SentencePiece's rule that Japanese scripts are one.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex_syntax::hir::{Class, HirKind};

/// Sorted, disjoint ranges of characters with the number of their script; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Scripts {
    ranges: Arc<[(u32, u32, u16)]>,
}

/// Scripts as Unicode spells them; the first three are one.
const NAMES: &[&str] = &[
    "Han",
    "Hiragana",
    "Katakana",
    "Common",
    "Inherited",
    "Adlam",
    "Ahom",
    "Anatolian_Hieroglyphs",
    "Arabic",
    "Armenian",
    "Avestan",
    "Balinese",
    "Bamum",
    "Bassa_Vah",
    "Batak",
    "Bengali",
    "Bhaiksuki",
    "Bopomofo",
    "Brahmi",
    "Braille",
    "Buginese",
    "Buhid",
    "Canadian_Aboriginal",
    "Carian",
    "Caucasian_Albanian",
    "Chakma",
    "Cham",
    "Cherokee",
    "Coptic",
    "Cuneiform",
    "Cypriot",
    "Cyrillic",
    "Deseret",
    "Devanagari",
    "Duployan",
    "Egyptian_Hieroglyphs",
    "Elbasan",
    "Ethiopic",
    "Georgian",
    "Glagolitic",
    "Gothic",
    "Grantha",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Hangul",
    "Hanunoo",
    "Hatran",
    "Hebrew",
    "Imperial_Aramaic",
    "Inscriptional_Pahlavi",
    "Inscriptional_Parthian",
    "Javanese",
    "Kaithi",
    "Kannada",
    "Kayah_Li",
    "Kharoshthi",
    "Khmer",
    "Khojki",
    "Khudawadi",
    "Lao",
    "Latin",
    "Lepcha",
    "Limbu",
    "Linear_A",
    "Linear_B",
    "Lisu",
    "Lycian",
    "Lydian",
    "Mahajani",
    "Malayalam",
    "Mandaic",
    "Manichaean",
    "Marchen",
    "Meetei_Mayek",
    "Mende_Kikakui",
    "Meroitic_Cursive",
    "Meroitic_Hieroglyphs",
    "Miao",
    "Modi",
    "Mongolian",
    "Mro",
    "Multani",
    "Myanmar",
    "Nabataean",
    "New_Tai_Lue",
    "Newa",
    "Nko",
    "Ogham",
    "Ol_Chiki",
    "Old_Hungarian",
    "Old_Italic",
    "Old_North_Arabian",
    "Old_Permic",
    "Old_Persian",
    "Old_South_Arabian",
    "Old_Turkic",
    "Oriya",
    "Osage",
    "Osmanya",
    "Pahawh_Hmong",
    "Palmyrene",
    "Pau_Cin_Hau",
    "Phags_Pa",
    "Phoenician",
    "Psalter_Pahlavi",
    "Rejang",
    "Runic",
    "Samaritan",
    "Saurashtra",
    "Sharada",
    "Shavian",
    "Siddham",
    "SignWriting",
    "Sinhala",
    "Sora_Sompeng",
    "Sundanese",
    "Syloti_Nagri",
    "Syriac",
    "Tagalog",
    "Tagbanwa",
    "Tai_Le",
    "Tai_Tham",
    "Tai_Viet",
    "Takri",
    "Tamil",
    "Tangut",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Tifinagh",
    "Tirhuta",
    "Ugaritic",
    "Vai",
    "Warang_Citi",
    "Yi",
];

/// COMPAT: the prolonged sound mark counts as Han, the space as any script.
const SOUND_MARK: char = '\u{30fc}';

impl Scripts {
    /// The table, built at the first call, which takes some milliseconds.
    pub(crate) fn get() -> Self {
        static TABLE: OnceLock<Scripts> = OnceLock::new();
        TABLE.get_or_init(Self::build).clone()
    }

    fn build() -> Self {
        let mut ranges: Vec<(u32, u32, u16)> = Vec::new();
        for (script, name) in NAMES.iter().enumerate() {
            // COMPAT: characters that came after Unicode 9 have no script.
            let class = format!(r"[\p{{Script={name}}}&&\p{{Age=9.0}}]");
            let parsed = regex_syntax::parse(&class).expect("the tables know all names");
            let HirKind::Class(Class::Unicode(class)) = parsed.kind() else { continue };
            ranges
                .extend(class.iter().map(|range| (range.start() as u32, range.end() as u32, script as u16)));
        }
        ranges.sort_unstable();
        Self { ranges: ranges.into() }
    }

    /// The runs of one script each; spaces and unknown characters belong to the run around them.
    pub(crate) fn runs(&self, text: &str) -> Vec<Range<usize>> {
        let mut starts = Vec::new();
        let mut last = None;
        for (at, c) in text.char_indices() {
            let script = self.script(c);
            if script.is_some() && script != last {
                starts.push(at);
            }
            if script.is_some() {
                last = script;
            }
        }
        starts.push(text.len());
        starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    fn script(&self, c: char) -> Option<u16> {
        if c == SOUND_MARK {
            return Some(0);
        }
        if c == ' ' {
            return None;
        }
        // COMPAT: characters whose script changed after Unicode 9 keep the old one: Devanagari's and that of digits.
        let c = match c {
            '\u{953}' | '\u{954}' => '\u{950}',
            '\u{589}' | '\u{61b}' | '\u{61c}' => '1',
            c => c,
        };
        let at = self.ranges.partition_point(|range| range.1 < c as u32);
        let range = self.ranges.get(at).filter(|range| range.0 <= c as u32)?;
        Some(if range.2 <= 2 { 0 } else { range.2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_after_unicode_9_belong_to_no_script() {
        assert_eq!(Scripts::get().runs("\u{20bf}xй"), [3..4, 4..6]);
        assert_eq!(Scripts::get().runs("ص\u{61c}ص"), [0..2, 2..4, 4..6]);
        assert_eq!(Scripts::get().runs("ऋ\u{954}ऋx"), [0..9, 9..10]);
    }

    #[test]
    fn japanese_scripts_are_one_and_spaces_belong_to_any() {
        let text = "どこで生れ。Yes Да";
        let runs = Scripts::get().runs(text);
        assert_eq!(
            runs.into_iter().map(|run| &text[run]).collect::<Vec<_>>(),
            ["どこで生れ", "。", "Yes ", "Да"]
        );
    }
}
