//! Networks that vanish, few ports, small buffers, little memory: rooms that a test makes for itself, for which it has to
//! be root.
//!
//! The binary runs in the room; its administrators are served on a unix socket, which is found from everywhere. The
//! test's own sockets are made by a thread that enters the room, and belong to it wherever they are used later.

use super::foreign::Directory;
use super::{Records, backend_row, has, page};
use crate::harness::{
    BINARY, Polyloop, connect, eventually, eventually_is, is_closed, read_all, reset, unix,
};
use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;

/// A network of its own, in which there is a loopback at first; gone with the value.
pub(super) struct Space {
    name: String,
    /// For unix sockets, which are longer than some temporary directories allow.
    directory: Directory,
}

impl Space {
    /// `None`, with a message, where the test may not make one.
    pub(super) fn new(name: &str) -> Option<Self> {
        let name = format!("polyloop-{name}-{}", process::id());
        if !(geteuid().is_root() && has("ip")) {
            eprintln!("skipped: namespaces need root and ip");
            return None;
        }
        let directory = Directory::new(&name);
        let space = Self { name, directory };
        if !ip(&["netns", "add", &space.name]) {
            eprintln!("skipped: there are no network namespaces here");
            return None;
        }
        assert!(space.ip(&["link", "set", "lo", "up"]));
        Some(space)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ip(&self, args: &[&str]) -> bool {
        ip(&[&["-n", &self.name][..], args].concat())
    }

    /// Does something in there, in a thread.
    pub(super) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                act()
            });
            entered.join().unwrap()
        })
    }

    /// Sets a system setting of the network.
    pub(super) fn set(&self, key: &str, value: &str) {
        self.enter(|| fs::write(format!("/proc/sys/net/ipv4/{key}"), value).unwrap());
    }

    pub(super) fn listen(&self, addr: &str) -> TcpListener {
        self.enter(|| TcpListener::bind(addr).unwrap())
    }

    pub(super) fn connect(&self, addr: SocketAddr) -> TcpStream {
        self.enter(|| connect(addr))
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.file(name)
    }

    /// A proxy in there.
    pub(super) fn proxy(&self, listen: &str, to: &str, flags: &[&str]) -> Polyloop {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        self.proxy_of(command, listen, to, flags)
    }

    /// The same, from a command that runs what follows in there.
    pub(super) fn proxy_of(
        &self,
        mut command: Command,
        listen: &str,
        to: &str,
        flags: &[&str],
    ) -> Polyloop {
        let admin = format!("unix:{}", self.socket("admin").display());
        command
            .args([BINARY, "proxy"])
            .args(["--listen", listen, "--admin", &admin, "--to", to])
            .args(flags)
            .stderr(Stdio::piped());
        if !flags.contains(&"--loops") {
            command.args(["--loops", "2"]);
        }
        Polyloop::run(command)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(args: &[&str]) -> bool {
    let output = Command::new("ip").args(args).output().unwrap();
    if !output.status.success() {
        eprintln!("ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// Sends into every stream until nobody takes any more, for some rounds.
pub(super) fn push_until_stuck(streams: &[TcpStream]) {
    let block = vec![7; 64 * 1024];
    let mut rounds_stuck = 0;
    eventually("nobody takes any more", || {
        let mut sent = 0;
        for mut stream in streams {
            while let Ok(count) = stream.write(&block) {
                sent += count;
            }
        }
        rounds_stuck = if sent == 0 { rounds_stuck + 1 } else { 0 };
        rounds_stuck == 50
    });
}

/// Accepts so many, none of which blocks.
fn accept(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = Vec::new();
    eventually("they come", || {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            accepted.push(stream);
        }
        accepted.len() == count
    });
    accepted
}

/// Sessions with clients who never read, by hundreds, which the backlog of a listener takes; both ends.
fn mute_sessions(
    space: &Space,
    addr: SocketAddr,
    listener: &TcpListener,
    count: usize,
) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let (mut clients, mut backends) = (Vec::new(), Vec::new());
    while clients.len() < count {
        clients.extend(space.enter(|| (0..100).map(|_| connect(addr)).collect::<Vec<_>>()));
        backends.extend(accept(listener, 100));
    }
    (clients, backends)
}

/// Two networks with a cable between them, 10.9.0.1 near and 10.9.0.2 far; `None` where that cannot be made.
fn cabled(name: &str) -> Option<(Space, Space)> {
    let (near, far) =
        Space::new(&format!("{name}-near")).zip(Space::new(&format!("{name}-far")))?;
    let cable = format!("link add name va type veth peer name vb netns {}", far.name);
    let cable: Vec<_> = cable.split(' ').collect();
    if !near.ip(&cable) {
        eprintln!("skipped: there are no cables here");
        return None;
    }
    assert!(
        near.ip(&["addr", "add", "10.9.0.1/24", "dev", "va"])
            && near.ip(&["link", "set", "va", "up"])
    );
    assert!(
        far.ip(&["addr", "add", "10.9.0.2/24", "dev", "vb"])
            && far.ip(&["link", "set", "vb", "up"])
    );
    Some((near, far))
}

#[test]
fn silent_peers_that_vanish_are_asked_and_given_up() {
    // Goal: keep-alive is on, on both sides, although it is turned on late: a session whose peer is gone ends while nobody
    // says anything. Method: the cable is cut under quiet sessions, ten to a backend over there and ten from over there.
    let Some((near, far)) = cabled("silent") else {
        return;
    };
    let numbers = ["--keepalive", "1s", "--keepalive-interval", "1s"];
    let more = ["--keepalive-count", "1", "--idle-timeout", "off"];
    let flags = [&numbers[..], &more].concat();

    let backend = far.listen("10.9.0.2:0");
    let to = backend.local_addr().unwrap().to_string();
    let server = near.proxy("127.0.0.1:0", &to, &flags);
    let addr = server.addr();
    let mut clients: Vec<_> = (0..10).map(|_| near.connect(addr)).collect();
    let _vanishing = accept(&backend, 10);
    assert!(far.ip(&["link", "set", "vb", "down"]));
    for client in &mut clients {
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    server.end();

    assert!(far.ip(&["link", "set", "vb", "up"]));
    let backend = near.listen("127.0.0.1:0");
    let to = backend.local_addr().unwrap().to_string();
    let server = near.proxy("10.9.0.1:0", &to, &flags);
    let addr = server.addr();
    let _vanishing: Vec<_> = (0..10).map(|_| far.connect(addr)).collect();
    let backends = accept(&backend, 10);
    assert!(far.ip(&["link", "set", "vb", "down"]));
    eventually("all have ended", || backends.iter().all(is_closed));
    server.end();
}

#[test]
fn peers_that_vanish_end_when_their_time_is_up() {
    // Goal: TCP_USER_TIMEOUT frees sessions whose peer is gone without a word, on both sides. Method: two networks and a
    // cable between them; ten sessions to a backend over there, and ten clients from over there; the cable is cut,
    // everybody over here speaks, and all sessions end, with a reset for whoever is left.
    let Some((near, far)) = cabled("vanish") else {
        return;
    };
    let flags = ["--user-timeout", "500ms", "--idle-timeout", "off"];

    let records = Records::new("vanish-backend");
    let log = records.path.to_str().unwrap();
    let log = ["--access-log", log, "--access-log-format", "json"];
    let flags = [&flags[..], &log].concat();
    let backend = far.listen("10.9.0.2:0");
    let server = near.proxy(
        "127.0.0.1:0",
        &backend.local_addr().unwrap().to_string(),
        &flags,
    );
    let addr = server.addr();
    let mut clients: Vec<_> = (0..10).map(|_| near.connect(addr)).collect();
    let _vanishing = accept(&backend, 10);
    assert!(far.ip(&["link", "set", "vb", "down"]));
    clients
        .iter_mut()
        .for_each(|client| client.write_all(b"anybody?").unwrap());
    for client in &mut clients {
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    server.end();
    assert_eq!(records.states(), ["SD"; 10]);

    assert!(far.ip(&["link", "set", "vb", "up"]));
    let records = Records::new("vanish-client");
    let backend = near.listen("127.0.0.1:0");
    let log = records.path.to_str().unwrap();
    let flags = [
        &flags[..4],
        &["--access-log", log, "--access-log-format", "json"],
    ]
    .concat();
    let server = near.proxy(
        "10.9.0.1:0",
        &backend.local_addr().unwrap().to_string(),
        &flags,
    );
    let addr = server.addr();
    let _vanishing: Vec<_> = (0..10).map(|_| far.connect(addr)).collect();
    let mut backends = accept(&backend, 10);
    assert!(far.ip(&["link", "set", "vb", "down"]));
    for backend in &mut backends {
        backend.write_all(b"anybody?").unwrap();
    }
    eventually("all have ended", || backends.iter().all(is_closed));
    server.end();
    assert_eq!(records.states(), ["CD"; 10]);
}

/// Sessions so far: those that reached the backend, and those that were refused for want of a port.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    connected: u64,
    refused: u64,
}

fn counts(server: &Polyloop) -> Counts {
    let page = page(server);
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    Counts {
        connected: number(&page["groups"][0]["backends"][0]["connected"]),
        refused: number(&page["listeners"][0]["refused"]["ports_exhausted"]),
    }
}

#[test]
fn without_ports_it_refuses_and_goes_on_when_there_are_some() {
    // Goal: no port left towards a backend is a clean refusal, counted as such, is no fault of the backend, and passes.
    // Method: a network with a hundred ports; 200 clients of a unix socket, who need none, come and stay; as many as there
    // are ports are served and the others refused; forty leave, and forty come again.
    let Some(space) = Space::new("ports") else {
        return;
    };
    // Its own port is none of the hundred.
    let listener = space.listen("127.0.0.1:0");
    // A network of the test's own, in which nobody else has ports.
    space.set("ip_local_port_range", "61000 61099");
    let front = space.socket("front");
    let server = space.proxy(
        &format!("unix:{}", front.display()),
        &listener.local_addr().unwrap().to_string(),
        &["--accept", "acceptor"],
    );
    let mut clients: Vec<_> = (0..200).map(|_| unix(&front)).collect();
    let served = |connected, refused| Counts { connected, refused };
    eventually_is("as many as ports", &served(100, 100), || counts(&server));
    let mut backends = accept(&listener, 100);
    let row = backend_row(&server, 0);
    assert!(row["connect_local"].as_u64().unwrap() >= 100, "{row}");
    assert_eq!(row["state"], "up", "it is no fault of the backend: {row}");
    // Those who were refused were told so.
    clients.retain(|client| {
        client.set_nonblocking(true).unwrap();
        let peeked = (&*client).read(&mut [0]);
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    assert_eq!(clients.len(), 100);
    // Ports whose connections were reset are free at once.
    backends.drain(..40).for_each(reset);
    eventually("they have left", || {
        server.metric("polyloop_proxy_live") == 60
    });
    clients.extend((0..40).map(|_| unix(&front)));
    eventually_is("forty more", &served(140, 100), || counts(&server));
    drop((clients, backends, accept(&listener, 40)));
    server.end();
}

#[test]
fn two_sources_have_twice_the_ports() {
    // Goal: each address more is a range of ports more towards one backend. Method: a network with a hundred ports; 200
    // sessions that stay, over two source addresses, all of which are served.
    let Some(space) = Space::new("sources") else {
        return;
    };
    let listener = space.listen("127.0.0.1:0");
    // A network of the test's own, in which nobody else has ports.
    space.set("ip_local_port_range", "61000 61099");
    let front = space.socket("front");
    let server = space.proxy(
        &format!("unix:{}", front.display()),
        &listener.local_addr().unwrap().to_string(),
        &[
            "--accept",
            "acceptor",
            "--source",
            "127.0.0.2",
            "--source",
            "127.0.0.3",
        ],
    );
    let (mut clients, mut backends) = (Vec::new(), Vec::new());
    // No more at once than the backlog of a listener takes.
    for _ in 0..2 {
        clients.extend((0..100).map(|_| unix(&front)));
        backends.extend(accept(&listener, 100));
    }
    assert_eq!(counts(&server).refused, 0, "{}", backend_row(&server, 0));
    drop((clients, backends));
    server.end();
}

#[test]
fn thousands_who_never_read_stay_within_their_watermarks() {
    // Goal: memory is bounded by sessions times watermarks, and nobody else waits. Method: 2,000 clients that never read,
    // small buffers in the kernel, and a backend that sends until all are stuck; what the server keeps, and its resident
    // memory, are bounded; a client that talks goes on talking meanwhile.
    const CLIENTS: usize = 2_000;
    const KEPT_MAX: u64 = (64 + 64) * 1024;
    let Some(space) = Space::new("slow") else {
        return;
    };
    space.set("tcp_rmem", "4096 32768 65536");
    space.set("tcp_wmem", "4096 16384 65536");
    let listener = space.listen("127.0.0.1:0");
    let to = listener.local_addr().unwrap().to_string();
    let server = space.proxy("127.0.0.1:0", &to, &["--splice", "off"]);
    let addr = server.addr();
    let resident = || server.metric("process_resident_memory_bytes");
    let at_rest = resident();
    let mut fast = space.connect(addr);
    let mut answers = accept(&listener, 1).remove(0);
    answers.set_nonblocking(false).unwrap();
    let (clients, stuck) = mute_sessions(&space, addr, &listener, CLIENTS);
    push_until_stuck(&stuck);
    let kept = server.metric("polyloop_kept_bytes");
    assert!(
        kept >= CLIENTS as u64 * 1024,
        "{kept} bytes are kept, nobody is stuck"
    );
    assert!(kept <= CLIENTS as u64 * KEPT_MAX, "{kept} bytes are kept");
    let grown = resident().saturating_sub(at_rest);
    assert!(
        grown <= CLIENTS as u64 * (KEPT_MAX + 4096) + (32 << 20),
        "{grown} bytes more"
    );
    let mut heard = [0; 9];
    for _ in 0..500 {
        fast.write_all(b"are you? ").unwrap();
        answers.read_exact(&mut heard).unwrap();
        answers.write_all(&heard).unwrap();
        fast.read_exact(&mut heard).unwrap();
    }
    drop((clients, stuck, fast, answers));
    server.end();
}

/// A group of processes whose memory is limited (cgroup v1); gone with the value.
pub(super) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// `None`, with a message, where the test may not make one.
    pub(super) fn new(name: &str, limit: u64) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let ours = groups
            .lines()
            .find_map(|line| line.split_once(":memory:"))
            .map_or("/", |(_, path)| path);
        let name = format!("polyloop-{name}-{}", process::id());
        let path = Path::new("/sys/fs/cgroup/memory")
            .join(ours.trim_start_matches('/'))
            .join(name);
        let is_made = has("nsenter")
            && fs::create_dir(&path).is_ok()
            && fs::write(path.join("memory.limit_in_bytes"), limit.to_string()).is_ok();
        if !is_made {
            eprintln!("skipped: there is no memory controller to use");
            let _ = fs::remove_dir(&path);
            return None;
        }
        Some(Self(path))
    }

    /// A command that runs what follows in it and in a network: by `nsenter`, as `ip netns exec` hides the groups.
    pub(super) fn command(&self, space: &Space) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec nsenter \"$@\""])
            .arg(&self.0)
            .arg(format!("--net=/run/netns/{}", space.name));
        command
    }

    /// How often somebody in it was killed for want of memory.
    pub(super) fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.oom_control")).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().parse().unwrap()
    }

    fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.max_usage_in_bytes")).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Whoever was in it has ended.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn within_little_memory_it_holds_as_many_as_were_said() {
    // Goal: connections times watermarks is a promise: with --max-connections to match, a limit of memory is never
    // reached, however many come and none of them reads. Method: a group with 96 MiB; 200 sessions, all stuck; 600 more
    // clients who wait; the process lives, nobody in the group was killed; they leave, and those who waited are served.
    const LIMIT: u64 = 96 << 20;
    let Some(space) = Space::new("memory") else {
        return;
    };
    let Some(group) = MemoryGroup::new("little", LIMIT) else {
        return;
    };
    space.set("tcp_rmem", "4096 32768 65536");
    space.set("tcp_wmem", "4096 16384 65536");
    let listener = space.listen("127.0.0.1:0");
    let command = group.command(&space);
    let flags = ["--splice", "off", "--max-connections", "200"];
    let to = listener.local_addr().unwrap().to_string();
    let server = space.proxy_of(command, "127.0.0.1:0", &to, &flags);
    let addr = server.addr();
    let (clients, stuck) = mute_sessions(&space, addr, &listener, 200);
    let waiting: Vec<_> = space.enter(|| (0..600).map(|_| connect(addr)).collect());
    push_until_stuck(&stuck);
    assert_eq!(server.metric("polyloop_proxy_live"), 200);
    let kept = server.metric("polyloop_kept_bytes");
    assert!(kept >= 200 * 1024, "{kept} bytes are kept, nobody is stuck");
    assert_eq!(group.kills(), 0);
    assert!(group.peak() < LIMIT, "{} bytes", group.peak());
    drop((clients, stuck));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..600 {
                let mut stream = accept(&listener, 1).remove(0);
                stream.write_all(b"your turn").unwrap();
            }
        });
        for mut client in waiting {
            assert_eq!(read_all(&mut client), b"your turn");
        }
    });
    server.end();
    assert_eq!(group.kills(), 0);
}
