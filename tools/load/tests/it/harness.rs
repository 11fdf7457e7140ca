//! A run of the binary, what it printed, and the laws that hold for every result.
//!
//! Tests run beside each other but for those that need the machine or most of its descriptors ([`alone`]).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use polyloop_load::result::{RunResult, StageKind, StageResult};

/// How long a test waits for something that must happen before it is called broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_polyloop-load");

static MACHINE: RwLock<()> = RwLock::new(());

/// Takes the machine for one test.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Shares the machine with other tests.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until the answer is yes.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// The flags of a short run.
pub(crate) const SHORT: [&str; 6] = ["--duration", "300ms", "--warm-up", "0s", "--live", "off"];

/// A command of the binary, its streams caught.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args);
    catch(&mut command);
    command
}

pub(crate) fn catch(command: &mut Command) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Waits for the end of a process; one that does not end fails the test.
    #[track_caller]
    pub(crate) fn of(child: Child) -> Self {
        let id = child.id();
        let waiter = thread::spawn(move || child.wait_with_output());
        let deadline = Instant::now() + DEADLINE;
        while !waiter.is_finished() {
            if Instant::now() >= deadline {
                kill(id, rustix::process::Signal::KILL);
                panic!("not over in {DEADLINE:?}");
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        let output: Output = waiter.join().unwrap().unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails with everything that was printed unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// The result of a run with `--format json`.
    #[track_caller]
    pub(crate) fn result(&self) -> RunResult {
        match RunResult::parse(&self.out, Path::new("standard output")) {
            Ok(result) => result,
            Err(error) => panic!("{error}\n{}\n{}", self.out, self.err),
        }
    }

    /// Fails unless each word is in the text.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) {
        for word in words {
            let is_there = self.out.contains(word) || self.err.contains(word);
            assert!(is_there, "{word:?} is not in\n{}\n{}", self.out, self.err);
        }
    }
}

/// Runs the binary.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Ran {
    Ran::of(command(args).spawn().unwrap())
}

/// A short run against a target that ends as a measurement does; its measured stage keeps the laws.
#[track_caller]
pub(crate) fn measure(target: &str, flags: &[&str]) -> (StageResult, RunResult) {
    let mut args = vec![target, "--format", "json"];
    args.extend(SHORT);
    args.extend(flags);
    let result = run(&args).exits(0).result();
    assert!(result.is_complete);
    let stage = measured(&result);
    keeps_the_laws(&stage);
    (stage, result)
}

/// The stage that was asked for.
#[track_caller]
pub(crate) fn measured(result: &RunResult) -> StageResult {
    let mut stages = result.stages.iter();
    let stage = stages.find(|stage| stage.kind == StageKind::Measure);
    stage.unwrap().clone()
}

/// Every planned request was sent or not, every sent one answered or not, and all of them are in the histogram.
#[track_caller]
pub(crate) fn keeps_the_laws(stage: &StageResult) {
    let counts = &stage.counts;
    assert_eq!(counts.offered, counts.sent + counts.unsent, "{counts:?}");
    assert_eq!(
        counts.sent,
        counts.completed + counts.unanswered,
        "{counts:?}"
    );
    assert_eq!(stage.latency.samples, counts.offered, "{counts:?}");
    assert_eq!(stage.lag.samples, counts.sent, "{counts:?}");
    let late = counts.sent_late;
    assert!(counts.completed_late <= late && late <= counts.sent);
    let reached = (counts.sent - late) as f64 / stage.seconds;
    assert!((stage.rates.sent - reached).abs() < 0.01, "{counts:?}");
    let in_windows: u64 = stage.windows.iter().map(|window| window.sent).sum();
    assert_eq!(in_windows, counts.sent, "windows add up");
}

/// No request went wrong.
#[track_caller]
pub(crate) fn is_clean(stage: &StageResult) {
    let counts = &stage.counts;
    assert!(counts.faults.is_empty(), "{counts:?}");
    assert!(counts.completed > 0, "{counts:?}");
    assert_eq!((counts.unanswered, counts.unsent), (0, 0), "{counts:?}");
}

/// Whether a doubt was raised.
pub(crate) fn doubts(result: &RunResult, code: &str) -> bool {
    result.warnings.iter().any(|warning| warning.code == code)
}

pub(crate) fn kill(id: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
    // One that has ended meanwhile needs none.
    let _ = rustix::process::kill_process(pid, signal);
}

/// A directory of the test's own, empty.
pub(crate) fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A path in a directory, as text.
pub(crate) fn path_in(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().unwrap().to_owned()
}
