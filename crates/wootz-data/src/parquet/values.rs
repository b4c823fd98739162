//! Values and levels of a page, one after the other.
//!
//! Where:  [`Column`](super::column::Column).
//! Idea:   every decoder is a position in the page's bytes; nothing is expanded, so a page of a few bytes that stands for millions
//!         of equal values costs nothing until they are asked for.
//! Source: Apache Parquet, "Encodings" (Encodings.md).

use std::borrow::Cow;

use super::metadata::Physical;

/// What every decoder says of bytes that end too early or make no sense.
pub(super) const DAMAGED: &str = "a page is damaged";

type Result<T> = std::result::Result<T, &'static str>;

/// Runs of equal numbers and numbers of a few bits, mixed.
#[derive(Debug, Clone)]
pub(super) struct Rle {
    at: usize,
    end: usize,
    width: u32,
    n_left: u64,
    /// The run's number, or where the next bits are
    run: Run,
}

#[derive(Debug, Clone, Copy)]
enum Run {
    Equal(u32),
    Bits(usize),
}

impl Rle {
    pub fn new(at: usize, end: usize, width: u32) -> Result<Self> {
        if width > 32 || at > end {
            return Err(DAMAGED);
        }
        Ok(Self { at, end, width, n_left: 0, run: Run::Equal(0) })
    }

    pub fn next(&mut self, page: &[u8]) -> Result<u32> {
        while self.n_left == 0 {
            let page = page.get(..self.end).ok_or(DAMAGED)?;
            let head = varint(page, &mut self.at)?;
            self.n_left = head >> 1;
            if head & 1 == 1 {
                self.run = Run::Bits(self.at * 8);
                // Groups of eight numbers.
                let n_bytes =
                    usize::try_from(self.n_left).ok().and_then(|n| n.checked_mul(self.width as usize));
                self.at = n_bytes.and_then(|n| self.at.checked_add(n)).ok_or(DAMAGED)?.min(self.end);
                self.n_left = self.n_left.checked_mul(8).ok_or(DAMAGED)?;
            } else {
                let n = self.width.div_ceil(8) as usize;
                let bytes = page.get(self.at..self.at + n).ok_or(DAMAGED)?;
                self.run =
                    Run::Equal(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)));
                self.at += n;
            }
        }
        self.n_left -= 1;
        match &mut self.run {
            Run::Equal(value) => Ok(*value),
            Run::Bits(at) => {
                let value = bits(page.get(..self.end).ok_or(DAMAGED)?, *at, self.width)?;
                *at += self.width as usize;
                Ok(value as u32)
            }
        }
    }
}

/// Differences of integers, packed by blocks.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    at: usize,
    n_left: u64,
    n_mini: usize,
    n_each: usize,
    last: i64,
    is_first: bool,
    min: i64,
    /// Where the widths of the block are, which small block it is, how many of it were taken, and where its bits are
    widths: usize,
    mini: usize,
    taken: usize,
    bits_at: usize,
}

impl Delta {
    pub fn new(page: &[u8], mut at: usize, n_most: u64) -> Result<Self> {
        let block = varint(page, &mut at)?;
        let n_mini = varint(page, &mut at)?;
        let n_left = varint(page, &mut at)?;
        let last = zigzag(page, &mut at)?;
        let fits = (1..=512).contains(&n_mini)
            && (1..=1 << 20).contains(&block)
            && block % n_mini == 0
            && n_left <= n_most;
        if !fits || !(block / n_mini).is_multiple_of(8) {
            return Err(DAMAGED);
        }
        let (n_mini, n_each) = (n_mini as usize, (block / n_mini) as usize);
        Ok(Self {
            at,
            n_left,
            n_mini,
            n_each,
            last,
            is_first: true,
            min: 0,
            widths: 0,
            mini: n_mini,
            taken: n_each,
            bits_at: 0,
        })
    }

    pub fn next(&mut self, page: &[u8]) -> Result<i64> {
        self.n_left = self.n_left.checked_sub(1).ok_or(DAMAGED)?;
        if std::mem::take(&mut self.is_first) {
            return Ok(self.last);
        }
        if self.taken == self.n_each {
            self.mini += 1;
            self.taken = 0;
            if self.mini >= self.n_mini {
                self.min = zigzag(page, &mut self.at)?;
                self.widths = self.at;
                self.mini = 0;
                self.at = self.at.checked_add(self.n_mini).filter(|at| *at <= page.len()).ok_or(DAMAGED)?;
            }
            self.bits_at = self.at * 8;
            self.at = self.at.checked_add(self.width(page)? as usize * self.n_each / 8).ok_or(DAMAGED)?;
        }
        let width = self.width(page)?;
        let more = bits(page, self.bits_at, width)?;
        self.bits_at += width as usize;
        self.taken += 1;
        self.last = self.last.wrapping_add(self.min).wrapping_add(more as i64);
        Ok(self.last)
    }

    fn width(&self, page: &[u8]) -> Result<u32> {
        let width = page.get(self.widths + self.mini).copied().map(u32::from);
        width.filter(|width| *width <= 64).ok_or(DAMAGED)
    }

    /// Where it ends: all of it is read by a copy.
    fn end(&self, page: &[u8]) -> Result<usize> {
        let mut all = self.clone();
        while all.n_left > 0 {
            all.next(page)?;
        }
        Ok(all.at)
    }
}

/// Values of a page.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Plain(usize),
    /// Flags, a bit each
    Bits(usize),
    /// Flags in runs
    Flags(Rle),
    /// Places in the dictionary
    Dictionary(Rle),
    Delta(Delta),
    DeltaLength {
        lengths: Delta,
        at: usize,
    },
    DeltaBytes {
        prefixes: Delta,
        suffixes: Delta,
        at: usize,
        last: Vec<u8>,
    },
    /// Bytes of all values apart: the first of each, the second of each …
    Split {
        at: usize,
        n: usize,
        taken: usize,
    },
}

impl Values {
    /// Of an encoding; the values begin at `at`, and there are at most `n_most`.
    pub fn new(
        encoding: i64,
        physical: Physical,
        page: &[u8],
        at: usize,
        n_most: u64,
    ) -> std::result::Result<Self, String> {
        let wrong = || format!("encoding {encoding} of such values is not read");
        Ok(match (encoding, physical) {
            (0, Physical::Bool) => Self::Bits(at * 8),
            (0, _) => Self::Plain(at),
            (2 | 8, _) => {
                let width = *page.get(at).ok_or(DAMAGED)?;
                Self::Dictionary(Rle::new(at + 1, page.len(), u32::from(width))?)
            }
            (3, Physical::Bool) => {
                let n = page.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).ok_or(DAMAGED)?;
                let end =
                    (at + 4).checked_add(u32::from_le_bytes(*n) as usize).filter(|end| *end <= page.len());
                Self::Flags(Rle::new(at + 4, end.ok_or(DAMAGED)?, 1)?)
            }
            (5, Physical::Int32 | Physical::Int64) => Self::Delta(Delta::new(page, at, n_most)?),
            (6, Physical::Bytes) => {
                let lengths = Delta::new(page, at, n_most)?;
                let at = lengths.end(page)?;
                Self::DeltaLength { lengths, at }
            }
            (7, Physical::Bytes | Physical::Fixed(_)) => {
                let prefixes = Delta::new(page, at, n_most)?;
                let suffixes = Delta::new(page, prefixes.end(page)?, n_most)?;
                let at = suffixes.end(page)?;
                Self::DeltaBytes { prefixes, suffixes, at, last: Vec::new() }
            }
            (
                9,
                Physical::Int32 | Physical::Int64 | Physical::Float | Physical::Double | Physical::Fixed(_),
            ) => {
                let n = page.len().saturating_sub(at) / size(physical).ok_or_else(wrong)?;
                Self::Split { at, n, taken: 0 }
            }
            _ => return Err(wrong()),
        })
    }

    /// The bytes of the next value; a flag is a byte.
    pub fn next<'a>(
        &mut self,
        physical: Physical,
        page: &'a [u8],
        dictionary: Option<&'a Dictionary>,
    ) -> Result<Cow<'a, [u8]>> {
        Ok(match self {
            Self::Plain(at) => Cow::Borrowed(plain(physical, page, at)?),
            Self::Bits(at) => {
                *at += 1;
                Cow::Owned(vec![bits(page, *at - 1, 1)? as u8])
            }
            Self::Flags(rle) => Cow::Owned(vec![(rle.next(page)? & 1) as u8]),
            Self::Dictionary(rle) => {
                let i = rle.next(page)? as usize;
                Cow::Borrowed(dictionary.and_then(|dictionary| dictionary.get(i)).ok_or(DAMAGED)?)
            }
            Self::Delta(delta) => {
                let value = delta.next(page)?;
                Cow::Owned(match physical {
                    Physical::Int32 => (value as i32).to_le_bytes().to_vec(),
                    _ => value.to_le_bytes().to_vec(),
                })
            }
            Self::DeltaLength { lengths, at } => {
                let n = usize::try_from(lengths.next(page)?).map_err(|_| DAMAGED)?;
                Cow::Borrowed(slice(page, at, n)?)
            }
            Self::DeltaBytes { prefixes, suffixes, at, last } => {
                let kept =
                    usize::try_from(prefixes.next(page)?).ok().filter(|n| *n <= last.len()).ok_or(DAMAGED)?;
                let n = usize::try_from(suffixes.next(page)?).map_err(|_| DAMAGED)?;
                last.truncate(kept);
                last.extend_from_slice(slice(page, at, n)?);
                Cow::Owned(last.clone())
            }
            Self::Split { at, n, taken } => {
                let i = *taken;
                *taken += 1;
                let n_bytes = size(physical).filter(|_| i < *n).ok_or(DAMAGED)?;
                Cow::Owned((0..n_bytes).map(|byte| page[*at + byte * *n + i]).collect())
            }
        })
    }
}

/// A column chunk's dictionary: its page, and where values begin.
#[derive(Debug)]
pub(super) struct Dictionary {
    page: Vec<u8>,
    physical: Physical,
    /// Of values of unequal lengths
    places: Vec<u32>,
}

impl Dictionary {
    pub fn new(page: Vec<u8>, physical: Physical) -> Result<Self> {
        let mut places = Vec::new();
        if physical == Physical::Bytes {
            let mut at = 0;
            while at < page.len() {
                places.push(u32::try_from(at).map_err(|_| DAMAGED)?);
                plain(physical, &page, &mut at)?;
            }
        }
        Ok(Self { page, physical, places })
    }

    fn get(&self, i: usize) -> Option<&[u8]> {
        let mut at = match size(self.physical) {
            Some(n) => i.checked_mul(n)?,
            None => *self.places.get(i)? as usize,
        };
        plain(self.physical, &self.page, &mut at).ok()
    }

    pub fn n_bytes(&self) -> usize {
        self.page.len() + 4 * self.places.len()
    }
}

/// Bytes of a value, where all have as many.
fn size(physical: Physical) -> Option<usize> {
    match physical {
        Physical::Bool => Some(1),
        Physical::Int32 | Physical::Float => Some(4),
        Physical::Int64 | Physical::Double => Some(8),
        Physical::Int96 => Some(12),
        Physical::Fixed(n) => Some(n),
        Physical::Bytes => None,
    }
}

fn plain<'a>(physical: Physical, page: &'a [u8], at: &mut usize) -> Result<&'a [u8]> {
    let n = match size(physical) {
        Some(n) => n,
        None => u32::from_le_bytes(*slice(page, at, 4)?.first_chunk().ok_or(DAMAGED)?) as usize,
    };
    slice(page, at, n)
}

fn slice<'a>(page: &'a [u8], at: &mut usize, n: usize) -> Result<&'a [u8]> {
    let end = at.checked_add(n).ok_or(DAMAGED)?;
    let taken = page.get(*at..end).ok_or(DAMAGED)?;
    *at = end;
    Ok(taken)
}

fn varint(page: &[u8], at: &mut usize) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *page.get(*at).ok_or(DAMAGED)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DAMAGED)
}

fn zigzag(page: &[u8], at: &mut usize) -> Result<i64> {
    let value = varint(page, at)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// `width` bits, lowest first, from bit `at` on.
fn bits(page: &[u8], at: usize, width: u32) -> Result<u64> {
    if width == 0 {
        return Ok(0);
    }
    let (first, shift) = (at / 8, at % 8);
    let n = (shift + width as usize).div_ceil(8);
    let bytes = page.get(first..first + n).ok_or(DAMAGED)?;
    let all = bytes.iter().rev().fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
    Ok((all >> shift) as u64 & (u64::MAX >> (64 - width)))
}
