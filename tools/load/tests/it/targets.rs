//! Whom it connects to, from where and how often: families, sources, the limits of the system.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

use polyloop::{Accepted, Ctx, Handler, Input, Server, ServerSettings, Verdict};

use crate::harness::{
    BINARY, Ran, SHORT, alone, beside_others, catch, directory, eventually, is_clean, measure,
    measured, path_in, run,
};
use crate::servers::{Served, echo, echo_on_path};

/// An address at which nobody listens.
fn refusing() -> String {
    // Closed again at once; the system gives the port to nobody else for a while.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_target_that_refuses_ends_the_run_with_the_reason() {
    // Goal: address, reason and way out, whether connections are made ahead or by request. Method: a closed port.
    let _shared = beside_others();
    let target = refusing();
    for flags in [&[] as &[&str], &["--connect-rate", "100/s"]] {
        let mut args = vec![target.as_str()];
        args.extend(SHORT);
        args.extend(flags);
        let ran = run(&args).exits(1);
        assert!(ran.err.contains(&target), "{}", ran.err);
        assert!(ran.err.contains("ECONNREFUSED"), "{}", ran.err);
        assert!(ran.err.contains("nobody listens"), "{}", ran.err);
    }
}

#[test]
fn a_target_that_is_none_is_refused_with_the_form() {
    // Goal: wrong usage is exit code 2 and says how to write it. Method: no target, no port, a name that is none, a flag that
    // is none.
    let _shared = beside_others();
    run(&["127.0.0.1"]).exits(2).says(&["HOST:PORT"]);
    run(&["no such host:1"]).exits(2).says(&["HOST:PORT"]);
    run(&["--rate", "1k"]).exits(2).says(&["target"]);
    run(&["127.0.0.1:1", "--nonsense"]).exits(2);
    run(&["127.0.0.1:1", "--connections", "0"]).exits(2);
    run(&["127.0.0.1:1", "--duration", "0s"]).exits(2);
    run(&["--help"]).exits(0).says(&["Exit codes"]);
}

#[test]
fn unix_sockets_are_targets() {
    // Goal: unix:/PATH works, and one that is not there is told. Method: an echo on a path.
    let _shared = beside_others();
    let directory = directory("unix_sockets_are_targets");
    let path = directory.join("echo.sock");
    echo_on_path(&path);
    let target = format!("unix:{}", path.display());
    is_clean(&measure(&target, &["-c", "4"]).0);
    let missing = format!("unix:{}", path_in(&directory, "none.sock"));
    let mut args = vec![missing.as_str()];
    args.extend(SHORT);
    run(&args).exits(1).says(&[&missing, "ENOENT"]);
}

#[test]
fn ipv6_is_a_target() {
    // Goal: addresses in brackets. Method: an echo on ::1.
    let _shared = beside_others();
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let served = Served::on("[::1]:0", echo);
    assert!(served.target.starts_with("[::1]:"));
    is_clean(&measure(&served.target, &["-c", "4"]).0);
}

#[test]
fn several_targets_are_used_in_turn() {
    // Goal: connections are spread evenly. Method: two echoes.
    let _shared = beside_others();
    let (one, two) = (Served::with(echo), Served::with(echo));
    let (stage, _) = measure(&one.target, &[&two.target, "-c", "10"]);
    is_clean(&stage);
    assert_eq!((one.connections(), two.connections()), (5, 5));
}

#[test]
fn connections_come_from_the_sources() {
    // Goal: --sources is obeyed. Method: the addresses that the server has seen.
    let _shared = beside_others();
    let served = Served::with(echo);
    let (stage, _) = measure(
        &served.target,
        &["--sources", "127.0.0.2-127.0.0.5", "-c", "8"],
    );
    is_clean(&stage);
    let seen = served.seen.sources.lock().unwrap();
    let texts: Vec<String> = seen.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
}

#[test]
fn a_source_that_is_not_here_is_told() {
    // Goal: an address of another machine cannot be bound, and the text says so. Method: one of the ranges for documentation.
    let _shared = beside_others();
    let served = Served::with(echo);
    let mut args = vec![served.target.as_str(), "--sources", "192.0.2.1", "-c", "2"];
    args.extend(SHORT);
    run(&args).exits(1).says(&["EADDRNOTAVAIL", "--sources"]);
}

#[test]
fn sources_of_another_family_are_refused() {
    // Goal: what cannot work is told before it is tried, with the way out. Method: each family towards the other.
    let _shared = beside_others();
    let words = ["--sources", "IPv4", "[::1]:1 cannot be reached"];
    run(&["[::1]:1", "--sources", "127.0.0.2"])
        .exits(2)
        .says(&words);
    run(&["127.0.0.1:1", "--sources", "fd00::2"])
        .exits(2)
        .says(&["IPv6", "leave the flag out"]);
}

/// Runs the binary with room for so many descriptors.
fn with_limit(limit: u64, args: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec \"$@\"");
    command.args(["-c", &script, "sh", BINARY]).args(args);
    catch(&mut command);
    Ran::of(command.spawn().unwrap())
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_way_out() {
    // Goal: the limit, what it leaves room for, and what to do. Method: a limit of 256.
    let _shared = beside_others();
    let args = ["127.0.0.1:1", "-c", "1000", "--loops", "1"];
    let ran = with_limit(256, &args).exits(2);
    ran.says(&[
        "--connections 1k",
        "RLIMIT_NOFILE is 256",
        "--loops",
        "ulimit",
    ]);
}

#[test]
fn private_tables_hold_more_than_one_table_does() {
    // Goal: with a table of descriptors for each loop the limit holds for each. Method: a limit of 256, four loops, 600
    // connections, asked for and chosen by itself.
    let _shared = beside_others();
    for flags in [&["--fd-tables", "private"] as &[&str], &[]] {
        let served = Served::with(echo);
        let mut args = vec![
            served.target.as_str(),
            "-c",
            "600",
            "--loops",
            "4",
            "--format",
            "json",
        ];
        args.extend(SHORT);
        args.extend(flags);
        let result = with_limit(256, &args).exits(0).result();
        let stage = measured(&result);
        is_clean(&stage);
        assert_eq!(stage.connections, 600);
        let seen = &served.seen;
        eventually("the server takes all on", || {
            seen.connections.load(Relaxed) == 600
        });
    }
}

/// Answers with what it is sent.
#[derive(Debug)]
struct Echo;

impl Handler for Echo {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

#[test]
fn nineteen_thousand_connections_are_held_with_default_flags() {
    // Goal: what one process can have, it has. Method: an echo of the library in this process, which has nothing else open.
    let _alone = alone();
    let limit = polyloop_sys::descriptors::raise_limit().unwrap();
    if limit.soft < 19_500 {
        eprintln!("skipped: RLIMIT_NOFILE is {}", limit.soft);
        return;
    }
    let mut settings = ServerSettings::default();
    settings.wish.loops = Some(1);
    settings.connections_max = Some(19_100);
    let server = Server::new(|_: Accepted| Echo)
        .listen("127.0.0.1:0")
        .unwrap();
    let running = server.settings(settings).start().unwrap();
    let target = running.status().listeners[0].addr.clone();
    let (stage, result) = measure(&target, &["--connections", "19000"]);
    assert_eq!(stage.connections, 19_000, "{:?}", result.warnings);
    assert!(stage.counts.faults.is_empty(), "{:?}", stage.counts);
    assert!(stage.counts.completed > 0, "{:?}", stage.counts);
    running.stop();
    let _ = running.join();
}
