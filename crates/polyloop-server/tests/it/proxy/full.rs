//! As many sessions as 20,000 descriptors allow, and what happens to whoever comes then.

use super::backend::Process;
use crate::harness::{
    BINARY, LISTEN, Polyloop, assert_echo, eventually, eventually_is, is_closed, send_unanswered,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// Two descriptors each, of 20,000; what is left over is for everything else.
const SESSIONS: usize = 9_900;

/// A proxy that is full, its clients, and the process behind it.
struct Full {
    server: Polyloop,
    clients: Vec<TcpStream>,
    _backend: Process,
}

impl Full {
    /// `None`, with a message, where so many files may not be open. Clients, proxy and backend are a process each, as each has
    /// 20,000 descriptors.
    fn new(when_full: &str) -> Option<Self> {
        let limit = getrlimit(Resource::Nofile);
        if limit.maximum.is_some_and(|hard| hard < DESCRIPTORS) {
            eprintln!("skipped: the hard limit of open files is {limit:?}");
            return None;
        }
        let current = limit.maximum;
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let backend = Process::echo();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$@\"")])
            .args(["sh", BINARY, "proxy", "--loops", "2"])
            .args(LISTEN)
            .args(["--to", &backend.to(), "--when-full", when_full])
            .args(["--max-connections", &SESSIONS.to_string()])
            .stderr(Stdio::piped());
        let server = Polyloop::run(command);
        // Each is served before the next comes, so that no queue overflows.
        let clients = (0..SESSIONS).map(|_| {
            let mut client = server.connect();
            assert_echo(&mut client);
            client
        });
        let clients = clients.collect();
        let full = Self {
            server,
            clients,
            _backend: backend,
        };
        full.assert_is_full();
        assert!(full.server.count_descriptors() >= 2 * SESSIONS);
        Some(full)
    }

    #[track_caller]
    fn assert_is_full(&self) {
        let numbers = || {
            let metrics = self.server.metrics();
            let names = [
                "polyloop_proxy_live",
                "polyloop_permits_in_use",
                "polyloop_permits_cap",
            ];
            names.map(|name| metrics[name])
        };
        eventually_is("it is full", &[SESSIONS as u64; 3], numbers);
    }

    fn says(&self, what_follows: &str) -> bool {
        let expected = format!("{CAP_REACHED}, {what_follows}");
        self.server.stderr().contains(&expected)
    }

    /// Everybody leaves, and the usual is found.
    fn end(self, others: Vec<TcpStream>) {
        drop((self.clients, others));
        self.server.end();
    }
}

const DESCRIPTORS: u64 = 20_000;

const CAP_REACHED: &str = "the cap of 9900 connections is reached";

/// Whether the answer to what was sent is there.
fn is_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    matches!(peeked, Ok(1))
}

#[test]
fn all_that_fit_are_served_and_the_next_ones_wait() {
    // Goal: 9,900 live sessions under a limit of 20,000 descriptors; `--when-full wait` keeps the next ones in the backlog until
    // use is down to 90 %, and metrics and log say why. Method: all sessions talk, twice; others come until both loops have
    // found out; the loops rest although somebody waits; 900 leave, which is not enough, and 100 more, which is.
    let Some(mut full) = Full::new("wait") else {
        return;
    };
    full.clients.iter_mut().for_each(assert_echo);
    let mut waiting = Vec::new();
    // A loop pauses when it finds the first one whom it cannot let in; the kernel chooses whose that is.
    eventually("both loops are paused", || {
        waiting.push(full.server.connect());
        send_unanswered(waiting.last_mut().unwrap());
        full.server.metric("polyloop_paused") == 2
    });
    assert!(full.says("who comes waits in the backlog"));
    full.server.rest();
    full.clients.truncate(SESSIONS - 900);
    eventually("they have left", || {
        full.server.metric("polyloop_permits_in_use") == SESSIONS as u64 - 900
    });
    assert_eq!(full.server.metric("polyloop_paused"), 2);
    assert!(!waiting.iter().any(is_answered), "too early");
    full.clients.iter_mut().for_each(assert_echo);
    full.clients.truncate(SESSIONS - 1_000);
    eventually("who waited is served", || waiting.iter().all(is_answered));
    assert_eq!(full.server.metric("polyloop_paused"), 0);
    assert_eq!(full.server.metric("polyloop_accept_exhausted_total"), 0);
    full.end(waiting);
}

#[test]
fn when_all_places_are_taken_the_next_one_is_refused_until_one_is_free() {
    // Goal: `--when-full refuse` among 9,900: a client more is closed at once, counted and told, costs nobody his session, and
    // as many are let in as have left. Method: five who come too early; then one leaves, three times, and one comes.
    let Some(mut full) = Full::new("refuse") else {
        return;
    };
    for refused in 1..=5 {
        let stream = full.server.connect();
        eventually("it is refused", || is_closed(&stream));
        assert_eq!(full.server.metric("polyloop_refused_total"), refused);
    }
    assert!(full.says("who comes is closed at once"));
    let mut others = Vec::new();
    for _ in 0..3 {
        full.clients.pop();
        eventually("one has left", || {
            full.server.metric("polyloop_permits_in_use") == SESSIONS as u64 - 1
        });
        let mut next = full.server.connect();
        assert_echo(&mut next);
        others.push(next);
        full.assert_is_full();
    }
    assert_eq!(full.server.metric("polyloop_refused_total"), 5);
    full.clients.iter_mut().for_each(assert_echo);
    full.end(others);
}

#[test]
fn when_all_places_are_taken_the_longest_idle_makes_room() {
    // Goal: `--when-full evict-idle` among 9,900: as many idle sessions end as newcomers are let in, and no more; counted and
    // told. Method: newcomers try until five are served, as there may be nobody idle for a second yet on a loop; five of the
    // first are closed, the others talk.
    let Some(mut full) = Full::new("evict-idle") else {
        return;
    };
    let mut others = Vec::new();
    eventually("five more are let in", || {
        let mut next = full.server.connect();
        send_unanswered(&mut next);
        eventually("it is decided", || is_answered(&next) || is_closed(&next));
        if is_answered(&next) {
            others.push(next);
        }
        others.len() == 5
    });
    assert!(full.says("who comes takes the place of the longest idle"));
    assert_eq!(full.server.metric("polyloop_evicted_total"), 5);
    full.assert_is_full();
    full.clients.retain(|client| !is_closed(client));
    assert_eq!(full.clients.len(), SESSIONS - 5);
    full.clients.iter_mut().for_each(assert_echo);
    full.end(others);
}
