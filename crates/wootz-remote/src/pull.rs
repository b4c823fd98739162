//! A whole model: list, choose, fetch several files at a time, write down what came.
//!
//! Where:  the command line's `pull`, and any command that is given a model that is not here yet.
//! Idea:   everything comes from the one commit that the listing named, so that the files belong together.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::digest::Digest;
use crate::download::{Event, Fetched, Job};
use crate::error::{Error, Result};
use crate::hub::{Hub, RemoteFile, RepoListing};
use crate::manifest::{Manifest, ManifestFile};
use crate::name::ModelName;
use crate::repo_path::RepoPath;
use crate::select::{select, select_matching};

/// Files under way at a time. One connection rarely fills a line, and servers dislike many.
const N_CONNECTIONS: usize = 4;

/// What to pull and where to.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The model.
    pub name: ModelName,
    /// Patterns of file names; when there are any, they alone decide which files are fetched.
    pub include: Vec<String>,
    /// The model's folder, created where missing.
    pub folder: PathBuf,
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The model's folder.
    pub folder: PathBuf,
    /// The commit that the files are of.
    pub commit: String,
    /// All files that were asked for, in the listing's order.
    pub files: Vec<PulledFile>,
}

/// One file in place.
#[derive(Clone, Debug)]
pub struct PulledFile {
    /// Its name in the repository.
    pub path: RepoPath,
    /// Its size.
    pub size_bytes: u64,
    /// What it was verified against; nothing when the server named no digest.
    pub digest: Option<Digest>,
    /// Bytes that came over the network, those of discarded attempts included.
    pub fetched_bytes: u64,
    /// It was there already.
    pub was_present: bool,
}

impl Hub {
    /// The files that a pull would fetch.
    ///
    /// # Errors
    /// Those of [`Hub::listing`], and [`Error::Selection`] when nothing fits.
    pub fn plan(&self, request: &PullRequest) -> Result<(RepoListing, Vec<RemoteFile>)> {
        let listing = self.listing(&request.name)?;
        let paths: Vec<RepoPath> = listing.files.iter().map(|file| file.path.clone()).collect();
        let wanted = if request.include.is_empty() {
            let selection = select(&listing.repo, &paths, request.name.selector())?;
            [selection.companions, selection.weights].concat()
        } else {
            select_matching(&listing.repo, &paths, &request.include)?
        };
        let is_wanted = |file: &&RemoteFile| wanted.contains(&file.path);
        let files = listing.files.iter().filter(is_wanted).cloned().collect();
        Ok((listing, files))
    }

    /// Puts a model's files into its folder. `watch` is called from several threads.
    ///
    /// # Errors
    /// The first that a file met; the others are then stopped, and what came so far is kept for the next pull.
    pub fn pull(&self, request: &PullRequest, watch: &(dyn Fn(&RepoPath, Event) + Sync)) -> Result<Pulled> {
        let (listing, files) = self.plan(request)?;
        self.fetch_all(&listing, &files, request, watch)
    }

    /// The second half of [`Hub::pull`], for those who have shown the plan first.
    ///
    /// # Errors
    /// Those of [`Hub::pull`].
    pub fn fetch_all(
        &self,
        listing: &RepoListing,
        files: &[RemoteFile],
        request: &PullRequest,
        watch: &(dyn Fn(&RepoPath, Event) + Sync),
    ) -> Result<Pulled> {
        let manifest = Manifest::read(&request.folder);
        let stop = AtomicBool::new(false);
        let run = |file: &RemoteFile| {
            let (repo, commit, folder) = (&listing.repo, &listing.commit, request.folder.as_path());
            Job { hub: self, repo, commit, file, folder, manifest: &manifest, stop: &stop, watch }.run()
        };
        let results = in_parallel(files, &stop, &run);
        let mut pulled = Vec::new();
        let mut first_error = None;
        for (file, result) in files.iter().zip(results) {
            match result {
                Some(Ok(fetched)) => pulled.push(pulled_file(file, fetched)),
                // A file that was stopped because of another one is not the reason.
                Some(Err(Error::Cancelled)) | None => first_error = first_error.or(Some(Error::Cancelled)),
                Some(Err(error)) if matches!(first_error, None | Some(Error::Cancelled)) => {
                    first_error = Some(error)
                }
                Some(Err(_)) => {}
            }
        }
        write_manifest(&request.folder, &request.name, &listing.commit, &pulled)?;
        match first_error {
            Some(error) => Err(error),
            None => {
                Ok(Pulled { folder: request.folder.clone(), commit: listing.commit.clone(), files: pulled })
            }
        }
    }
}

/// Runs `work` over all files on a few threads; after a failure no further file is begun.
fn in_parallel(
    files: &[RemoteFile],
    stop: &AtomicBool,
    work: &(dyn Fn(&RemoteFile) -> Result<Fetched> + Sync),
) -> Vec<Option<Result<Fetched>>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Fetched>>>> = Mutex::new(files.iter().map(|_| None).collect());
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(index) else { return };
            let result = work(file);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            results.lock().expect("no thread panics while it holds the results")[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..N_CONNECTIONS.min(files.len()) {
            scope.spawn(run);
        }
    });
    results.into_inner().expect("no thread panics while it holds the results")
}

fn pulled_file(file: &RemoteFile, fetched: Fetched) -> PulledFile {
    let Fetched { size_bytes, digest, fetched_bytes, was_present } = fetched;
    PulledFile { path: file.path.clone(), size_bytes, digest, fetched_bytes, was_present }
}

fn write_manifest(folder: &Path, name: &ModelName, commit: &str, pulled: &[PulledFile]) -> Result<()> {
    if pulled.is_empty() {
        return Ok(());
    }
    let entry = |file: &PulledFile| {
        let digest = file.digest.map(|digest| digest.to_string());
        (file.path.to_string(), ManifestFile { size_bytes: file.size_bytes, digest })
    };
    let files = pulled.iter().map(entry).collect();
    let (repo, revision) = (name.repo().into(), name.revision().into());
    Manifest::merge(folder, Manifest { repo, revision, commit: commit.into(), files })
}
