//! The same PROXY headers given to us, to HAProxy and to nginx, before one backend that tells what it got.
//!
//! The bytes and what must be made of them are the table of `polyloop-proxy`, written down in `vectors.txt` there. We must
//! agree with it everywhere. Where another program does not, the difference stands in [`KNOWN`] with the sentence of the
//! specification that decides; any other difference fails the test. The table is about the versions that it names; other
//! versions are asked as well, and their differences are printed alone.

use super::backend::Backend;
use super::foreign::{Directory, Program, serve};
use super::{has, proxy};
use crate::harness::{connect, finish};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;

const VECTORS: &str =
    include_str!("../../../../polyloop-proxy/src/proxy_protocol/tests/vectors.txt");

/// Stands behind every header; itself full of what a parser could take for more of it.
const PAYLOAD: &[u8] = b"\r\nPROXY \x03\0\x04payload\r\n";

struct Vector {
    what: &'static str,
    bytes: Vec<u8>,
    is_taken: bool,
}

fn vectors() -> Vec<Vector> {
    let vector = |line: &'static str| {
        let mut parts = line.splitn(3, '|');
        let (verdict, hex, what) = (parts.next()?, parts.next()?, parts.next()?);
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let mut bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        // What is cut short must stay so.
        if verdict != "wait" {
            bytes.extend(PAYLOAD);
        }
        let is_taken = verdict == "take";
        Some(Vector {
            what,
            bytes,
            is_taken,
        })
    };
    VECTORS.lines().map(|line| vector(line).unwrap()).collect()
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The backend got the payload, no more and no less.
    Taken,
    /// It got nothing.
    Refused,
    /// It got something else.
    Garbled,
}

use Verdict::{Garbled, Refused, Taken};

fn ask(addr: SocketAddr, bytes: &[u8]) -> Verdict {
    let mut stream = connect(addr);
    // Who refuses may do so before all is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    match got.strip_prefix(b"got:") {
        None | Some(b"") => Refused,
        Some(PAYLOAD) => Taken,
        Some(_) => Garbled,
    }
}

/// A difference between the specification and a program.
struct Known {
    program: &'static str,
    verdict: Verdict,
    rows: &'static [&'static str],
    /// What the specification says, and what the program does instead.
    #[expect(dead_code, reason = "it is for whoever reads the table")]
    reason: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        program: "haproxy",
        verdict: Refused,
        rows: &[
            "UNKNOWN, space alone",
            "UNKNOWN with addresses",
            "UNKNOWN with nonsense",
            "UNKNOWN of 107 bytes",
        ],
        reason: "2.1: the receiver must ignore anything presented before the CRLF is found; it takes the bare word alone",
    },
    Known {
        program: "haproxy",
        verdict: Taken,
        rows: &[
            "three numbers",
            "a number over 255",
            "a leading zero",
            "two zeros",
            "two dots",
        ],
        reason: "2.1: exactly 4 integers in the range 0 to 255 without leading zeros; its numbers are read more freely",
    },
    Known {
        program: "haproxy",
        verdict: Taken,
        rows: &[
            "port over 65535",
            "a far larger port",
            "port with a leading zero",
            "port 00",
        ],
        reason: "2.1: a port is an integer in the range 0 to 65535 without leading zeros; it takes any digits",
    },
    Known {
        program: "haproxy",
        verdict: Refused,
        rows: &[
            "UNSPEC, empty",
            "UNSPEC with bytes unknown to us",
            "UNSPEC over STREAM",
            "IPv4 over UNSPEC",
            "IPv6 over UNSPEC, short",
        ],
        reason: "2.2: with UNSPEC the receiver is free to accept and use the real endpoints, or to reject; it rejects",
    },
    Known {
        program: "haproxy",
        verdict: Taken,
        rows: &["LOCAL of 2033 bytes"],
        reason: "2.2 leaves the longest block to the receiver: ours is 2048 bytes in all, its own is its buffer",
    },
    Known {
        program: "haproxy",
        verdict: Taken,
        rows: &[
            "authority that is no UTF-8",
            "SSL of four bytes",
            "SSL with a field cut",
            "SSL whose field reaches into the next TLV",
        ],
        reason: "2.2: the authority is UTF-8, lengths of sub-TLVs lie within their TLV; it does not look into these",
    },
    Known {
        program: "nginx",
        verdict: Taken,
        rows: &["LF inside UNKNOWN", "CR inside UNKNOWN", "UNKNOWN run on"],
        reason: "2.1: UNKNOWN, then anything before the CRLF; it looks for the end of the line alone",
    },
    Known {
        program: "nginx",
        verdict: Garbled,
        rows: &["UNKNOWN and LF alone"],
        reason: "2.1: the line ends with CRLF; it goes on to the next CRLF, which is payload",
    },
    Known {
        program: "nginx",
        verdict: Taken,
        rows: &[
            "three numbers",
            "five numbers",
            "a number over 255",
            "a leading zero",
            "two zeros",
            "two dots",
            "IPv6 under TCP4",
            "IPv4 under TCP6",
            "families mixed",
            "two double colons",
            "seven groups",
            "nine groups",
            "eight groups and a double colon",
            "five digits",
            "port with a leading zero",
            "port 00",
        ],
        reason: "2.1: addresses in the form of their family; it checks that their characters may occur in one",
    },
    Known {
        program: "nginx",
        verdict: Taken,
        rows: &["UDP over IPv4", "UDP over IPv6", "UNSPEC over DGRAM"],
        reason: "2.2: the block describes the proxied protocol, which over a stream is none of datagrams; it goes on",
    },
    Known {
        program: "nginx",
        verdict: Taken,
        rows: &[
            "an unknown transport",
            "the last transport",
            "an unknown family",
            "the last family",
            "an unknown command",
            "the last command",
        ],
        reason: "2.2: receivers must drop connections presenting unexpected values here; it uses the real endpoints",
    },
    Known {
        program: "nginx",
        verdict: Taken,
        rows: &[
            "UNSPEC with a wrong checksum",
            "wrong checksum",
            "checksum of zero",
            "checksum in the other byte order",
            "checksum of three bytes",
            "checksum of five bytes",
            "two checksums",
        ],
        reason: "2.2.3: a receiver that supports the checksum must verify it; it does not",
    },
    Known {
        program: "nginx",
        verdict: Taken,
        rows: &[
            "one byte of a TLV",
            "two bytes of a TLV",
            "a TLV one byte longer than the header",
            "a TLV reaching far into the payload",
            "a cut TLV behind a whole one",
            "authority that is no UTF-8",
            "SSL of four bytes",
            "SSL with a field cut",
            "SSL whose field reaches into the next TLV",
        ],
        reason: "2.2: receivers may skip TLVs; it skips all, whatever stands in them",
    },
    Known {
        program: "nginx",
        verdict: Refused,
        rows: &[
            "LOCAL of 2032 bytes",
            "2048 bytes in all",
            "authority of 255 bytes",
            "unique id of 128 bytes",
        ],
        reason: "2.2: a receiver must honour the length; its buffer for the header is smaller than these",
    },
];

fn haproxy(directory: &Directory, to: &str) -> Option<(Program, SocketAddr)> {
    serve("haproxy", |addr| {
        let config = format!(
            "defaults\n mode tcp\n timeout connect 30s\n timeout client 30s\n timeout server 30s\n\
             listen it\n bind {addr} accept-proxy\n server it {to}\n"
        );
        let mut command = Command::new("haproxy");
        command
            .arg("-f")
            .arg(directory.write("haproxy.cfg", config));
        command
    })
}

fn nginx(directory: &Directory, to: &str) -> Option<(Program, SocketAddr)> {
    let path = directory.path().display();
    serve("nginx with its stream module", |addr| {
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\n\
             pid {path}/pid;\nerror_log {path}/error.log;\nevents {{}}\nstream {{ server {{\n\
             listen {addr} proxy_protocol;\nproxy_half_close on;\nproxy_pass {to};\n}} }}\n"
        );
        let mut command = Command::new("nginx");
        command.arg("-p").arg(directory.path());
        command.arg("-c").arg(directory.write("nginx.conf", config));
        command
    })
}

/// Whether a program is of the version that the table is about.
fn is_version(program: &str, flag: &str, version: &str) -> bool {
    let output = Command::new(program).arg(flag).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).contains(version)
}

#[test]
fn the_table_holds_for_the_binary() {
    // Goal: every row of the specification, on the real binary. Method: each fused with payload; the backend tells what it
    // got: the payload, or nothing.
    let backend = Backend::telling();
    let server = proxy(&[backend.to()], &["--accept-proxy", "127.0.0.0/8"]);
    for vector in vectors() {
        let expected = if vector.is_taken { Taken } else { Refused };
        assert_eq!(
            ask(server.addr(), &vector.bytes),
            expected,
            "{}",
            vector.what
        );
    }
    let stream = connect(server.addr());
    finish(&stream);
    drop(stream);
    server.end();
}

#[test]
fn others_make_the_same_of_headers_but_where_it_is_known() {
    // Goal: no header means one thing here and another elsewhere without our knowing. Method: the same table given to
    // HAProxy and nginx; every difference must be a known one.
    let _alone = crate::harness::alone();
    let backend = Backend::telling();
    let directory = Directory::new("differential");
    let (versions, mut unexplained) = (
        [("haproxy", "-v", "2.6."), ("nginx", "-v", "/1.22.")],
        Vec::new(),
    );
    for (program, flag, version) in versions {
        if !has(program) {
            continue;
        }
        let started = match program {
            "haproxy" => haproxy(&directory, &backend.to()),
            _ => nginx(&directory, &backend.to()),
        };
        let Some((_program, addr)) = started else {
            continue;
        };
        let of_program = || KNOWN.iter().filter(|known| known.program == program);
        for vector in vectors() {
            let expected = if vector.is_taken { Taken } else { Refused };
            let verdict = ask(addr, &vector.bytes);
            let is_known = of_program()
                .any(|known| known.verdict == verdict && known.rows.contains(&vector.what));
            if verdict != expected && !is_known {
                let difference = format!("{program}: {}: {verdict:?}", vector.what);
                eprintln!("{difference}");
                if is_version(program, flag, version) {
                    unexplained.push(difference);
                }
            }
        }
    }
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

#[test]
fn every_known_difference_is_about_a_row() {
    // Goal: the table of differences cannot outlive its rows. Method: compare the names.
    let rows: BTreeSet<_> = vectors().iter().map(|vector| vector.what).collect();
    for name in KNOWN.iter().flat_map(|known| known.rows) {
        assert!(rows.contains(name), "{name}");
    }
}
