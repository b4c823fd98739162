//! The classes of characters that byte-level tokenizers cut by, one look-up each.
//!
//! Where:  asked by [`scanner`](super::scanner) for every character.
//! Idea:   two levels: a block number for each 256 characters, and the distinct blocks of one byte of flags per character.
//!         Built once from `regex-syntax`' tables, so it agrees with the regular expressions; about 60 KB.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// `\p{L}`
pub(super) const LETTER: u8 = 1;
/// `\p{N}`
pub(super) const NUMBER: u8 = 2;
/// `\s`
pub(super) const SPACE: u8 = 4;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
pub(super) const UPPER: u8 = 8;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
pub(super) const LOWER: u8 = 16;

const BLOCK: usize = 256;

/// Flags of every character.
pub(super) struct Classes {
    ascii: [u8; 128],
    numbers: Vec<u16>,
    blocks: Vec<u8>,
}

impl Classes {
    /// The table, built at the first call.
    pub(super) fn get() -> &'static Self {
        static TABLE: OnceLock<Classes> = OnceLock::new();
        TABLE.get_or_init(Self::build)
    }

    pub(super) fn of(&self, c: char) -> u8 {
        let c = c as usize;
        match self.ascii.get(c) {
            Some(&flags) => flags,
            None => self.blocks[usize::from(self.numbers[c / BLOCK]) * BLOCK + c % BLOCK],
        }
    }

    /// The flags of an ASCII character.
    pub(super) fn of_ascii(&self, byte: u8) -> u8 {
        self.ascii[usize::from(byte)]
    }

    fn build() -> Self {
        let mut flags = vec![0_u8; char::MAX as usize + 1];
        let expressions = [
            (r"\p{L}", LETTER),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
            (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", UPPER),
            (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", LOWER),
        ];
        for (expression, flag) in expressions {
            let parsed = regex_syntax::parse(expression).expect("a class of general categories");
            let HirKind::Class(Class::Unicode(class)) = parsed.kind() else {
                unreachable!("{expression} is a class")
            };
            for range in class.iter() {
                flags[range.start() as usize..=range.end() as usize]
                    .iter_mut()
                    .for_each(|flags| *flags |= flag);
            }
        }
        let (mut numbers, mut blocks) = (Vec::new(), Vec::new());
        let mut known: HashMap<&[u8], u16> = HashMap::new();
        for block in flags.chunks(BLOCK) {
            let next = known.len() as u16;
            let number = *known.entry(block).or_insert(next);
            if number == next {
                blocks.extend_from_slice(block);
            }
            numbers.push(number);
        }
        let mut ascii = [0; 128];
        ascii.copy_from_slice(&flags[..128]);
        Self { ascii, numbers, blocks }
    }
}
