//! The load against small blocking servers in the same process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use super::*;

/// Answers every connection with `answer(bytes)`, one thread each, until the client leaves.
fn serve(answer: fn(&mut Vec<u8>)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let mut bytes = buffer[..count].to_vec();
                    answer(&mut bytes);
                    if stream.write_all(&bytes).is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

fn load(addr: SocketAddr, count: usize, message_bytes: usize, threads: usize) -> Load {
    let connect = Connect {
        target: addr,
        count,
        congestion: None,
        per_second: None,
    };
    Load::new(connect.open().unwrap(), message_bytes, &vec![None; threads]).unwrap()
}

fn requests(count: u64) -> Window {
    Window {
        pace: Pace::Closed,
        stop: Stop::Requests(count),
    }
}

#[test]
fn a_closed_loop_makes_exactly_the_requests_it_was_asked_for() {
    // Goal: counts and latencies agree over two windows on the same connections; by 2 threads over 5 connections.
    let mut load = load(serve(|_| ()), 5, 64, 2);
    for count in [1_000, 2_000] {
        let sample = load.run(requests(count)).unwrap();
        assert_eq!(sample.requests, count);
        assert_eq!(sample.latency_ns.len(), count);
        assert!(sample.cpu_ns > 0 && sample.elapsed_ns > 0);
        assert!(sample.lag_ns.is_empty());
    }
}

#[test]
fn messages_larger_than_any_socket_buffer_come_back_whole() {
    // Goal: partial sends and partial answers are put together; by 8 MiB messages, twice the largest send buffer.
    let mut load = load(serve(|_| ()), 2, 8 << 20, 1);
    assert_eq!(load.run(requests(4)).unwrap().requests, 4);
}

#[test]
fn a_schedule_is_carried_out_to_the_last_message() {
    // Goal: a rate makes rate times length requests, however slow the machine; by 3 connections at 10,000 per second.
    let mut load = load(serve(|_| ()), 3, 16, 1);
    let window = Window {
        pace: Pace::Rate(10_000.0),
        stop: Stop::After(Duration::from_millis(50)),
    };
    for _ in 0..2 {
        let sample = load.run(window).unwrap();
        assert_eq!(sample.requests, 500);
        assert_eq!(sample.lag_ns.len(), 500);
    }
}

#[test]
fn one_wrong_byte_is_found() {
    // Goal: the load cannot be fooled by a server that answers quickly and wrongly; by flipping the last bit.
    let addr = serve(|bytes| *bytes.last_mut().unwrap() ^= 1);
    let error = load(addr, 1, 64, 1).run(requests(1)).unwrap_err();
    assert!(error.to_string().contains("differs"), "{error:#}");
}

#[test]
fn a_byte_too_many_is_found() {
    // Goal: an answer longer than the message is an error; by one extra byte.
    let addr = serve(|bytes| bytes.push(0));
    let error = load(addr, 1, 64, 1).run(requests(1)).unwrap_err();
    assert!(error.to_string().contains("more than it sent"), "{error:#}");
}

#[test]
fn impossible_windows_are_refused() {
    // Goal: a rate without an end, and no rate at all, are errors before anything is sent; by asking for them.
    let mut load = load(serve(|_| ()), 1, 64, 1);
    for (pace, stop) in [
        (Pace::Rate(10.0), Stop::Requests(1)),
        (Pace::Rate(0.0), Stop::After(Duration::ZERO)),
    ] {
        load.run(Window { pace, stop }).unwrap_err();
    }
}
