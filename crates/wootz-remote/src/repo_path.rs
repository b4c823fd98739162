//! A file name as a server sent it, found to be harmless.
//!
//! Where:  every name in a listing; the file part of a [`ModelName`](crate::ModelName).
//! Idea:   parse, do not validate: nothing else in this crate joins a server's text to a folder.

use std::fmt;
use std::path::{Path, PathBuf};

/// Folder inside a model's folder where unfinished downloads, locks and the manifest live.
pub(crate) const WORK_FOLDER: &str = ".pull";

/// A relative path with `/` between its parts, none of which leads upwards or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(String);

impl RepoPath {
    /// Accepts a name that stays below the folder it is joined to, on every operating system.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the file name is empty");
        }
        if text.len() > 1024 || text.split('/').count() > 16 {
            return Err("the file name is longer than 1024 bytes or deeper than 16 folders");
        }
        for part in text.split('/') {
            let is_forbidden = |c: char| c.is_control() || matches!(c, '\\' | ':' | '\u{202a}'..='\u{202e}');
            match part {
                "" => return Err("the file name is absolute or has an empty part"),
                "." | ".." => return Err("the file name leads upwards"),
                _ if part.len() > 240 => return Err("a part of the file name is longer than 240 bytes"),
                _ if part.contains(is_forbidden) => {
                    return Err("the file name holds a backslash, colon or control character");
                }
                _ if part.ends_with([' ', '.']) => {
                    return Err("a part of the file name ends with a space or a dot");
                }
                _ if part.eq_ignore_ascii_case(WORK_FOLDER) => {
                    return Err("the file name is one that wootz uses itself");
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as the server spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file below `folder`.
    pub fn below(&self, folder: &Path) -> PathBuf {
        folder.join(self.0.split('/').collect::<PathBuf>())
    }

    /// The folder part, or nothing.
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass_and_stay_below_their_folder() {
        for name in ["config.json", "1_Pooling/config.json", "a folder/ü.txt", ".gitattributes", "a..b"] {
            let path = RepoPath::parse(name).unwrap().below(Path::new("/models/m"));
            assert!(path.starts_with("/models/m"), "{name}");
            assert!(path.components().all(|part| part.as_os_str() != ".."), "{name}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a/./b",
            "a//b",
            "a/",
            "C:\\x",
            "C:x",
            "a\\..\\b",
            "a\0b",
            "a\nb",
            "a\u{1b}[31mb",
            "x.",
            "x ",
            ".pull/manifest.json",
            ".PULL/x",
            "file:stream",
            "a\u{202e}gpj.exe",
        ] {
            assert!(RepoPath::parse(name).is_err(), "{name:?}");
        }
        assert!(RepoPath::parse(&"a/".repeat(600)).is_err());
        assert!(RepoPath::parse(&"a".repeat(241)).is_err());
    }
}
