//! API keys: who may come in.
//!
//! Where:  checked for every request but `/health` and `/ready`.
//! Idea:   only digests are kept, so neither memory dumps nor files give a key away, and comparing two of them takes
//!         the same time wherever they differ.

use ring::digest::{SHA256, digest};

/// A key, as its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    digest: [u8; 32],
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an API key has {} to {} visible ASCII characters, got {got}", ApiKey::MIN_LEN, ApiKey::MAX_LEN)]
pub struct KeyError {
    got: String,
}

impl ApiKey {
    /// Fewest characters.
    pub const MIN_LEN: usize = 8;
    /// Most characters.
    pub const MAX_LEN: usize = 256;

    /// A key from its text.
    ///
    /// # Errors
    /// Too short, too long, or characters that no header can carry.
    pub fn new(key: &str) -> Result<Self, KeyError> {
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&key.len()) {
            return Err(KeyError { got: format!("{} bytes", key.len()) });
        }
        match key.chars().find(|c| !c.is_ascii_graphic()) {
            Some(c) => Err(KeyError { got: format!("{c:?} in it") }),
            None => Ok(Self { digest: sha256(key) }),
        }
    }

    /// Whether `key` is this key.
    pub(crate) fn is(&self, key: &str) -> bool {
        let other = sha256(key);
        // No early exit: the time says nothing about where the digests differ.
        self.digest.iter().zip(&other).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }
}

fn sha256(key: &str) -> [u8; 32] {
    digest(&SHA256, key.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_compared_by_digest() {
        let key = ApiKey::new("correct-horse").unwrap();
        assert!(key.is("correct-horse") && !key.is("correct-hors") && !key.is(""));
        assert!(!format!("{key:?}").contains("horse"));
        assert!(ApiKey::new("short").is_err() && ApiKey::new("with a space").is_err());
    }
}
