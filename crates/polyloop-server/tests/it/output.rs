//! Standard output and error that are closed or that nobody reads.

use crate::harness::{BINARY, Polyloop, alone, assert_echo, connect, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// An address that was free a moment ago: a server whose output is closed cannot tell which one it chose.
fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn closed_standard_output_is_no_reason_not_to_serve() {
    // Goal: the server serves and ends in order whatever became of its output. Method: a shell closes descriptors 1,
    // 2 and both before it starts the binary (whatever is opened next gets those numbers, and must not be written to),
    // or leads them to a device on which every write fails.
    let _alone = alone();
    for closed in [
        ">&-",
        "2>&-",
        ">&- 2>&-",
        "<&- >&- 2>&-",
        ">/dev/full",
        ">/dev/full 2>/dev/full",
    ] {
        let addr = free_addr();
        let script = format!("exec \"$0\" echo --listen {addr} --report 10ms {closed}");
        let mut child = Command::new("sh")
            .args(["-c", &script, BINARY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it serves", || TcpStream::connect(addr).is_ok());
        let mut streams: Vec<_> = (0..20).map(|_| connect(addr)).collect();
        for _ in 0..20 {
            streams.iter_mut().for_each(assert_echo);
        }
        kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
        streams.iter_mut().for_each(assert_echo);
        drop(streams);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut status = None;
        eventually("it ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0), "{closed}");
    }
}

#[test]
fn a_standard_error_that_nobody_reads_stops_no_loop() {
    // Goal: reports and logs that find a full pipe are dropped or wait on a thread of their own; loops serve on, and
    // the process can still be told to end. Method: a pipe that is kept open and never read, a report every 10 ms and
    // a thousand dumps, which are more than a pipe holds.
    let mut command = Command::new(BINARY);
    command.arg("echo").args(crate::harness::LISTEN);
    command.args(["--loops", "2", "--report", "10ms", "--log", "trace"]);
    let (_unread, pipe) = std::io::pipe().unwrap();
    command.stderr(pipe);
    let mut server = Polyloop::run(command);
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for _ in 0..1000 {
        server.signal(Signal::USR1);
        streams.iter_mut().for_each(assert_echo);
    }
    drop(streams);
    server.settle();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_standard_output_that_nobody_reads_stops_neither_the_start_nor_the_end() {
    // Goal: a full pipe in place of standard output holds up nobody who is waited for. Method: a pipe that is full before the
    // server starts, and is never read; it serves, and SIGTERM ends it.
    let _alone = alone();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    let non_blocking = flags | rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(&writer, non_blocking).unwrap();
    while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    let addr = free_addr();
    let mut child = Command::new(BINARY)
        .args(["echo", "--listen", &addr.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::from(writer))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it serves", || TcpStream::connect(addr).is_ok());
    assert_echo(&mut connect(addr));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut status = None;
    eventually("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    drop(reader);
}
