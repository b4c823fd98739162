//! Encoded examples on disk: written once in order, read at random.
//!
//! Where:  made by [`prepare`](crate::prepare), read by the trainer's loader.
//! Idea:   one file: a header, records one after the other, and an index that alone is kept in memory (24 bytes an example). The
//!         header is written last and the file renamed when it is whole, so a file under its name is complete.
//! Elsewhere: the order of reading ([`Blend`](crate::Blend)), what an example teaches ([`encode_chat`](crate::encode_chat)).
//!
//! # Format
//! Little-endian. Header, 64 bytes: `WOOTZPRE`, version u32, vocabulary u32, fingerprint 16 bytes, number of records u64, place of
//! the index u64, 0. A record: kind u8; its sequences, each a number of tokens u32, ids u32, bits of supervision in bytes; of a
//! prompt an answer's length u32 and its UTF-8 (u32::MAX: none); CRC-32 of all that. Index, for each record: place u64, hash of
//! its contents u64, tokens u32, supervised tokens u32.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use wootz_text::TokenId;

use crate::order::mix;
use crate::{Encoded, Error, Fingerprint};

const MAGIC: &[u8; 8] = b"WOOTZPRE";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 64;
const ENTRY_BYTES: u64 = 24;
/// Longest record: no example has so many tokens.
const MAX_RECORD_BYTES: u64 = 256 << 20;

/// An example as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreparedExample {
    /// Tokens, some of them learned
    Plain(Encoded),
    /// Two answers to one prompt, each with the prompt before it
    Pair {
        /// The better one
        chosen: Encoded,
        /// The worse one
        rejected: Encoded,
    },
    /// An answer that is good, or not, with its prompt before it
    Label {
        /// Both
        answer: Encoded,
        /// Whether it is good
        is_good: bool,
    },
    /// Something to answer
    Prompt {
        /// Its tokens
        token_ids: Vec<TokenId>,
        /// What is right
        answer: Option<String>,
    },
}

/// A store of examples.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    file: Mutex<File>,
    fingerprint: [u8; 16],
    vocab_size: u32,
    entries: Vec<Entry>,
    /// Where the last record ends
    end: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u64,
    hash: u64,
    n_tokens: u32,
    n_supervised: u32,
}

impl PreparedExample {
    /// Its sequences, each with the bits of what is learned; a prompt has none of these.
    fn sequences(&self) -> Vec<(&[TokenId], &[bool])> {
        match self {
            Self::Plain(encoded) | Self::Label { answer: encoded, .. } => {
                vec![(&encoded.token_ids, &encoded.supervised)]
            }
            Self::Pair { chosen, rejected } => {
                vec![(&chosen.token_ids, &chosen.supervised), (&rejected.token_ids, &rejected.supervised)]
            }
            Self::Prompt { token_ids, .. } => vec![(token_ids, &[])],
        }
    }

    /// Tokens of all its sequences.
    pub fn n_tokens(&self) -> usize {
        self.sequences().iter().map(|sequence| sequence.0.len()).sum()
    }

    /// Tokens that are learned.
    pub fn n_supervised(&self) -> usize {
        self.sequences().iter().flat_map(|sequence| sequence.1).filter(|is| **is).count()
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Plain(_) => 0,
            Self::Pair { .. } => 1,
            Self::Label { is_good: false, .. } => 2,
            Self::Label { is_good: true, .. } => 3,
            Self::Prompt { .. } => 4,
        }
    }
}

impl Prepared {
    /// Opens a store. Reads header and index; records are read when they are asked for.
    ///
    /// # Errors
    /// A file that cannot be read, or is not a whole store.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let wrong = |message: String| Error::Prepared { path: path.to_owned(), message };
        let mut file = File::open(path).map_err(io)?;
        let n_bytes = file.metadata().map_err(io)?.len();
        if n_bytes < HEADER_BYTES {
            return Err(wrong(format!("expected at least {HEADER_BYTES} bytes, got {n_bytes}")));
        }
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact(&mut header).map_err(io)?;
        if &header[..8] != MAGIC {
            return Err(wrong("expected a store of encoded examples, got something else".to_owned()));
        }
        let word = |at: usize| u32::from_le_bytes(*header[at..].first_chunk().expect("within the header"));
        let long = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().expect("within the header"));
        if word(8) != VERSION {
            return Err(wrong(format!("expected version {VERSION}, got {}", word(8))));
        }
        let (n_records, end) = (long(32), long(40));
        let fits = n_records.checked_mul(ENTRY_BYTES).and_then(|n| n.checked_add(end)) == Some(n_bytes);
        if !fits || end < HEADER_BYTES {
            return Err(wrong(format!(
                "expected an index of {n_records} records behind byte {end}, got {n_bytes} bytes"
            )));
        }
        file.seek(SeekFrom::Start(end)).map_err(io)?;
        // `n_records · 24` is at most the file's own size.
        let mut bytes = vec![0; (n_records * ENTRY_BYTES) as usize];
        file.read_exact(&mut bytes).map_err(io)?;
        let entries: Vec<Entry> =
            bytes.as_chunks::<{ ENTRY_BYTES as usize }>().0.iter().map(Entry::read).collect();
        let store = Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            fingerprint: *header[16..].first_chunk().expect("within the header"),
            vocab_size: word(12),
            entries,
            end,
        };
        store.check_index()?;
        Ok(store)
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it was made from inputs with this fingerprint.
    pub fn is_of(&self, fingerprint: Fingerprint) -> bool {
        self.fingerprint == fingerprint.to_bytes()
    }

    /// Tokens of all sequences of example `i`. Reads nothing.
    pub fn n_tokens(&self, i: usize) -> usize {
        self.entries[i].n_tokens as usize
    }

    /// Supervised tokens of example `i`. Reads nothing.
    pub fn n_supervised(&self, i: usize) -> usize {
        self.entries[i].n_supervised as usize
    }

    /// Example `i`.
    ///
    /// # Errors
    /// A record that cannot be read or was damaged.
    ///
    /// # Panics
    /// If there is no example `i`.
    pub fn get(&self, i: usize) -> Result<PreparedExample, Error> {
        let entry = self.entries[i];
        let until = self.entries.get(i + 1).map_or(self.end, |next| next.at);
        let mut record = vec![0; (until - entry.at) as usize];
        {
            let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let read = file.seek(SeekFrom::Start(entry.at)).and_then(|_| file.read_exact(&mut record));
            read.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        }
        let example = decode(&record, self.vocab_size);
        let example = example.map_err(|message| self.wrong(format!("record {i}: {message}")))?;
        let counts = (example.n_tokens(), example.n_supervised());
        if counts != (entry.n_tokens as usize, entry.n_supervised as usize) {
            return Err(self
                .wrong(format!("record {i}: expected as many tokens as the index says, got {}", counts.0)));
        }
        Ok(example)
    }

    /// Splits into examples to learn from and examples to measure with, in their order.
    ///
    /// An example's side is decided by its contents and the seed, so equal examples are on one side and more examples elsewhere
    /// change nothing: of a share, those whose hash is small enough; of a number, those with the smallest hashes (more, where
    /// the last of them has equals).
    pub fn split(&self, held_out: HeldOutExamples, seed: u64) -> (Vec<u32>, Vec<u32>) {
        let rank = |entry: &Entry| mix(entry.hash ^ mix(seed));
        let limit = match held_out {
            HeldOutExamples::Share(share) if share <= 0.0 => None,
            HeldOutExamples::Number(0) => None,
            // COMPAT: a float's `as` saturates, so a share of 1 is everything.
            HeldOutExamples::Share(share) => Some((share * 2_f64.powi(64)) as u64),
            HeldOutExamples::Number(n) => {
                let mut ranks: Vec<u64> = self.entries.iter().map(rank).collect();
                ranks.sort_unstable();
                Some(ranks.get(n - 1).copied().unwrap_or(u64::MAX))
            }
        };
        let all = 0..self.entries.len() as u32;
        all.partition(|&i| limit.is_none_or(|limit| rank(&self.entries[i as usize]) > limit))
    }

    fn wrong(&self, message: String) -> Error {
        Error::Prepared { path: self.path.clone(), message }
    }

    fn check_index(&self) -> Result<(), Error> {
        if u32::try_from(self.entries.len()).is_err() {
            return Err(self.wrong(format!(
                "expected at most {} records, got {}",
                u32::MAX,
                self.entries.len()
            )));
        }
        let mut at = HEADER_BYTES;
        for (i, entry) in self.entries.iter().enumerate() {
            let until = self.entries.get(i + 1).map_or(self.end, |next| next.at);
            // Kind, a length and the sum, then four bytes a token and no fewer bits than are supervised.
            let least = 1 + 4 + 4 + 4 * u64::from(entry.n_tokens);
            let fits = entry.at == at
                && until >= entry.at
                && (least..=MAX_RECORD_BYTES).contains(&(until - entry.at))
                && entry.n_supervised <= entry.n_tokens;
            if !fits {
                return Err(self.wrong(format!("record {i}: the index contradicts itself")));
            }
            at = until;
        }
        match at == self.end {
            true => Ok(()),
            false => Err(self.wrong(format!("expected records up to byte {}, got {at}", self.end))),
        }
    }
}

/// How much is held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeldOutExamples {
    /// A share, 0 to 1
    Share(f64),
    /// So many
    Number(usize),
}

impl Entry {
    fn read(bytes: &[u8; ENTRY_BYTES as usize]) -> Self {
        let long = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the entry"));
        let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("within the entry"));
        Self { at: long(0), hash: long(8), n_tokens: word(16), n_supervised: word(20) }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(&self.at.to_le_bytes())?;
        out.write_all(&self.hash.to_le_bytes())?;
        out.write_all(&self.n_tokens.to_le_bytes())?;
        out.write_all(&self.n_supervised.to_le_bytes())
    }
}

/// A store that is being written; dropped before [`finish`](PreparedWriter::finish), it leaves nothing.
#[derive(Debug)]
pub struct PreparedWriter {
    path: PathBuf,
    partial: PathBuf,
    /// `None` when it is finished
    file: Option<BufWriter<File>>,
    fingerprint: Fingerprint,
    vocab_size: u32,
    entries: Vec<Entry>,
    at: u64,
}

impl PreparedWriter {
    /// Begins a store that will replace what is at `path`.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn create(path: &Path, fingerprint: Fingerprint, vocab_size: u32) -> Result<Self, Error> {
        let partial = path.with_added_extension(format!("{}.partial", std::process::id()));
        let io = |source| Error::Io { path: partial.clone(), source };
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial).map_err(io)?);
        file.write_all(&[0; HEADER_BYTES as usize]).map_err(io)?;
        let path = path.to_owned();
        Ok(Self {
            path,
            partial,
            file: Some(file),
            fingerprint,
            vocab_size,
            entries: Vec::new(),
            at: HEADER_BYTES,
        })
    }

    /// Adds an example.
    ///
    /// # Errors
    /// A full disk; more than 2³² examples; an example of more than 256 MiB.
    ///
    /// # Panics
    /// If a token id is not below the vocabulary's size, or bits and tokens differ in number.
    pub fn push(&mut self, example: &PreparedExample) -> Result<(), Error> {
        let record = encode(example, self.vocab_size);
        if record.len() as u64 > MAX_RECORD_BYTES || self.entries.len() >= u32::MAX as usize {
            let message = format!(
                "expected a record of at most {} MiB, got {}",
                MAX_RECORD_BYTES >> 20,
                record.len() >> 20
            );
            return Err(Error::Prepared { path: self.path.clone(), message });
        }
        let file = self.file.as_mut().expect("`finish` takes the writer");
        file.write_all(&record).map_err(|source| Error::Io { path: self.partial.clone(), source })?;
        self.entries.push(Entry {
            at: self.at,
            hash: Fingerprint::short(&record),
            n_tokens: example.n_tokens() as u32,
            n_supervised: example.n_supervised() as u32,
        });
        self.at += record.len() as u64;
        Ok(())
    }

    /// Writes the index and the header, makes all of it lasting, gives it its name, and opens it.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(mut self) -> Result<Prepared, Error> {
        let file = self.file.take().expect("`finish` takes the writer");
        let written = self.write_end(file);
        if let Err(source) = written {
            let _ = std::fs::remove_file(&self.partial);
            return Err(Error::Io { path: self.path.clone(), source });
        }
        Prepared::open(&self.path)
    }

    fn write_end(&self, mut file: BufWriter<File>) -> std::io::Result<()> {
        self.entries.iter().try_for_each(|entry| entry.write(&mut file))?;
        let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&self.vocab_size.to_le_bytes());
        header.extend_from_slice(&self.fingerprint.to_bytes());
        header.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        header.extend_from_slice(&self.at.to_le_bytes());
        header.resize(HEADER_BYTES as usize, 0);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header)?;
        file.sync_all()?;
        std::fs::rename(&self.partial, &self.path)
    }
}

impl Drop for PreparedWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

fn encode(example: &PreparedExample, vocab_size: u32) -> Vec<u8> {
    let mut record = vec![example.kind()];
    for (token_ids, supervised) in example.sequences() {
        record.extend_from_slice(&(token_ids.len() as u32).to_le_bytes());
        for &id in token_ids {
            assert!(id < vocab_size, "token {id} of {vocab_size}");
            record.extend_from_slice(&id.to_le_bytes());
        }
        if let PreparedExample::Prompt { answer, .. } = example {
            let n = answer.as_ref().map_or(u32::MAX, |answer| answer.len() as u32);
            record.extend_from_slice(&n.to_le_bytes());
            record.extend_from_slice(answer.as_deref().unwrap_or_default().as_bytes());
        } else {
            assert_eq!(token_ids.len(), supervised.len(), "a bit a token");
            record.extend(
                supervised
                    .chunks(8)
                    .map(|bits| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit))),
            );
        }
    }
    let crc = crc(&record);
    record.extend_from_slice(&crc.to_le_bytes());
    record
}

/// Reads a record; the error says what is wrong with it.
fn decode(record: &[u8], vocab_size: u32) -> Result<PreparedExample, String> {
    let (body, sum) = record.split_last_chunk::<4>().ok_or("it is too short")?;
    if crc(body) != u32::from_le_bytes(*sum) {
        return Err("it was damaged: its sum differs".to_owned());
    }
    let mut rest = Rest { bytes: body, vocab_size };
    let example = match rest.take(1)?[0] {
        0 => PreparedExample::Plain(rest.encoded()?),
        1 => PreparedExample::Pair { chosen: rest.encoded()?, rejected: rest.encoded()? },
        kind @ (2 | 3) => PreparedExample::Label { answer: rest.encoded()?, is_good: kind == 3 },
        4 => {
            let token_ids = rest.token_ids()?;
            let answer = match rest.count()? {
                u32::MAX => None,
                n => {
                    let text = std::str::from_utf8(rest.take(n as usize)?);
                    Some(text.map_err(|_| "expected UTF-8")?.to_owned())
                }
            };
            PreparedExample::Prompt { token_ids, answer }
        }
        kind => return Err(format!("expected a kind of 0 to 4, got {kind}")),
    };
    match rest.bytes.len() {
        0 => Ok(example),
        n => Err(format!("expected its end, got {n} more bytes")),
    }
}

struct Rest<'a> {
    bytes: &'a [u8],
    vocab_size: u32,
}

impl<'a> Rest<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(n)
            .ok_or_else(|| format!("expected {n} more bytes, got {}", self.bytes.len()))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn count(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(*self.take(4)?.first_chunk().expect("four bytes were taken")))
    }

    fn token_ids(&mut self) -> Result<Vec<TokenId>, String> {
        let n = self.count()? as usize;
        let bytes = self.take(n.checked_mul(4).ok_or("too many tokens")?)?;
        let token_ids: Vec<TokenId> =
            bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        match token_ids.iter().find(|&&id| id >= self.vocab_size) {
            Some(id) => Err(format!("expected a token below {}, got {id}", self.vocab_size)),
            None => Ok(token_ids),
        }
    }

    fn encoded(&mut self) -> Result<Encoded, String> {
        let token_ids = self.token_ids()?;
        let bits = self.take(token_ids.len().div_ceil(8))?;
        let supervised = (0..token_ids.len()).map(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect();
        Ok(Encoded { token_ids, supervised })
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(n: u32) -> Encoded {
        Encoded {
            token_ids: (0..n).map(|i| i * 7 % 100).collect(),
            supervised: (0..n).map(|i| i % 3 == 1).collect(),
        }
    }

    fn examples() -> Vec<PreparedExample> {
        let mut examples: Vec<_> = (0..40).map(|n| PreparedExample::Plain(encoded(n))).collect();
        examples.push(PreparedExample::Pair { chosen: encoded(9), rejected: encoded(17) });
        examples.push(PreparedExample::Label { answer: encoded(8), is_good: true });
        examples.push(PreparedExample::Label { answer: encoded(8), is_good: false });
        examples.push(PreparedExample::Prompt { token_ids: vec![1, 2], answer: Some("säß".to_owned()) });
        examples.push(PreparedExample::Prompt { token_ids: vec![], answer: None });
        examples
    }

    fn store(path: &Path, examples: &[PreparedExample]) -> Prepared {
        let mut writer = PreparedWriter::create(path, Fingerprint::default().with("a", b"b"), 100).unwrap();
        examples.iter().for_each(|example| writer.push(example).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let examples = examples();
        let store = store(&folder.path().join("train.prepared"), &examples);
        assert_eq!(store.len(), examples.len());
        for i in (0..examples.len()).rev() {
            assert_eq!(store.get(i).unwrap(), examples[i], "{i}");
            assert_eq!(
                (store.n_tokens(i), store.n_supervised(i)),
                (examples[i].n_tokens(), examples[i].n_supervised())
            );
        }
        assert!(store.is_of(Fingerprint::default().with("a", b"b")));
        assert!(!store.is_of(Fingerprint::default().with("a", b"c")));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_store_that_is_not_finished_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.prepared");
        let mut writer = PreparedWriter::create(&path, Fingerprint::default(), 100).unwrap();
        writer.push(&examples()[5]).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_damage_goes_unnoticed_or_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let examples = examples();
        let n_records = examples.len();
        store(&path, &examples);
        let whole = std::fs::read(&path).unwrap();
        let read_all = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Prepared::open(&path)
                .and_then(|store| (0..store.len()).map(|i| store.get(i)).collect::<Result<Vec<_>, _>>())
        };
        for n in (0..whole.len()).step_by(61) {
            assert!(read_all(&whole[..n]).is_err(), "cut at {n}");
        }
        let index = whole.len() - n_records * ENTRY_BYTES as usize;
        for at in (0..64).chain((64..whole.len()).step_by(7)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            // The fingerprint, what is kept free, and hashes of contents are not checked against anything.
            let is_free = (16..32).contains(&at) || (48..64).contains(&at);
            let is_hash = at >= index && (8..16).contains(&((at - index) % ENTRY_BYTES as usize));
            // A larger vocabulary allows what a smaller one does.
            let is_vocabulary = (12..16).contains(&at);
            assert!(read_all(&bytes).is_err() || is_free || is_hash || is_vocabulary, "changed at {at}");
        }
    }

    #[test]
    fn a_side_depends_on_contents_alone() {
        let folder = tempfile::tempdir().unwrap();
        let one = |i: u32| {
            PreparedExample::Plain(Encoded { token_ids: vec![i % 100, i / 100], supervised: vec![true; 2] })
        };
        let examples: Vec<_> = (0..2000).map(|i| one(i % 1000)).collect();
        let store = store(&folder.path().join("a"), &examples);
        for held_out in [HeldOutExamples::Share(0.1), HeldOutExamples::Number(100)] {
            let (train, held) = store.split(held_out, 5);
            assert_eq!(train.len() + held.len(), 2000);
            assert!((60..280).contains(&held.len()), "{}", held.len());
            let contents =
                |side: &[u32]| side.iter().map(|i| i % 1000).collect::<std::collections::BTreeSet<_>>();
            assert!(contents(&train).is_disjoint(&contents(&held)), "equal examples on both sides");
        }
        assert_eq!(store.split(HeldOutExamples::Number(0), 5).1.len(), 0);
        assert_eq!(store.split(HeldOutExamples::Share(0.0), 5).1.len(), 0);
        assert_eq!(store.split(HeldOutExamples::Share(1.0), 5).0.len(), 0);
        assert_eq!(store.split(HeldOutExamples::Number(5000), 5).0.len(), 0);
        assert_ne!(
            store.split(HeldOutExamples::Number(9), 5).1,
            store.split(HeldOutExamples::Number(9), 6).1
        );
    }
}
