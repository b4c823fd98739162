//! Which files a path means: one file, a folder's, or those of a pattern.
//!
//! Where:  before [`Rows::open`](crate::Rows::open), for recipes and the command line.
//! Source: patterns are the shell's: `*`, `?`, `[ab]`, and `**` for any folders (the `glob` crate).

use std::path::{Path, PathBuf};

use crate::Error;
use crate::rows::is_known;

/// Most files of one path.
const MAX_FILES: usize = 100_000;

/// The files of a path, by name. Of a folder and of a pattern's folders: those whose names say a known format, hidden ones left out.
///
/// # Errors
/// A pattern that is none; nothing there; more than 100,000 files.
pub fn files_of(path: &str) -> Result<Vec<PathBuf>, Error> {
    let literal = Path::new(path);
    let wrong = |message: String| Error::Files { path: path.to_owned(), message };
    let mut files = Vec::new();
    if literal.is_file() {
        return Ok(vec![literal.to_owned()]);
    }
    if literal.is_dir() {
        add_folder(literal, &mut files)?;
    } else {
        let options = glob::MatchOptions {
            require_literal_separator: true,
            require_literal_leading_dot: true,
            ..Default::default()
        };
        let found = glob::glob_with(path, options)
            .map_err(|error| wrong(format!("expected a file, a folder or a pattern: {error}")))?;
        for file in found {
            let file =
                file.map_err(|error| Error::Io { path: error.path().to_owned(), source: error.into() })?;
            match file.is_dir() {
                true => add_folder(&file, &mut files)?,
                false => files.push(file),
            }
            if files.len() > MAX_FILES {
                return Err(wrong(format!("expected at most {MAX_FILES} files")));
            }
        }
    }
    files.sort_unstable();
    files.dedup();
    match files.is_empty() {
        true => Err(wrong(
            "expected a file, a folder with data, or a pattern that some file has, got none".to_owned(),
        )),
        false => Ok(files),
    }
}

/// A folder's own files that can be read.
fn add_folder(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let io = |source| Error::Io { path: folder.to_owned(), source };
    for entry in folder.read_dir().map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !is_hidden && is_known(&path) {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            let message = format!("expected at most {MAX_FILES} files");
            return Err(Error::Files { path: folder.display().to_string(), message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file_a_folder_or_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["b.jsonl", "a.jsonl.gz", "notes.md", ".hidden.txt", "sub/c.txt", "sub/deep/d.parquet", "[x].txt"]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let found = files_of(&folder.path().join(pattern).to_string_lossy()).unwrap();
            let names: Vec<_> = found
                .iter()
                .map(|file| file.strip_prefix(folder.path()).unwrap().to_string_lossy().replace('\\', "/"))
                .collect();
            assert_eq!(names, expected, "{pattern}");
        };
        check("b.jsonl", &["b.jsonl"]);
        check("", &["[x].txt", "a.jsonl.gz", "b.jsonl"]);
        check("*.jsonl*", &["a.jsonl.gz", "b.jsonl"]);
        check("**/*.txt", &["[x].txt", "sub/c.txt"]);
        check("s*", &["sub/c.txt"]);
        check("[x].txt", &["[x].txt"]);
        for pattern in ["nothing*", "no.jsonl", "a**b"] {
            let error = files_of(&folder.path().join(pattern).to_string_lossy()).unwrap_err().to_string();
            assert!(error.contains("expected a file"), "{error}");
        }
    }
}
