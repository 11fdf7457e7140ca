//! Tests of the command line as it is typed.

use super::*;

fn parse(line: &str) -> Result<ServeArgs, clap::Error> {
    let Cli { command } = Cli::try_parse_from(line.split_whitespace())?;
    let Command::Echo(args) = command else {
        panic!("{line} is no echo")
    };
    Ok(*args)
}

fn args(flags: &str) -> ServeArgs {
    parse(&format!("polyloop echo {flags}")).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(flags: &str) -> String {
    let error = parse(&format!("polyloop echo {flags}")).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{flags}");
    error.to_string()
}

#[test]
fn the_parser_is_well_formed() {
    // Goal: no two flags with one name, no default that does not parse. Method: the parser's own check.
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn nothing_typed_is_nothing_said() {
    // Goal: settings can tell a default from a choice. Method: no flag at all.
    let args = args("");
    assert!(args.listen.is_empty() && args.on_core.is_empty());
    assert!(args.loops.is_none() && args.idle_timeout.is_none() && args.log.is_none());
    assert!(!args.no_rescue && !args.admin_public);
}

#[test]
fn addresses_may_be_repeated() {
    // Goal: both ways of giving several. Method: as in the documentation.
    let texts =
        |args: ServeArgs| -> Vec<String> { args.listen.iter().map(ToString::to_string).collect() };
    let expected = ["127.0.0.1:7000", "[::1]:7000"];
    assert_eq!(
        texts(args("--listen 127.0.0.1:7000 --listen [::1]:7000")),
        expected
    );
    assert_eq!(texts(args("--listen 127.0.0.1:7000 [::1]:7000")), expected);
    assert_eq!(
        texts(args("--listen unix:/run/x.sock")),
        ["unix:/run/x.sock"]
    );
}

#[test]
fn every_number_has_its_unit() {
    // Goal: each flag reads the quantity it says. Method: one value each.
    let args = args(
        "--loops 4 --backlog 1k --max-connections 10k --reserve 64 --buffer-high 64KiB --spin 50us \
         --events-per-poll 256 --read-budget 32k --quota 1ms --accept-burst 8 --inbox-budget 512 --linger 5s \
         --drain 1m --offload-cpu 2 --offload-blocking 8 --report 1s --correct-above 10%",
    );
    assert_eq!(args.loops, Some(4));
    assert_eq!(args.backlog, Some(1000));
    assert_eq!(args.max_connections, Some(10_000));
    assert_eq!(args.reserve, Some(64));
    assert_eq!(args.buffer_high, Some(65_536));
    assert_eq!(args.spin, Some(Duration::from_micros(50)));
    assert_eq!(args.events_per_poll, Some(256));
    assert_eq!(args.read_budget, Some(32_000));
    assert_eq!(args.quota, Some(Duration::from_millis(1)));
    assert_eq!(args.accept_burst, Some(8));
    assert_eq!(args.inbox_budget, Some(512));
    assert_eq!(args.linger, Some(Duration::from_secs(5)));
    assert_eq!(args.drain, Some(Duration::from_secs(60)));
    assert_eq!(
        (args.offload_cpu, args.offload_blocking),
        (Some(2), Some(8))
    );
    assert_eq!(args.report, Some(Duration::from_secs(1)));
    assert_eq!(args.correct_above, Some(10));
}

#[test]
fn every_choice_has_its_names() {
    // Goal: the names of the documentation. Method: all of them.
    for (name, pin) in [
        ("auto", Pin::Auto),
        ("always", Pin::Always),
        ("never", Pin::Never),
    ] {
        assert_eq!(args(&format!("--pin {name}")).pin.map(Pin::from), Some(pin));
    }
    for (name, accept) in [
        ("reuseport", AcceptArg::Reuseport),
        ("reuseport-cpu", AcceptArg::ReuseportCpu),
        ("acceptor", AcceptArg::Acceptor),
    ] {
        assert_eq!(args(&format!("--accept {name}")).accept, Some(accept));
    }
    for spread in Spread::ALL {
        assert_eq!(
            args(&format!("--spread {}", spread.name())).spread,
            Some(spread)
        );
    }
    for policy in WhenFull::ALL {
        assert_eq!(
            args(&format!("--when-full {policy}")).when_full,
            Some(policy)
        );
    }
    for (name, level) in LEVELS {
        assert_eq!(args(&format!("--log {name}")).log, Some(level));
    }
    let args = args(
        "--cores 0,2,4-7 --on-core 2:spin=100us --on-core 4:events=1 --admin :9 --admin-public --no-rescue",
    );
    assert_eq!(
        args.cores.map(|cores| cores.to_string()).as_deref(),
        Some("0,2,4-7")
    );
    assert_eq!(args.on_core.len(), 2);
    assert!(args.no_rescue && args.admin_public && args.admin.is_some());
}

#[test]
fn times_can_be_off_where_that_means_something() {
    // Goal: off and a time are told apart, and nothing else passes. Method: both flags that know it, and one that does
    // not.
    assert_eq!(
        args("--idle-timeout off").idle_timeout,
        Some(TimeOrOff(None))
    );
    let time = TimeOrOff(Some(Duration::from_secs(90)));
    assert_eq!(args("--idle-timeout 1m30s").idle_timeout, Some(time));
    assert_eq!(args("--stall-after off").stall_after, Some(TimeOrOff(None)));
    assert!(refusal("--stall-after never").contains("or off"));
    assert!(refusal("--drain off").contains("--drain"));
}

#[test]
fn memory_is_a_size_or_one_of_two_words() {
    // Goal: what is read is printed as it was meant, and nothing else passes. Method: each kind, one size that has no short form.
    for (text, memory_max) in [
        ("auto", MemoryMax::Auto),
        ("off", MemoryMax::Off),
        ("64MiB", MemoryMax::Bytes(64 << 20)),
        ("1234567", MemoryMax::Bytes(1_234_567)),
    ] {
        let read = args(&format!("--memory-max {text}")).memory_max.unwrap();
        assert_eq!(read, MemoryArg(memory_max));
        assert_eq!(read.to_string(), text);
    }
    assert!(refusal("--memory-max half").contains("or auto, or off"));
}

#[test]
fn mistakes_name_the_flag_and_what_to_write() {
    // Goal: each message alone is enough to mend the line. Method: one mistake a flag, by fragments.
    for (flags, fragments) in [
        ("--listen 7000", ["--listen", "127.0.0.1:7000"]),
        (
            "--listen example.org:80",
            ["--listen", "names are not looked up"],
        ),
        ("--loops many", ["--loops", "whole number"]),
        ("--cores 4-2", ["--cores", "write 2-4"]),
        ("--pin maybe", ["--pin", "auto, always, never"]),
        ("--on-core 2", ["--on-core", "2:spin=100us"]),
        ("--accept reusport", ["--accept", "'reuseport'"]),
        ("--spread best", ["--spread", "two-choices"]),
        ("--correct-above 10", ["--correct-above", "10%"]),
        ("--when-full panic", ["--when-full", "evict-idle"]),
        ("--max-connections -5", ["-5", "--max-connections"]),
        ("--spin 50", ["--spin", "50us"]),
        ("--buffer-high 64kb/s", ["--buffer-high", "64KiB"]),
        ("--idle-timeout 10", ["--idle-timeout", "or off"]),
        ("--log loud", ["--log", "info"]),
        ("--admin 9000", ["--admin", "127.0.0.1:9000"]),
        ("--drian 5s", ["--drian", "--drain"]),
    ] {
        let message = refusal(flags);
        for fragment in fragments {
            let fragment = if flags == "--admin 9000" {
                fragment.replace("9000", "7000")
            } else {
                fragment.into()
            };
            assert!(message.contains(&fragment), "{flags}: {message}");
        }
    }
    let unknown = parse("polyloop ehco").unwrap_err().to_string();
    assert!(unknown.contains("'echo'"), "{unknown}");
}

#[test]
fn the_help_teaches() {
    // Goal: headings, defaults with a reason, examples and exit codes. Method: fragments of the long help; every flag
    // that has a default says it.
    let error = parse("polyloop echo --help").unwrap_err();
    assert_eq!(error.exit_code(), 0);
    let help = error.to_string();
    for heading in [
        "Listening:",
        "Loops and cores:",
        "Spreading connections:",
        "Limits:",
        "One turn of a loop:",
        "Timeouts:",
        "Work off the loops:",
        "Telemetry:",
        "Examples:",
        "Signals:",
        "Exit codes:",
    ] {
        assert!(help.contains(heading), "{heading}\n{help}");
    }
    let mut command = <Cli as clap::CommandFactory>::command();
    let echo = command.find_subcommand_mut("echo").unwrap();
    for flag in echo.get_arguments() {
        let Some(text) = flag.get_help().map(ToString::to_string) else {
            panic!("{} has no help", flag.get_id())
        };
        let has_value = flag.get_action().takes_values();
        let is_list = flag.get_id() == "on_core" || flag.get_id() == "help";
        assert!(
            !has_value || is_list || text.contains("[default: "),
            "{}: {text}",
            flag.get_id()
        );
    }
    for key in crate::on_core::KEYS {
        assert!(help.contains(key), "{key}");
    }
}
