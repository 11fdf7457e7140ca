//! Talking to the operator, on standard error, without ever waiting for it.
//!
//! The one idea: a terminal that was stopped, a full pipe or a dead collector must not stop a loop, nor the thread that
//! hears SIGTERM. Whoever has something to say puts it into a bounded queue and goes on; one thread writes. What the
//! queue has no room for, and what standard error does not take, is dropped and counted.
//!
//! The words on standard error come from two sides that share the queue, and so stay in order: messages with a level
//! (tracing, the library's too) and plain text (the start-up block, reports, dumps, the last line).

use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The writing thread. It writes what is left when it is [`finish`](Self::finish)ed.
pub(crate) struct Log {
    talk: Talk,
    guard: WorkerGuard,
}

/// A way to say something. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    queue: NonBlocking,
    dropped: DroppedLines,
    said: Arc<AtomicU64>,
}

/// How many lines nobody will read.
#[derive(Clone)]
pub(crate) struct DroppedLines {
    full: ErrorCounter,
    written: Arc<Written>,
}

/// What the writing thread has done.
#[derive(Debug, Default)]
struct Written {
    /// Pieces given to standard error, whether it took them or not.
    tried: AtomicU64,
    /// Of those, the ones it did not take.
    failed: AtomicU64,
}

/// The writing thread's end.
struct Sink<W> {
    out: W,
    written: Arc<Written>,
}

/// More than a storm of stall reports and a dump; some MiB at the very most.
const LINES_MAX: usize = 8192;

/// How long the end waits for what was said last.
const PATIENCE: Duration = Duration::from_secs(1);

impl Log {
    /// Starts the writing thread and sends all messages of at least this severity to it, those of panics too.
    pub(crate) fn start(level: LevelFilter) -> Self {
        let log = Self::to(io::stderr());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(log.talk.clone())
            .with_ansi(false)
            .with_target(false)
            .finish();
        // There is one log per process. A second one would be a bug, and would only talk less.
        let _ = tracing::subscriber::set_global_default(subscriber);
        // The usual hook writes to standard error, and so would stop a loop whose handler panicked.
        panic::set_hook(Box::new(|info| {
            let thread = thread::current();
            let name = thread.name().unwrap_or("?");
            let text = info.payload_as_str().unwrap_or("a panic without a text");
            let at = info
                .location()
                .map_or_else(String::new, ToString::to_string);
            tracing::error!("panic in thread {name} at {at}: {text}");
        }));
        log
    }

    pub(crate) fn to(out: impl Write + Send + 'static) -> Self {
        let written = Arc::new(Written::default());
        let sink = Sink {
            out,
            written: Arc::clone(&written),
        };
        let (queue, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_MAX)
            .lossy(true)
            .thread_name("log")
            .finish(sink);
        let full = queue.error_counter();
        let talk = Talk {
            queue,
            dropped: DroppedLines { full, written },
            said: Arc::default(),
        };
        Self { talk, guard }
    }

    pub(crate) const fn talk(&self) -> &Talk {
        &self.talk
    }

    /// Waits, not for ever, until everything said has been written.
    pub(crate) fn finish(self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.talk.is_all_written() {
            if Instant::now() >= deadline {
                // Standard error is stuck. Dropping the guard would wait for it again, and say so on standard output.
                std::mem::forget(self.guard);
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Talk {
    /// Says a text, whole lines, as one piece.
    pub(crate) fn say(&self, text: &str) {
        // Neither blocks nor fails: what has no room is counted.
        let _ = self.clone().write_all(text.as_bytes());
    }

    pub(crate) const fn dropped(&self) -> &DroppedLines {
        &self.dropped
    }

    fn is_all_written(&self) -> bool {
        // In this order: what is dropped was said before, so what is read last is not the smaller.
        let dropped = self.dropped.full.dropped_lines() as u64;
        let queued = self.said.load(Relaxed).saturating_sub(dropped);
        self.dropped.written.tried.load(Relaxed) >= queued
    }
}

impl Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.said.fetch_add(1, Relaxed);
        self.queue.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Talk {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl DroppedLines {
    /// Lines that were dropped so far.
    pub(crate) fn count(&self) -> u64 {
        self.full.dropped_lines() as u64 + self.written.failed.load(Relaxed)
    }
}

impl fmt::Debug for DroppedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DroppedLines").field(&self.count()).finish()
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One call for each piece: a partial write is continued here.
        if self.out.write_all(bytes).is_err() {
            self.written.failed.fetch_add(1, Relaxed);
        }
        self.written.tried.fetch_add(1, Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Standard error has no buffer of its own.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    /// Takes nothing until it is told to, then everything.
    struct Stuck {
        gate: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Ends when the test drops its end: the gate is open for good then.
            let _ = self.gate.recv();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_stops_nobody_and_drops_are_counted() {
        // Goal: saying never waits; what is lost is known. Method: a writer that takes nothing, more lines than the
        // queue holds, then the gate opens: what was not dropped arrives.
        let (open, gate) = channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let log = Log::to(Stuck {
            gate,
            taken: Arc::clone(&taken),
        });
        let said = LINES_MAX as u64 + 100;
        (0..said).for_each(|_| log.talk().say("x"));
        let dropped = log.talk().dropped().count();
        assert!((98..=100).contains(&dropped), "{dropped}");
        drop(open);
        log.finish();
        assert_eq!(taken.lock().unwrap().len() as u64, said - dropped);
    }

    #[test]
    fn a_writer_that_fails_is_counted() {
        // Goal: lines that standard error refused are known too. Method: a writer that always fails.
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Log::to(Closed);
        let dropped = log.talk().dropped().clone();
        log.talk().say("a\n");
        log.talk().say("b\n");
        log.finish();
        assert_eq!(dropped.count(), 2);
    }
}
