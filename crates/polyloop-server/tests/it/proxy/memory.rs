//! More sessions than memory is granted for: load is shed, and nobody is killed.

use super::namespaces::{MemoryGroup, Space, push_until_stuck};
use crate::harness::{connect, eventually, eventually_is, read_all};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

/// What the process may use.
const LIMIT: u64 = 96 << 20;

/// Clients that come at once.
const ROUND: u64 = 20;

/// Rounds after which memory ought to be used up three times over.
const ROUNDS_MAX: usize = 150;

/// Takes whoever has come.
fn accept_all(listener: &TcpListener, streams: &mut Vec<TcpStream>) {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true).unwrap();
        streams.push(stream);
    }
}

#[test]
fn out_of_memory_it_sheds_and_recovers() {
    // Goal: with more clients that never read than memory is granted for, without a cap to match, the process is not killed: from
    // 95 % on newcomers wait, and once the others have left, everything is as before. Method: a group with 96 MiB; clients
    // come in rounds, and a backend sends to each until nobody takes any more, until a whole round waits outside; all leave.
    let Some(space) = Space::new("shed") else {
        return;
    };
    let Some(group) = MemoryGroup::new("shed", LIMIT) else {
        return;
    };
    space.set("tcp_rmem", "4096 32768 65536");
    space.set("tcp_wmem", "4096 16384 65536");
    let listener = space.listen("127.0.0.1:0");
    listener.set_nonblocking(true).unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let server = space.proxy_of(
        group.command(&space),
        "127.0.0.1:0",
        &to,
        &["--splice", "off"],
    );
    let addr = server.addr();
    let told = server.metrics();
    assert_eq!(told["polyloop_memory_max_bytes"], LIMIT, "by itself");
    assert_eq!(told["polyloop_overload_level"], 0);

    let (mut clients, mut backends) = (Vec::new(), Vec::new());
    let state = |told: &BTreeMap<String, u64>| {
        ["overload_level", "overload_changes_total", "proxy_live"]
            .map(|name| told[&format!("polyloop_{name}")])
    };
    let mut rounds = 0;
    let kept_out = loop {
        rounds += 1;
        assert!(rounds < ROUNDS_MAX, "{:?}", state(&server.metrics()));
        let before = server.metrics();
        let newcomers: Vec<_> = space.enter(|| (0..ROUND).map(|_| connect(addr)).collect());
        let all = clients.len() + newcomers.len();
        eventually("all are in, or kept out", || {
            accept_all(&listener, &mut backends);
            backends.len() == all || server.metric("polyloop_overload_level") == 2
        });
        clients.extend(newcomers);
        push_until_stuck(&backends);
        accept_all(&listener, &mut backends);
        let after = server.metrics();
        // At one level throughout, in which time all who are in had theirs.
        if before["polyloop_overload_level"] == 2 && state(&before)[..2] == state(&after)[..2] {
            assert_eq!(state(&before)[2], state(&after)[2], "nobody came in");
            break after;
        }
    };
    assert_eq!(kept_out["polyloop_paused"], 2, "both loops");
    assert!(kept_out["polyloop_accept_paused_by_memory_total"] >= 2);
    assert!(kept_out["polyloop_memory_bytes"] * 100 >= LIMIT * 93);
    assert!(clients.len() as u64 >= kept_out["polyloop_proxy_live"] + ROUND);
    assert_eq!(group.kills(), 0);

    drop((clients, backends));
    // Those who waited come in before it is known that they have left, and leave.
    let mut late = Vec::new();
    eventually_is("it has recovered", &[0, 0], || {
        accept_all(&listener, &mut late);
        late.clear();
        let [level, _, live] = state(&server.metrics());
        [level, live]
    });
    assert!(server.stderr().contains("nothing is shed any more"));
    let mut client = space.connect(addr);
    client.set_nonblocking(true).unwrap();
    eventually("a new client is served", || {
        accept_all(&listener, &mut late);
        for mut stream in late.drain(..) {
            // Whoever waited to the last has left by now.
            let _ = stream.write_all(b"your turn");
        }
        client.peek(&mut [0; 9]).is_ok_and(|count| count == 9)
    });
    client.set_nonblocking(false).unwrap();
    assert_eq!(read_all(&mut client), b"your turn");
    drop(client);
    server.end();
    assert_eq!(group.kills(), 0);
}
