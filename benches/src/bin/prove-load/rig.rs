//! What all parts of the proof share: the binaries, the two cores, and one run of the generator.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use polyloop_benches::subject::{Server, Subject};
use polyloop_load::result::{RunResult, StageResult};
use polyloop_measure::host::{self, Scratch};

use crate::Args;

/// See the module's documentation.
pub(crate) struct Rig {
    polyloop: PathBuf,
    load: PathBuf,
    delay_echo: PathBuf,
    pub(crate) load_core: usize,
    server_core: usize,
    congestion: Option<String>,
    scratch: Scratch,
    pub(crate) is_quick: bool,
}

impl Rig {
    pub(crate) fn new(args: &Args, congestion: Option<&str>) -> Result<Self> {
        host::require_core(args.load_core)?;
        host::require_core(args.server_core)?;
        let built = |name: &str| {
            let path = args.binaries.join(name);
            let is_there = path.is_file();
            ensure!(
                is_there,
                "{} is not there; `cargo xtask prove-load` builds it",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            polyloop: built("polyloop")?,
            load: built("polyloop-load")?,
            delay_echo: built("examples/delay_echo")?,
            load_core: args.load_core,
            server_core: args.server_core,
            congestion: congestion.map(str::to_owned),
            scratch: Scratch::new()?,
            is_quick: args.quick,
        })
    }

    /// `full`, or what is enough to see that it works.
    pub(crate) fn or_quick<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// `polyloop echo` on one loop.
    pub(crate) fn echo(&self) -> Result<Server> {
        let arguments = format!(
            "echo --listen 127.0.0.1:0 --loops 1 --cores {}",
            self.server_core
        );
        Subject::new("polyloop echo", self.polyloop.clone(), &arguments).start()
    }

    /// The server that answers after delays of this mean.
    pub(crate) fn delay_echo(&self, mean_ms: f64) -> Result<Server> {
        let arguments = format!(
            "--listen 127.0.0.1:0 --loops 1 --cores {} --mean-ms {mean_ms}",
            self.server_core
        );
        Subject::new("delay_echo", self.delay_echo.clone(), &arguments).start()
    }

    /// A file of this name that is gone with the proof.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Starts the generator on one loop; `arguments` are split at blanks.
    pub(crate) fn begin(&self, server: &Server, arguments: &str, json: &Path) -> Result<Run> {
        let mut command = Command::new(&self.load);
        command
            .arg(server.addr().to_string())
            .args(arguments.split_whitespace())
            .args(["--loops", "1", "--live", "off"])
            .args(["--cores", &self.load_core.to_string()])
            .args(["--server-pid", &server.pid().to_string()])
            .arg("--json")
            .arg(json)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(congestion) = &self.congestion {
            command.args(["--congestion", congestion]);
        }
        let child = command
            .spawn()
            .with_context(|| format!("{} cannot be started", self.load.display()))?;
        host::adopt_child(child.id());
        Ok(Run {
            child,
            json: json.to_owned(),
        })
    }

    /// One run from its beginning to its end.
    pub(crate) fn load(&self, server: &Server, arguments: &str) -> Result<RunResult> {
        let json = self.file("run.json");
        self.begin(server, arguments, &json)?.end()
    }
}

/// A generator that runs.
pub(crate) struct Run {
    child: Child,
    json: PathBuf,
}

impl Run {
    /// Fails when it has ended.
    pub(crate) fn require_alive(&mut self) -> Result<()> {
        let status = self.child.try_wait()?;
        ensure!(
            status.is_none(),
            "polyloop-load ended too early: {status:?}"
        );
        Ok(())
    }

    /// Waits for its end and reads its result.
    pub(crate) fn end(self) -> Result<RunResult> {
        let pid = self.child.id();
        let output = self.child.wait_with_output()?;
        host::forget_child(pid);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("polyloop-load: {}: {}", output.status, said.trim());
        }
        Ok(RunResult::read(&self.json)?)
    }
}

/// The stage that was measured.
pub(crate) fn measured(run: &RunResult) -> Result<&StageResult> {
    run.measured()
        .next()
        .context("the result has no measured stage")
}
