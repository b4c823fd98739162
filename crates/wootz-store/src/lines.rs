//! Files of one JSON value a line, which grow while something runs: metrics, events.
//!
//! Where:  in a run's own folder; a plot may read while a trainer writes.
//! Idea:   a line counts once its line break is there. A killed writer leaves at most a torn last line, which readers leave
//!         out and the next writer cuts off.
//! Source: JSON Lines, jsonlines.org.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Result, StoreError};

/// The longest line that is read.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// Adds lines to a file.
#[derive(Debug)]
pub struct LineWriter {
    file: File,
    path: PathBuf,
}

impl LineWriter {
    /// Opens a file behind its last whole line; makes it if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| StoreError::io("open", path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let end = whole(&mut file).map_err(failed)?;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn push(&mut self, value: &Value) -> Result<()> {
        let line = format!("{value}\n");
        self.file.write_all(line.as_bytes()).map_err(|source| StoreError::io("write to", &self.path, source))
    }

    /// Waits until all lines are on disk.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|source| StoreError::io("sync", &self.path, source))
    }
}

/// Where the last whole line ends.
fn whole(file: &mut File) -> std::io::Result<u64> {
    const PIECE: u64 = 4096;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Reads the whole lines of a file, one after the other; a torn last one is left out.
///
/// # Errors
/// [`StoreError::Io`], [`StoreError::Line`] for a line that is no JSON or longer than 16 MiB.
pub fn read_lines(path: &Path, mut each: impl FnMut(Value)) -> Result<()> {
    let failed = |source| StoreError::io("read", path, source);
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    for n in 1.. {
        line.clear();
        reader.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line).map_err(failed)?;
        let is_long = line.len() as u64 > MAX_LINE_BYTES;
        let wrong = |message: String| StoreError::Line { path: path.to_owned(), line: n, message };
        match line.strip_suffix(b"\n") {
            Some(text) => each(serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?),
            None if is_long => return Err(wrong(format!("more than {MAX_LINE_BYTES} bytes"))),
            None => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(path: &Path) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        read_lines(path, |value| values.push(value))?;
        Ok(values)
    }

    #[test]
    fn a_torn_line_is_left_out_and_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = LineWriter::open(&path).unwrap();
        let long = json!({"text": "é\n".repeat(5000)});
        [json!({"step": 1}), long.clone()].iter().for_each(|value| writer.push(value).unwrap());
        writer.sync().unwrap();
        let whole = std::fs::read(&path).unwrap();
        // Cut anywhere within the second line, the first is still there, and a third follows it.
        for cut in [11, 12, 13, 4000, 4107, 4108, 9000, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let expected = if cut >= 11 { vec![json!({"step": 1})] } else { vec![] };
            assert_eq!(read(&path).unwrap(), expected, "cut at {cut}");
            LineWriter::open(&path).unwrap().push(&json!(3)).unwrap();
            assert_eq!(read(&path).unwrap().last(), Some(&json!(3)));
            assert_eq!(read(&path).unwrap().len(), expected.len() + 1);
        }
        std::fs::write(&path, b"{}\nno\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl:2: expected JSON"), "{error}");
    }
}
