//! The binary from outside: started as a user starts it, spoken to over TCP, judged by what it prints and its exit
//! code.
//!
//! What belongs where:
//!
//! * [`harness`]: a running `polyloop`, its clients, and the postcondition that every test ends with.
//! * [`serving`]: every byte, for clients that are not ours, and for very many of ours.
//! * [`limits`]: the cap, a system that has no descriptors left, and a process that has no memory left.
//! * [`families`]: IPv6 and unix sockets, for the service and for administrators.
//! * [`failing`]: loops that die or hang while they serve.
//! * [`signals`]: drain, stop, dump, and all of them in a storm.
//! * [`start`]: starts that fail, and what they tell.
//! * [`output`]: standard output and error that are closed or that nobody reads.
//! * [`admin`]: metrics and JSON, and the limits of the port that serves them.
//! * [`config`]: the proxy's settings from flags and a file, checked and printed.
//! * [`proxy`]: sessions between clients and backends, both real: bytes, ends, failures, limits, headers, health.
//!
//! What the library alone can show (handlers, spreading, stalls) is tested in `polyloop`. Tests run one at a time,
//! since some need every descriptor and some a quiet machine.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report; clippy exempts test functions alone"
)]

mod admin;
mod config;
mod failing;
mod families;
mod harness;
mod limits;
mod output;
mod proxy;
mod serving;
mod signals;
mod start;
