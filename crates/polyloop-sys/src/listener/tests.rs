//! Real listeners: ports the kernel picks on loopback, and socket files in a directory of each test's own.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt;
use rustix::thread::CapabilitySet;

use super::*;
use crate::cores::{allowed, pin_current_thread};
use crate::cpu_filter::attach_cpu_filter;
use crate::testing::readable;

const OPTIONS: ListenOptions = ListenOptions {
    backlog: 128,
    reuse_port: true,
};

fn group(addr: &str, count: usize) -> Vec<Listener> {
    listen_group(&addr.parse().unwrap(), count, &OPTIONS).unwrap()
}

fn bound(listener: &Listener) -> SocketAddr {
    listener.local_addr().unwrap().socket_addr().unwrap()
}

/// A directory for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyloop-{}-{test}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_group_shares_one_port_and_every_connection_is_accepted() {
    // Goal: no connection is lost between the members, and more than one gets some. Method: 96 connections to 3
    // listeners.
    let group = group("127.0.0.1:0", 3);
    let addr = bound(&group[0]);
    assert!(group.iter().all(|listener| bound(listener) == addr));
    let clients: Vec<_> = (0..96).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let mut accepted = [0; 3];
    for _ in &clients {
        let index = readable(&group);
        group[index].accept().unwrap();
        accepted[index] += 1;
    }
    // All by one of three: once in 10^45 runs.
    assert!(
        accepted.iter().filter(|&&count| count > 0).count() > 1,
        "{accepted:?}"
    );
    for listener in &group {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_port_that_is_shared_already_is_in_use() {
    // Goal: nobody's group is joined in silence, though the kernel would allow it. Method: ask for the port of a
    // group that is willing to share; and the same for one that is not.
    for reuse_port in [true, false] {
        let options = ListenOptions {
            reuse_port,
            ..OPTIONS
        };
        let first = listen_group(&"127.0.0.1:0".parse().unwrap(), 2, &options).unwrap();
        let addr = ListenAddr::Tcp(bound(&first[0]));
        let error = listen_group(&addr, 2, &OPTIONS).unwrap_err();
        assert!(
            matches!(&error, ListenError::AddressInUse { owner: Some(_), .. }),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {addr}: it is in use by this very process: two listeners overlap; leave one out"
            )
        );
    }
}

#[test]
fn a_port_is_free_again_at_once() {
    // Goal: a restart does not wait for old connections. Method: close a connection from the server's side, then the
    // group.
    let first = group("127.0.0.1:0", 2);
    let addr = bound(&first[0]);
    let client = TcpStream::connect(addr).unwrap();
    let index = readable(&first);
    drop(first[index].accept().unwrap());
    drop(client);
    drop(first);
    assert_eq!(bound(&group(&addr.to_string(), 2)[1]), addr);
}

#[test]
fn without_reuse_port_all_share_one_queue() {
    // Goal: duplicates accept what any of them was sent. Method: one connection, accepted by the last.
    let options = ListenOptions {
        reuse_port: false,
        ..OPTIONS
    };
    let group = listen_group(&"127.0.0.1:0".parse().unwrap(), 3, &options).unwrap();
    assert!(!sockopt::socket_reuseport(&group[0]).unwrap());
    let _client = TcpStream::connect(bound(&group[0])).unwrap();
    readable(&group[2..]);
    group[2].accept().unwrap();
    assert_eq!(group[0].accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let copy = group[1].duplicate().unwrap();
    assert_eq!(bound(&copy), bound(&group[0]));
    assert!(
        listen_group(&ListenAddr::TcpAny(0), 0, &OPTIONS)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn any_address_serves_both_families() {
    // Goal: `:port` reaches everybody by one group, an explicit `[::]` only IPv6. Method: connect by IPv4 and look at
    // the peer; then read the option.
    let any = group(":0", 2);
    let port = bound(&any[0]).port();
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (_, peer) = any[readable(&any)].accept().unwrap();
    assert_eq!(peer.ip(), Some(Ipv4Addr::LOCALHOST.into()));
    if bound(&any[0]).is_ipv6() {
        assert!(!sockopt::ipv6_v6only(&any[1]).unwrap());
        let only_v6 = group("[::]:0", 2);
        assert!(
            only_v6
                .iter()
                .all(|listener| sockopt::ipv6_v6only(listener).unwrap())
        );
    }
}

#[test]
fn the_filter_picks_the_listener_of_the_core() {
    // Goal: a connection made on core c goes to the listener of core c, in any order of cores. Method: on loopback the
    // sender's core handles the packet, so connect from threads pinned to each.
    let mut cores = allowed();
    for _ in 0..2 {
        let group = group("127.0.0.1:0", cores.len());
        let addr = bound(&group[0]);
        attach_cpu_filter(group.last().unwrap(), &cores).unwrap();
        for (index, &core) in cores.iter().enumerate().cycle().take(cores.len() * 8) {
            let connect = std::thread::spawn(move || {
                pin_current_thread(core).unwrap();
                TcpStream::connect(addr).unwrap()
            });
            let _client = connect.join().unwrap();
            assert_eq!(readable(&group), index, "from core {core}");
            group[index].accept().unwrap();
        }
        cores.reverse();
    }
    assert!(attach_cpu_filter(&group("127.0.0.1:0", 1)[0], &[]).is_err());
}

#[test]
fn an_address_of_another_host_is_not_available() {
    // Goal: the message tells what to do. Method: an address reserved for documentation.
    let error = listen_group(&"192.0.2.1:7000".parse().unwrap(), 1, &OPTIONS).unwrap_err();
    assert!(matches!(error, ListenError::NotAvailable { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("192.0.2.1:7000") && message.contains("*:7000"),
        "{message}"
    );
}

#[test]
fn a_privileged_port_names_the_capability() {
    // Goal: the usual first mistake explains itself. Method: a thread that has given its capabilities up asks for
    // port 1.
    if crate::net::unprivileged_port_start().unwrap() <= 1 {
        return;
    }
    let message = std::thread::spawn(|| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_BIND_SERVICE);
        rustix::thread::set_capabilities(None, sets).unwrap();
        let error = listen_group(&"127.0.0.1:1".parse().unwrap(), 1, &OPTIONS).unwrap_err();
        assert!(
            matches!(error, ListenError::PermissionDenied { .. }),
            "{error}"
        );
        error.to_string()
    });
    let message = message.join().unwrap();
    for part in [
        "127.0.0.1:1",
        "CAP_NET_BIND_SERVICE",
        "ip_unprivileged_port_start",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_unix_listener_is_private_and_serves() {
    // Goal: mode 0600 from the start, one queue for all, and the file can be taken away afterwards. Method: do so.
    let directory = Directory::new("private");
    let path = directory.path("x.sock");
    let group = listen_group(&ListenAddr::Unix(path.clone()), 2, &OPTIONS).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let _client = UnixStream::connect(&path).unwrap();
    readable(&group[1..]);
    let (stream, peer) = group[1].accept().unwrap();
    assert_eq!(peer, PeerAddr::Unix);
    assert_eq!(stream.peer_addr().unwrap(), PeerAddr::Unix);
    assert_eq!(group[0].local_addr().unwrap(), PeerAddr::Unix);
    assert!(!remove_stale_socket_file(&path).unwrap());
    drop((group, stream));
    assert!(remove_stale_socket_file(&path).unwrap());
    assert!(!remove_stale_socket_file(&path).unwrap());
}

#[test]
fn a_stale_socket_file_gives_way_and_a_live_one_does_not() {
    // Goal: a crash does not stop the next start, and a running server is not robbed. Method: both, on one path.
    let directory = Directory::new("stale");
    let addr = ListenAddr::Unix(directory.path("x.sock"));
    drop(listen_group(&addr, 1, &OPTIONS).unwrap());
    let live = listen_group(&addr, 1, &OPTIONS).unwrap();
    let error = listen_group(&addr, 1, &OPTIONS).unwrap_err();
    assert!(
        matches!(&error, ListenError::AddressInUse { owner: Some(_), .. }),
        "{error}"
    );
    let _client = UnixStream::connect(directory.path("x.sock")).unwrap();
    live[0].accept().unwrap();
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    // Goal: a wrong path destroys nothing. Method: a file, a link to one, and a directory that is not there.
    let directory = Directory::new("file");
    let file = directory.path("file");
    fs::write(&file, "precious").unwrap();
    let link = directory.path("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link] {
        let error = listen_group(&ListenAddr::Unix(path.clone()), 1, &OPTIONS).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
    }
    assert_eq!(fs::read_to_string(&link).unwrap(), "precious");
    let nowhere = ListenAddr::Unix(directory.path("missing/x.sock"));
    let error = listen_group(&nowhere, 1, &OPTIONS).unwrap_err();
    assert!(matches!(error, ListenError::Os { .. }), "{error}");
    assert!(error.to_string().contains("directory"), "{error}");
}
