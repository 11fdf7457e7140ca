//! Tests of defaults, contradictions and their messages.

use super::*;
use crate::args::{Cli, Command};
use clap::Parser;

fn resolved(flags: &str) -> Result<Settings, UsageError> {
    let line = format!("polyloop echo {flags}");
    let Cli { command } =
        Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
    let Command::Echo(args) = command else {
        panic!("{line} is no echo")
    };
    resolve(*args)
}

fn settings(flags: &str) -> Settings {
    resolved(flags).unwrap_or_else(|error| panic!("{flags}: {error}"))
}

#[test]
fn nothing_typed_is_safe() {
    // Goal: the defaults are the library's, on loopback, without admin pages. Method: compare.
    let settings = settings("");
    assert_eq!(settings.listen, ["127.0.0.1:7000".parse().unwrap()]);
    assert_eq!((settings.admin, settings.report), (None, None));
    assert_eq!(settings.log, LevelFilter::INFO);
    let defaults = ServerSettings::default();
    assert_eq!(settings.server.tuning, defaults.tuning);
    assert_eq!(settings.server.pools, defaults.pools);
    assert_eq!(settings.server.accept, defaults.accept);
    assert_eq!(settings.server.stall_threshold, defaults.stall_threshold);
    assert_eq!(settings.server.memory_max, MemoryMax::Auto);
    assert_eq!(
        (settings.server.drain, settings.server.rescue),
        (defaults.drain, true)
    );
}

#[test]
fn every_flag_reaches_its_setting() {
    // Goal: no flag is accepted and forgotten. Method: all at once, each with a value that is not its default.
    let settings = settings(
        "--listen :1 unix:/x --backlog 100 --loops 2 --cores 0-3 --pin always --on-core 2:idle=off --accept acceptor \
         --spread least --max-connections 10k --reserve 99 --when-full refuse --memory-max 1GiB --buffer-high 1MiB --spin 50us \
         --events-per-poll 256 --read-budget 8KiB --quota 1ms --accept-burst 8 --inbox-budget 512 --idle-timeout 5s \
         --linger 1s --drain 0 --offload-cpu 0 --offload-blocking 8 --admin [::1]:9 --report 2s --stall-after 1s \
         --no-rescue --log debug",
    );
    let server = &settings.server;
    assert_eq!(settings.listen.len(), 2);
    assert_eq!(settings.admin, Some("[::1]:9".parse().unwrap()));
    assert_eq!(
        (settings.report, settings.log),
        (Some(Duration::from_secs(2)), LevelFilter::DEBUG)
    );
    assert_eq!((server.wish.loops, server.wish.pin), (Some(2), Pin::Always));
    assert_eq!(server.wish.cores, Some("0-3".parse().unwrap()));
    assert_eq!(server.accept, AcceptMode::Acceptor(Spread::Least));
    assert_eq!(server.connections_max, Some(10_000));
    assert_eq!((server.descriptor_reserve, server.backlog), (Some(99), 100));
    assert_eq!(server.when_full, polyloop::WhenFull::Refuse);
    assert_eq!(server.memory_max, MemoryMax::Bytes(1 << 30));
    assert_eq!((server.drain, server.rescue), (Duration::ZERO, false));
    assert_eq!(server.stall_threshold, Some(Duration::from_secs(1)));
    let expected = Tuning {
        events_max: 256,
        spin: Duration::from_micros(50),
        read_bytes_max: 8192,
        quota: Duration::from_millis(1),
        accept_max: 8,
        inbox_max: 512,
        output_high_bytes: 1 << 20,
        idle_timeout: Some(Duration::from_secs(5)),
        linger_timeout: Duration::from_secs(1),
        ..Tuning::default()
    };
    assert_eq!(server.tuning, expected);
    // An override is laid over what was typed for all loops.
    let on_core_2 = Tuning {
        idle_timeout: None,
        ..expected
    };
    assert_eq!(server.tuning_on_core, [(2, on_core_2)].into());
    let pools: Vec<_> = server
        .pools
        .iter()
        .map(|pool| (pool.threads, pool.queue_len_max))
        .collect();
    assert_eq!(pools, [(0, 0), (8, 512)]);
}

#[test]
fn accept_modes_are_complete() {
    // Goal: each mode with its own flag and its default. Method: a table.
    for (flags, mode) in [
        (
            "--accept reuseport",
            AcceptMode::Reuseport {
                correct_above_percent: None,
            },
        ),
        (
            "--correct-above 10%",
            AcceptMode::Reuseport {
                correct_above_percent: Some(10),
            },
        ),
        ("--accept reuseport-cpu", AcceptMode::ReuseportCpu),
        (
            "--accept acceptor",
            AcceptMode::Acceptor(Spread::TwoChoices),
        ),
        (
            "--accept acceptor --spread source-hash",
            AcceptMode::Acceptor(Spread::SourceHash),
        ),
    ] {
        assert_eq!(settings(flags).server.accept, mode, "{flags}");
    }
    assert_eq!(
        settings("--idle-timeout off").server.tuning.idle_timeout,
        None
    );
    assert_eq!(settings("--stall-after off").server.stall_threshold, None);
    assert_eq!(
        settings("--memory-max off").server.memory_max,
        MemoryMax::Off
    );
}

#[test]
fn contradictions_name_flag_reason_and_way_out() {
    // Goal: every refusal can be acted on without the manual. Method: one of each, by fragments.
    for (flags, fragments) in [
        (
            "--spread least",
            ["--spread", "--accept is reuseport", "add --accept acceptor"],
        ),
        (
            "--spread least --accept reuseport-cpu",
            ["--spread", "is reuseport-cpu", "leave out"],
        ),
        (
            "--correct-above 5% --accept acceptor",
            ["--correct-above", "acceptor", "--spread least"],
        ),
        (
            "--correct-above 5% --accept reuseport-cpu",
            ["--correct-above", "reuseport-cpu", "leave out"],
        ),
        (
            "--cores 0 --pin never",
            ["--cores", "--pin never", "leave out one"],
        ),
        (
            "--on-core 0:spin=1us --pin never",
            ["--on-core", "--pin never", "leave out one"],
        ),
        (
            "--accept reuseport-cpu --pin never",
            ["--accept reuseport-cpu", "--pin never", "leave out one"],
        ),
        (
            "--cores 0-1 --on-core 2:spin=1us",
            ["--on-core 2", "--cores names 0-1", "add the core"],
        ),
        (
            "--on-core 1:spin=1us --on-core 1:events=2",
            ["--on-core 1", "twice", "into one"],
        ),
        (
            "--on-core 1:spim=1us",
            ["--on-core 1", "\"spim\"", "spin, events"],
        ),
        (
            "--admin :9000",
            ["--admin *:9000", "--admin-public", "127.0.0.1:9000"],
        ),
        (
            "--admin 10.0.0.1:9000",
            ["10.0.0.1:9000", "other hosts", "unix:PATH"],
        ),
        (
            "--admin-public",
            ["--admin-public", "there is none", "add --admin"],
        ),
        ("--listen :1 :1", ["*:1", "twice", "once"]),
        (
            "--listen 127.0.0.1:1 --admin 127.0.0.1:1",
            ["127.0.0.1:1", "--listen and --admin", "once"],
        ),
    ] {
        let message = resolved(flags).unwrap_err().to_string();
        for fragment in fragments {
            assert!(message.contains(fragment), "{flags}: {message}");
        }
    }
}

#[test]
fn values_out_of_range_name_the_range() {
    // Goal: a loop never starts with a bound it cannot work with. Method: the edges of each range.
    for (flags, fragments) in [
        ("--loops 0", ["--loops 0", "1 to 1024"]),
        ("--loops 1025", ["--loops 1025", "1 to 1024"]),
        ("--backlog 0", ["--backlog 0", "1 to 2147483647"]),
        ("--max-connections 0", ["--max-connections 0", "1 to"]),
        (
            "--events-per-poll 0",
            ["--events-per-poll 0", "1 to 1048576"],
        ),
        ("--accept-burst 0", ["--accept-burst 0", "1 to"]),
        ("--inbox-budget 0", ["--inbox-budget 0", "1 to"]),
        (
            "--read-budget 4095",
            ["--read-budget 3.999KiB", "4KiB to 16MiB"],
        ),
        ("--buffer-high 0", ["--buffer-high 0B", "1B to 1GiB"]),
        ("--spin 2s", ["--spin 2s", "0 to 1s"]),
        ("--quota 0", ["--quota 0", "1us to"]),
        ("--linger 0", ["--linger 0", "1ms to"]),
        ("--idle-timeout 50d", ["--idle-timeout 50d", "1ms to 49d"]),
        ("--idle-timeout 0", ["--idle-timeout 0", "1ms to"]),
        ("--drain 400d", ["--drain 400d", "0 to 365d"]),
        ("--report 1ms", ["--report 1ms", "10ms to"]),
        ("--stall-after 0", ["--stall-after 0", "1ms to"]),
        ("--offload-cpu 2k", ["--offload-cpu 2000", "0 to 1024"]),
        (
            "--offload-blocking 2k",
            ["--offload-blocking 2000", "0 to 1024"],
        ),
        ("--reserve 3G", ["--reserve 3000000000", "0 to 2147483647"]),
    ] {
        let message = resolved(flags).unwrap_err().to_string();
        for fragment in fragments {
            assert!(message.contains(fragment), "{flags}: {message}");
        }
    }
}

#[test]
fn what_is_allowed_is_allowed() {
    // Goal: no refusal is too eager. Method: neighbours of the contradictions.
    for flags in [
        "--admin :9000 --admin-public",
        "--admin unix:/run/p.sock",
        "--admin 127.0.0.1:0 --listen 127.0.0.1:0 127.0.0.1:0",
        "--cores 0,1 --on-core 1:spin=0",
        "--cores 0-3 --loops 2 --pin auto",
        "--loops 1024 --pin never",
        "--stall-after off --no-rescue",
        "--accept acceptor --pin never",
    ] {
        settings(flags);
    }
}
