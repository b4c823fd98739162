//! What the Hub says a file's content is: SHA-256 of a large file, git's blob name of a small one.
//!
//! Where:  listings and ETags name it, [`download`](crate::download) computes it while the bytes arrive.
//! Source: Git LFS pointer files (`oid sha256:…`); git's object format, `blob <size>\0<content>` under SHA-1.

use std::fmt;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// A digest of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256 of the content.
    Sha256([u8; 32]),
    /// git's name of the content. No protection against a forger; the connection is.
    GitBlob([u8; 20]),
}

impl Digest {
    /// Reads 64 or 40 hexadecimal digits; anything else is no digest.
    pub fn parse(hex: &str) -> Option<Self> {
        match hex.len() {
            64 => Some(Self::Sha256(bytes(hex)?)),
            40 => Some(Self::GitBlob(bytes(hex)?)),
            _ => None,
        }
    }

    /// Whether both are of one kind, so that a difference means another content.
    pub fn is_comparable(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes): (_, &[u8]) = match self {
            Self::Sha256(bytes) => ("sha256", bytes),
            Self::GitBlob(bytes) => ("git", bytes),
        };
        write!(f, "{kind}:")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A digest in the making.
pub(crate) struct Hasher {
    context: Context,
    kind: Digest,
}

impl Hasher {
    /// A hasher that makes a digest of the kind of `expected` over `size_bytes` bytes.
    pub fn like(expected: Digest, size_bytes: u64) -> Self {
        let algorithm = match expected {
            Digest::Sha256(_) => &SHA256,
            Digest::GitBlob(_) => &SHA1_FOR_LEGACY_USE_ONLY,
        };
        let mut context = Context::new(algorithm);
        if matches!(expected, Digest::GitBlob(_)) {
            context.update(format!("blob {size_bytes}\0").as_bytes());
        }
        Self { context, kind: expected }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let digest = self.context.finish();
        let digest = digest.as_ref();
        match self.kind {
            Digest::Sha256(_) => Digest::Sha256(digest.try_into().expect("SHA-256 has 32 bytes")),
            Digest::GitBlob(_) => Digest::GitBlob(digest.try_into().expect("SHA-1 has 20 bytes")),
        }
    }
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = (value(digits[0])? * 16 + value(digits[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_agree_with_the_plain_ones_of_the_testkit() {
        for n in [0, 1, 55, 56, 63, 64, 65, 1000] {
            let data: Vec<u8> = (0..n).map(|i| (i * 7) as u8).collect();
            for hex in [wootz_testkit::sha256_hex(&data), wootz_testkit::git_blob_sha1_hex(&data)] {
                let expected = Digest::parse(&hex).unwrap();
                let mut hasher = Hasher::like(expected, n);
                data.chunks(10).for_each(|chunk| hasher.update(chunk));
                assert_eq!(hasher.finish(), expected);
            }
        }
    }

    #[test]
    fn only_whole_digests_are_digests() {
        assert_eq!(Digest::parse(""), None);
        assert_eq!(Digest::parse(&"g".repeat(64)), None);
        assert_eq!(Digest::parse(&"+1".repeat(20)), None);
        assert_eq!(Digest::parse(&"ü".repeat(20)), None, "40 bytes, but no digits");
        assert_eq!(Digest::parse(&"ab".repeat(20)).unwrap().to_string(), format!("git:{}", "ab".repeat(20)));
    }
}
