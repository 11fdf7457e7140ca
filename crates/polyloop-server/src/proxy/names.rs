//! Backends that are named: their addresses, looked up at the start and again and again.
//!
//! The system's resolver answers (files, DNS, whatever the host is set up with), on a thread of its own, since it blocks. It
//! does not tell how long an answer holds, so each name is looked up every [`INTERVAL`]. A look-up that fails changes
//! nothing: the last answer is better than none.
//!
//! Deliberately absent: SRV records, which the system's resolver does not know.

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use polyloop::Remote;
use polyloop_proxy::settings::{ProxySettings, Target};
use polyloop_proxy::site::Site;

/// The TTL of most records of services that move is between 30 seconds and 5 minutes.
const INTERVAL: Duration = Duration::from_secs(30);

/// The looking-up thread. It ends when this is dropped.
pub(super) struct Names {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A backend that is named.
struct Named {
    group: usize,
    backend: usize,
    host: String,
    port: u16,
    /// What was told last, so that only changes are told.
    last: Option<Vec<Remote>>,
}

impl Names {
    /// Looks all names up once, and then on a thread; `None` if there are none.
    pub(super) fn start(settings: &ProxySettings, site: Arc<Site>) -> io::Result<Option<Self>> {
        let mut names = named(settings);
        if names.is_empty() {
            return Ok(None);
        }
        look_up_all(&mut names, &site);
        let (stop, stopped) = channel();
        let thread = thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || run(names, &site, &stopped))?;
        Ok(Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A look-up that hangs is left behind: the process is ending.
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}

fn named(settings: &ProxySettings) -> Vec<Named> {
    let groups = settings.groups.iter().enumerate();
    groups
        .flat_map(|(group, settings)| {
            let backends = settings.backends.iter().enumerate();
            backends.filter_map(move |(backend, settings)| match &settings.to {
                Target::Name { host, port } => Some(Named {
                    group,
                    backend,
                    host: host.clone(),
                    port: *port,
                    last: None,
                }),
                Target::Addr(_) | Target::Unix(_) | Target::Srv { .. } | Target::Echo => None,
            })
        })
        .collect()
}

fn run(mut names: Vec<Named>, site: &Site, stopped: &Receiver<()>) {
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        look_up_all(&mut names, site);
    }
}

fn look_up_all(names: &mut [Named], site: &Site) {
    for name in names {
        let answer = (name.host.as_str(), name.port).to_socket_addrs();
        let found = answer.map(|addrs| {
            let mut addrs: Vec<_> = addrs.collect();
            addrs.sort_unstable();
            addrs.dedup();
            addrs.into_iter().map(Remote::Tcp).collect::<Vec<_>>()
        });
        name.take(found, site);
    }
}

impl Named {
    fn take(&mut self, found: io::Result<Vec<Remote>>, site: &Site) {
        let (host, port) = (&self.host, self.port);
        match found {
            Ok(places) if !places.is_empty() => {
                if self.last.as_ref() != Some(&places) {
                    tracing::info!("backend {host}:{port} is at {} addresses", places.len());
                    site.groups[self.group].backends[self.backend].set_places(places.clone());
                    self.last = Some(places);
                }
            }
            Ok(_) => tracing::warn!("backend {host}:{port}: the name has no address"),
            Err(error) => tracing::warn!("backend {host}:{port}: {error}; its last addresses stay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyloop_proxy::settings::{BackendSettings, GroupSettings};

    #[test]
    fn a_name_becomes_places_and_a_bad_answer_changes_nothing() {
        // Goal: backends move with their names. Method: a name that every host knows, then an answer that fails.
        let to = Target::Name {
            host: "localhost".to_owned(),
            port: 5432,
        };
        let settings = ProxySettings {
            groups: vec![GroupSettings {
                backends: vec![BackendSettings::new("db".to_owned(), to)],
                ..GroupSettings::default()
            }],
            ..ProxySettings::default()
        };
        let site = Site::new(settings.clone(), 1);
        let mut names = named(&settings);
        look_up_all(&mut names, &site);
        let places = site.groups[0].backends[0].places();
        assert!(
            places.iter().all(|place| matches!(place, Remote::Tcp(addr) if addr.ip().is_loopback() && addr.port() == 5432)),
            "{places:?}"
        );
        assert!(!places.is_empty());
        names[0].take(Err(io::ErrorKind::TimedOut.into()), &site);
        names[0].take(Ok(Vec::new()), &site);
        assert_eq!(site.groups[0].backends[0].places(), places);
    }
}
