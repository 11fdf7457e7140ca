//! Tests of the proxy's command line as it is typed.

use super::super::testing::{args, try_args};
use super::*;
use crate::args::Cli;
use clap::CommandFactory;

#[test]
fn nothing_typed_is_nothing_said() {
    // Goal: a default can be told from a choice. Method: no flag, and each kind of flag.
    let none = args("");
    assert!(none.given.is_empty() && none.config.is_none() && !none.print_config);
    let given = args("-t a:1 -t b:1 c:1 --retries 1 --fail-closed -c x.toml --print-config");
    let named: Vec<_> = given
        .given
        .iter()
        .map(|(index, value)| (FLAGS[*index].name, value.to_toml()))
        .collect();
    assert_eq!(
        named,
        [
            ("to", "[\"a:1\", \"b:1\", \"c:1\"]".to_owned()),
            ("retries", "\"1\"".to_owned()),
            ("fail-closed", "false".to_owned()),
        ]
    );
    assert_eq!(given.config, Some(PathBuf::from("x.toml")));
    assert!(given.print_config);
}

#[test]
fn mistakes_name_the_flag_and_what_to_write() {
    // Goal: each message alone is enough to mend the line. Method: one mistake a flag, by fragments.
    for (flags, fragments) in [
        ("-t db1", ["--to", "write db1:5432"]),
        ("-t db1:1,wieght=2", ["--to", "did you mean \"weight\"?"]),
        ("-l example.org:80", ["--listen", "names are not looked up"]),
        ("--balance best", ["--balance", "two-choices"]),
        ("--retries 65", ["--retries", "0 to 64"]),
        ("--queue -1", ["--queue", "-1"]),
        ("--slow-start 5", ["--slow-start", "or off"]),
        ("--source eth0", ["--source", "write 10.0.0.5"]),
        ("--send-proxy v3", ["--send-proxy", "off, v1, v2"]),
        ("--check http", ["--check", "off, connect, send, tls"]),
        ("--check-send \\q", ["--check-send", "escapes are"]),
        ("--check-sni 10.0.0.1", ["--check-sni", "names only"]),
        ("--check-jitter 200%", ["--check-jitter", "0% to 100%"]),
        ("--rise 0", ["--rise", "1 to 1000"]),
        ("--eject 0", ["--eject", "or off"]),
        ("--eject-share 5", ["--eject-share", "as in 10%"]),
        (
            "--fail-open --fail-closed",
            ["--fail-open", "--fail-closed"],
        ),
        ("--on-down panic", ["--on-down", "keep, close"]),
        (
            "--accept-proxy 10.0.0.1/8",
            ["--accept-proxy", "10.0.0.0/8"],
        ),
        (
            "--allow ::ffff:10.0.0.0/8",
            ["--allow", "::ffff:10.0.0.0/8"],
        ),
        ("--connect-timeout off", ["--connect-timeout", "as in 50us"]),
        ("--idle-timeout 5", ["--idle-timeout", "or off"]),
        ("--keepalive 1500ms", ["--keepalive", "no multiple of 1s"]),
        ("--lifetime 60d", ["--lifetime", "1ms to 49d"]),
        ("--rate 0", ["--rate", "refuses everybody"]),
        ("--source-rate 5/m", ["--source-rate", "per second"]),
        (
            "--bytes-per-second 1",
            ["--bytes-per-second", "1KiB to 1TiB"],
        ),
        ("--splice maybe", ["--splice", "auto, off, always"]),
        (
            "--connect-when later",
            ["--connect-when", "at-once, first-bytes"],
        ),
        ("--access-log stdout", ["--access-log", "./stdout"]),
        (
            "--access-log-format xml",
            ["--access-log-format", "logfmt, json"],
        ),
        ("--blaance least", ["--blaance", "--balance"]),
        ("--loops many", ["--loops", "whole number"]),
    ] {
        let error = try_args(flags).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{flags}");
        let message = error.to_string();
        for fragment in fragments {
            assert!(message.contains(fragment), "{flags}: {message}");
        }
    }
}

#[test]
fn the_help_teaches() {
    // Goal: headings, units, defaults with a reason, examples. Method: fragments; each flag with a value has its
    // default.
    let help = try_args("--help").unwrap_err().to_string();
    for heading in [
        "Settings:",
        "Listening:",
        "Backends:",
        "Health of backends:",
        "Timeouts:",
        "Limits:",
        "Moving bytes:",
        "Loops and cores:",
        "Telemetry:",
        "Examples:",
        "Exit codes:",
        "-l, --listen",
        "-t, --to",
    ] {
        assert!(help.contains(heading), "{heading}\n{help}");
    }
    let mut command = Cli::command();
    let proxy = command.find_subcommand_mut("proxy").unwrap();
    for flag in proxy.get_arguments() {
        let id = flag.get_id();
        let text = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let has_value = flag.get_action().takes_values();
        let is_list = id == "on_core" || id == "help";
        assert!(!text.is_empty(), "{id}");
        assert!(
            !has_value || is_list || text.contains("[default: "),
            "{id}: {text}"
        );
    }
    // The same flags mean something else to an echo, and say so.
    assert!(
        help.contains("[default: 1h") && !help.contains("[default: 10m"),
        "{help}"
    );
    let check = Cli::command()
        .find_subcommand_mut("check")
        .unwrap()
        .render_long_help()
        .to_string();
    assert!(
        check.contains("<FILE>") && check.contains("Exit codes:"),
        "{check}"
    );
}
