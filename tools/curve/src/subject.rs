//! A subject: a server as a small TOML file tells how to start it.
//!
//! ```toml
//! name = "polyloop-echo"
//! about = "our echo"
//! command = "polyloop echo --listen 127.0.0.1:{port} --loops {loops} --cores {cores} {options}"
//! ready = "says"              # prints `listening on ADDRESS`; or "connects": takes a connection
//! needs = ["polyloop"]        # programs, and files by their whole path; one that is missing skips the subject
//! [option]
//! accept = "--accept {value}" # what `--sweep accept=..` adds to {options}
//! ```
//!
//! The one idea: everything a sweep has to know about a server is in a file that a person can copy and change, and a
//! mistake in it is told with its line.
//!
//! Deliberately absent: a shell. The command is split at blanks, so that no subject depends on quoting.
//!
//! Invariant: a subject that was read has no unknown key and no unknown placeholder.

mod raw;
mod template;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

pub use template::{Post, Template};

/// How to start a server and what to bill.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What tables call it.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// The program and its arguments.
    pub command: Template,
    /// How it tells that it serves.
    pub ready: Ready,
    /// Whose processor time is its own.
    pub bill: Bill,
    /// Programs (found beside this one or on the path), and files by their whole path.
    pub needs: Vec<String>,
    /// The subject that answers behind it, for those that have `{upstream}`.
    pub upstream: Option<String>,
    /// More loops than this it does not have.
    pub loops_max: Option<usize>,
    /// Exit codes that mean success, beside 0 and an end by SIGTERM.
    pub ends_with: Vec<i32>,
    /// What the generator is told for this subject alone, such as what to send.
    pub load: Vec<String>,
    /// Files made for it in a directory of its own, `{dir}`.
    pub files: BTreeMap<String, Template>,
    /// What its own axes add to `{options}`.
    pub options: BTreeMap<String, Choice>,
    /// The text it was read from: it belongs to the result.
    pub text: String,
}

/// How a server tells that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// It prints `listening on ADDRESS` on its standard output.
    Says,
    /// It takes a connection.
    #[default]
    Connects,
}

/// Which processes are billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bill {
    /// The one that was started and all that it started.
    #[default]
    Tree,
    /// The one that was started.
    Process,
}

/// What a value of an axis adds to the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// These words, with `{value}` for the value.
    Any(String),
    /// The words of each value that there is.
    Named(BTreeMap<String, String>),
}

impl Choice {
    /// The words for `value`; `None` when there are none for it.
    #[must_use]
    pub fn words(&self, value: &str) -> Option<Vec<String>> {
        let text = match self {
            Self::Any(text) => text.replace("{value}", value),
            Self::Named(texts) => texts.get(value)?.clone(),
        };
        Some(text.split_whitespace().map(str::to_owned).collect())
    }
}

/// Why a file is no subject.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl Subject {
    /// Reads a file.
    ///
    /// # Errors
    /// [`SubjectError`] when it cannot be read or is no subject.
    pub fn read(path: &Path) -> Result<Self, SubjectError> {
        let text = fs::read_to_string(path).map_err(|source| SubjectError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads a text; `path` is for messages.
    ///
    /// # Errors
    /// [`SubjectError::Wrong`] with the line of the first mistake.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SubjectError> {
        raw::parse(text).map_err(|wrong| SubjectError::Wrong {
            path: path.to_owned(),
            line: line_of(text, wrong.at),
            what: wrong.what,
        })
    }

    /// A subject that comes with this program.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let (file, text) = BUILT_IN
            .iter()
            .find(|(file, _)| file.trim_end_matches(".toml") == name)?;
        // A test reads all of them, so none is wrong.
        Self::parse(text, Path::new(file)).ok()
    }

    /// The names of the subjects that come with this program.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN
            .iter()
            .map(|(file, _)| file.trim_end_matches(".toml"))
    }

    /// A subject by its name, or by the path of its file.
    ///
    /// # Errors
    /// When there is no such file, or it is wrong.
    pub fn find(name: &str) -> Result<Self, SubjectError> {
        Self::built_in(name).map_or_else(|| Self::read(Path::new(name)), Ok)
    }

    /// The first of its needs that is not there, by `is_there`.
    #[must_use]
    pub fn missing(&self, is_there: impl Fn(&str) -> bool) -> Option<&str> {
        let missing = self.needs.iter().find(|need| !is_there(need));
        missing.map(String::as_str)
    }

    /// Whether `{upstream}` stands anywhere in it: it is a proxy.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        self.command.has("upstream") || self.files.values().any(|file| file.has("upstream"))
    }
}

/// The line of a place in a text, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    before.matches('\n').count() + 1
}

/// All of `subjects/`.
const BUILT_IN: [(&str, &str); 9] = [
    ("bare-mio.toml", include_str!("../subjects/bare-mio.toml")),
    ("haproxy.toml", include_str!("../subjects/haproxy.toml")),
    (
        "nginx-stream.toml",
        include_str!("../subjects/nginx-stream.toml"),
    ),
    (
        "polyloop-echo.toml",
        include_str!("../subjects/polyloop-echo.toml"),
    ),
    (
        "polyloop-proxy.toml",
        include_str!("../subjects/polyloop-proxy.toml"),
    ),
    ("redis.toml", include_str!("../subjects/redis.toml")),
    (
        "tokio-echo.toml",
        include_str!("../subjects/tokio-echo.toml"),
    ),
    (
        "tokio-proxy.toml",
        include_str!("../subjects/tokio-proxy.toml"),
    ),
    (
        "uneven-work.toml",
        include_str!("../subjects/uneven-work.toml"),
    ),
];

#[cfg(test)]
pub(crate) mod tests;
