//! A file that appears under its name when it is complete, or not at all.
//!
//! Where:  under every writer of this crate, and whoever else writes a file that must be whole.
//! Idea:   write to a temporary neighbour, sync it, rename it, sync the folder. A killed process leaves the old file.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file that is being written. Dropped before [`commit`](Self::commit), it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` once committed.
    file: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Begins a file beside `path`, which stays as it is until the end.
    ///
    /// # Errors
    /// The folder cannot be written to, or `path` is one.
    pub fn create(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(Error::io("write", path, std::io::Error::other("it is a folder")));
        };
        for attempt in 0..1000 {
            let mut neighbour = std::ffi::OsString::from(".");
            neighbour.push(name);
            neighbour.push(format!(".{}-{attempt}.tmp", std::process::id()));
            let temporary = path.with_file_name(neighbour);
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    let file = Some(BufWriter::with_capacity(1 << 20, file));
                    return Ok(Self { path: path.into(), temporary, file });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::io("create", &temporary, source)),
            }
        }
        Err(Error::io("create a temporary file beside", path, std::io::ErrorKind::AlreadyExists.into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The disk is full, or gone.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.run("write", |file| file.write_all(bytes))
    }

    pub(crate) fn zeros(&mut self, mut n: usize) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while n > 0 {
            let some = n.min(ZEROS.len());
            self.write(&ZEROS[..some])?;
            n -= some;
        }
        Ok(())
    }

    /// The next bytes go to `position`, counted from the file's start.
    pub(crate) fn seek(&mut self, position: u64) -> Result<()> {
        self.run("write", |file| file.seek(SeekFrom::Start(position)).map(drop))
    }

    /// Gives the file its name, once everything is on the disk.
    ///
    /// # Errors
    /// What was written cannot be synced or renamed; the old file is untouched then.
    pub fn commit(mut self) -> Result<()> {
        self.run("sync", |file| {
            file.flush()?;
            file.get_ref().sync_all()
        })?;
        self.file = None;
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|source| Error::io("rename a temporary file to", &self.path, source))?;
        sync_folder(&self.path)
    }

    fn run(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> Result<()> {
        let file = self.file.as_mut().expect("only `commit` takes the file, and it consumes `self`");
        work(file).map_err(|source| Error::io(action, &self.path, source))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file.into_parts()); // without flushing what is thrown away
            std::fs::remove_file(&self.temporary).unwrap_or(()); // nothing more can be done here
        }
    }
}

/// Makes a rename durable where folders can be synced.
fn sync_folder(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::io("sync the folder of", path, source))?;
    }
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        std::fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        drop(file);
        assert_eq!(
            (std::fs::read(&path).unwrap(), names(dir.path())),
            (b"old".to_vec(), vec!["model".into()])
        );
        let mut file = AtomicFile::create(&path).unwrap();
        file.zeros(5000).unwrap();
        file.seek(1).unwrap();
        file.write(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), 5000);
        assert_eq!(&std::fs::read(&path).unwrap()[..5], b"\0new\0");
        assert_eq!(names(dir.path()), ["model"]);
    }
}
