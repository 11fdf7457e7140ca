//! Starts that fail, and what they tell: the flag or the address, the reason, the way out.

use crate::harness::{BINARY, alone, finish_command, run_to_end};
use std::net::TcpListener;
use std::process::Command;

/// Asserts how a start fails: exit code, and words that its message must have.
#[track_caller]
fn fails(args: &[&str], code: i32, words: &[&str]) {
    let (got, stdout, stderr) = run_to_end(args);
    assert_eq!(got, code, "{args:?}: {stderr}");
    assert_eq!(stdout, "", "{args:?}: nothing goes to standard output");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no {word:?} in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_wrong_command_line_exits_with_2_and_names_the_flag() {
    // Goal: usage errors are told with the flag's name. Method: one bad value for every kind of value, unknown flags,
    // flags that contradict each other.
    let _alone = alone();
    let cases: &[(&[&str], &str)] = &[
        (&["--listen", "nonsense"], "--listen"),
        (&["--listen", "127.0.0.1"], "--listen"),
        (&["--loops", "0"], "--loops"),
        (&["--loops", "many"], "--loops"),
        (&["--cores", "0,,2"], "--cores"),
        (&["--on-core", "0:speed=9"], "--on-core"),
        (&["--accept", "magic"], "--accept"),
        (&["--spread", "magic"], "--spread"),
        (&["--accept", "reuseport", "--spread", "least"], "--spread"),
        (&["--correct-above", "lots"], "--correct-above"),
        (
            &["--accept", "acceptor", "--correct-above", "10%"],
            "--correct-above",
        ),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--when-full", "panic"], "--when-full"),
        (&["--memory-max", "plenty"], "--memory-max"),
        (&["--memory-max", "4KiB"], "--memory-max"),
        (&["--buffer-high", "64parsecs"], "--buffer-high"),
        (&["--spin", "50"], "--spin"),
        (&["--spin=-1us"], "--spin"),
        (&["--idle-timeout", "never"], "--idle-timeout"),
        (&["--drain", "soon"], "--drain"),
        (&["--admin", "0.0.0.0:0"], "--admin"),
        (&["--log", "loud"], "--log"),
        (&["--no-such-flag"], "--no-such-flag"),
    ];
    for (flags, name) in cases {
        let args = [&["echo"], *flags].concat();
        fails(&args, 2, &[name]);
    }
    fails(&["no-such-command"], 2, &["no-such-command"]);
}

#[test]
fn a_core_that_is_not_there_is_told() {
    // Goal: a core outside of the affinity mask is an error before anything is opened. Method: core 1000.
    let _alone = alone();
    fails(
        &["echo", "--listen", "127.0.0.1:0", "--cores", "1000"],
        1,
        &[
            "polyloop: --cores: core 1000 is not among the cores",
            "taskset",
        ],
    );
}

#[test]
fn loops_that_share_a_core_cannot_accept_by_core() {
    // Goal: `--accept reuseport-cpu` with more loops than cores names the flags, both numbers and the way out, also for
    // those who followed the advice to pin. Method: two loops on one core; a thousand on whatever there is.
    let _alone = alone();
    let by_core = [
        "echo",
        "--listen",
        "127.0.0.1:0",
        "--accept",
        "reuseport-cpu",
    ];
    let core = polyloop_sys::cores::allowed()[0].to_string();
    let words = [
        "--accept reuseport-cpu needs a core of its own",
        "--loops",
        "--cores",
    ];
    let named = ["--loops", "2", "--cores", &core];
    let told = [&words[..], &["2 loops on 1 core:"]].concat();
    fails(&[&by_core[..], &named].concat(), 1, &told);
    for pin in ["auto", "always"] {
        let many = ["--loops", "1000", "--pin", pin];
        let told = [&words[..], &["1000 loops on "]].concat();
        fails(&[&by_core[..], &many].concat(), 1, &told);
    }
}

#[test]
fn an_address_that_does_not_exist_is_told() {
    // Goal: a listener that cannot be opened is told with its address and exits with 1. Method: an address of a
    // network reserved for documentation, which no host has.
    let _alone = alone();
    fails(
        &["echo", "--listen", "192.0.2.1:7000"],
        1,
        &["192.0.2.1:7000"],
    );
}

#[test]
fn a_port_that_is_taken_is_told_with_its_owner() {
    // Goal: "address in use" says by whom. Method: this process holds the port.
    let _alone = alone();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = holder.local_addr().unwrap().to_string();
    let pid = std::process::id().to_string();
    fails(&["echo", "--listen", &addr], 1, &[&addr, &pid]);
    // A second listener that fails takes the first with it.
    let args = ["echo", "--listen", "127.0.0.1:0", "--listen", &addr];
    fails(&args, 1, &[&addr]);
}

#[test]
fn a_privileged_port_is_told_with_the_way_out() {
    // Goal: a port that needs a privilege is told as such. Method: port 1, as whoever runs the test; root may.
    let _alone = alone();
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if rustix::process::getuid().is_root() || first.trim() == "0" {
        eprintln!("skipped: this user may open every port");
        return;
    }
    fails(
        &["echo", "--listen", "127.0.0.1:1"],
        1,
        &["127.0.0.1:1", "privilege"],
    );
}

#[test]
fn a_limit_that_leaves_no_room_is_told() {
    // Goal: a descriptor limit too low for one connection, or for the start itself, is told with what was refused and
    // the way out. Method: hard limits of 20, of 8 (a loop's poll does not fit) and of 4 (a listener does not).
    let _alone = alone();
    for (limit, words) in [
        (20, &["of 20", "--reserve"][..]),
        (8, &["poll: Too many open files", "ulimit -n", "--loops"]),
        (
            4,
            &["cannot listen on 127.0.0.1:0", "ulimit -n", "fewer loops"],
        ),
    ] {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" echo --listen 127.0.0.1:0 --loops 2");
        command.args(["-c", &script, BINARY]);
        let (code, stdout, stderr) = finish_command(command);
        assert_eq!((code, stdout.as_str()), (1, ""), "{limit}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{limit}: no {word:?} in: {stderr}");
        }
    }
}

#[test]
fn the_table_of_descriptors_grows_before_there_is_a_thread_to_wait_for() {
    // Goal: no thread is started while the table is small, as growing a table that threads share waits for all of them.
    // Method: strace tells the order of the copy to a high number and of the first new thread.
    let _alone = alone();
    let mut command = Command::new("strace");
    // A port that is taken ends the start by itself, after the log's thread has begun.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = holder.local_addr().unwrap().to_string();
    command.args([
        "-f",
        "-e",
        "trace=clone,clone3,fcntl",
        BINARY,
        "echo",
        "--listen",
        &addr,
    ]);
    let Ok(output) = command.output() else {
        eprintln!("skipped: there is no strace");
        return;
    };
    let trace = String::from_utf8_lossy(&output.stderr);
    let Some(thread) = trace.find("clone") else {
        eprintln!("skipped: strace cannot trace: {trace}");
        return;
    };
    let growing: Vec<_> = trace
        .match_indices("F_DUPFD_CLOEXEC, ")
        .filter(|(at, word)| {
            let number = trace[at + word.len()..].split(')').next();
            number.and_then(|number| number.parse::<u64>().ok()) > Some(100)
        })
        .map(|(at, _)| at)
        .collect();
    assert!(growing.first().is_some_and(|&at| at < thread), "{trace}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    // Goal: what was asked for is data, not an error. Method: exit code 0, text on standard output alone.
    let _alone = alone();
    for (args, word) in [
        (&["--help"][..], "echo"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["echo", "--help"], "--listen"),
    ] {
        let (code, stdout, stderr) = run_to_end(args);
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout.contains(word), "{stdout}");
    }
}
