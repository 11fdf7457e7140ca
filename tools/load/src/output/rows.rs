//! A file that grows row by row.
//!
//! The one idea: it holds whole rows only. Rows go out unbuffered, one write each; when one fails, what was written of
//! it is cut off again and the file is left as it is, so that it can be read however the run ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{OutputError, lost_file};
use crate::result::Warning;

#[derive(Debug)]
pub(super) struct RowFile {
    flag: &'static str,
    path: PathBuf,
    file: File,
    /// Bytes of whole rows.
    written: u64,
    is_whole: bool,
}

impl RowFile {
    pub(super) fn open(flag: &'static str, path: PathBuf) -> Result<Self, OutputError> {
        match create(&path) {
            Ok(file) => Ok(Self {
                flag,
                path,
                file,
                written: 0,
                is_whole: true,
            }),
            Err(source) => Err(OutputError::Open { flag, path, source }),
        }
    }

    /// Adds rows; the first time that fails it answers why, and from then on does nothing.
    pub(super) fn append(&mut self, rows: &[u8]) -> Option<Warning> {
        if !self.is_whole {
            return None;
        }
        match self.file.write_all(rows) {
            Ok(()) => {
                self.written += rows.len() as u64;
                None
            }
            Err(error) => {
                self.is_whole = false;
                // A device cannot be cut; there is nothing to repair then.
                let _ = self.file.set_len(self.written);
                let what = format!("written no further than byte {}", self.written);
                Some(lost_file(self.flag, &self.path, &what, &error))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether everything that was to be written was.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// Makes the file, or empties it.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}
