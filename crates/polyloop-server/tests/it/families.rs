//! IPv6 and unix sockets, for the service and for administrators.

use crate::harness::{
    Addr, BINARY, Polyloop, assert_echo, connect, eventually, get, http_on, read_all, request_of,
    unix,
};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A path for a socket of one test.
fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("polyloop-it-{name}-{}.sock", std::process::id()))
}

/// A server with these flags alone.
fn start(flags: &[&str]) -> Polyloop {
    let mut command = Command::new(BINARY);
    command.arg("echo").args(flags).stderr(Stdio::piped());
    Polyloop::run(command)
}

/// Only its owner may connect, as the file is the only thing that says so.
#[track_caller]
fn assert_private(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{}", path.display());
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: this host has no IPv6");
    }
    has
}

#[test]
fn one_server_listens_on_both_families_and_on_a_unix_socket() {
    // Goal: `--listen` may be repeated with addresses of each kind, all served by the same loops. Method: IPv6, IPv4
    // and a unix socket, the administrators by IPv6; an echo on each; the file is gone at the end.
    if !has_ipv6() {
        return;
    }
    let path = socket_path("families");
    let on_path = format!("unix:{}", path.display());
    let server = start(&[
        "--listen",
        "[::1]:0",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        &on_path,
        "--admin",
        "[::1]:0",
        "--loops",
        "2",
        "--accept",
        "acceptor",
    ]);
    let (v6, v4) = (server.addr(), &server.addrs()[1]);
    assert!(v6.is_ipv6() && server.admin().is_ipv6());
    assert_eq!(server.addrs()[2], Addr::Unix(path.clone()));
    assert_private(&path);
    let Addr::Tcp(v4) = v4 else {
        panic!("{v4:?}");
    };
    let mut streams: Vec<_> = (0..8).flat_map(|_| [connect(v6), connect(*v4)]).collect();
    let mut local: Vec<_> = (0..8).map(|_| unix(&path)).collect();
    for _ in 0..2 {
        streams.iter_mut().for_each(assert_echo);
        local.iter_mut().for_each(assert_echo);
    }
    let (status, page) = get(server.admin(), "/metrics");
    assert_eq!(status, 200);
    for addr in [v6.to_string(), v4.to_string(), on_path] {
        assert!(page.contains(&format!("addr=\"{addr}\"")), "{addr}: {page}");
    }
    // The end of a stream is the end of a stream, whatever the family.
    local[0].write_all(b"all").unwrap();
    local[0].shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut local[0]), b"all");
    drop((streams, local));
    server.end();
    assert!(!path.exists(), "the socket's file is still there");
}

#[test]
fn administrators_come_by_a_unix_socket() {
    // Goal: `--admin unix:PATH` serves whoever the file's mode lets in, by any name of a host. Method: pages over the
    // socket; the postcondition is asked there too; the file is gone at the end, also after a second signal.
    let path = socket_path("admin");
    let on_path = format!("unix:{}", path.display());
    for signals in 1..=2 {
        let mut server = start(&[
            "--listen",
            "127.0.0.1:0",
            "--admin",
            &on_path,
            "--drain",
            "1h",
        ]);
        assert_private(&path);
        let mut stream = server.connect();
        assert_echo(&mut stream);
        assert_eq!(server.metric("polyloop_live"), 1);
        let (status, _, body) = http_on(unix(&path), &request_of("/healthz"));
        assert_eq!((status, body.as_str()), (200, "ok\n"));
        let any_host = "GET /healthz HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n";
        assert_eq!(http_on(unix(&path), any_host).0, 200);
        if signals == 1 {
            drop(stream);
            server.end();
        } else {
            server.signal(Signal::TERM);
            eventually("it drains", || !server.is_listening());
            server.signal(Signal::TERM);
            assert_eq!(server.wait().code(), Some(3), "{}", server.stderr());
        }
        assert!(!path.exists(), "the socket's file is still there");
    }
}

#[test]
fn any_address_is_told_as_one_for_both_families() {
    // Goal: `:0` serves both families and `[::]:0` IPv6 alone, and what is told tells them apart. Method: the lines on
    // standard output and in the block; then connect.
    if !has_ipv6() {
        return;
    }
    let server = start(&[
        "--listen",
        ":0",
        "--listen",
        "[::]:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let (any, v6) = (&server.addrs()[0], &server.addrs()[1]);
    let (Addr::Any(port), Addr::Tcp(v6)) = (any, v6) else {
        panic!("{any:?} {v6:?}");
    };
    for host in ["127.0.0.1", "::1"] {
        let addr = std::net::SocketAddr::new(host.parse().unwrap(), *port);
        assert_echo(&mut connect(addr));
    }
    let v4_at_v6 = std::net::SocketAddr::new("127.0.0.1".parse().unwrap(), v6.port());
    assert!(std::net::TcpStream::connect(v4_at_v6).is_err());
    assert!(server.stderr().contains(&format!("*:{port}, [::]:")));
    server.end();
}
