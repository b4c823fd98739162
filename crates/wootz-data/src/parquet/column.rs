//! One column of a row group: its levels and values, page after page.
//!
//! Where:  assembled to rows by [`Reader`](super::Reader).
//! Idea:   one page of a column is in memory at a time, and one value is looked ahead for its levels.
//! Source: Apache Parquet, "Data Pages"; levels: Melnik et al. 2010, Dremel, §4.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::codec::unpack;
use super::metadata::{Chunk, Physical};
use super::thrift::{self, Thrift, Wrong};
use super::values::{DAMAGED, Dictionary, Rle, Values};

/// Bounds of a page: its header, its bytes, its values.
const MAX_HEADER_BYTES: u64 = 4 << 20;
const MAX_PAGE_BYTES: usize = 128 << 20;
const MAX_PAGE_VALUES: u64 = 1 << 24;

/// The levels of what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Levels {
    /// At which level it repeats: 0 begins a row
    pub rep: u16,
    /// How much of its path is there
    pub def: u16,
}

/// A column that is being read.
#[derive(Debug)]
pub(super) struct Column {
    chunk: Chunk,
    physical: Physical,
    max: Levels,
    /// Where the next page begins
    at: u64,
    /// Values in pages that were not opened
    n_left: u64,
    dictionary: Option<Dictionary>,
    page: Vec<u8>,
    n_in_page: u64,
    reps: Option<Rle>,
    defs: Option<Rle>,
    values: Option<Values>,
    next: Option<Levels>,
}

/// What a page's header says.
struct Header {
    kind: i64,
    n_packed: usize,
    n_bytes: usize,
    n_values: u64,
    encoding: i64,
    /// Bytes of levels before the values of a page of the second version, and whether the rest is packed
    apart: Option<(usize, usize, bool)>,
}

impl Column {
    pub fn new(chunk: Chunk, physical: Physical, max: Levels) -> Self {
        Self {
            chunk,
            physical,
            max,
            at: chunk.start,
            n_left: chunk.n_values,
            dictionary: None,
            page: Vec::new(),
            n_in_page: 0,
            reps: None,
            defs: None,
            values: None,
            next: None,
        }
    }

    /// Bytes that it holds.
    pub fn n_bytes(&self) -> usize {
        self.page.len() + self.dictionary.as_ref().map_or(0, Dictionary::n_bytes)
    }

    /// Levels of what comes next; `None` at its end. `room` is what a further page may take.
    pub fn peek(&mut self, file: &mut File, room: usize) -> Result<Option<Levels>, String> {
        if self.next.is_none() {
            while self.n_in_page == 0 {
                if self.n_left == 0 {
                    return Ok(None);
                }
                self.open_page(file, room)?;
            }
            self.n_in_page -= 1;
            let level = |rle: &mut Option<Rle>, max: u16| match rle {
                None => Ok(max),
                Some(rle) => rle.next(&self.page).map(|level| level as u16),
            };
            let rep = level(&mut self.reps, 0)?;
            let def = level(&mut self.defs, self.max.def)?;
            if rep > self.max.rep || def > self.max.def {
                return Err(DAMAGED.to_owned());
            }
            self.next = Some(Levels { rep, def });
        }
        Ok(self.next)
    }

    /// Takes what was looked at: the bytes of its value, if all of its path is there.
    pub fn take(&mut self) -> Result<Option<Cow<'_, [u8]>>, String> {
        let levels = self.next.take().ok_or(DAMAGED)?;
        if levels.def < self.max.def {
            return Ok(None);
        }
        let values = self.values.as_mut().ok_or(DAMAGED)?;
        Ok(Some(values.next(self.physical, &self.page, self.dictionary.as_ref())?))
    }

    fn open_page(&mut self, file: &mut File, room: usize) -> Result<(), String> {
        let header = self.header(file)?;
        if header.n_bytes > room.min(MAX_PAGE_BYTES) || header.n_packed > room.min(MAX_PAGE_BYTES) {
            return Err(format!(
                "a page has {} bytes, which is more than is taken at once",
                header.n_bytes.max(header.n_packed)
            ));
        }
        let mut packed = vec![0; header.n_packed];
        file.read_exact(&mut packed).map_err(|error| error.to_string())?;
        self.page = Vec::new();
        match header.kind {
            2 => {
                let page = unpack(self.chunk.codec, &packed, header.n_bytes)?;
                self.dictionary = Some(Dictionary::new(page, self.physical)?);
            }
            0 | 3 => self.open_data(&header, packed)?,
            _ => {}
        }
        Ok(())
    }

    fn open_data(&mut self, header: &Header, packed: Vec<u8>) -> Result<(), String> {
        if header.n_values > self.n_left.min(MAX_PAGE_VALUES) {
            return Err(DAMAGED.to_owned());
        }
        let mut at = 0;
        match header.apart {
            None => {
                self.page = unpack(self.chunk.codec, &packed, header.n_bytes)?;
                self.reps = self.levels(self.max.rep, &mut at, None)?;
                self.defs = self.levels(self.max.def, &mut at, None)?;
            }
            Some((n_reps, n_defs, is_packed)) => {
                let n_levels = n_reps
                    .checked_add(n_defs)
                    .filter(|n| *n <= packed.len() && *n <= header.n_bytes)
                    .ok_or(DAMAGED)?;
                let (levels, rest) = packed.split_at(n_levels);
                self.page = levels.to_vec();
                match is_packed && !rest.is_empty() {
                    true => self.page.extend(unpack(self.chunk.codec, rest, header.n_bytes - n_levels)?),
                    false => self.page.extend_from_slice(rest),
                }
                self.reps = self.levels(self.max.rep, &mut at, Some(n_reps))?;
                self.defs = self.levels(self.max.def, &mut at, Some(n_defs))?;
            }
        }
        // A page of absent values may have nothing behind its levels.
        self.values = match at < self.page.len() {
            true => Some(Values::new(header.encoding, self.physical, &self.page, at, header.n_values)?),
            false => None,
        };
        self.n_left -= header.n_values;
        self.n_in_page = header.n_values;
        Ok(())
    }

    /// Levels at `at`, which is moved behind them; their length stands before them unless it is known.
    fn levels(&self, max: u16, at: &mut usize, known: Option<usize>) -> Result<Option<Rle>, String> {
        let start = match known {
            Some(_) => *at,
            None if max == 0 => return Ok(None),
            None => *at + 4,
        };
        let n = match known {
            Some(n) => n,
            None => {
                let n = self.page.get(*at..start).and_then(|bytes| bytes.first_chunk()).ok_or(DAMAGED)?;
                u32::from_le_bytes(*n) as usize
            }
        };
        let end = start.checked_add(n).filter(|end| *end <= self.page.len()).ok_or(DAMAGED)?;
        *at = end;
        let width = u16::BITS - max.leading_zeros();
        Ok(if max == 0 { None } else { Some(Rle::new(start, end, width)?) })
    }

    /// Reads the header of the next page; the file then stands at the page's bytes.
    fn header(&mut self, file: &mut File) -> Result<Header, String> {
        let io = |error: std::io::Error| error.to_string();
        let mut n_read = 4096.min(MAX_HEADER_BYTES);
        loop {
            let n_bytes = n_read.min(self.chunk.end.saturating_sub(self.at));
            let mut bytes = vec![0; n_bytes as usize];
            file.seek(SeekFrom::Start(self.at)).map_err(io)?;
            file.read_exact(&mut bytes).map_err(io)?;
            match thrift::read(&bytes) {
                Ok((header, n)) => {
                    let header = Header::read(&header).ok_or(DAMAGED)?;
                    let start = self.at + n as u64;
                    self.at = start
                        .checked_add(header.n_packed as u64)
                        .filter(|end| *end <= self.chunk.end)
                        .ok_or(DAMAGED)?;
                    file.seek(SeekFrom::Start(start)).map_err(io)?;
                    return Ok(header);
                }
                Err(Wrong::Short) if n_bytes == n_read && n_read < MAX_HEADER_BYTES => n_read *= 8,
                Err(_) => return Err(DAMAGED.to_owned()),
            }
        }
    }
}

impl Header {
    fn read(header: &Thrift<'_>) -> Option<Self> {
        let size = |of: &Thrift<'_>, id| of.int(id).and_then(|n| usize::try_from(n).ok());
        let kind = header.int(1)?;
        let about = header.field(match kind {
            0 => 5,
            2 => 7,
            3 => 8,
            _ => 1,
        })?;
        let apart = match kind {
            3 => {
                let is_packed = about.field(7) != Some(&Thrift::Bool(false));
                Some((size(about, 6)?, size(about, 5)?, is_packed))
            }
            _ => None,
        };
        let is_rle = |id| about.int(id).is_none_or(|encoding| encoding == 3);
        if kind == 0 && !(is_rle(3) && is_rle(4)) {
            return None;
        }
        Some(Self {
            kind,
            n_packed: size(header, 3)?,
            n_bytes: size(header, 2)?,
            n_values: about.int(1).and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            encoding: about.int(if kind == 3 { 4 } else { 2 }).unwrap_or(0),
            apart,
        })
    }
}
