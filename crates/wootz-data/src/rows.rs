//! The rows of a corpus, one after the other.
//!
//! Where:  read by [`Documents`](crate::Documents) and [`Examples`](crate::Examples).
//! Idea:   a file's name says its format and packing. Of files with lines one line is in memory at a time, and a line has a
//!         bound. A row knows where it stands, so that whatever is wrong with it can be found.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Error, parquet};

/// Longest line of a file, and longest file that is one JSON list.
const MAX_LINE_BYTES: u64 = 256 << 20;
const MAX_LIST_BYTES: u64 = 1 << 30;
/// The known endings of names.
const ENDINGS: &str =
    "`.txt`, `.jsonl`, `.ndjson`, `.json` or `.csv`, perhaps followed by `.gz` or `.zst`, or in `.parquet`";

/// A row and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its fields; a line of text is the field `text`
    pub fields: Map<String, Value>,
    /// Its place
    pub place: Place,
}

/// Where a row stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file
    pub path: Arc<Path>,
    /// The line, or the row of a list or table; counted from 1
    pub line: u64,
}

impl Place {
    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        Error::Line { path: self.path.to_path_buf(), line: self.line, message: message.into() }
    }
}

/// An iterator over the rows of files, in their order.
#[derive(Debug)]
pub struct Rows {
    paths: VecDeque<Arc<Path>>,
    open: Option<Open>,
}

impl Rows {
    /// Of these files.
    ///
    /// # Errors
    /// A file that is not there, or whose name says no known format: before anything is read.
    pub fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        for path in paths {
            Kind::of(path)?;
            std::fs::metadata(path).map_err(|source| Error::Io { path: path.clone(), source })?;
        }
        Ok(Self { paths: paths.iter().map(|path| Arc::from(path.as_path())).collect(), open: None })
    }

    fn read(&mut self) -> Result<Option<Row>, Error> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(path) = self.paths.pop_front() else { return Ok(None) };
                self.open = Some(Open::new(path)?);
                continue;
            };
            match open.next()? {
                Some(row) => return Ok(Some(row)),
                None => self.open = None,
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Whether a name says a known format.
pub(crate) fn is_known(path: &Path) -> bool {
    Kind::of(path).is_ok()
}

/// What a file consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    JsonLines,
    JsonList,
    Csv,
    Parquet,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Kind {
    fn of(path: &Path) -> Result<(Self, Packing), Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let (name, packing) = match name.rsplit_once('.') {
            Some((name, "gz")) => (name, Packing::Gzip),
            Some((name, "zst")) => (name, Packing::Zstd),
            _ => (name.as_str(), Packing::None),
        };
        match name.rsplit_once('.') {
            Some((_, "txt")) => Ok((Self::Text, packing)),
            Some((_, "jsonl" | "ndjson")) => Ok((Self::JsonLines, packing)),
            Some((_, "json")) => Ok((Self::JsonList, packing)),
            Some((_, "csv")) => Ok((Self::Csv, packing)),
            // It is packed within, and read at many places at once.
            Some((_, "parquet")) if packing == Packing::None => Ok((Self::Parquet, packing)),
            _ => Err(Error::Format { path: path.to_owned(), expected: ENDINGS }),
        }
    }
}

/// A file that is being read.
struct Open {
    place: Place,
    source: Source,
}

type Reader = Box<dyn BufRead + Send>;

enum Source {
    Text(Reader),
    JsonLines(Reader),
    List(std::vec::IntoIter<Value>),
    Csv(csv::StringRecord, Box<csv::Reader<Reader>>),
    Parquet(Box<parquet::Reader>),
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Open {
    fn new(path: Arc<Path>) -> Result<Self, Error> {
        let (kind, packing) = Kind::of(&path)?;
        let place = Place { path, line: 0 };
        if kind == Kind::Parquet {
            let file = File::open(&place.path);
            let file = file.map_err(|source| Error::Io { path: place.path.to_path_buf(), source })?;
            let reader = parquet::Reader::open(file).map_err(|message| place.error(message))?;
            return Ok(Self { place, source: Source::Parquet(Box::new(reader)) });
        }
        let reader = unpacked(&place.path, packing)?;
        let source = match kind {
            Kind::Text => Source::Text(reader),
            Kind::JsonLines => Source::JsonLines(reader),
            Kind::JsonList => Source::List(list(reader, &place)?.into_iter()),
            Kind::Csv => {
                let mut reader = csv::ReaderBuilder::new().from_reader(reader);
                let head = reader.headers().map_err(|error| place.error(error.to_string()))?.clone();
                Source::Csv(head, Box::new(reader))
            }
            Kind::Parquet => unreachable!("it was opened before"),
        };
        Ok(Self { place, source })
    }

    fn next(&mut self) -> Result<Option<Row>, Error> {
        self.place.line += 1;
        let fields = match &mut self.source {
            Source::Text(reader) => next_line(reader, &self.place)?
                .map(|line| Map::from_iter([("text".to_owned(), Value::String(line))])),
            Source::JsonLines(reader) => loop {
                match next_line(reader, &self.place)? {
                    None => break None,
                    Some(line) if line.trim().is_empty() => self.place.line += 1,
                    Some(line) => {
                        let row = serde_json::from_str(&line)
                            .map_err(|error| self.place.error(format!("expected a JSON object: {error}")))?;
                        break Some(row);
                    }
                }
            },
            Source::List(values) => match values.next() {
                None => None,
                Some(Value::Object(fields)) => Some(fields),
                Some(_) => return Err(self.place.error("expected a JSON object")),
            },
            Source::Csv(head, reader) => {
                let mut record = csv::StringRecord::new();
                let more = reader.read_record(&mut record);
                match more.map_err(|error| self.place.error(error.to_string()))? {
                    true => {
                        let cells = head.iter().zip(&record);
                        Some(cells.map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect())
                    }
                    false => None,
                }
            }
            Source::Parquet(reader) => reader.next().map_err(|message| self.place.error(message))?,
        };
        Ok(fields.map(|fields| Row { fields, place: self.place.clone() }))
    }
}

fn unpacked(path: &Path, packing: Packing) -> Result<Reader, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(io)?);
    Ok(match packing {
        Packing::None => Box::new(file),
        Packing::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        Packing::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(file)
                .map_err(|error| io(std::io::Error::other(error.to_string())))?;
            Box::new(BufReader::with_capacity(1 << 18, decoder))
        }
    })
}

fn next_line(reader: &mut Reader, place: &Place) -> Result<Option<String>, Error> {
    let mut line = Vec::new();
    let read = reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
    read.map_err(|source| Error::Io { path: place.path.to_path_buf(), source })?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
        return Err(place.error(format!("expected at most {} MiB", MAX_LINE_BYTES >> 20)));
    }
    text(line, place).map(Some)
}

fn text(bytes: Vec<u8>, place: &Place) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| {
        place.error(format!("expected UTF-8, got a wrong byte at {}", error.utf8_error().valid_up_to()))
    })
}

fn list(reader: Reader, place: &Place) -> Result<Vec<Value>, Error> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Io { path: place.path.to_path_buf(), source })?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        let message = "expected at most 1 GiB of one JSON list\nhint: a row a line (`.jsonl`) has no bound";
        return Err(place.error(message));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Array(rows)) => Ok(rows),
        Ok(_) => Err(place.error("expected a list of JSON objects")),
        Err(error) => Err(place.error(format!("expected a list of JSON objects: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn rows(name: &str, contents: &[u8]) -> Result<Vec<(u64, Value)>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        Rows::open(&[path])?.map(|row| row.map(|row| (row.place.line, Value::Object(row.fields)))).collect()
    }

    #[test]
    fn every_format_gives_rows_with_their_places() {
        let row = |text: &str| serde_json::json!({"text": text});
        assert_eq!(rows("a.txt", b"one\ntwo").unwrap(), [(1, row("one\n")), (2, row("two"))]);
        let lines = b"{\"text\":\"a\"}\n\n{\"text\":\"b\"}";
        assert_eq!(rows("a.jsonl", lines).unwrap(), [(1, row("a")), (3, row("b"))]);
        assert_eq!(rows("a.json", br#"[{"text":"a"}]"#).unwrap(), [(1, row("a"))]);
        let csv = b"prompt,answer\n\"a, \"\"b\"\"\nc\",d\n";
        let expected = serde_json::json!({"prompt": "a, \"b\"\nc", "answer": "d"});
        assert_eq!(rows("a.csv", csv).unwrap(), [(1, expected)]);
    }

    #[test]
    fn a_packed_file_is_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"{\"text\":\"a\"}\n").unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(rows("a.jsonl.gz", &packed).unwrap()[0].1["text"], "a");
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let packed = ruzstd::encoding::compress_to_vec(&b"{\"text\":\"b\"}"[..], level);
        assert_eq!(rows("a.jsonl.zst", &packed).unwrap()[0].1["text"], "b");
    }

    #[test]
    fn errors_name_file_and_line() {
        for (name, contents, said) in [
            ("a.jsonl", &b"{\"text\":\"a\"}\n{\"text\""[..], "line 2: expected a JSON object"),
            ("a.json", b"{}", "expected a list of JSON objects"),
            ("a.json", b"[{},1]", "line 2: expected a JSON object"),
            ("a.csv", b"a,b\n1\n", "line 1: CSV error"),
            ("a.txt", b"a\n\xff\n", "line 2: expected UTF-8, got a wrong byte at 0"),
            ("a.doc", b"", "expected a name that ends in"),
            ("a.txt.zst", b"nothing", "could not read"),
        ] {
            let error = rows(name, contents).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }
}
