//! SentencePiece's compiled normalization rules: a trie of byte strings and what replaces them.
//!
//! Where:  `Precompiled` in `tokenizer.json`, the normalizer of `tokenizer.model`, `precompiled_charsmap` in GGUF.
//! Idea:   a double array: a node is a 32-bit unit, its child by byte `b` lies at `base ^ b`, and a unit's label tells
//!         whether that place is really a child. Every step is bounds-checked, so a broken table matches nothing.
//! Source: Darts-clone (Yata), as used in SentencePiece's `normalizer.cc`: u32 size, units, then NUL-ended replacements.

use unicode_segmentation::UnicodeSegmentation;

/// Longest text that one key is replaced by, and longest key: real ones have at most 33 and 18 bytes.
const MAX_REPLACEMENT_BYTES: usize = 256;
const MAX_KEY_BYTES: usize = 64;

/// A compiled map; empty means that nothing is replaced.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads the binary form.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or("expected at least 4 bytes")?;
        let size = u32::from_le_bytes(*size) as usize;
        if size > rest.len() || !size.is_multiple_of(4) {
            return Err(format!("expected a trie of at most {} bytes, got {size}", rest.len()));
        }
        let (trie, replacements) = rest.split_at(size);
        let longest = longest_replacement(replacements);
        if longest > MAX_REPLACEMENT_BYTES {
            return Err(format!(
                "expected replacements of at most {MAX_REPLACEMENT_BYTES} bytes, got {longest}"
            ));
        }
        let (units, _) = trie.as_chunks::<4>();
        let units = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, replacements: replacements.to_vec() })
    }

    /// How many bytes one byte of text becomes at most.
    pub(crate) fn growth(&self) -> u64 {
        longest_replacement(&self.replacements).max(1) as u64
    }

    /// The binary form.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + self.units.len() * 4 + self.replacements.len());
        if !self.units.is_empty() || !self.replacements.is_empty() {
            bytes.extend((self.units.len() as u32 * 4).to_le_bytes());
            self.units.iter().for_each(|unit| bytes.extend(unit.to_le_bytes()));
            bytes.extend(&self.replacements);
        }
        bytes
    }

    /// Hugging Face's use: whole grapheme clusters first, then single characters, each by its shortest match.
    pub(crate) fn normalize_graphemes(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for grapheme in text.graphemes(true) {
            if let Some(replacement) = self.shortest(grapheme).filter(|_| grapheme.len() < 6) {
                out.push_str(replacement);
                continue;
            }
            for c in grapheme.chars() {
                match self.shortest(c.encode_utf8(&mut [0; 4])) {
                    Some(replacement) => out.push_str(replacement),
                    None => out.push(c),
                }
            }
        }
        out
    }

    /// SentencePiece's use: the longest match at the beginning of `text` as (replacement, bytes consumed).
    pub(crate) fn longest_prefix(&self, text: &str) -> Option<(&str, usize)> {
        let mut longest = None;
        self.each_prefix(text.as_bytes(), |len, offset| longest = Some((len, offset)));
        // A broken table may end a match inside a character.
        let (len, offset) = longest.filter(|&(len, _)| text.is_char_boundary(len))?;
        Some((self.replacement(offset)?, len))
    }

    fn shortest(&self, text: &str) -> Option<&str> {
        let mut shortest = None;
        self.each_prefix(text.as_bytes(), |_, offset| {
            shortest.get_or_insert(offset);
        });
        self.replacement(shortest?)
    }

    /// Calls `each(length, offset of the replacement)` for every key that is a prefix of `text`, shortest first.
    fn each_prefix(&self, text: &[u8], mut each: impl FnMut(usize, usize)) {
        let Some(root) = self.units.first() else { return };
        let mut at = base(*root);
        for (i, &byte) in text.iter().take(MAX_KEY_BYTES).enumerate() {
            if byte == 0 {
                return;
            }
            at ^= usize::from(byte);
            let Some(&unit) = self.units.get(at) else { return };
            if label(unit) != u32::from(byte) {
                return;
            }
            at ^= base(unit);
            if has_leaf(unit)
                && let Some(&leaf) = self.units.get(at)
            {
                each(i + 1, (leaf & 0x7fff_ffff) as usize);
            }
        }
    }

    fn replacement(&self, offset: usize) -> Option<&str> {
        let rest = self.replacements.get(offset..)?;
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn longest_replacement(replacements: &[u8]) -> usize {
    replacements.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0)
}

fn base(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}

fn label(unit: u32) -> u32 {
    unit & ((1 << 31) | 0xff)
}

fn has_leaf(unit: u32) -> bool {
    (unit >> 8) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_an_error_or_matches_nothing() {
        assert!(Charsmap::parse(b"abc").is_err());
        assert!(Charsmap::parse(&[255, 255, 255, 255, 0]).is_err());
        assert!(Charsmap::parse(&[&[0; 4][..], &[b'x'; 300]].concat()).unwrap_err().contains("got 300"));
        let mut seed = 1_u32;
        for _ in 0..200 {
            let mut bytes = 64_u32.to_le_bytes().to_vec();
            bytes.extend((0..80).map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            }));
            let map = Charsmap::parse(&bytes).unwrap();
            map.normalize_graphemes("añ\u{301}x한\u{0}");
            map.longest_prefix("añ\u{301}x한\u{0}");
        }
    }
}
