//! `polyloop proxy` from outside: real backends before it, real clients behind it.
//!
//! What belongs where:
//!
//! * [`backend`]: servers to stand behind a proxy, made in the test.
//! * [`faults`]: storms of resets, abuse, forged fields, backends that flap.
//! * [`foreign`]: programs that are not ours, started and ended.
//! * [`relaying`]: every byte, FIN and reset, copied and spliced, for clients that are not ours.
//! * [`failing`]: backends that die, hang, refuse or say nothing.
//! * [`bulk`]: gigabytes, checked as they come.
//! * [`differential`]: the same PROXY headers given to HAProxy and nginx.
//! * [`doors`]: who is let in, how many, and who waits.
//! * [`full`]: as many sessions as there are descriptors for, and one more.
//! * [`headers`]: the PROXY protocol, in and out.
//! * [`health`]: checks, ejection, and operators who take a backend out.
//! * [`names`]: groups chosen by the name in a TLS hello.
//! * [`resolving`]: backends that are named, with a name server in the test ([`dns`]).
//! * [`records`]: the file of access records: full disks, rotation.
//! * [`lasting`]: very many idle sessions, drain, unix sockets, IPv6.
//! * [`memory`]: more sessions than memory is granted for.
//! * [`namespaces`]: networks that vanish, few ports, little memory; made by the test, for which it has to be root.
//! * [`recipes`]: those of the documentation.
//! * [`transparent`]: backends that see the client's own address; in rooms of the same kind.
//! * [`suites`]: redis, PostgreSQL, SSH, TLS and iperf3, the same as without us.

mod backend;
mod bulk;
mod differential;
mod dns;
mod doors;
mod failing;
mod faults;
mod foreign;
mod full;
mod headers;
mod health;
mod lasting;
mod memory;
mod names;
mod namespaces;
mod recipes;
mod records;
mod relaying;
mod resolving;
mod suites;
mod transparent;

use crate::harness::Polyloop;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs, process};

/// Access records in a file of their own, gone with the value.
struct Records {
    path: PathBuf,
}

impl Records {
    fn new(name: &str) -> Self {
        let file = format!("polyloop-it-{name}-{}.log", process::id());
        let path = env::temp_dir().join(file);
        // A run that was killed may have left one.
        let _ = fs::remove_file(&path);
        Self { path }
    }

    /// A proxy to these backends, in this order, with these flags, that keeps records.
    fn proxy(&self, backends: &[String], flags: &[&str]) -> Polyloop {
        let path = self.path.to_str().unwrap();
        let mut all = vec!["--access-log", path, "--access-log-format", "json"];
        all.extend(flags);
        proxy(backends, &all)
    }

    /// The records of a proxy that has ended, one a line.
    #[track_caller]
    fn read(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let record = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        text.lines().map(record).collect()
    }

    /// How the sessions of a proxy that has ended were ended, sorted.
    #[track_caller]
    fn states(&self) -> Vec<String> {
        let state = |record: &Value| record["state"].as_str().unwrap().to_owned();
        let mut states: Vec<_> = self.read().iter().map(state).collect();
        states.sort();
        states
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // What is left behind in the directory for temporary files harms nobody.
        let _ = fs::remove_file(&self.path);
    }
}

/// A proxy to these backends, in this order; on two loops, unless told otherwise.
fn proxy(backends: &[String], flags: &[&str]) -> Polyloop {
    let mut all = Vec::new();
    if !flags.contains(&"--loops") {
        all.extend(["--loops", "2"]);
    }
    for backend in backends {
        all.extend(["--to", backend]);
    }
    all.extend(flags);
    Polyloop::proxy(&all)
}

/// The page about backends.
#[track_caller]
fn page(server: &Polyloop) -> Value {
    let (status, body) = server.admin_page("/backends");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// What that page says of one backend of the first group.
#[track_caller]
fn backend_row(server: &Polyloop, backend: usize) -> Value {
    page(server)["groups"][0]["backends"][backend].clone()
}

/// The state of one backend of the first group.
#[track_caller]
fn state_of(server: &Polyloop, backend: usize) -> String {
    let row = backend_row(server, backend);
    row["state"].as_str().unwrap().to_owned()
}

/// Whether a program is here; a test that needs it says so and passes if not.
fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: there is no {program}");
    }
    found
}

/// Runs a shell command that is given the proxy's port as `$PORT`; its output.
#[track_caller]
fn sh(server: &Polyloop, script: &str) -> String {
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", script])
        .env("PORT", server.addr().port().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
