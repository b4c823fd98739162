//! The name of a model on the Hub: `hf:org/name[@revision][:file-or-quant]`.
//!
//! Where:  parsed from a model argument by the command line; names folders in the home and in Hugging Face's cache.
//! Idea:   what passes [`ModelName::parse`] is safe in a path and in an address without another look.
//! Source: `huggingface_hub`'s `validate_repo_id`; its cache's folder names, `models--org--name`.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::repo_path::RepoPath;

/// A model on the Hub, perhaps at a revision, perhaps one file or quantization of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelName {
    repo: String,
    revision: Option<String>,
    selector: Option<String>,
}

impl ModelName {
    /// Parses `hf:org/name[@revision][:file-or-quant]`; the `hf:` may be missing. Old names without an
    /// organisation, as `hf:gpt2`, are names too.
    ///
    /// # Errors
    /// [`Error::Name`] for anything that the Hub would not accept as a name or that could leave a folder.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why| Error::Name { name: text.chars().take(200).collect(), why };
        let rest = text.strip_prefix("hf:").unwrap_or(text);
        let end = rest.find(['@', ':']).unwrap_or(rest.len());
        let (repo, mut rest) = rest.split_at(end);
        check_repo(repo).map_err(refuse)?;
        let mut revision = None;
        if let Some(after) = rest.strip_prefix('@') {
            let (name, selector) = after.split_at(after.find(':').unwrap_or(after.len()));
            check_revision(name).map_err(refuse)?;
            revision = Some(name.to_owned());
            rest = selector;
        }
        let selector = rest.strip_prefix(':').map(RepoPath::parse).transpose().map_err(refuse)?;
        Ok(Self { repo: repo.into(), revision, selector: selector.map(|path| path.as_str().to_owned()) })
    }

    /// The same model at another revision.
    ///
    /// # Errors
    /// [`Error::Name`] when `revision` cannot be one.
    pub fn at(mut self, revision: &str) -> Result<Self> {
        check_revision(revision)
            .map_err(|why| Error::Name { name: revision.chars().take(200).collect(), why })?;
        self.revision = Some(revision.into());
        Ok(self)
    }

    /// `org/name`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// Branch, tag or commit; `main` where none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// A file of the repository, or a part of a GGUF's name such as `Q4_K_M`.
    pub fn selector(&self) -> Option<&str> {
        self.selector.as_deref()
    }

    /// Folder below `models/` of the home: `hf/org/name`, or `hf/org/name@revision` for any but `main`.
    pub fn home_folder(&self) -> PathBuf {
        match &self.revision {
            Some(revision) if revision != "main" => {
                PathBuf::from("hf").join(format!("{}@{}", self.repo, revision.replace('/', "--")))
            }
            _ => PathBuf::from("hf").join(&self.repo),
        }
    }

    /// Folder below Hugging Face's cache: `models--org--name`.
    pub fn cache_folder(&self) -> String {
        format!("models--{}", self.repo.replace('/', "--"))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(selector) = &self.selector {
            write!(f, ":{selector}")?;
        }
        Ok(())
    }
}

fn check_repo(repo: &str) -> Result<(), &'static str> {
    if repo.split('/').count() > 2 {
        return Err("expected one slash, between organisation and name");
    }
    for part in repo.split('/') {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let has_edge = part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
        match () {
            () if part.is_empty() => return Err("organisation or name is empty"),
            () if part.len() > 96 => return Err("a part is longer than 96 characters"),
            () if !part.chars().all(is_allowed) => {
                return Err("only letters, digits, `-`, `_` and `.` are allowed");
            }
            () if has_edge => return Err("a part starts or ends with `-` or `.`"),
            () if part.contains("--") || part.contains("..") => return Err("`--` and `..` are not allowed"),
            () => {}
        }
    }
    Ok(())
}

fn check_revision(revision: &str) -> Result<(), &'static str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    let is_component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains("..");
    match () {
        () if revision.is_empty() => Err("the revision is empty"),
        () if revision.len() > 200 => Err("the revision is longer than 200 characters"),
        () if !revision.chars().all(is_allowed) => {
            Err("the revision holds a character that git does not allow there")
        }
        () if !revision.split('/').all(is_component) => {
            Err("the revision holds `..`, `//` or starts with `.`")
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together_again() {
        let check = |text: &str, repo: &str, revision: &str, selector: Option<&str>, folder: &str| {
            let name = ModelName::parse(text).unwrap();
            let got = (name.repo(), name.revision(), name.selector(), name.home_folder());
            assert_eq!(got, (repo, revision, selector, PathBuf::from(folder)), "{text}");
            assert_eq!(name.to_string(), text);
        };
        check("hf:org/name", "org/name", "main", None, "hf/org/name");
        check("hf:gpt2", "gpt2", "main", None, "hf/gpt2");
        check("hf:org/name:Q4_K_M", "org/name", "main", Some("Q4_K_M"), "hf/org/name");
        check("hf:org/name@main", "org/name", "main", None, "hf/org/name");
        check("hf:org/name@refs/pr/1", "org/name", "refs/pr/1", None, "hf/org/name@refs--pr--1");
        check("hf:o.r_g/n-1.5@v1:sub/x.gguf", "o.r_g/n-1.5", "v1", Some("sub/x.gguf"), "hf/o.r_g/n-1.5@v1");
        assert_eq!(ModelName::parse("org/name").unwrap().cache_folder(), "models--org--name");
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for text in [
            "",
            "hf:",
            "hf:/",
            "hf:a/",
            "hf:/b",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/..",
            "hf:a/.b",
            "hf:a\\b/c",
            "hf:a/b c",
            "hf:a/b\0",
            "hf:a--b/c",
            "hf:a/b@",
            "hf:a/b@..",
            "hf:a/b@x/../y",
            "hf:a/b@x//y",
            "hf:a/b@%2e",
            "hf:a/b:",
            "hf:a/b:../x",
            "hf:a/b:/etc/passwd",
            "hf:a/b:x/../../y",
            "hf:a/ü",
            "hf:a/b?c",
            "hf:a/b#c",
        ] {
            assert!(ModelName::parse(text).is_err(), "{text:?}");
        }
        assert!(ModelName::parse(&format!("hf:a/{}", "b".repeat(97))).is_err());
        assert!(ModelName::parse("hf:a/b").unwrap().at("../x").is_err());
    }
}
