//! Every byte arrives, or is refused in time.

use crate::harness::{ask, assert_echo, echo, eventually, finish, pattern, read_all, settings};
use polyloop::{CloseReason, ServerSettings, Tuning};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;

#[test]
fn a_client_that_finishes_gets_every_byte_before_the_fin() {
    // Goal: FIN is passed on after the data before it. Method: sizes from nothing to far beyond every buffer; the
    // client reads only once it has sent its FIN, or at the same time where that could not fit into the kernel.
    let site = echo(settings(1));
    for size in [0, 1, 4096, 65_537, 1 << 20, 16 << 20] {
        let sent = pattern(size);
        let mut stream = site.connect();
        let mut writer = stream.try_clone().unwrap();
        let received = thread::scope(|scope| {
            let sent = &sent;
            let writing = scope.spawn(move || {
                writer.write_all(sent).unwrap();
                finish(&writer);
            });
            if size <= 65_537 {
                writing.join().unwrap();
            }
            read_all(&mut stream)
        });
        assert_eq!(received.len(), size);
        assert!(received == sent, "bytes of {size} differ");
    }
    site.settle();
    assert_eq!(site.closes(CloseReason::PeerFinished), 6);
    site.end();
}

#[test]
fn one_byte_at_a_time_arrives() {
    // Goal: the smallest pieces keep their order. Method: ping-pong of single bytes, all values, no shared buffers.
    let site = echo(settings(1));
    let mut stream = site.connect();
    for byte in 0..=u8::MAX {
        assert_eq!(ask(&mut stream, &[byte]), [byte]);
    }
    drop(stream);
    site.end();
}

/// What [`fill`] repeats.
const CHUNK_BYTES: usize = 64 * 1024;

/// Writes a repeated pattern until the server has stopped reading and the kernel takes no more; returns how many bytes
/// were taken.
fn fill(stream: &mut TcpStream, mut is_held: impl FnMut() -> bool) -> usize {
    stream.set_nonblocking(true).unwrap();
    let chunk = pattern(CHUNK_BYTES);
    let mut taken = 0;
    let mut full = false;
    eventually("the server stops reading, and the kernel taking", || {
        loop {
            match stream.write(&chunk[taken % chunk.len()..]) {
                Ok(count) => {
                    taken += count;
                    full = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        // Twice in a row: what the server still reads makes room once more.
        let was_full = std::mem::replace(&mut full, true);
        was_full && is_held()
    });
    stream.set_nonblocking(false).unwrap();
    taken
}

#[test]
fn a_client_that_never_reads_costs_a_watermark_and_harms_nobody() {
    // Goal: memory is bounded by the watermark and one read buffer, and others are served meanwhile; once the client
    // reads, it gets every byte. Method: send until nothing moves any more, look at the gauge, then read it all.
    let tuning = Tuning::default();
    let bound = (tuning.output_high_bytes + tuning.read_bytes_max) as u64;
    let site = echo(settings(1));
    let mut greedy = site.connect();
    let mut other = site.connect();
    assert_echo(&mut other);
    let taken = fill(&mut greedy, || {
        assert_echo(&mut other);
        let kept = site.sum(|numbers| numbers.kept_bytes.value());
        assert!(kept <= bound, "{kept} bytes are kept, the bound is {bound}");
        site.sum(|numbers| numbers.reads_held.value()) > 0 && kept > 0
    });
    let turns = site.sum(|numbers| numbers.turns.value());
    assert_echo(&mut other);
    let turned = site.sum(|numbers| numbers.turns.value()) - turns;
    assert!(turned <= 4, "{turned} turns for one echo: it spins");
    finish(&greedy);
    let received = read_all(&mut greedy);
    assert_eq!(received.len(), taken);
    let chunk = pattern(CHUNK_BYTES);
    assert!(
        received
            .chunks(CHUNK_BYTES)
            .all(|part| chunk.starts_with(part)),
        "bytes differ"
    );
    drop((greedy, other));
    site.settle();
    assert_eq!(site.closes(CloseReason::OutputOverflow), 0);
    site.end();
}

#[test]
fn a_reset_while_output_waits_frees_everything() {
    // Goal: a peer that resets in the middle of a write leaves nothing behind. Method: ten clients that never read
    // until the server holds back, then close with unread bytes, which the kernel turns into a reset.
    let site = echo(settings(1));
    let mut others: Vec<_> = (0..4).map(|_| site.connect()).collect();
    for round in 1..=10 {
        let mut greedy = site.connect();
        let held = site.sum(|numbers| numbers.reads_held.value());
        fill(&mut greedy, || {
            site.sum(|numbers| numbers.reads_held.value()) > held
        });
        drop(greedy);
        eventually("the reset is noticed", || {
            site.closes(CloseReason::PeerReset) == round
        });
        others.iter_mut().for_each(assert_echo);
    }
    drop(others);
    site.end();
}

#[test]
fn a_reset_after_the_clients_fin_is_noticed() {
    // Goal: RST after FIN ends the session although its read side is finished (Netty's CVE-2026-42577). Method: the
    // client finishes its half while the server holds output for it, and closes without reading.
    let site = echo(ServerSettings {
        tuning: Tuning {
            linger_timeout: std::time::Duration::from_secs(3600),
            idle_timeout: None,
            ..Tuning::default()
        },
        ..settings(1)
    });
    let mut greedy = site.connect();
    fill(&mut greedy, || {
        site.sum(|numbers| numbers.reads_held.value()) > 0
    });
    finish(&greedy);
    drop(greedy);
    site.end();
}
