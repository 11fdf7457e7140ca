//! Where access records go: standard error between the other messages, or a file with a thread of its own.
//!
//! The one idea: a loop never waits for a disk. It puts a line into a bounded queue and goes on; what finds no room is
//! counted, and what the system does not take is counted by the thread that writes, which also tells the operator, at most
//! once a second. A line that was cut by a full disk is ended before the next one begins, so a reader loses that line alone.
//!
//! SIGHUP makes the thread open the file anew, by its name, before it writes the next record: rename, then signal, as
//! logrotate does. The signal does nothing else, and only a process with such a file hears it; others it ends, as is usual.
//!
//! Deliberately absent: rotating by size or date, and a flush to the disk: the kernel writes in its own time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use polyloop_proxy::settings::AccessLogTo;
use polyloop_proxy::site::{RecordsLost, Site};
use signal_hook::consts::SIGHUP;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::logging::Talk;

/// Records that wait to be written; more are dropped, and counted.
const RECORDS_MAX: usize = 65_536;

/// How often losses are told.
const WARN_INTERVAL: Duration = Duration::from_secs(1);

/// The place of the records, while the process runs.
pub(super) enum AccessLog {
    Off,
    /// Between the other messages, and dropped and counted with them.
    Stderr,
    File(FileLog),
}

/// A file and the thread that writes it.
pub(super) struct FileLog {
    queue: NonBlocking,
    guard: WorkerGuard,
    lost: Lost,
}

/// How a loop gets rid of a record.
#[derive(Clone)]
pub(super) enum Records {
    Stderr(Talk),
    File(NonBlocking, Lost),
}

/// What nobody will read.
#[derive(Clone)]
pub(super) struct Lost {
    /// Set once the queue is made, which is after the writer that it is given.
    dropped: Arc<OnceLock<ErrorCounter>>,
    write_errors: Arc<AtomicU64>,
}

/// The end of the thread that writes.
struct Writer {
    path: PathBuf,
    file: File,
    /// Whether the last line was written in part.
    is_torn: bool,
    is_to_reopen: Arc<AtomicBool>,
    lost: Lost,
    told: RecordsLost,
    told_at: Option<Instant>,
}

impl AccessLog {
    pub(super) fn open(to: &AccessLogTo) -> Result<Self, String> {
        Ok(match to {
            AccessLogTo::Off => Self::Off,
            AccessLogTo::Stderr => Self::Stderr,
            AccessLogTo::File(path) => {
                let opened = FileLog::open(path);
                Self::File(opened.map_err(|error| {
                    format!(
                        "error: --access-log {}: {error}; name a file in a directory that exists and may be written to\n",
                        path.display()
                    )
                })?)
            }
        })
    }

    /// What loops write to.
    pub(super) fn records(&self, talk: &Talk) -> Option<Records> {
        match self {
            Self::Off => None,
            Self::Stderr => Some(Records::Stderr(talk.clone())),
            Self::File(log) => Some(Records::File(log.queue.clone(), log.lost.clone())),
        }
    }

    /// Writes what is left.
    pub(super) fn finish(self) {
        if let Self::File(log) = self {
            drop(log.queue);
            drop(log.guard);
        }
    }
}

impl FileLog {
    fn open(path: &Path) -> io::Result<Self> {
        let is_to_reopen = Arc::new(AtomicBool::new(false));
        // From here on the signal ends nobody, whoever of the threads gets it.
        signal_hook::flag::register(SIGHUP, Arc::clone(&is_to_reopen))?;
        let lost = Lost {
            dropped: Arc::default(),
            write_errors: Arc::default(),
        };
        let writer = Writer {
            path: path.to_owned(),
            file: append_to(path)?,
            is_torn: false,
            is_to_reopen,
            lost: lost.clone(),
            told: RecordsLost::default(),
            told_at: None,
        };
        let (queue, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(RECORDS_MAX)
            .lossy(true)
            .thread_name("access-log")
            .finish(writer);
        let _ = lost.dropped.set(queue.error_counter());
        Ok(Self { queue, guard, lost })
    }
}

impl Records {
    /// Tells the site where its records go.
    pub(super) fn connect(self, site: &Site) {
        if let Self::File(_, lost) = &self {
            let lost = lost.clone();
            site.set_records_lost(move || lost.read());
        }
        site.set_records(move |line| self.write(line));
    }

    /// Never waits: what the queue has no room for is dropped and counted.
    fn write(&self, line: &str) {
        match self {
            Self::Stderr(talk) => talk.say(line),
            Self::File(queue, _) => _ = queue.clone().write_all(line.as_bytes()),
        }
    }
}

impl Lost {
    fn read(&self) -> RecordsLost {
        let dropped = self.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        RecordsLost {
            dropped: dropped as u64,
            write_errors: self.write_errors.load(Relaxed),
        }
    }
}

impl Writer {
    fn reopen(&mut self) {
        match append_to(&self.path) {
            Ok(file) => (self.file, self.is_torn) = (file, false),
            Err(error) => tracing::warn!(
                "the access log {} cannot be opened anew: {error}; records go on to the file that is open",
                self.path.display()
            ),
        }
    }

    /// Writes a line, and says how many bytes of it are in the file if it is not whole.
    fn append(&mut self, line: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < line.len() {
            match self.file.write(&line[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    fn append_whole(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.append(b"\n").map_err(|(_, error)| error)?;
            self.is_torn = false;
        }
        self.append(line).map_err(|(written, error)| {
            self.is_torn = written > 0;
            error
        })
    }

    /// Tells the operator what was lost since it was told last, now and then.
    fn tell(&mut self, error: Option<&io::Error>) {
        let lost = self.lost.read();
        let is_due = self.told_at.is_none_or(|at| at.elapsed() >= WARN_INTERVAL);
        if lost == self.told || !is_due {
            return;
        }
        let path = self.path.display();
        let dropped = lost.dropped - self.told.dropped;
        let failed = lost.write_errors - self.told.write_errors;
        let error = error.map_or_else(String::new, |error| format!(": {error}"));
        tracing::warn!(
            "the access log {path} lost records: {dropped} found no room in its queue, {failed} were not written{error}"
        );
        (self.told, self.told_at) = (lost, Some(Instant::now()));
    }
}

impl Write for Writer {
    /// One call for each record.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_to_reopen.swap(false, Relaxed) {
            self.reopen();
        }
        let error = self.append_whole(line).err();
        if error.is_some() {
            self.lost.write_errors.fetch_add(1, Relaxed);
        }
        self.tell(error.as_ref());
        // The thread would only forget an error.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
