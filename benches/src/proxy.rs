//! Proxies of others beside ours: found, configured alike and started.
//!
//! The one idea: each gets the configuration an operator would write for this job, one worker and nothing beside it: no
//! log, no statistics, time limits that no measurement reaches. What differs between the configurations is the way of
//! writing the same thing; `proxy_half_close` of nginx is on because the others do so without being told. The texts
//! belong to the result.
//!
//! Polyloop runs with its defaults, apart from one loop: its limits, gauges and time limits are on.
//!
//! Deliberately absent: tuning (`tune.bufsize`, `proxy_buffer_size`, `busy-polling`), which would be a comparison of
//! settings, and several workers, which on a host with two cores would be a comparison of schedulers.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use polyloop_measure::host::Scratch;
use serde::Serialize;

use crate::subject::{Ready, Server, Subject};

/// A proxy and how it moves bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ours, as it comes: it splices once a direction has proved to be bulk.
    Polyloop,
    /// Ours, told never to splice.
    PolyloopCopy,
    /// HAProxy in TCP mode, as it comes: it copies.
    Haproxy,
    /// HAProxy with `option splice-auto`.
    HaproxySplice,
    /// The stream module of nginx, which copies.
    Nginx,
}

impl Kind {
    /// What tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Polyloop => "polyloop",
            Self::PolyloopCopy => "polyloop-copy",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy-splice",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it is ours.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Polyloop | Self::PolyloopCopy)
    }
}

/// A proxy that is there.
#[derive(Debug, Clone, Serialize)]
pub struct Proxy {
    /// Which.
    pub kind: Kind,
    /// Its binary.
    pub program: PathBuf,
    /// What it says about its version.
    pub version: String,
    /// Where nginx has its stream module, unless that is part of the binary.
    pub module: Option<PathBuf>,
}

/// Where a proxy stands.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// Its configuration and process number go here.
    pub scratch: &'a Scratch,
    /// The server behind it.
    pub backend: SocketAddr,
    /// The core it is held to.
    pub core: usize,
    /// Sessions it must be able to hold at once.
    pub sessions_max: usize,
}

impl Proxy {
    /// Looks for a proxy on this host; `polyloop` is the binary of ours.
    ///
    /// # Errors
    /// When it is not there, or is without what is needed; the message says what to install.
    pub fn find(kind: Kind, polyloop: &Path) -> Result<Self> {
        let (program, version) = match kind {
            Kind::Polyloop | Kind::PolyloopCopy => (polyloop.to_owned(), "--version"),
            Kind::Haproxy | Kind::HaproxySplice => ("haproxy".into(), "-v"),
            Kind::Nginx => ("nginx".into(), "-v"),
        };
        let version = ask(&program, version)?;
        let module = match kind {
            Kind::Nginx => stream_module(&ask(&program, "-V")?)?,
            _ => None,
        };
        let first = version.lines().next().unwrap_or_default();
        Ok(Self {
            kind,
            program,
            version: first.trim_start_matches("nginx version: ").to_owned(),
            module,
        })
    }

    /// Starts the proxy and waits until it serves.
    ///
    /// # Errors
    /// When its configuration cannot be written or it does not start.
    pub fn start(&self, post: Post<'_>) -> Result<Server> {
        match self.kind {
            Kind::Polyloop | Kind::PolyloopCopy => self.ours(post).start(),
            _ => {
                let listen = free_address()?;
                let path = post
                    .scratch
                    .path()
                    .join(format!("{}.cfg", self.kind.name()));
                fs::write(&path, self.configuration(listen, post))
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                self.theirs(listen, &path, post).start()
            }
        }
    }

    /// How it is told what to do, for the result: a command line, or the text of a file.
    #[must_use]
    pub fn told(&self, post: Post<'_>) -> String {
        match self.kind {
            Kind::Polyloop | Kind::PolyloopCopy => self.ours(post).arguments.join(" "),
            _ => self.configuration(SocketAddr::from(([127, 0, 0, 1], 0)), post),
        }
    }

    fn ours(&self, post: Post<'_>) -> Subject {
        let splice = match self.kind {
            Kind::PolyloopCopy => "off",
            _ => "auto",
        };
        let arguments = format!(
            "proxy --listen 127.0.0.1:0 --to {} --loops 1 --cores {} --splice {splice}",
            post.backend, post.core
        );
        let mut subject = Subject::new(self.kind.name(), self.program.clone(), &arguments);
        subject.core = Some(post.core);
        subject
    }

    fn theirs(&self, listen: SocketAddr, path: &Path, post: Post<'_>) -> Subject {
        let words: &[&str] = match self.kind {
            // In the foreground, and one process.
            Kind::Haproxy | Kind::HaproxySplice => &["-db", "-f"],
            _ => &["-e", "stderr", "-c"],
        };
        let mut subject = Subject::new(self.kind.name(), self.program.clone(), "");
        subject.arguments = words.iter().map(|&word| word.to_owned()).collect();
        subject.arguments.push(path.display().to_string());
        subject.core = Some(post.core);
        subject.ready = Ready::Takes(listen);
        if self.kind != Kind::Nginx {
            subject.ends_with = Some(HAPROXY_ENDS_WITH);
        }
        subject
    }

    fn configuration(&self, listen: SocketAddr, post: Post<'_>) -> String {
        match self.kind {
            Kind::Nginx => self.nginx(listen, post),
            Kind::HaproxySplice => haproxy(listen, post, "    option splice-auto\n"),
            _ => haproxy(listen, post, ""),
        }
    }

    fn nginx(&self, listen: SocketAddr, post: Post<'_>) -> String {
        let module = self.module.as_deref().map_or(String::new(), |module| {
            format!("load_module {};\n", module.display())
        });
        let pid = post.scratch.path().join("nginx.pid");
        // A session is two connections, and the worker keeps a few for itself.
        let connections = 2 * post.sessions_max + 64;
        format!(
            "{module}daemon off;\nworker_processes 1;\npid {pid};\nerror_log stderr error;\n\
             events {{\n    worker_connections {connections};\n}}\n\
             stream {{\n    server {{\n        listen {listen} backlog=4096;\n        proxy_pass {backend};\n        \
             proxy_connect_timeout 5s;\n        proxy_timeout 10m;\n        proxy_half_close on;\n    }}\n}}\n",
            pid = pid.display(),
            backend = post.backend,
        )
    }
}

fn haproxy(listen: SocketAddr, post: Post<'_>, option: &str) -> String {
    let Post {
        backend,
        sessions_max,
        ..
    } = post;
    format!(
        "global\n    nbthread 1\n    maxconn {sessions_max}\n\
         defaults\n    mode tcp\n{option}    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\
         listen bench\n    bind {listen} backlog 4096\n    server backend {backend}\n"
    )
}

/// Runs `program` for what it says about itself.
fn ask(program: &Path, argument: &str) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("{} is not there", program.display()))?;
    ensure!(
        status.success(),
        "`{} {argument}`: {status}",
        program.display()
    );
    // nginx talks on standard error.
    let said = [stdout, stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Where the stream module is, by what `nginx -V` says; `None` when it is part of the binary.
fn stream_module(said: &str) -> Result<Option<PathBuf>> {
    let words = || said.split_whitespace();
    if words().any(|word| word == "--with-stream") {
        return Ok(None);
    }
    let modules = words().find_map(|word| word.strip_prefix("--modules-path="));
    let path = modules.map(|modules| Path::new(modules).join("ngx_stream_module.so"));
    match path {
        Some(path) if path.is_file() => Ok(Some(path)),
        _ => bail!("nginx has no stream module; on Debian it is libnginx-mod-stream"),
    }
}

/// An address nobody listens on. Somebody else may take it before it is used; whoever is late says so and ends.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?)
}

/// What HAProxy answers to SIGTERM: the number of the signal, as a shell would.
const HAPROXY_ENDS_WITH: i32 = 128 + 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_name_what_they_are_about() {
        // Goal: both addresses, the option and room for the sessions are in the texts; by looking for them.
        let scratch = Scratch::new().unwrap();
        let post = Post {
            scratch: &scratch,
            backend: "127.0.0.1:7002".parse().unwrap(),
            core: 0,
            sessions_max: 1_000,
        };
        let proxy = |kind| Proxy {
            kind,
            program: "x".into(),
            version: String::new(),
            module: Some("/modules/stream.so".into()),
        };
        for kind in [Kind::Haproxy, Kind::HaproxySplice, Kind::Nginx] {
            let text = proxy(kind).configuration("127.0.0.1:7001".parse().unwrap(), post);
            assert!(
                text.contains("127.0.0.1:7001") && text.contains("127.0.0.1:7002"),
                "{text}"
            );
            assert_eq!(text.contains("splice-auto"), kind == Kind::HaproxySplice);
            assert_eq!(
                text.contains("load_module /modules/stream.so;"),
                kind == Kind::Nginx
            );
        }
        assert!(
            proxy(Kind::Nginx)
                .told(post)
                .contains("worker_connections 2064;")
        );
        assert!(proxy(Kind::Haproxy).told(post).contains("maxconn 1000\n"));
        assert!(
            proxy(Kind::PolyloopCopy)
                .told(post)
                .contains("--splice off")
        );
    }

    #[test]
    fn a_stream_module_is_loaded_only_where_it_is_apart() {
        // Goal: the three ways nginx may be built, by what each says about itself.
        assert_eq!(stream_module("arguments: --with-stream --x").unwrap(), None);
        stream_module("arguments: --with-stream=dynamic --modules-path=/nowhere").unwrap_err();
        stream_module("arguments: --with-stream_ssl_module").unwrap_err();
    }

    #[test]
    fn a_proxy_that_is_missing_is_named() {
        // Goal: the message says which program, by a path that is none.
        let error = Proxy::find(Kind::Polyloop, Path::new("/nowhere/polyloop")).unwrap_err();
        assert!(
            format!("{error:#}").contains("/nowhere/polyloop"),
            "{error:#}"
        );
    }
}
