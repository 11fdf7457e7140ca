//! Results on disk: a directory with `points.jsonl`, one line each, written when the point is measured.
//!
//! The one idea: an interrupted sweep loses the point it was at and nothing else. The first line says what the file is,
//! on which machine and how it was made; a sweep goes on only where all that is the same, since points of two machines,
//! or of two durations, make no curve. It may grow: more values, more subjects, more rounds. A last line without its end was cut by the interrupt and is dropped.
//!
//! Deliberately absent: a database of runs. A directory is one sweep, to be copied, kept and compared.
//!
//! Invariant: a setup is measured once a round; a point that failed is tried again by the next start.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use polyloop_load::result::Machine;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sweep::Setup;

mod point;

pub use point::{Doubt, Measured, Outcome, Point, Syscalls, ThreadTime};

/// Stands first in every file.
pub const FORMAT: &str = "polyloop-curve/1";

/// The first line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: String,
    /// Version of the program.
    pub version: String,
    /// Commit it was started from, where known.
    pub commit: Option<String>,
    /// When the sweep began: RFC 3339, UTC.
    pub started: String,
    /// What was typed.
    pub command: Vec<String>,
    /// What was typed to go on, where that was something else.
    #[serde(default)]
    pub later: Vec<Vec<String>>,
    /// How each point was measured, by name: what is not an axis and must not differ between points.
    #[serde(default)]
    pub how: Vec<(String, String)>,
    /// What the order of the rounds came from.
    pub seed: u64,
    /// The machine.
    pub machine: Machine,
    /// The text of each subject.
    pub subjects: Vec<(String, String)>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Why a directory is no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PointsError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{} is no result of polyloop-curve: its first line has no \"format\":\"{FORMAT}\"", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was written in another version of the format.
    #[error("{} has the format {found:?}, and this version reads {FORMAT:?}; use the version that wrote it, or another directory", path.display())]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// A line of it is not a point.
    #[error("{}:{line}: not a point: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It was made elsewhere, or of something else.
    #[error("{} has another {what}: {found:?}, here {here:?}; points of both make no curve, so name another directory", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
        /// There.
        found: String,
        /// Here.
        here: String,
    },
}

/// The results of one sweep.
#[derive(Debug)]
pub struct Points {
    path: PathBuf,
    /// The first line.
    pub head: Head,
    /// All points, in the order they were written.
    pub all: Vec<Point>,
}

impl Points {
    /// Reads the results in `directory`.
    ///
    /// # Errors
    /// [`PointsError`] when there are none, or they are foreign, of another version, or damaged.
    pub fn read(directory: &Path) -> Result<Self, PointsError> {
        let path = directory.join(FILE);
        let text = fs::read_to_string(&path).map_err(io(&path))?;
        let (head, all) = parse(&text, &path)?;
        Ok(Self { path, head, all })
    }

    /// Opens `directory` to go on, or begins it with `head`.
    ///
    /// # Errors
    /// As for [`read`](Self::read), and when what is there is of another machine, commit or subject.
    pub fn open(directory: &Path, head: Head) -> Result<Self, PointsError> {
        fs::create_dir_all(directory).map_err(io(directory))?;
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(io(&path)(error)),
        };
        // Without a whole first line nothing was measured yet: it was cut while it was written, if it is ours.
        if text.is_empty() || (!text.contains('\n') && text.starts_with("{\"format\":\"polyloop-"))
        {
            let mut points = Self {
                path,
                head,
                all: Vec::new(),
            };
            let line = json(&points.head);
            points.rewrite(&line)?;
            return Ok(points);
        }
        let (found, all) = parse(&text, &path)?;
        same(&found, &head, &path)?;
        let merged = merged(&found, head);
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let mut points = Self {
            path,
            head: merged,
            all,
        };
        if whole < text.len() || points.head != found {
            let rest = text[..whole].split_once('\n').map_or("", |(_, rest)| rest);
            let text = format!("{}\n{rest}", json(&points.head));
            points.rewrite(text.trim_end_matches('\n'))?;
        }
        Ok(points)
    }

    /// Whether a setup was measured in a round.
    #[must_use]
    pub fn has(&self, setup: &Setup, round: u32) -> bool {
        self.all.iter().any(|point| {
            point.round == round && point.setup() == *setup && point.measured().is_some()
        })
    }

    /// Writes a point, to the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, point: Point) -> Result<(), PointsError> {
        let mut file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(io(&self.path))?;
        let line = json(&point) + "\n";
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(io(&self.path))?;
        self.all.push(point);
        Ok(())
    }

    /// Puts a whole text in place of the file: written beside it and renamed.
    fn rewrite(&mut self, text: &str) -> Result<(), PointsError> {
        let beside = self.path.with_extension("new");
        File::create(&beside)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&beside, &self.path))
            .map_err(io(&self.path))
    }
}

fn parse(text: &str, path: &Path) -> Result<(Head, Vec<Point>), PointsError> {
    #[derive(Deserialize)]
    struct Format {
        format: Option<String>,
    }
    let path = path.to_owned();
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    match serde_json::from_str::<Format>(first).map(|head| head.format) {
        Ok(Some(format)) if format == FORMAT => {}
        Ok(Some(found)) if found.starts_with("polyloop-curve/") => {
            return Err(PointsError::OtherFormat { path, found });
        }
        _ => return Err(PointsError::Foreign { path }),
    }
    let damaged = |line: usize, what: serde_json::Error| PointsError::Damaged {
        path: path.clone(),
        line,
        what: what.to_string(),
    };
    let head = serde_json::from_str(first).map_err(|error| damaged(1, error))?;
    let mut points = Vec::new();
    for (index, line) in lines.enumerate() {
        match serde_json::from_str(line) {
            Ok(point) => points.push(point),
            Err(_) if !line.ends_with('\n') => {} // cut by an interrupt
            Err(error) => return Err(damaged(index + 2, error)),
        }
    }
    Ok((head, points))
}

/// Refuses to mix what makes no curve together.
fn same(found: &Head, here: &Head, path: &Path) -> Result<(), PointsError> {
    let subject = |head: &Head, name: &str| {
        let text = head.subjects.iter().find(|(known, _)| known == name);
        text.map(|(_, text)| text.clone())
    };
    let mut pairs = vec![
        (
            "processor".to_owned(),
            found.machine.processor.clone(),
            here.machine.processor.clone(),
        ),
        (
            "number of cores".to_owned(),
            found.machine.cores.to_string(),
            here.machine.cores.to_string(),
        ),
        (
            "kernel".to_owned(),
            found.machine.kernel.clone(),
            here.machine.kernel.clone(),
        ),
        (
            "commit".to_owned(),
            found.commit.clone().unwrap_or_default(),
            here.commit.clone().unwrap_or_default(),
        ),
    ];
    pairs.push((
        "seed".to_owned(),
        found.seed.to_string(),
        here.seed.to_string(),
    ));
    for (name, value) in &here.how {
        let before = found.how.iter().find(|(known, _)| known == name);
        let before = before.map_or_else(String::new, |(_, value)| value.clone());
        pairs.push((name.clone(), before, value.clone()));
    }
    for (name, text) in &here.subjects {
        if let Some(before) = subject(found, name) {
            pairs.push((format!("text of the subject {name}"), before, text.clone()));
        }
    }
    match pairs.into_iter().find(|(_, found, here)| found != here) {
        None => Ok(()),
        Some((what, found, here)) => Err(PointsError::Other {
            path: path.to_owned(),
            what,
            found,
            here,
        }),
    }
}

/// What both starts said: a sweep that grew has the commands, subjects and gaps of all its parts.
fn merged(found: &Head, here: Head) -> Head {
    let mut merged = found.clone();
    if here.command != found.command && !found.later.contains(&here.command) {
        merged.later.push(here.command);
    }
    for subject in here.subjects {
        if !merged.subjects.contains(&subject) {
            merged.subjects.push(subject);
        }
    }
    for reason in here.left_out {
        if !merged.left_out.contains(&reason) {
            merged.left_out.push(reason);
        }
    }
    merged
}

fn json(value: &impl Serialize) -> String {
    // Only maps with keys that are no text could make this fail; there are none.
    serde_json::to_string(value).unwrap_or_default()
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> PointsError {
    let path = path.to_owned();
    move |source| PointsError::Io {
        path: path.clone(),
        source,
    }
}

/// The file within the directory.
pub const FILE: &str = "points.jsonl";

#[cfg(test)]
pub(crate) mod tests;
