//! Datasets as encoded examples: made once, found again while nothing has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use wootz_data::{
    Examples, Fingerprint, HeldOutExamples, LongExamples, Preparation, Prepared, PreparedStats,
    PreparedWriter, Rows, files_of, prepare,
};
use wootz_train::config::{Dataset, HeldOut, TooLong, TrainConfig};
use wootz_train::{Feed, FeedSettings, Part, Stores};

use super::base::Base;

/// What is learned from and what is measured with.
pub(super) struct Data {
    pub train: Feed,
    pub validation: Option<Feed>,
    /// For the run's record
    pub fingerprint: String,
}

impl Data {
    pub fn open(
        config: &TrainConfig,
        base: &Base,
        folder: &Path,
        n_threads: usize,
        told: &mut dyn FnMut(&str),
    ) -> anyhow::Result<Self> {
        let prepared =
            config.dataset_prepared_path.as_ref().map_or_else(|| folder.join("prepared"), PathBuf::from);
        let held_out = match config.held_out {
            HeldOut::None => HeldOutExamples::Number(0),
            HeldOut::Share(share) => HeldOutExamples::Share(share),
            HeldOut::Rows(n) => HeldOutExamples::Number(n as usize),
        };
        let (mut train, mut validation, mut fingerprints) = (Vec::new(), Vec::new(), String::new());
        for dataset in &config.datasets {
            let (store, fingerprint) = open_one(config, dataset, base, &prepared, n_threads, told)?;
            fingerprints.push_str(&fingerprint);
            let (mut kept, measured) = store.split(held_out, config.seed);
            if let Some(limit) = dataset.limit {
                kept.truncate(limit as usize);
            }
            train.push(Part { store: store.clone(), kept });
            if !measured.is_empty() {
                validation.push(Part { store, kept: measured });
            }
        }
        for dataset in &config.test_datasets {
            let (store, _) = open_one(config, dataset, base, &prepared, n_threads, told)?;
            let n = dataset.limit.map_or(store.len(), |limit| store.len().min(limit as usize));
            validation.push(Part { store, kept: (0..n as u32).collect() });
        }
        let is_weighted = config.datasets.iter().any(|dataset| dataset.is_weighted);
        let weights = is_weighted.then(|| config.datasets.iter().map(|dataset| dataset.weight).collect());
        let settings = FeedSettings {
            micro_batch_size: config.micro_batch_size as usize,
            accumulation: config.gradient_accumulation_steps as usize,
            packed_len: config.sample_packing.then_some(config.sequence_len as usize),
            shuffle_seed: config.shuffle.then_some(config.seed),
        };
        let train = Feed::new(Box::new(Stores::new(train, weights)?), settings)?;
        let validation = match validation.is_empty() {
            true => None,
            false => {
                let settings = FeedSettings { shuffle_seed: None, ..settings };
                Some(Feed::new(Box::new(Stores::new(validation, None)?), settings)?)
            }
        };
        Ok(Self { train, validation, fingerprint: fingerprints })
    }
}

/// The store of a dataset, and its fingerprint.
fn open_one(
    config: &TrainConfig,
    dataset: &Dataset,
    base: &Base,
    folder: &Path,
    n_threads: usize,
    told: &mut dyn FnMut(&str),
) -> anyhow::Result<(Arc<Prepared>, String)> {
    for (is_said, key) in [
        (dataset.name.is_some(), "name"),
        (dataset.revision.is_some(), "revision"),
        (dataset.split != "train", "split"),
        (dataset.field.is_some(), "field"),
        (dataset.field_messages.is_some(), "field_messages"),
    ] {
        if is_said {
            bail!("`datasets`: `{key}` is not built yet; `{}`", dataset.path);
        }
    }
    let mut files = Vec::new();
    match dataset.data_files.is_empty() {
        true => files.extend(files_of(&dataset.path)?),
        false => {
            for name in &dataset.data_files {
                let path = Path::new(&dataset.path).join(name);
                files.extend(files_of(&path.to_string_lossy())?);
            }
        }
    }
    let supervise = config.supervise();
    let too_long = match config.too_long {
        TooLong::Drop => LongExamples::Drop,
        TooLong::Truncate => LongExamples::Truncate,
        TooLong::Split => LongExamples::Split,
        TooLong::Refuse => LongExamples::Refuse,
    };
    let max_tokens = config.sequence_len as usize;
    let preparation = Preparation {
        tokenizer: &base.tokenizer,
        template: base.template.as_deref(),
        supervise: &supervise,
        max_tokens,
        too_long,
        n_threads,
    };
    let probe = "a probe of the tokenizer: 12 words, ünïcödé, \n\n\tand 'quotes'…";
    let mut fingerprint = Fingerprint::default()
        .with("format", b"1")
        .with("vocabulary", &base.tokenizer.vocab_size().to_le_bytes())
        .with("probe", format!("{:?}", base.tokenizer.encode(probe, true, true)).as_bytes())
        .with(
            "template",
            base.template.as_ref().and_then(|t| t.source("default")).unwrap_or_default().as_bytes(),
        )
        .with("settings", format!("{supervise:?} {max_tokens} {too_long:?} {:?}", dataset.shape).as_bytes());
    for file in &files {
        fingerprint = fingerprint.with_file(file)?;
    }
    let name: String = fingerprint.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{name}.examples"));
    if let Ok(store) = Prepared::open(&path)
        && store.is_of(fingerprint)
    {
        return Ok((Arc::new(store), name));
    }
    std::fs::create_dir_all(folder).with_context(|| format!("making `{}`", folder.display()))?;
    let vocab_size = base.model.network.config.vocab_size as u32;
    let writer = PreparedWriter::create(&path, fingerprint, vocab_size)?;
    let rows = Examples::new(Rows::open(&files)?, dataset.shape);
    let mut show = |stats: &PreparedStats| {
        told(&format!("{}: {} rows, {} tokens", dataset.path, stats.n_rows, stats.n_tokens));
    };
    let (store, stats) = prepare(rows, &preparation, writer, &mut show)
        .with_context(|| format!("dataset `{}`", dataset.path))?;
    if stats.n_too_long > 0 {
        told(&format!(
            "{}: {} of {} rows are longer than {max_tokens} tokens and left out",
            dataset.path, stats.n_too_long, stats.n_rows
        ));
    }
    Ok((Arc::new(store), name))
}
