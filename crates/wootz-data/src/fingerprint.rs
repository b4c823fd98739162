//! Whether something was made from the same inputs: 128 bits of all of them.
//!
//! Where:  kept in a [`Prepared`](crate::Prepared) store, so that it is made again when a corpus, a tokenizer or a setting changes.
//! Idea:   two streams of multiply-and-shift mixing over words of 8 bytes; each input goes in with its name and length, so no two
//!         lists of inputs read alike. It finds changes; it is no defence against somebody who makes two inputs collide.
//! Source: the mixing is SplitMix64's, Steele, Lea, Flood 2014.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::Error;
use crate::order::mix;

/// 128 bits of named inputs, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u64; 2]);

impl Default for Fingerprint {
    /// Of nothing.
    fn default() -> Self {
        Self([0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b])
    }
}

impl Fingerprint {
    /// With one more input.
    #[must_use]
    pub fn with(mut self, name: &str, contents: &[u8]) -> Self {
        self.bytes(name.as_bytes());
        self.word(name.len() as u64);
        self.bytes(contents);
        self.word(contents.len() as u64);
        self
    }

    /// With the contents of a file, but not its name: a corpus that was moved is the same.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn with_file(mut self, path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let mut chunk = vec![0; 1 << 18];
        let mut n_bytes = 0;
        loop {
            let mut n = 0;
            while n < chunk.len() {
                match file.read(&mut chunk[n..]).map_err(io)? {
                    0 => break,
                    more => n += more,
                }
            }
            if n == 0 {
                break;
            }
            self.bytes(&chunk[..n]);
            n_bytes += n as u64;
        }
        self.word(n_bytes);
        Ok(self)
    }

    /// As bytes, for a header.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_le_bytes());
        bytes
    }

    /// 64 bits of contents alone.
    pub(crate) fn short(contents: &[u8]) -> u64 {
        Self::default().with("", contents).0[0]
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        if !tail.is_empty() {
            let mut word = [0; 8];
            word[..tail.len()].copy_from_slice(tail);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn word(&mut self, word: u64) {
        self.0[0] = mix(self.0[0] ^ word);
        self.0[1] = mix(self.0[1].rotate_left(23) ^ word ^ 0x5851_f42d_4c95_7f2d);
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_counts_and_so_do_its_borders() {
        let of = |parts: &[(&str, &[u8])]| {
            parts.iter().fold(Fingerprint::default(), |all, part| all.with(part.0, part.1))
        };
        let all = [
            of(&[]),
            of(&[("a", b"bc")]),
            of(&[("ab", b"c")]),
            of(&[("a", b"b"), ("", b"c")]),
            of(&[("a", b"bc\0")]),
            of(&[("a", b"cb")]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other != one), "{i}");
        }
    }

    #[test]
    fn a_file_is_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let contents: Vec<u8> = (0..700_001_u32).map(|i| (i * 7) as u8).collect();
        for path in &paths {
            std::fs::write(path, &contents).unwrap();
        }
        let of = |path: &Path| Fingerprint::default().with_file(path).unwrap();
        assert_eq!(of(&paths[0]), of(&paths[1]));
        std::fs::write(&paths[1], &contents[1..]).unwrap();
        assert_ne!(of(&paths[0]), of(&paths[1]));
    }
}
