//! GPT-2's alphabet: each of the 256 bytes as one printable character.
//!
//! Where:  byte-level BPE writes its vocabulary in it; used by the pre-tokenizer, the decoder and the model's tables.
//! Idea:   printable Latin-1 stands for itself, the other 68 bytes are moved to U+0100 and up, in order.
//! Source: Radford et al. 2019, GPT-2, `bytes_to_unicode`.

/// The character that stands for a byte.
pub(crate) fn char_of(byte: u8) -> char {
    CHARS[usize::from(byte)]
}

/// The byte that a character stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    let is_itself = matches!(c, '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}');
    if is_itself {
        return Some(c as u8);
    }
    let moved = (c as usize).checked_sub(0x100)?;
    MOVED.get(moved).copied()
}

/// The bytes that a whole spelled token stands for; `None` if a character is outside the alphabet.
pub(crate) fn bytes_of(token: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(token.len());
    push_bytes_of(token, &mut bytes).then_some(bytes)
}

/// Appends the bytes that a spelled token stands for, and says whether all of it is in the alphabet.
pub(crate) fn push_bytes_of(token: &str, bytes: &mut Vec<u8>) -> bool {
    token.chars().all(|c| byte_of(c).map(|byte| bytes.push(byte)).is_some())
}

/// Bytes as byte-level vocabularies spell them, in GPT-2's alphabet.
pub fn byte_spelling(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char_of(byte)).collect()
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

static CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let (mut byte, mut n_moved) = (0, 0);
    while byte < 256 {
        chars[byte] = if is_printable(byte as u8) {
            byte as u8 as char
        } else {
            n_moved += 1;
            match char::from_u32(0xff + n_moved) {
                Some(c) => c,
                None => unreachable!(),
            }
        };
        byte += 1;
    }
    chars
};

static MOVED: [u8; 68] = {
    let mut moved = [0; 68];
    let (mut byte, mut n) = (0, 0);
    while byte < 256 {
        if !is_printable(byte as u8) {
            moved[n] = byte as u8;
            n += 1;
        }
        byte += 1;
    }
    moved
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b' '), char_of(b'\n'), char_of(b'a')), ('Ġ', 'Ċ', 'a'));
        assert_eq!(byte_of('\u{144}'), None);
        assert_eq!(bytes_of("Ġtheé"), Some(b" the\xe9".to_vec()));
    }
}
