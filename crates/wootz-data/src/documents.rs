//! The texts of a corpus, one after the other.
//!
//! Where:  read by [`learn_tokenizer`](crate::learn_tokenizer).
//! Idea:   a file's name says its format (`.txt`, `.jsonl`, packed as `.gz` or `.zst`). One line is in memory at a time, and
//!         a line has a bound.
//! Elsewhere: rows with roles and labels for training, once there is training.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::Error;

/// Longest line of a file.
const MAX_LINE_BYTES: u64 = 256 << 20;
/// The known endings of names.
const ENDINGS: &str = "`.txt`, `.jsonl` or `.ndjson`, perhaps followed by `.gz` or `.zst`";

/// Where a row keeps its text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Field {
    /// `text`; else what is said in `messages` or `conversations`; else `prompt`, `completion`, `chosen`, `rejected`
    #[default]
    Usual,
    /// This field: a string, or something that contains strings, which are all read
    Named(String),
}

/// An iterator over the texts of files, in their order.
///
/// A text file gives its lines, each with its line break; a row of JSON gives the strings of its field.
#[derive(Debug)]
pub struct Documents {
    paths: VecDeque<PathBuf>,
    field: Field,
    open: Option<Lines>,
    /// Texts of the last row that were not given out yet.
    waiting: VecDeque<String>,
}

impl Documents {
    /// Of these files.
    ///
    /// # Errors
    /// A file that is not there, or whose name says no known format: before anything is read.
    pub fn open(paths: &[PathBuf], field: Field) -> Result<Self, Error> {
        for path in paths {
            Kind::of(path)?;
            std::fs::metadata(path).map_err(|source| Error::Io { path: path.clone(), source })?;
        }
        Ok(Self { paths: paths.iter().cloned().collect(), field, open: None, waiting: VecDeque::new() })
    }

    fn read(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(text) = self.waiting.pop_front() {
                return Ok(Some(text));
            }
            let Some(lines) = &mut self.open else {
                let Some(path) = self.paths.pop_front() else { return Ok(None) };
                self.open = Some(Lines::open(path)?);
                continue;
            };
            match lines.next()? {
                None => self.open = None,
                Some(line) if lines.kind == Kind::Text => return Ok(Some(line)),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => {
                    let row: Map<String, Value> = serde_json::from_str(&line)
                        .map_err(|error| lines.error(format!("expected a JSON object: {error}")))?;
                    let texts = texts_of(row, &self.field).map_err(|message| lines.error(message))?;
                    self.waiting.extend(texts);
                }
            }
        }
    }
}

impl Iterator for Documents {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// What the lines of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    JsonLines,
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
            _ => Err(Error::Format { path: path.to_owned(), expected: ENDINGS }),
        }
    }
}

/// The lines of one file.
struct Lines {
    path: PathBuf,
    kind: Kind,
    reader: Box<dyn BufRead + Send>,
    line: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Lines {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let (kind, packing) = Kind::of(&path)?;
        let io = |source| Error::Io { path: path.clone(), source };
        let file = BufReader::with_capacity(1 << 18, File::open(&path).map_err(io)?);
        let reader: Box<dyn BufRead + Send> = match packing {
            Packing::None => Box::new(file),
            Packing::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
            Packing::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(file)
                    .map_err(|error| io(std::io::Error::other(error.to_string())))?;
                Box::new(BufReader::with_capacity(1 << 18, decoder))
            }
        };
        Ok(Self { path, kind, reader, line: 0 })
    }

    fn next(&mut self) -> Result<Option<String>, Error> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        read.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        if line.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if line.len() as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
            return Err(self.error(format!("expected at most {} MiB", MAX_LINE_BYTES >> 20)));
        }
        let text = String::from_utf8(line).map_err(|error| {
            self.error(format!("expected UTF-8, got a wrong byte at {}", error.utf8_error().valid_up_to()))
        })?;
        Ok(Some(text))
    }

    fn error(&self, message: String) -> Error {
        Error::Line { path: self.path.clone(), line: self.line, message }
    }
}

/// The texts of a row.
fn texts_of(mut row: Map<String, Value>, field: &Field) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    let keys = || row.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match field {
        Field::Named(name) if !row.contains_key(name) => {
            return Err(format!("expected the field `{name}`, got {}", keys()));
        }
        Field::Named(name) => strings_in(row.remove(name).unwrap_or_default(), &mut texts),
        Field::Usual => {
            let talk = ["messages", "conversations"].iter().find(|name| row.contains_key(**name));
            if row.contains_key("text") {
                strings_in(row.remove("text").unwrap_or_default(), &mut texts);
            } else if let Some(talk) = talk {
                said_in(row.remove(*talk).unwrap_or_default(), &mut texts);
            } else {
                let known = keys();
                for name in ["instruction", "input", "output", "prompt", "completion", "chosen", "rejected"] {
                    strings_in(row.remove(name).unwrap_or_default(), &mut texts);
                }
                if texts.is_empty() {
                    return Err(format!("expected a field `text`, `messages` or `prompt`, got {known}"));
                }
            }
        }
    }
    Ok(texts)
}

/// All strings in a value.
fn strings_in(value: Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| strings_in(value, texts)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| strings_in(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What messages say, without their roles.
fn said_in(messages: Value, texts: &mut Vec<String>) {
    let Value::Array(messages) = messages else { return };
    for message in messages {
        let Value::Object(mut message) = message else { continue };
        for name in ["content", "value"] {
            strings_in(message.remove(name).unwrap_or_default(), texts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn texts(name: &str, contents: &[u8], field: Field) -> Result<Vec<String>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        Documents::open(&[path], field)?.collect()
    }

    #[test]
    fn lines_of_text_keep_their_ends() {
        let read = texts("a.txt", b"one\n\ntwo", Field::Usual).unwrap();
        assert_eq!(read, ["one\n", "\n", "two"]);
    }

    #[test]
    fn rows_give_what_they_say() {
        let rows = br#"{"text":"a","licence":"x"}

            {"messages":[{"role":"user","content":"b"},{"role":"assistant","content":[{"type":"text","text":"c"}]}]}
            {"prompt":"d","chosen":"e","rejected":"f"}"#;
        let read = texts("a.jsonl", rows, Field::Usual).unwrap();
        assert_eq!(read, ["a", "b", "text", "c", "d", "e", "f"]);
        let read = texts("a.jsonl", br#"{"body":["g",{"h":"i"}]}"#, Field::Named("body".to_owned())).unwrap();
        assert_eq!(read, ["g", "i"]);
    }

    #[test]
    fn a_packed_file_is_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"{\"text\":\"a\"}\n").unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(texts("a.jsonl.gz", &packed, Field::Usual).unwrap(), ["a"]);
        let packed = ruzstd::encoding::compress_to_vec(
            &b"{\"text\":\"b\"}"[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        assert_eq!(texts("a.jsonl.zst", &packed, Field::Usual).unwrap(), ["b"]);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (name, contents, said) in [
            ("a.jsonl", &b"{\"text\":\"a\"}\n{\"text\""[..], "line 2: expected a JSON object"),
            ("a.jsonl", b"{\"a\":1}", "line 1: expected a field `text`, `messages` or `prompt`, got `a`"),
            ("a.txt", b"a\n\xff\n", "line 2: expected UTF-8, got a wrong byte at 0"),
            ("a.doc", b"", "expected a name that ends in"),
            ("a.txt.zst", b"nothing", "could not read"),
        ] {
            let error = texts(name, contents, Field::Usual).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }
}
