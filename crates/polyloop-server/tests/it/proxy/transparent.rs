//! Backends that see the client's own address: in networks that a test makes for itself, for which it has to be root.
//!
//! ```text
//!   client ──────────── proxy ──────────── backend        three networks and two cables;
//!   .1.2             .1.1  .2.1               .2.2        the backend answers to .1.2, by way of .2.1
//! ```

use super::namespaces::Space;
use super::{Records, backend_row, has, page};
use crate::harness::{BINARY, DEADLINE, Polyloop, finish, finish_command, read_all};
use rustix::process::geteuid;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

struct Rooms {
    client: Space,
    proxy: Space,
    backend: Space,
}

impl Rooms {
    /// `None`, with a message, where the test may not make them. Tests have names of their own, as they make rooms side by side.
    fn new(name: &str) -> Option<Self> {
        let (client, proxy, backend) = (
            Space::new(&format!("{name}-client"))?,
            Space::new(&format!("{name}-proxy"))?,
            Space::new(&format!("{name}-backend"))?,
        );
        let cables = [
            (
                &client,
                "cable-c",
                [".1.1/24", ":1::1/64"],
                [".1.2/24", ":1::2/64"],
            ),
            (
                &backend,
                "cable-b",
                [".2.1/24", ":2::1/64"],
                [".2.2/24", ":2::2/64"],
            ),
        ];
        for (room, cable, ours, theirs) in cables {
            let add = [
                "link", "add", "name", cable, "type", "veth", "peer", "name", "cable", "netns",
            ];
            if !proxy.ip(&[&add[..], &[room.name()]].concat()) {
                eprintln!("skipped: there are no cables here");
                return None;
            }
            let ends = [(&proxy, cable, ours), (room, "cable", theirs)];
            for (room, device, [four, six]) in ends {
                let (four, six) = (format!("10.9{four}"), format!("fd09{six}"));
                assert!(room.ip(&["addr", "add", &four, "dev", device]));
                // No wait for neighbours who might have the same.
                assert!(room.ip(&["addr", "add", &six, "dev", device, "nodad"]));
                assert!(room.ip(&["link", "set", device, "up"]));
            }
        }
        for (room, gateways) in [
            (&client, ["10.9.1.1", "fd09:1::1"]),
            (&backend, ["10.9.2.1", "fd09:2::1"]),
        ] {
            for gateway in gateways {
                assert!(room.ip(&["route", "add", "default", "via", gateway]));
            }
        }
        let rooms = Self {
            client,
            proxy,
            backend,
        };
        let everything = [("-4", "0.0.0.0/0"), ("-6", "::/0")];
        for (family, all) in everything {
            let local = ["route", "add", "local", all, "dev", "lo", "table", "100"];
            assert!(rooms.proxy.ip(&[&[family][..], &local].concat()));
        }
        rooms.answers_come_back("add");
        Some(rooms)
    }

    /// As the documentation says, or no more: `add`, `del`.
    #[track_caller]
    fn answers_come_back(&self, what: &str) {
        for family in ["-4", "-6"] {
            let rule = [family, "rule", what, "iif", "cable-b", "lookup", "100"];
            assert!(self.proxy.ip(&rule));
        }
    }

    fn listen(&self, addr: &str) -> (TcpListener, String) {
        let listener = self.backend.listen(addr);
        let to = listener.local_addr().unwrap().to_string();
        (listener, to)
    }

    /// A client's end and the backend's.
    fn session(&self, server: &Polyloop, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = self.client.connect(server.addr());
        let (backend, _) = listener.accept().unwrap();
        backend.set_read_timeout(Some(DEADLINE)).unwrap();
        (client, backend)
    }
}

#[test]
fn backends_see_clients_as_they_are() {
    // Goal: with `--transparent` a backend's peer is the client, address and port, and bytes and ends go both ways. Method: for
    // both families, ten clients of another network at a time, before a backend in a third; each says where it comes from, and
    // both ends finish.
    let Some(rooms) = Rooms::new("seen") else {
        return;
    };
    for (front, back) in [
        ("10.9.1.1:0", "10.9.2.2:0"),
        ("[fd09:1::1]:0", "[fd09:2::2]:0"),
    ] {
        let (listener, to) = rooms.listen(back);
        let server = rooms.proxy.proxy(front, &to, &["--transparent"]);
        let mut sessions: Vec<_> = (0..10).map(|_| rooms.session(&server, &listener)).collect();
        for (client, _) in &mut sessions {
            let is_from = client.local_addr().unwrap();
            client.write_all(is_from.to_string().as_bytes()).unwrap();
            finish(client);
        }
        for (_, backend) in &mut sessions {
            // Accepted in another order than connected, maybe.
            let peer = backend.peer_addr().unwrap().to_string();
            assert_eq!(String::from_utf8(read_all(backend)).unwrap(), peer);
            backend.write_all(peer.as_bytes()).unwrap();
            finish(backend);
        }
        for (client, _) in &mut sessions {
            let is_from = client.local_addr().unwrap().to_string();
            assert_eq!(read_all(client), is_from.as_bytes());
        }
        drop(sessions);
        server.end();
    }
}

#[test]
fn without_a_way_back_sessions_end_in_time_and_later_ones_are_served() {
    // Goal: routes that do not bring answers back are a connect without an answer: told as such, and nothing is left once they
    // do. Method: the rule of the proxy's network is taken away, three clients come and are reset; it is put back, and the next
    // is served.
    let Some(rooms) = Rooms::new("way-back") else {
        return;
    };
    let records = Records::new("no-way-back");
    let log = records.path.to_str().unwrap();
    let (listener, to) = rooms.listen("10.9.2.2:0");
    let flags =
        "--transparent --connect-timeout 200ms --eject off --access-log-format json --access-log";
    let flags: Vec<_> = flags.split(' ').chain([log]).collect();
    let server = rooms.proxy.proxy("10.9.1.1:0", &to, &flags);
    rooms.answers_come_back("del");
    for _ in 0..3 {
        let mut client = rooms.client.connect(server.addr());
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(backend_row(&server, 0)["connect_timeouts"], 3);
    rooms.answers_come_back("add");
    let (client, backend) = rooms.session(&server, &listener);
    assert_eq!(backend.peer_addr().unwrap(), client.local_addr().unwrap());
    finish(&client);
    finish(&backend);
    assert_eq!(read_all(&mut &client), b"");
    drop((client, backend));
    server.end();
    assert_eq!(records.states(), ["--", "sC", "sC", "sC"]);
}

#[test]
fn a_client_of_another_family_than_its_backend_is_refused() {
    // Goal: an address that the backend's family cannot have is refused, counted as such, and held against nobody. Method: a
    // client by IPv6 before a backend by IPv4.
    let Some(rooms) = Rooms::new("families") else {
        return;
    };
    let (_listener, to) = rooms.listen("10.9.2.2:0");
    let server = rooms.proxy.proxy("[fd09:1::1]:0", &to, &["--transparent"]);
    let mut client = rooms.client.connect(server.addr());
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let refused = page(&server)["listeners"][0]["refused"].clone();
    assert_eq!(refused["connect_misconfigured"], 1, "{refused}");
    let row = backend_row(&server, 0);
    assert_eq!((&row["state"], &row["ejected"]), (&"up".into(), &0.into()));
    server.end();
}

#[test]
fn a_client_on_the_same_host_keeps_its_address_and_gets_another_port() {
    // Goal: who has the port already, since the client is on this host, is served from the client's address and a port that is
    // free. Method: one network, loopback only; ten clients, one after the other.
    let Some(room) = Space::new("alone") else {
        return;
    };
    let listener = room.listen("127.0.0.1:0");
    let to = listener.local_addr().unwrap().to_string();
    let server = room.proxy("127.0.0.1:0", &to, &["--transparent"]);
    for _ in 0..10 {
        let client = room.connect(server.addr());
        let (backend, peer) = listener.accept().unwrap();
        let is_from = client.local_addr().unwrap();
        assert_eq!(peer.ip(), is_from.ip());
        assert_ne!(peer.port(), is_from.port());
        (&client).write_all(b"hello").unwrap();
        finish(&client);
        assert_eq!(read_all(&mut &backend), b"hello");
        drop(backend);
        assert_eq!(read_all(&mut &client), b"");
    }
    assert_eq!(backend_row(&server, 0)["connect_local"], 0);
    server.end();
}

#[test]
fn without_the_right_to_it_the_start_says_what_is_missing() {
    // Goal: a process that may not is told at its start, not by sessions that all fail. Method: the binary without the two
    // rights, exit code and message; to print the settings needs none.
    if !(geteuid().is_root() && has("setpriv")) {
        eprintln!("skipped: only root can give rights up");
        return;
    }
    let without_rights = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        let rights = "-net_admin,-net_raw";
        command
            .arg(format!("--inh-caps={rights}"))
            .arg(format!("--bounding-set={rights}"))
            .arg(BINARY)
            .args(args);
        finish_command(command)
    };
    let proxy = ["proxy", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"];
    let (code, stdout, stderr) = without_rights(&[&proxy[..], &["--transparent"]].concat());
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    for word in ["error: group main: transparent", "CAP_NET_ADMIN"] {
        assert!(stderr.contains(word), "{stderr}");
    }
    let prints = [&proxy[..], &["--transparent", "--print-config"]].concat();
    let (code, stdout, stderr) = without_rights(&prints);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("transparent = true"), "{stdout}");
}
