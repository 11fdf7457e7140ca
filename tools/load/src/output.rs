//! Everything that leaves the program: files as the run goes, a view while it goes, a summary at its end.
//!
//! The one idea: [`Output`] is told what happened and decides nothing about the run. Files are opened before any load
//! starts and written as it goes, so that an interrupt loses nothing; data goes to stdout, talk to stderr.
//!
//! ```text
//!   open ──> stage_begins ──> interval, interval, .. ──> stage_ends ──> (next stage) ──> finish
//!    │            │               │    │                     │                             │
//!    │            │               │    └ csv, hlog: a row    └ json: rewritten whole       ├ json, for good
//!    └ files,     └───────────────┴ live view                  hgrm: a spectrum            └ summary on stdout
//!      headers
//! ```
//!
//! A path that cannot be opened is an error before the run ([`OutputError`]). A write that fails later (a full disk) is
//! told once on stderr, becomes a warning of the result, and the run goes on; [`Outcome::is_whole`] then says no.
//!
//! An interrupted run ends its stage with what there is of it and finishes like any other, with `is_complete` false; one
//! that is killed leaves the result as of its last stage, and the rows as of its last interval.
//!
//! Deliberately absent: measuring, percentiles, doubts. Those come in as [`StageResult`] and [`RunResult`].

mod csv;
mod hgrm;
mod hlog;
mod json;
mod live;
mod rows;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod units;

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::ValueEnum;
use thiserror::Error;

use crate::result::{Beside, RunResult, Severity, StageHead, StageResult, Warning};
use crate::tally::Interval;

pub use live::Live;

/// Where things go.
#[derive(Debug, Clone, Default)]
pub struct OutputSettings {
    /// The whole result.
    pub json: Option<PathBuf>,
    /// A row per interval.
    pub csv: Option<PathBuf>,
    /// Histograms per interval, as an HdrHistogram log.
    pub hlog: Option<PathBuf>,
    /// A percentile spectrum per measured stage.
    pub hgrm: Option<PathBuf>,
    /// What is shown while it runs.
    pub live: Live,
    /// What is printed at the end.
    pub format: Format,
}

/// What goes to stdout at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// The summary.
    #[default]
    Text,
    /// The whole result.
    Json,
}

/// Why a run cannot begin: an output has no place.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file cannot be opened.
    #[error(
        "--{flag} {}: cannot be opened for writing: {source}; name a file in a directory that exists and may be written to",
        path.display()
    )]
    Open {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Two outputs would overwrite each other.
    #[error("--{first} and --{second} both name {}; give each a file of its own", path.display())]
    SameFile {
        /// One flag.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// How the output ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether every file and the summary were written to the end.
    pub is_whole: bool,
}

/// Streams of the process, exchanged by tests.
pub(crate) struct Streams {
    pub(crate) out: Box<dyn Write + Send>,
    pub(crate) err: Box<dyn Write + Send>,
    /// Whether `err` is a terminal that understands more than plain text.
    pub(crate) is_terminal: bool,
}

impl Streams {
    fn of_process() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            is_terminal: io::stderr().is_terminal() && !is_dumb,
        }
    }
}

/// All outputs of one run.
pub struct Output {
    /// The result as far as it goes, for the file that is written after each stage.
    so_far: RunResult,
    /// What could not be written, told once each.
    lost: Vec<Warning>,
    json: Option<json::JsonFile>,
    csv: Option<rows::RowFile>,
    hlog: Option<rows::RowFile>,
    hgrm: Option<hgrm::Spectra>,
    live: live::View,
    stage: Option<StageHead>,
    clock: Clock,
    format: Format,
    out: Box<dyn Write + Send>,
}

impl Output {
    /// Opens every file and writes what stands before the first row. `head` has no stages yet.
    ///
    /// # Errors
    /// [`OutputError`] when a file cannot be opened.
    pub fn open(settings: OutputSettings, head: &RunResult) -> Result<Self, OutputError> {
        Self::open_with(settings, head, Streams::of_process())
    }

    pub(crate) fn open_with(
        settings: OutputSettings,
        head: &RunResult,
        streams: Streams,
    ) -> Result<Self, OutputError> {
        refuse_one_file_for_two(&settings)?;
        let row_file = |flag, path: Option<PathBuf>| {
            path.map(|path| rows::RowFile::open(flag, path)).transpose()
        };
        let mut output = Self {
            so_far: head.clone(),
            lost: Vec::new(),
            json: settings.json.map(json::JsonFile::open).transpose()?,
            csv: row_file("csv", settings.csv)?,
            hlog: row_file("hlog", settings.hlog)?,
            hgrm: settings.hgrm.map(hgrm::Spectra::open).transpose()?,
            live: live::View::new(settings.live, streams.err, streams.is_terminal),
            stage: None,
            clock: Clock::new(),
            format: settings.format,
            out: streams.out,
        };
        output.so_far.is_complete = false;
        output.write_heads();
        Ok(output)
    }

    fn write_heads(&mut self) {
        let json = self.json.as_mut().and_then(|json| json.write(&self.so_far));
        let csv = self
            .csv
            .as_mut()
            .and_then(|file| file.append(csv::header().as_bytes()));
        let head = hlog::header(&self.so_far, self.clock.opened_wall);
        let hlog = self.hlog.as_mut().and_then(|file| file.append(&head));
        self.note_lost([json, csv, hlog]);
    }

    /// A stage begins; `seconds_planned` is how long it will take, where that is known.
    pub fn stage_begins(&mut self, head: &StageHead, seconds_planned: Option<f64>) {
        let mark = hlog::stage_mark(head);
        let hlog = self.hlog.as_mut().and_then(|file| file.append(&mark));
        self.live.stage_begins(head, seconds_planned);
        self.stage = Some(head.clone());
        self.note_lost([hlog]);
    }

    /// An interval ended: `interval` is what all loops recorded in it, merged, and `beside` what else went on.
    pub fn interval(&mut self, interval: &Interval, beside: &Beside) {
        let at = self.clock.place(interval, Instant::now());
        let csv = self.csv.as_mut().and_then(|file| {
            let row = csv::row(at, self.stage.as_ref(), interval, beside);
            file.append(row.as_bytes())
        });
        let hlog = self.hlog.as_mut().and_then(|file| {
            let entries = hlog::entries(at, interval);
            file.append(&entries)
        });
        self.live.interval(interval);
        self.note_lost([csv, hlog]);
    }

    /// A stage ended: its spectrum is written, and the result so far.
    pub fn stage_ends(&mut self, stage: &StageResult) {
        self.live.stage_ends(stage);
        self.so_far.stages.push(stage.clone());
        let hgrm = self.hgrm.as_mut().and_then(|spectra| spectra.add(stage));
        let json = self.json.as_mut().and_then(|json| json.write(&self.so_far));
        self.note_lost([hgrm, json]);
    }

    /// Tells the operator something while the view stands.
    pub fn say(&mut self, text: &str) {
        self.live.say(text);
    }

    /// The run is over, or was interrupted (`run.is_complete` says which): the result is written for good and printed.
    ///
    /// What could not be written is added to the warnings of `run`.
    pub fn finish(mut self, run: &mut RunResult) -> Outcome {
        self.live.end();
        run.warnings.append(&mut self.lost);
        let json = self.json.as_mut().and_then(|json| json.write_for_good(run));
        self.note_lost([json]);
        run.warnings.append(&mut self.lost);
        let printed = self.print(run);
        let is_whole = printed
            && self.json.as_ref().is_none_or(json::JsonFile::is_whole)
            && self.csv.as_ref().is_none_or(rows::RowFile::is_whole)
            && self.hlog.as_ref().is_none_or(rows::RowFile::is_whole)
            && self.hgrm.as_ref().is_none_or(hgrm::Spectra::is_whole);
        Outcome { is_whole }
    }

    fn print(&mut self, run: &RunResult) -> bool {
        let text = match self.format {
            Format::Text => summary::text(run, &self.files()),
            Format::Json => run.to_json(),
        };
        match self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
        {
            // Whoever reads has seen enough, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
            Err(error) => {
                self.live
                    .say(&format!("the result could not be printed: {error}"));
                false
            }
            Ok(()) => true,
        }
    }

    /// Every file there is, by flag.
    fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let json = self
            .json
            .as_ref()
            .map(|json| ("json", json.path().to_owned()));
        let csv = self
            .csv
            .as_ref()
            .map(|file| ("csv", file.path().to_owned()));
        let hlog = self
            .hlog
            .as_ref()
            .map(|file| ("hlog", file.path().to_owned()));
        let mut files: Vec<_> = [json, csv, hlog].into_iter().flatten().collect();
        let spectra = self.hgrm.iter().flat_map(hgrm::Spectra::paths);
        files.extend(spectra.map(|path| ("hgrm", path.to_owned())));
        files
    }

    /// Tells the operator about each and keeps it for the result.
    fn note_lost<const N: usize>(&mut self, lost: [Option<Warning>; N]) {
        for warning in lost.into_iter().flatten() {
            self.live
                .say(&format!("ERROR: {}; {}", warning.text, warning.advice));
            self.so_far.warnings.push(warning.clone());
            self.lost.push(warning);
        }
    }
}

/// The warning about a file that could not be written.
fn lost_file(flag: &str, path: &std::path::Path, what: &str, error: &io::Error) -> Warning {
    Warning::new(
        "output-lost",
        Severity::Error,
        format!("--{flag} {}: {what}: {error}", path.display()),
        "make room or name another place, and run again for a whole file; the load went on"
            .to_owned(),
    )
}

fn refuse_one_file_for_two(settings: &OutputSettings) -> Result<(), OutputError> {
    let named = [
        ("json", &settings.json),
        ("csv", &settings.csv),
        ("hlog", &settings.hlog),
        ("hgrm", &settings.hgrm),
    ];
    for (index, (second, path)) in named.iter().enumerate() {
        let earlier = &named[..index];
        let Some(path) = path else { continue };
        let is_regular = !path.exists() || path.is_file();
        if let Some((first, _)) = earlier
            .iter()
            .find(|(_, other)| other.as_ref() == Some(path))
            && is_regular
        {
            return Err(OutputError::SameFile {
                first,
                second,
                path: path.clone(),
            });
        }
    }
    Ok(())
}

/// Places intervals, which are on the monotonic clock of the loops, on a scale that begins when the output was opened.
struct Clock {
    opened: Instant,
    opened_wall: SystemTime,
    /// A moment of the loops' clock, and where it lies on ours.
    anchor: Option<(u64, Duration)>,
}

impl Clock {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            opened_wall: SystemTime::now(),
            anchor: None,
        }
    }

    /// Where the interval begins. The first one is taken to have ended just now.
    fn place(&mut self, interval: &Interval, now: Instant) -> Duration {
        let since_open = now.saturating_duration_since(self.opened);
        let (anchor_ns, anchor) = *self.anchor.get_or_insert((interval.until_ns, since_open));
        let anchor_from_open = u64::try_from(anchor.as_nanos()).unwrap_or(u64::MAX);
        let from_open = (anchor_from_open + interval.from_ns).saturating_sub(anchor_ns);
        Duration::from_nanos(from_open)
    }
}

#[cfg(test)]
mod tests;
