//! A computed beginning: tokens with the keys and values of their blocks, in memory and on disk.
//!
//! Where:  taken from and given to an [`Engine`](crate::Engine); a conversation that is put away for later is one.
//! Idea:   what the tree of prefixes holds, outside of it. A restored beginning is in the tree as if it had just been
//!         computed, and any request that begins like it finds it.
//!
//! The file, all numbers little-endian: `WOOTZKV1`, the model's identity (16 bytes), tokens, bytes of a block (u64 each),
//! the tokens (u32 each), the blocks, and a checksum of everything before it (u64).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use wootz_text::TokenId;
use wootz_weights::AtomicFile;

use crate::identity::{Identity, checksum};
use crate::runner::BLOCK_LEN;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"WOOTZKV1";
const HEADER_BYTES: usize = 8 + 16 + 8 + 8;

/// Tokens, a whole number of blocks of them, and what was computed for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The tokens.
    pub token_ids: Vec<TokenId>,
    /// For every [`BLOCK_LEN`] tokens, what the device keeps.
    pub blocks: Vec<Vec<u8>>,
}

/// What a file may hold, and what it must be for.
#[derive(Clone, Copy, Debug)]
pub struct PrefixLimits {
    /// The model and the way its states are kept.
    pub identity: Identity,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Blocks that there is room for.
    pub max_blocks: usize,
    /// Bytes of a block.
    pub bytes_a_block: usize,
}

impl Prefix {
    /// Writes a file that is there as a whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path, limits: &PrefixLimits) -> Result<()> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&limits.identity.0);
        header.extend_from_slice(&(self.token_ids.len() as u64).to_le_bytes());
        header.extend_from_slice(&(limits.bytes_a_block as u64).to_le_bytes());
        let ids: Vec<u8> = self.token_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let mut file = AtomicFile::create(path)?;
        let mut sum = 0;
        for part in [&header, &ids].into_iter().chain(&self.blocks) {
            file.write(part)?;
            sum = checksum(sum, part);
        }
        file.write(&sum.to_le_bytes())?;
        Ok(file.commit()?)
    }

    /// Reads a file. At most what there is room for is allocated.
    ///
    /// # Errors
    /// [`Error::PrefixFile`] for a file of another model, one that is too large, cut off or changed.
    pub fn read(path: &Path, limits: &PrefixLimits) -> Result<Self> {
        let fail = |message: String| Error::PrefixFile { path: path.to_owned(), message };
        let io = |error: std::io::Error| fail(error.to_string());
        let mut file = File::open(path).map_err(io)?;
        let n_bytes = file.metadata().map_err(io)?.len();
        let mut header = [0_u8; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|_| fail("expected a header, got fewer bytes".to_owned()))?;
        if &header[..8] != MAGIC {
            return Err(fail("it holds no computed beginning".to_owned()));
        }
        if header[8..24] != limits.identity.0 {
            return Err(fail("it was made by another model, or with other states".to_owned()));
        }
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (n_tokens, bytes_a_block) = (number(24), number(32));
        let most = (limits.max_blocks * BLOCK_LEN) as u64;
        if n_tokens > most || n_tokens % BLOCK_LEN as u64 != 0 {
            return Err(fail(format!("expected up to {most} tokens in whole blocks, got {n_tokens}")));
        }
        if bytes_a_block != limits.bytes_a_block as u64 {
            return Err(fail(format!(
                "expected {} bytes a block, got {bytes_a_block}",
                limits.bytes_a_block
            )));
        }
        let n_blocks = n_tokens / BLOCK_LEN as u64;
        let expected = HEADER_BYTES as u64 + 4 * n_tokens + n_blocks * bytes_a_block + 8;
        if n_bytes != expected {
            return Err(fail(format!("expected {expected} bytes, got {n_bytes}")));
        }
        let mut sum = checksum(0, &header);
        let mut part = |n: usize, is_summed: bool| {
            let mut bytes = vec![0; n];
            file.read_exact(&mut bytes).map_err(io)?;
            sum = if is_summed { checksum(sum, &bytes) } else { sum };
            Ok::<_, Error>((bytes, sum))
        };
        let (ids, _) = part(4 * n_tokens as usize, true)?;
        let (ids, _) = ids.as_chunks::<4>();
        let token_ids: Vec<TokenId> = ids.iter().map(|bytes| TokenId::from_le_bytes(*bytes)).collect();
        let blocks = (0..n_blocks).map(|_| Ok(part(limits.bytes_a_block, true)?.0));
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let (stored, sum) = part(8, false)?;
        if stored != sum.to_le_bytes() {
            return Err(fail("it was changed since it was written".to_owned()));
        }
        if let Some(id) = token_ids.iter().find(|id| **id as usize >= limits.vocab_size) {
            return Err(fail(format!("token {id} is not among the {} of the vocabulary", limits.vocab_size)));
        }
        Ok(Self { token_ids, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> PrefixLimits {
        PrefixLimits { identity: Identity([7; 16]), vocab_size: 100, max_blocks: 4, bytes_a_block: 24 }
    }

    fn prefix() -> Prefix {
        Prefix { token_ids: (0..128).map(|i| i % 100).collect(), blocks: vec![vec![1; 24], vec![2; 24]] }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        prefix().write(&path, &limits()).unwrap();
        assert_eq!(Prefix::read(&path, &limits()).unwrap(), prefix());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn files_of_others_and_broken_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        prefix().write(&path, &limits()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let refuse = |bytes: &[u8], limits: PrefixLimits, expected: &str| {
            std::fs::write(&path, bytes).unwrap();
            let error = Prefix::read(&path, &limits).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refuse(&whole, PrefixLimits { identity: Identity([8; 16]), ..limits() }, "another model");
        refuse(&whole, PrefixLimits { max_blocks: 1, ..limits() }, "up to 64 tokens");
        refuse(&whole, PrefixLimits { bytes_a_block: 8, ..limits() }, "bytes a block");
        refuse(&whole, PrefixLimits { vocab_size: 50, ..limits() }, "token 50");
        for len in [0, 7, 39, 40, whole.len() - 1] {
            refuse(&whole[..len], limits(), "expected");
        }
        refuse(&[whole.as_slice(), &[0]].concat(), limits(), "expected");
        for at in (0..whole.len()).step_by(5) {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            refuse(&changed, limits(), "");
        }
        let mut huge = whole.clone();
        huge[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        refuse(&huge, limits(), "tokens");
    }
}
