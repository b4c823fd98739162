//! Which files of a repository make a model: weights in one format, and the small files that they need.
//!
//! Where:  over a listing before a pull, and over a folder to see whether a model in it is whole.
//! Idea:   weights are sets of shards; a set counts only when every `-00001-of-0000N` is there. One format is enough:
//!         safetensors before PyTorch's archives, and a GGUF stands alone, since it holds its configuration itself.
//! Source: file names as transformers, PEFT, sentence-transformers and llama.cpp write them.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::repo_path::RepoPath;

/// Small files that a model may need, in its top folder.
const COMPANIONS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "adapter_config.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
];

/// Quantizations in the order in which we take one when several are there and none was named.
const PREFERRED_QUANTS: &[&str] = &["Q4_K_M", "Q4_0", "Q8_0", "F16", "BF16"];

/// How the weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// `model.safetensors`, whole or in shards.
    Safetensors,
    /// One `.gguf`, whole or split.
    Gguf,
    /// `pytorch_model.bin` or `.pth`.
    Pytorch,
    /// PEFT's `adapter_model`, which needs a base model.
    Adapter,
}

/// What to fetch, or what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// How the weights are stored.
    pub format: WeightFormat,
    /// Files of weights, shards in order.
    pub weights: Vec<RepoPath>,
    /// Configuration, tokenizer, templates, licence.
    pub companions: Vec<RepoPath>,
}

impl WeightFormat {
    /// The name in output, `safetensors`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Pytorch => "pytorch",
            Self::Adapter => "adapter",
        }
    }
}

/// Shards that belong together, or a single file.
struct WeightSet<'a> {
    folder: &'a str,
    /// File name without shard number and extension.
    stem: &'a str,
    extension: &'a str,
    n_shards: usize,
    files: Vec<&'a RepoPath>,
}

/// Chooses the files of a model among all files of a repository or folder called `repo`.
///
/// `selector` is a file's name or a part of a GGUF's, such as `Q4_K_M`.
///
/// # Errors
/// [`Error::Selection`] when nothing fits, more than one thing fits, or a shard is missing; it lists what is there.
pub fn select(repo: &str, files: &[RepoPath], selector: Option<&str>) -> Result<Selection> {
    let refuse = |why: String| {
        let is_weight = |path: &&RepoPath| extension(path).is_some();
        let mut available: Vec<String> =
            files.iter().filter(is_weight).take(40).map(|p| p.to_string()).collect();
        if available.is_empty() {
            available = files.iter().take(40).map(|p| p.to_string()).collect();
        }
        Error::Selection { repo: repo.into(), why, available }
    };
    let sets = weight_sets(files);
    let (format, set) = match selector {
        Some(wanted) => named(&sets, wanted),
        None => preferred(&sets),
    }
    .map_err(&refuse)?;
    if set.files.len() != set.n_shards {
        let (stem, there, of) = (set.stem, set.files.len(), set.n_shards);
        return Err(refuse(format!("`{stem}` has {there} of its {of} shards")));
    }
    let weights = set.files.iter().map(|&path| path.clone()).collect();
    Ok(Selection { format, weights, companions: companions(files, format) })
}

/// All files that fit at least one of `patterns`, in which `*` stands for any characters and `?` for one.
///
/// # Errors
/// [`Error::Selection`] when a pattern fits nothing.
pub fn select_matching(repo: &str, files: &[RepoPath], patterns: &[String]) -> Result<Vec<RepoPath>> {
    for pattern in patterns {
        if !files.iter().any(|path| fits(pattern.as_bytes(), path.as_str().as_bytes())) {
            let available = files.iter().take(40).map(|path| path.to_string()).collect();
            return Err(Error::Selection {
                repo: repo.into(),
                why: format!("no file fits `{pattern}`"),
                available,
            });
        }
    }
    let fits_any = |path: &&RepoPath| patterns.iter().any(|p| fits(p.as_bytes(), path.as_str().as_bytes()));
    Ok(files.iter().filter(fits_any).cloned().collect())
}

/// The set that a user named: by a file of it, or by the quantization in its name.
fn named<'a, 'b>(
    sets: &'b [WeightSet<'a>],
    wanted: &str,
) -> Result<(WeightFormat, &'b WeightSet<'a>), String> {
    if let Some(set) = sets.iter().find(|set| set.files.iter().any(|path| path.as_str() == wanted)) {
        return Ok((set.format(), set));
    }
    let fits: Vec<_> = sets.iter().filter(|set| set.is_model_gguf() && has_quant(set.stem, wanted)).collect();
    match fits[..] {
        [set] => Ok((WeightFormat::Gguf, set)),
        [] => Err(format!("no file is called `{wanted}` and no GGUF has `{wanted}` in its name")),
        _ => Err(format!("{} GGUFs have `{wanted}` in their names; name one of the files", fits.len())),
    }
}

/// The set that we take when the user named none.
fn preferred<'a, 'b>(sets: &'b [WeightSet<'a>]) -> Result<(WeightFormat, &'b WeightSet<'a>), String> {
    let top = |format: WeightFormat, stems: &'static [&'static str]| {
        let fits = move |set: &&WeightSet, stem: &str| {
            set.folder.is_empty() && set.stem == stem && set.format() == format
        };
        stems.iter().find_map(move |stem| sets.iter().find(|set| fits(set, stem)))
    };
    for (format, stems) in [
        (WeightFormat::Safetensors, &["model", "consolidated"][..]),
        (WeightFormat::Pytorch, &["pytorch_model", "consolidated", "consolidated.00"]),
        (WeightFormat::Adapter, &["adapter_model"]),
    ] {
        if let Some(set) = top(format, stems) {
            return Ok((format, set));
        }
    }
    let ggufs: Vec<_> = sets.iter().filter(|set| set.is_model_gguf()).collect();
    if let [set] = ggufs[..] {
        return Ok((WeightFormat::Gguf, set));
    }
    for quant in PREFERRED_QUANTS {
        let fits: Vec<_> = ggufs.iter().filter(|set| has_quant(set.stem, quant)).collect();
        if let [set] = fits[..] {
            return Ok((WeightFormat::Gguf, set));
        }
    }
    if !ggufs.is_empty() {
        return Err(format!(
            "{} GGUFs to choose from; add the quantization, as in `:Q4_K_M`, or the file",
            ggufs.len()
        ));
    }
    let others: Vec<_> =
        sets.iter().filter(|s| s.folder.is_empty() && s.format() == WeightFormat::Safetensors).collect();
    match others[..] {
        [set] => Ok((WeightFormat::Safetensors, set)),
        _ => Err("expected model.safetensors, pytorch_model.bin or a .gguf".into()),
    }
}

impl WeightSet<'_> {
    fn format(&self) -> WeightFormat {
        match self.extension {
            _ if self.stem == "adapter_model" => WeightFormat::Adapter,
            "safetensors" => WeightFormat::Safetensors,
            "gguf" => WeightFormat::Gguf,
            _ => WeightFormat::Pytorch,
        }
    }

    /// A GGUF that is a language model, not its vision part or a calibration result.
    fn is_model_gguf(&self) -> bool {
        let stem = self.stem.to_ascii_lowercase();
        self.extension == "gguf" && !stem.contains("mmproj") && !stem.contains("imatrix")
    }
}

/// All files of weights, grouped into sets, in the order of their names.
fn weight_sets(files: &[RepoPath]) -> Vec<WeightSet<'_>> {
    let mut sets: BTreeMap<_, Vec<(usize, &RepoPath)>> = BTreeMap::new();
    for path in files {
        let Some(extension) = extension(path) else { continue };
        let stem = &path.file_name()[..path.file_name().len() - extension.len() - 1];
        let (stem, shard, n_shards) = shard(stem).unwrap_or((stem, 1, 1));
        sets.entry((path.folder(), stem, extension, n_shards)).or_default().push((shard, path));
    }
    let set = |((folder, stem, extension, n_shards), mut files): ((_, _, _, _), Vec<(usize, _)>)| {
        files.sort_by_key(|(shard, _)| *shard);
        files.dedup_by_key(|(shard, _)| *shard);
        let files = files.into_iter().map(|(_, path)| path).collect();
        WeightSet { folder, stem, extension, n_shards, files }
    };
    sets.into_iter().map(set).collect()
}

/// The extension of a file of weights.
fn extension(path: &RepoPath) -> Option<&str> {
    let (stem, extension) = path.file_name().rsplit_once('.')?;
    let is_training_state =
        ["training_args", "optimizer", "scheduler", "rng_state", "scaler"].contains(&stem);
    (matches!(extension, "safetensors" | "gguf" | "bin" | "pth" | "pt") && !is_training_state)
        .then_some(extension)
}

/// `model-00002-of-00003` → (`model`, 2, 3).
fn shard(stem: &str) -> Option<(&str, usize, usize)> {
    let (rest, n_shards) = stem.rsplit_once("-of-")?;
    let (stem, shard) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let is_number = digits.len() >= 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<usize>().ok().filter(|_| is_number)
    };
    let (shard, n_shards) = (number(shard)?, number(n_shards)?);
    (1..=n_shards).contains(&shard).then_some((stem, shard, n_shards))
}

/// Whether `quant` stands in a GGUF's name on its own: `Q4_K` is no part of `Q4_K_M`, nor `Q4_XS` of `IQ4_XS`.
fn has_quant(stem: &str, quant: &str) -> bool {
    let (stem, quant) = (stem.to_ascii_lowercase(), quant.to_ascii_lowercase());
    let begins = |before: &str| !before.ends_with(|c: char| c.is_ascii_alphanumeric());
    let ends = |after: &str| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let mut found = stem.match_indices(&quant);
    found.any(|(at, _)| begins(&stem[..at]) && ends(&stem[at + quant.len()..]))
}

/// The small files beside weights of this format.
fn companions(files: &[RepoPath], format: WeightFormat) -> Vec<RepoPath> {
    if format == WeightFormat::Gguf {
        return files.iter().filter(|path| is_licence(path)).cloned().collect();
    }
    let is_module = |path: &RepoPath| {
        let folder = path.folder();
        let number = folder.split('_').next().unwrap_or("");
        !folder.contains('/') && number.len() < folder.len() && number.parse::<u8>().is_ok()
    };
    let has_safetensors =
        |folder: &str| files.iter().any(|p| p.folder() == folder && extension(p) == Some("safetensors"));
    let wanted = |path: &&RepoPath| match path.folder() {
        "" => COMPANIONS.contains(&path.as_str()) || is_licence(path),
        "additional_chat_templates" => path.as_str().ends_with(".jinja"),
        folder if is_module(path) => !(extension(path) == Some("bin") && has_safetensors(folder)),
        _ => false,
    };
    files.iter().filter(wanted).cloned().collect()
}

fn is_licence(path: &RepoPath) -> bool {
    let name = path.as_str().to_ascii_uppercase();
    path.folder().is_empty() && ["LICENSE", "LICENCE", "NOTICE"].iter().any(|start| name.starts_with(start))
}

/// Whether `text` fits `pattern`. Steps back to the last `*` only, so the time is at most their product.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((star, from)) = last_star else { return false };
                last_star = Some((star, from + 1));
                (p, t) = (star + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<RepoPath> {
        names.iter().map(|name| RepoPath::parse(name).unwrap()).collect()
    }

    /// `format: weights | companions`, or the reason why not.
    fn chosen(names: &[&str], selector: Option<&str>) -> String {
        let join = |paths: &[RepoPath]| paths.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(" ");
        match select("o/n", &paths(names), selector) {
            Ok(s) => format!("{}: {} | {}", s.format.name(), join(&s.weights), join(&s.companions)),
            Err(Error::Selection { why, .. }) => why,
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn one_format_of_weights_is_chosen_with_what_it_needs() {
        let check = |names: &[&str], expected: &str| assert_eq!(chosen(names, None), expected, "{names:?}");
        check(
            &[
                "config.json",
                "model.safetensors",
                "pytorch_model.bin",
                "onnx/model.onnx",
                "README.md",
                "LICENSE.txt",
            ],
            "safetensors: model.safetensors | config.json LICENSE.txt",
        );
        check(
            &[
                "model-00002-of-00002.safetensors",
                "model-00001-of-00002.safetensors",
                "model.safetensors.index.json",
                "consolidated.safetensors",
            ],
            "safetensors: model-00001-of-00002.safetensors model-00002-of-00002.safetensors | model.safetensors.index.json",
        );
        check(
            &["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
            "`model` has 2 of its 3 shards",
        );
        check(
            &["pytorch_model.bin", "training_args.bin", "vocab.json"],
            "pytorch: pytorch_model.bin | vocab.json",
        );
        check(
            &["adapter_config.json", "adapter_model.safetensors"],
            "adapter: adapter_model.safetensors | adapter_config.json",
        );
        check(&["weights.safetensors"], "safetensors: weights.safetensors | ");
        check(
            &[
                "model.safetensors",
                "modules.json",
                "1_Pooling/config.json",
                "2_Dense/model.safetensors",
                "2_Dense/pytorch_model.bin",
                "openvino/model.bin",
            ],
            "safetensors: model.safetensors | modules.json 1_Pooling/config.json 2_Dense/model.safetensors",
        );
        check(&["README.md"], "expected model.safetensors, pytorch_model.bin or a .gguf");
    }

    #[test]
    fn one_gguf_is_chosen_by_name_or_quantization() {
        let repo = &[
            "m-Q4_K_M.gguf",
            "m-Q4_K_S.gguf",
            "m-Q8_0-00001-of-00002.gguf",
            "m-Q8_0-00002-of-00002.gguf",
            "m-IQ4_XS.gguf",
            "mmproj-F16.gguf",
            "config.json",
        ];
        let check = |selector: Option<&str>, expected: &str| {
            assert_eq!(chosen(repo, selector), expected, "{selector:?}")
        };
        check(None, "gguf: m-Q4_K_M.gguf | ");
        check(Some("q4_k_s"), "gguf: m-Q4_K_S.gguf | ");
        check(Some("Q8_0"), "gguf: m-Q8_0-00001-of-00002.gguf m-Q8_0-00002-of-00002.gguf | ");
        check(
            Some("m-Q8_0-00002-of-00002.gguf"),
            "gguf: m-Q8_0-00001-of-00002.gguf m-Q8_0-00002-of-00002.gguf | ",
        );
        check(Some("m-IQ4_XS.gguf"), "gguf: m-IQ4_XS.gguf | ");
        check(Some("Q4_XS"), "no file is called `Q4_XS` and no GGUF has `Q4_XS` in its name");
        check(Some("Q4_K"), "no file is called `Q4_K` and no GGUF has `Q4_K` in its name");
        check(Some("m"), "5 GGUFs have `m` in their names; name one of the files".replace('5', "4").as_str());
        assert_eq!(
            chosen(&["a.IQ2_M.gguf", "a.IQ3_M.gguf"], None),
            "2 GGUFs to choose from; add the quantization, as in `:Q4_K_M`, or the file"
        );
        assert_eq!(chosen(&["only.gguf"], None), "gguf: only.gguf | ");
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        let check = |pattern: &str, text: &str, expected| {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}")
        };
        check("*.json", "config.json", true);
        check("*.json", "a/b.json", true);
        check("*.json", "config.jsonl", false);
        check("m?del*", "model.bin", true);
        check("", "", true);
        check("*a*b*c", "xaybzc", true);
        check("*a*b*c", "xaybz", false);
        check(&"*a".repeat(50), &"a".repeat(1000), true);
        assert!(select_matching("o/n", &paths(&["a.json"]), &["*.txt".into()]).is_err());
    }
}
