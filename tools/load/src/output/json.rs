//! The result file, rewritten whole after each stage.
//!
//! The one idea: at every moment there is a whole result under the name. The text goes to a temporary file beside it,
//! which then takes its name; a full disk leaves the one before. A device or a pipe is written to as it is, at the end
//! only, as nobody could tell where one result ends and the next begins.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::rows::create;
use super::{OutputError, lost_file};
use crate::result::{RunResult, Warning};

#[derive(Debug)]
pub(super) struct JsonFile {
    path: PathBuf,
    place: Place,
    /// Whether the last write succeeded.
    is_whole: bool,
    was_told: bool,
}

#[derive(Debug)]
enum Place {
    /// Replaced by way of this file.
    Beside(PathBuf),
    /// Written to as it is.
    Device(fs::File),
}

impl JsonFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, OutputError> {
        let flag = "json";
        match place(&path) {
            Ok((path, place)) => Ok(Self {
                path,
                place,
                is_whole: false,
                was_told: false,
            }),
            Err(source) => Err(OutputError::Open { flag, path, source }),
        }
    }

    /// Writes what is known so far. Answers why not, the first time it fails; the next time may succeed.
    pub(super) fn write(&mut self, run: &RunResult) -> Option<Warning> {
        match &self.place {
            Place::Beside(temporary) => {
                let written = replace(&self.path, temporary, run, Sync::No);
                self.judge(written)
            }
            Place::Device(_) => None,
        }
    }

    /// Writes the last word, and waits until the disk has it.
    pub(super) fn write_for_good(&mut self, run: &RunResult) -> Option<Warning> {
        let written = match &mut self.place {
            Place::Beside(temporary) => replace(&self.path, temporary, run, Sync::Yes),
            Place::Device(file) => file.write_all(run.to_json().as_bytes()),
        };
        self.judge(written)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file holds what was written last.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn judge(&mut self, written: io::Result<()>) -> Option<Warning> {
        self.is_whole = written.is_ok();
        let error = written.err()?;
        if std::mem::replace(&mut self.was_told, true) {
            return None;
        }
        let what = "the result could not be written";
        Some(lost_file("json", &self.path, what, &error))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Yes,
    No,
}

fn place(path: &Path) -> io::Result<(PathBuf, Place)> {
    if path.exists() && !path.is_file() {
        return Ok((path.to_owned(), Place::Device(create(path)?)));
    }
    // A link stays one: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("it names no file"))?;
    let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let temporary = path.with_file_name(name);
    drop(create(&temporary)?);
    fs::remove_file(&temporary)?;
    Ok((path, Place::Beside(temporary)))
}

fn replace(path: &Path, temporary: &Path, run: &RunResult, sync: Sync) -> io::Result<()> {
    let written = (|| {
        let mut file = create(temporary)?;
        file.write_all(run.to_json().as_bytes())?;
        if sync == Sync::Yes {
            file.sync_all()?;
        }
        fs::rename(temporary, path)
    })();
    if written.is_err() {
        // Half a file helps nobody, and may be what fills the disk.
        let _ = fs::remove_file(temporary);
    }
    written
}
