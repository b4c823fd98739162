//! Models that are already here: in the home, and in Hugging Face's cache, read in place.
//!
//! Where:  every model argument before the network is thought of; the command line's `list`.
//! Idea:   a model counts when its weights are whole. Folders come as arguments, so nothing here reads the environment.
//! Source: `huggingface_hub`'s cache layout: `models--org--name/refs/<revision>` holds a commit, whose files stand in
//!         `snapshots/<commit>/` as links into `blobs/`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::manifest::Manifest;
use crate::name::ModelName;
use crate::repo_path::RepoPath;
use crate::select::{Selection, select};

/// A folder with more files, or deeper ones, is not a model's.
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 4;

/// Where models may be.
#[derive(Clone, Debug)]
pub struct Places {
    /// `models/` of the home.
    pub models: PathBuf,
    /// Hugging Face's `hub` folder, where there is one.
    pub hf_hub: Option<PathBuf>,
}

/// Where a model was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The home.
    Home,
    /// Hugging Face's cache.
    HfCache,
}

/// A model on this machine whose weights are whole.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// What to call it: `hf:org/name`, or the path below `models/`.
    pub name: String,
    /// Where it was found.
    pub origin: Origin,
    /// Its folder; for a GGUF on its own, the folder that holds it.
    pub folder: PathBuf,
    /// The commit, where known.
    pub commit: Option<String>,
    /// Its weights and what belongs to them.
    pub selection: Selection,
}

impl LocalModel {
    /// Bytes of weights and companions.
    pub fn size_bytes(&self) -> u64 {
        let files = self.selection.weights.iter().chain(&self.selection.companions);
        files
            .filter_map(|path| fs::metadata(path.below(&self.folder)).ok())
            .map(|metadata| metadata.len())
            .sum()
    }

    /// The path that opens the model: its first GGUF, or the folder.
    pub fn path(&self) -> PathBuf {
        match (&self.selection.weights[..], self.selection.format) {
            ([first, ..], crate::WeightFormat::Gguf) => first.below(&self.folder),
            _ => self.folder.clone(),
        }
    }
}

impl Places {
    /// Where a model of the Hub is or would be put.
    pub fn folder_of(&self, name: &ModelName) -> PathBuf {
        self.models.join(name.home_folder())
    }

    /// Finds a model of the Hub, in the home before the cache. A model whose weights are not whole is not found.
    pub fn find(&self, name: &ModelName) -> Option<LocalModel> {
        let model = |folder: PathBuf, origin, commit| {
            let selection = whole(&folder, name.repo(), name.selector()).ok()?;
            Some(LocalModel { name: name.to_string(), origin, folder, commit, selection })
        };
        let folder = self.folder_of(name);
        let commit = Some(Manifest::read(&folder).commit).filter(|commit| !commit.is_empty());
        model(folder, Origin::Home, commit).or_else(|| {
            let (snapshot, commit) = self.snapshot(name)?;
            model(snapshot, Origin::HfCache, Some(commit))
        })
    }

    /// Finds a model by its name in the home: a folder below `models/`, or a GGUF there with or without its extension.
    pub fn find_named(&self, name: &str) -> Option<LocalModel> {
        let path = RepoPath::parse(name).ok()?;
        let candidates = [path.below(&self.models), self.models.join(format!("{name}.gguf"))];
        candidates.into_iter().find_map(|path| local_at(&path, name))
    }

    /// All models, those of the home first, each kind in the order of names. What cannot be read is left out.
    pub fn list(&self) -> Vec<LocalModel> {
        let mut models = Vec::new();
        list_home(&self.models, "", 0, &mut models);
        for folder in self.hf_hub.as_deref().map(entries).unwrap_or_default() {
            let repo = folder.strip_prefix("models--").map(|rest| rest.replacen("--", "/", 1));
            let Some(name) = repo.and_then(|repo| ModelName::parse(&repo).ok()) else { continue };
            let Some((snapshot, commit)) = self.snapshot(&name) else { continue };
            if let Ok(selection) = whole(&snapshot, name.repo(), None) {
                let (name, commit) = (name.to_string(), Some(commit));
                models.push(LocalModel {
                    name,
                    origin: Origin::HfCache,
                    folder: snapshot,
                    commit,
                    selection,
                });
            }
        }
        models
    }

    /// The snapshot of a revision in Hugging Face's cache, and its commit.
    fn snapshot(&self, name: &ModelName) -> Option<(PathBuf, String)> {
        let repo = self.hf_hub.as_ref()?.join(name.cache_folder());
        let reference = RepoPath::parse(name.revision()).ok()?.below(&repo.join("refs"));
        let is_small = fs::metadata(&reference).is_ok_and(|metadata| metadata.len() <= 200);
        let commit = if is_small { fs::read_to_string(reference).ok()? } else { name.revision().to_owned() };
        let commit = RepoPath::parse(commit.trim()).ok()?;
        let snapshot = commit.below(&repo.join("snapshots"));
        snapshot.is_dir().then(|| (snapshot, commit.as_str().to_owned()))
    }
}

/// The model at a path, a folder or a GGUF.
fn local_at(path: &Path, name: &str) -> Option<LocalModel> {
    let (folder, selector) = if path.is_dir() {
        (path, None)
    } else if path.is_file() {
        (path.parent()?, Some(path.file_name()?.to_str()?))
    } else {
        return None;
    };
    let selection = whole(folder, name, selector).ok()?;
    let commit = Some(Manifest::read(folder).commit).filter(|commit| !commit.is_empty());
    Some(LocalModel { name: name.into(), origin: Origin::Home, folder: folder.into(), commit, selection })
}

/// Collects models below `models/`; a folder that is a model is not searched further, except for its GGUFs.
fn list_home(folder: &Path, below: &str, depth: usize, models: &mut Vec<LocalModel>) {
    for entry in entries(folder) {
        let path = folder.join(&entry);
        let name = if below.is_empty() { entry.clone() } else { format!("{below}/{entry}") };
        let shown = name
            .strip_prefix("hf/")
            .map_or(name.clone(), |repo| format!("hf:{}", repo.trim_end_matches(".gguf")));
        if path.is_file() && is_first_gguf(&entry) {
            let shown = match folder_as_name(below) {
                Some(repo) => format!("{repo}:{entry}"),
                None => shown,
            };
            models.extend(local_at(&path, &shown));
        } else if path.is_dir() && !entry.starts_with('.') {
            match local_at(&path, &shown).filter(|model| model.selection.format != crate::WeightFormat::Gguf)
            {
                Some(model) => models.push(model),
                None if depth < MAX_DEPTH => list_home(&path, &name, depth + 1, models),
                None => {}
            }
        }
    }
}

/// `hf/org/name` → `hf:org/name`.
fn folder_as_name(below: &str) -> Option<String> {
    let repo = below.strip_prefix("hf/")?;
    ModelName::parse(repo).ok().map(|name| name.to_string())
}

fn is_first_gguf(name: &str) -> bool {
    name.ends_with(".gguf")
        && (!name.contains("-of-") || name.contains("-00001-of-"))
        && !name.contains("mmproj")
}

/// What a folder holds, when its weights are whole.
fn whole(folder: &Path, name: &str, selector: Option<&str>) -> Result<Selection> {
    let mut files = Vec::new();
    collect(folder, "", 0, &mut files);
    select(name, &files, selector)
}

/// Names of the files below a folder, in order. Links to files count as files; links to folders are not followed.
fn collect(folder: &Path, below: &str, depth: usize, files: &mut Vec<RepoPath>) {
    for entry in entries(folder) {
        let path = folder.join(&entry);
        let name = if below.is_empty() { entry.clone() } else { format!("{below}/{entry}") };
        let is_link = path.is_symlink();
        if files.len() >= MAX_FILES || entry.starts_with('.') {
            continue;
        }
        if path.is_file() {
            files.extend(RepoPath::parse(&name));
        } else if path.is_dir() && !is_link && depth < MAX_DEPTH {
            collect(&path, &name, depth + 1, files);
        }
    }
}

/// Names in a folder, in order; none when it cannot be read.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_FILES);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::WeightFormat;

    fn place(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
    }

    fn places(root: &Path) -> Places {
        Places { models: root.join("models"), hf_hub: Some(root.join("hub")) }
    }

    #[test]
    fn a_model_is_found_in_the_home_before_the_cache_and_only_when_whole() {
        let root = tempfile::tempdir().unwrap();
        let name = ModelName::parse("hf:org/name").unwrap();
        let find = || places(root.path()).find(&name).map(|model| (model.origin, model.commit));
        assert_eq!(find(), None);
        place(root.path(), &["hub/models--org--name/snapshots/abc/config.json"]);
        fs::create_dir_all(root.path().join("hub/models--org--name/refs")).unwrap();
        fs::write(root.path().join("hub/models--org--name/refs/main"), "abc").unwrap();
        assert_eq!(find(), None, "a configuration without weights");
        place(root.path(), &["hub/models--org--name/snapshots/abc/model.safetensors"]);
        assert_eq!(find(), Some((Origin::HfCache, Some("abc".into()))));
        place(root.path(), &["models/hf/org/name/model-00001-of-00002.safetensors"]);
        assert_eq!(find(), Some((Origin::HfCache, Some("abc".into()))), "the home has half of it");
        place(root.path(), &["models/hf/org/name/model-00002-of-00002.safetensors"]);
        assert_eq!(find(), Some((Origin::Home, None)));
        let at_commit = name.clone().at("abc").unwrap();
        assert_eq!(places(root.path()).find(&at_commit).unwrap().origin, Origin::HfCache);
        assert!(places(root.path()).find(&name.at("other").unwrap()).is_none());
    }

    #[test]
    fn a_reference_that_leads_out_of_the_cache_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        place(root.path(), &["secret/model.safetensors", "hub/models--org--name/snapshots/x/config.json"]);
        fs::create_dir_all(root.path().join("hub/models--org--name/refs")).unwrap();
        for commit in ["../../../secret", "/etc", "", "\n"] {
            fs::write(root.path().join("hub/models--org--name/refs/main"), commit).unwrap();
            assert!(places(root.path()).find(&ModelName::parse("org/name").unwrap()).is_none(), "{commit:?}");
        }
    }

    #[test]
    fn everything_that_can_be_opened_is_listed() {
        let root = tempfile::tempdir().unwrap();
        place(
            root.path(),
            &[
                "models/mine/model.safetensors",
                "models/mine/config.json",
                "models/alone.gguf",
                "models/hf/org/quants/q-Q4_0.gguf",
                "models/hf/org/quants/q-Q8_0.gguf",
                "models/hf/org/quants/.pull/half.incomplete",
                "models/hf/gpt2/pytorch_model.bin",
                "models/empty/readme.txt",
                "hub/models--a--b/snapshots/c0ffee/model.safetensors",
                "hub/version.txt",
            ],
        );
        fs::create_dir_all(root.path().join("hub/models--a--b/refs")).unwrap();
        fs::write(root.path().join("hub/models--a--b/refs/main"), "c0ffee").unwrap();
        let models = places(root.path()).list();
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let expected = [
            "alone.gguf",
            "hf:gpt2",
            "hf:org/quants:q-Q4_0.gguf",
            "hf:org/quants:q-Q8_0.gguf",
            "mine",
            "hf:a/b",
        ];
        assert_eq!(names, expected);
        assert!(models.iter().all(|model| model.path().exists() && model.size_bytes() > 0));
        for name in ["mine", "alone", "alone.gguf", "hf/gpt2"] {
            assert!(places(root.path()).find_named(name).is_some(), "{name}");
        }
        assert_eq!(places(root.path()).find_named("alone").unwrap().selection.format, WeightFormat::Gguf);
        assert!(places(root.path()).find_named("../models/mine").is_none());
        let quant = ModelName::parse("hf:org/quants:Q8_0").unwrap();
        assert!(places(root.path()).find(&quant).unwrap().path().ends_with("q-Q8_0.gguf"));
    }
}
