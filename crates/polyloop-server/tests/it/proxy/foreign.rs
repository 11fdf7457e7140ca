//! Programs that are not ours, before and behind a proxy: started on ports that are free, gone with the value.

use crate::harness::{DEADLINE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs, process, thread};

/// A directory of one test, gone with the value.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("polyloop-it-{name}-{}", process::id()));
        // A run that was killed may have left one.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Gives it to somebody else.
    pub(super) fn give_to(&self, (uid, gid): (u32, u32)) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&self.0, Some(uid), Some(gid)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind in the directory for temporary files harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that is not ours.
pub(super) struct Program {
    child: Child,
    ends_by: Signal,
}

impl Program {
    /// Starts it; what it says is thrown away.
    pub(super) fn start(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            ends_by: Signal::KILL,
        }
    }

    /// Starts it and waits for a line of its standard output; `None` if it ends before.
    pub(super) fn start_saying(
        command: &mut Command,
        is_ready: impl Fn(&str) -> bool,
    ) -> Option<(Self, String)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let started = Self {
            child,
            ends_by: Signal::KILL,
        };
        let mut line = String::new();
        while !is_ready(&line) {
            line.clear();
            if stdout.read_line(&mut line).unwrap() == 0 {
                return None;
            }
        }
        // What it says later finds the pipe open.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Some((started, line.trim().to_owned()))
    }

    /// Lets it clean up after itself at its end.
    pub(super) fn ends_by(mut self, signal: Signal) -> Self {
        self.ends_by = signal;
        self
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it takes connections; `false` if it ends before.
    pub(super) fn serves(&mut self, addr: SocketAddr) -> bool {
        let mut serves = false;
        eventually("it listens or ends", || {
            serves = TcpStream::connect(addr).is_ok();
            serves || self.has_ended()
        });
        serves
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, or does now; who does not mind the signal is killed.
        let _ = kill_process(Pid::from_child(&self.child), self.ends_by);
        let deadline = Instant::now() + DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            thread::park_timeout(std::time::Duration::from_millis(1));
        }
    }
}

/// A port that nobody has, for programs that want to be told one. Somebody may take it first; [`serve`] tries again.
pub(super) fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Starts a server on a free port; `None`, with a message, where it cannot run.
pub(super) fn serve(
    name: &str,
    command: impl Fn(SocketAddr) -> Command,
) -> Option<(Program, SocketAddr)> {
    for _ in 0..3 {
        let addr = free_addr();
        let mut program = Program::start(&mut command(addr));
        if program.serves(addr) {
            return Some((program, addr));
        }
    }
    eprintln!("skipped: {name} does not start here");
    None
}

/// A user without rights, for programs that refuse to be root; `None` where we are not.
pub(super) fn somebody() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).unwrap())
}

/// A command in the name of [`somebody`].
pub(super) fn command_of(somebody: Option<(u32, u32)>, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    if let Some((uid, gid)) = somebody {
        command.uid(uid).gid(gid);
    }
    command
}

/// A TLS server of OpenSSL with a certificate of its own for one name.
pub(super) struct TlsServer {
    _program: Program,
    pub(super) addr: String,
    pub(super) certificate: PathBuf,
}

impl TlsServer {
    /// `answers` is `-www` (a page about the connection) or `-WWW` (files of the directory).
    pub(super) fn start(directory: &Directory, name: &str, answers: &str) -> Self {
        let key = directory.file(&format!("{name}.key"));
        let certificate = directory.file(&format!("{name}.crt"));
        let status = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", &format!("/CN={name}")])
            .args(["-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let mut command = Command::new("openssl");
        command
            .current_dir(directory.path())
            .args(["s_server", "-accept", "127.0.0.1:0", answers, "-key"])
            .arg(&key)
            .arg("-cert")
            .arg(&certificate);
        let started = Program::start_saying(&mut command, |line| line.starts_with("ACCEPT"));
        let (program, line) = started.unwrap_or_else(|| panic!("openssl does not serve"));
        Self {
            _program: program,
            addr: line.rsplit(' ').next().unwrap().to_owned(),
            certificate,
        }
    }
}
