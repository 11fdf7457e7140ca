//! Reading a result file back.
//!
//! The one idea: the format is looked at before anything else, so that a foreign file is told as such and not by the
//! first field that it lacks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::{FORMAT, RunResult};

/// Why a file is not a result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResultError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("{} is not JSON ({source}); a result is what `polyloop-load --json FILE` writes", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is JSON of another program.
    #[error("{} is no result of polyloop-load: it does not begin with \"format\": \"{FORMAT}\"", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was written in another version of the format.
    #[error(
        "{} has the format {found:?}, and this version of polyloop-load reads {FORMAT:?}; read it with the version that wrote it",
        path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// It has the right format and not what belongs to it.
    #[error("{} is a damaged result: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        source: serde_json::Error,
    },
}

/// All that is looked at first.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
}

impl RunResult {
    /// Reads a result file.
    ///
    /// # Errors
    /// [`ResultError`] when it cannot be read or is no result of this format.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        let text = fs::read_to_string(path).map_err(|source| ResultError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads a result from text; `path` is for messages.
    ///
    /// # Errors
    /// [`ResultError`] when it is no result of this format.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ResultError> {
        let path = path.to_owned();
        let head: Head = match serde_json::from_str(text) {
            Ok(head) => head,
            // Valid JSON of another shape, such as a list, is foreign rather than broken.
            Err(source) if source.is_data() => return Err(ResultError::Foreign { path }),
            Err(source) => return Err(ResultError::NotJson { path, source }),
        };
        match head.format {
            Some(format) if format == FORMAT => {}
            Some(found) if found.starts_with("polyloop-load/") => {
                return Err(ResultError::OtherFormat { path, found });
            }
            _ => return Err(ResultError::Foreign { path }),
        }
        serde_json::from_str(text).map_err(|source| ResultError::Damaged { path, source })
    }
}
