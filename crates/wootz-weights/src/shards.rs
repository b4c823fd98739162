//! Which files make up a model: a folder's usual names, an index, a numbered set.
//!
//! Where:  asked by [`Weights::open`](crate::Weights::open) before any weight file is read.
//! Source: the names that transformers (`*.index.json`) and llama.cpp (`-00001-of-00003.gguf`) write.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::source::Source;
use crate::weights::Format;

pub(crate) const SAFETENSORS: &str = "model.safetensors";
pub(crate) const SAFETENSORS_INDEX: &str = "model.safetensors.index.json";
const TORCH: &str = "pytorch_model.bin";
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
/// Tensors that an index may name: about 100 bytes each are kept.
const MAX_INDEXED: usize = 1 << 18;
/// Files that a numbered set may have.
const MAX_SPLIT: usize = 10_000;

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A weight file.
    File(PathBuf),
    /// An index of several.
    Index(PathBuf, Format),
}

/// Looks into a folder: safetensors first, then PyTorch, then GGUF; an index before single files.
pub(crate) fn in_folder(dir: &Path) -> Result<Found> {
    let names = names(dir)?;
    let has = |name: &str| names.iter().any(|other| other == name);
    for (index, single, format, endings) in [
        (SAFETENSORS_INDEX, SAFETENSORS, Format::Safetensors, &[".safetensors"][..]),
        (TORCH_INDEX, TORCH, Format::Torch, &[".bin", ".pth", ".pt"]),
    ] {
        if has(index) {
            return Ok(Found::Index(dir.join(index), format));
        }
        if has(single) {
            return Ok(Found::File(dir.join(single)));
        }
        if let Some(name) = only(dir, &names, endings)? {
            return Ok(Found::File(dir.join(name)));
        }
    }
    match only(dir, &names, &[".gguf"])? {
        Some(name) => Ok(Found::File(dir.join(name))),
        None => Err(Error::NoWeights {
            path: dir.into(),
            expected: "a `.safetensors`, `.bin`, `.pth`, `.pt` or `.gguf` file",
            found: "none".into(),
        }),
    }
}

/// The one weight file with such an ending; the first of a numbered set counts for all of it.
fn only<'a>(dir: &Path, names: &'a [String], endings: &[&str]) -> Result<Option<&'a str>> {
    let fits = |name: &str| {
        let later_part = split_name(name).is_some_and(|(_, number, _)| number > 1);
        endings.iter().any(|ending| name.ends_with(ending)) && !later_part && !is_no_model(name)
    };
    let fitting: Vec<&str> = names.iter().map(String::as_str).filter(|name| fits(name)).collect();
    match fitting[..] {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        [first, second, ..] => Err(Error::NoWeights {
            path: dir.into(),
            expected: "one set of weights in the folder",
            found: format!("{}, among them `{first}` and `{second}`", fitting.len()),
        }),
    }
}

/// Files with a weight file's ending that trainers leave beside the weights.
fn is_no_model(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    ["training_args", "optimizer", "scheduler", "rng_state", "scaler"]
        .iter()
        .any(|other| stem.starts_with(other))
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let read = |source| Error::io("read", dir, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        names.extend(name.into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort_unstable();
    Ok(names)
}

/// `model-00002-of-00003.gguf` → (`model`, 2, 3).
pub(crate) fn split_name(name: &str) -> Option<(&str, usize, usize)> {
    let stem = name.strip_suffix(".gguf")?;
    let (rest, n_files) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    let (number, n_files) = (digits(number)?, digits(n_files)?);
    (1..=n_files).contains(&number).then_some((prefix, number, n_files))
}

/// All files of the numbered set that `path` belongs to, in order; `path` alone if it belongs to none.
pub(crate) fn split_set(path: &Path) -> Vec<PathBuf> {
    match path.file_name().and_then(|name| name.to_str()).and_then(split_name) {
        Some((prefix, _, n_files)) if n_files <= MAX_SPLIT => (1..=n_files)
            .map(|number| path.with_file_name(format!("{prefix}-{number:05}-of-{n_files:05}.gguf")))
            .collect(),
        _ => vec![path.into()],
    }
}

/// An index: which file has which tensor.
#[derive(Debug)]
pub(crate) struct Index {
    /// Names of files beside the index, in the order they are first named.
    pub(crate) files: Vec<String>,
    /// Tensors and the file of each.
    pub(crate) tensors: Vec<(String, u32)>,
}

impl Index {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::parse(path, Source::open(path)?.bytes())
    }

    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let index = IndexSeed.deserialize(&mut json).and_then(|index| json.end().map(|()| index));
        let index = index.map_err(|e| Error::malformed(path, "index", "JSON with a `weight_map`", e))?;
        if index.tensors.is_empty() {
            return Err(Error::malformed(path, "weight_map", "tensors", "none"));
        }
        Ok(index)
    }
}

struct IndexSeed;

impl<'de> DeserializeSeed<'de> for IndexSeed {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Index, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IndexSeed {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Index, A::Error> {
        let mut index = None;
        while let Some(key) = map.next_key::<Box<str>>()? {
            if &*key != "weight_map" {
                map.next_value::<IgnoredAny>()?; // totals and remarks, which say nothing about places
            } else if index.replace(map.next_value_seed(WeightMapSeed)?).is_some() {
                return Err(de::Error::custom("a second `weight_map`"));
            }
        }
        index.ok_or_else(|| de::Error::custom("no `weight_map`"))
    }
}

struct WeightMapSeed;

impl<'de> DeserializeSeed<'de> for WeightMapSeed {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Index, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMapSeed {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a `weight_map` from tensors to files")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Index, A::Error> {
        let mut index = Index { files: Vec::new(), tensors: Vec::new() };
        let mut numbers: HashMap<Box<str>, u32> = HashMap::new();
        while let Some((tensor, file)) = map.next_entry::<String, Box<str>>()? {
            if index.tensors.len() == MAX_INDEXED {
                return Err(de::Error::custom(format_args!("more than {MAX_INDEXED} tensors")));
            }
            if !is_plain_name(&file) {
                let problem =
                    format_args!("tensor `{tensor}`: `{file}` is no name of a file beside the index");
                return Err(de::Error::custom(problem));
            }
            let number = *numbers.entry(file).or_insert_with_key(|file| {
                index.files.push(file.to_string());
                index.files.len() as u32 - 1
            });
            index.tensors.push((tensor, number));
        }
        Ok(index)
    }
}

/// An index must not lead out of its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none();
    plain && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_set_is_found_from_any_of_its_files() {
        assert_eq!(split_name("m-q4-00002-of-00003.gguf"), Some(("m-q4", 2, 3)));
        for no_part in ["m.gguf", "m-00004-of-00003.gguf", "m-00000-of-00003.gguf", "m-2-of-3.gguf"] {
            assert_eq!(split_name(no_part), None, "{no_part}");
        }
        let set = split_set(Path::new("dir/m-00002-of-00002.gguf"));
        assert_eq!(set, ["dir/m-00001-of-00002.gguf", "dir/m-00002-of-00002.gguf"].map(PathBuf::from));
    }

    #[test]
    fn an_index_cannot_lead_out_of_its_folder() {
        for file in ["../x", "/etc/x", "a/b", "..", "", ".", "c:x", "a\\\\b"] {
            let json = format!(r#"{{"weight_map": {{"w": "{file}"}}}}"#);
            let error = Index::parse(Path::new("index.json"), json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("no name of a file beside the index"), "{file}: {error}");
        }
    }

    #[test]
    fn an_index_names_each_file_once() {
        let json = br#"{"metadata": {"total_size": 3}, "weight_map": {"a": "x", "b": "y", "c": "x"}}"#;
        let index = Index::parse(Path::new("index.json"), json).unwrap();
        assert_eq!(index.files, ["x", "y"]);
        assert_eq!(index.tensors, [("a".into(), 0), ("b".into(), 1), ("c".into(), 0)]);
    }
}
