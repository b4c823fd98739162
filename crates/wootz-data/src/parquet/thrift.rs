//! Thrift's compact protocol, as far as Parquet's footers and page headers use it.
//!
//! Where:  [`metadata`](super::metadata).
//! Idea:   a struct becomes a list of numbered fields; what a reader does not ask for is parsed and dropped. Depth and number of
//!         values are bounded, so a short file cannot become a large tree.
//! Source: Apache Thrift, "Thrift Compact protocol encoding".

/// Deepest nesting, and most values of one struct with all that is in it.
const MAX_DEPTH: u32 = 12;
const MAX_VALUES: u32 = 1 << 20;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Thrift<'a> {
    Bool(bool),
    Int(i64),
    Bytes(&'a [u8]),
    List(Vec<Thrift<'a>>),
    Struct(Vec<(i16, Thrift<'a>)>),
    /// A type that Parquet does not use, or a map
    Other,
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The bytes end before it does
    Short,
    /// It is no such thing
    Malformed,
}

impl<'a> Thrift<'a> {
    /// Field `id` of a struct.
    pub fn field(&self, id: i16) -> Option<&Thrift<'a>> {
        match self {
            Self::Struct(fields) => fields.iter().find(|field| field.0 == id).map(|field| &field.1),
            _ => None,
        }
    }

    /// An integer field.
    pub fn int(&self, id: i16) -> Option<i64> {
        match self.field(id) {
            Some(Self::Int(int)) => Some(*int),
            _ => None,
        }
    }

    /// A field of bytes.
    pub fn bytes(&self, id: i16) -> Option<&'a [u8]> {
        match self.field(id) {
            Some(Self::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// A list field; one that is not there is empty.
    pub fn list(&self, id: i16) -> &[Thrift<'a>] {
        match self.field(id) {
            Some(Self::List(list)) => list,
            _ => &[],
        }
    }
}

/// Reads a struct; also how many bytes it has.
pub(super) fn read(bytes: &[u8]) -> Result<(Thrift<'_>, usize), Wrong> {
    let mut reader = Reader { bytes, at: 0, n_left: MAX_VALUES };
    let read = reader.structure(0)?;
    Ok((read, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    n_left: u32,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Wrong> {
        let byte = *self.bytes.get(self.at).ok_or(Wrong::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], Wrong> {
        let n = usize::try_from(n).map_err(|_| Wrong::Malformed)?;
        let end = self.at.checked_add(n).ok_or(Wrong::Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Wrong::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Wrong> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Wrong::Malformed)
    }

    fn zigzag(&mut self) -> Result<i64, Wrong> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn structure(&mut self, depth: u32) -> Result<Thrift<'a>, Wrong> {
        let mut fields = Vec::new();
        let mut id = 0_i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(Thrift::Struct(fields));
            }
            id = match head >> 4 {
                0 => i16::try_from(self.zigzag()?).map_err(|_| Wrong::Malformed)?,
                delta => id.checked_add(i16::from(delta)).ok_or(Wrong::Malformed)?,
            };
            // In a struct, a flag is its type.
            let value = match head & 15 {
                1 => self.counted(Thrift::Bool(true))?,
                2 => self.counted(Thrift::Bool(false))?,
                kind => self.value(kind, depth + 1)?,
            };
            fields.push((id, value));
        }
    }

    fn counted(&mut self, value: Thrift<'a>) -> Result<Thrift<'a>, Wrong> {
        self.n_left = self.n_left.checked_sub(1).ok_or(Wrong::Malformed)?;
        Ok(value)
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<Thrift<'a>, Wrong> {
        if depth > MAX_DEPTH {
            return Err(Wrong::Malformed);
        }
        let value = match kind {
            1 | 2 => Thrift::Bool(self.byte()? == 1),
            3 => Thrift::Int(i64::from(self.byte()? as i8)),
            4..=6 => Thrift::Int(self.zigzag()?),
            7 => {
                self.take(8)?;
                Thrift::Other
            }
            8 => {
                let n = self.varint()?;
                Thrift::Bytes(self.take(n)?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let n = match head >> 4 {
                    15 => self.varint()?,
                    n => u64::from(n),
                };
                // Every element has a byte at least.
                if n > (self.bytes.len() - self.at) as u64 {
                    return Err(Wrong::Short);
                }
                let elements = (0..n).map(|_| self.value(head & 15, depth + 1));
                Thrift::List(elements.collect::<Result<_, _>>()?)
            }
            11 => {
                let n = self.varint()?;
                if n > (self.bytes.len() - self.at) as u64 {
                    return Err(Wrong::Short);
                }
                let kinds = if n > 0 { self.byte()? } else { 0 };
                for _ in 0..n {
                    self.value(kinds >> 4, depth + 1)?;
                    self.value(kinds & 15, depth + 1)?;
                }
                Thrift::Other
            }
            12 => self.structure(depth)?,
            13 => {
                self.take(16)?;
                Thrift::Other
            }
            _ => return Err(Wrong::Malformed),
        };
        self.counted(value)
    }
}
