//! Tests of `--print-config`: it can be read again, and says where everything came from.

use super::super::testing::resolve;
use super::*;

const RICH: &str = include_str!("../check/rich.toml");

/// Prints, reads that, and compares what is in force.
#[track_caller]
fn assert_round_trip(flags: &str, text: &str) -> String {
    let first = resolve(flags, text);
    let printed = print(&first);
    let second = resolve("", &printed);
    assert_eq!(first.proxy, second.proxy, "{printed}");
    assert_eq!(
        first.warnings_count, second.warnings_count,
        "{}",
        second.warnings
    );
    let debug = |effective: &Effective| format!("{:?}", effective.server);
    assert_eq!(debug(&first), debug(&second), "{printed}");
    // Another round changes nothing but where it says that the values came from.
    let values = |text: &str| -> Vec<String> {
        let line = |line: &str| {
            line.split(" # ")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(line)
            .collect()
    };
    assert_eq!(values(&printed), values(&print(&second)));
    printed
}

#[test]
fn what_is_printed_can_be_fed_back() {
    // Goal: the settings in force are a file. Method: defaults, flags of each kind, a file with everything, both.
    assert_round_trip("", "");
    assert_round_trip(
        "-l :5432 unix:/tmp/x.sock -t db1:5432,weight=0 unix:/a -t srv:_x.org,backup,max=5,name=s --balance source-hash \
         --check send --check-send PING\\r\\n --check-expect +PO\\x00 --check-interval 1500ms --check-timeout 1s \
         --send-proxy v2,0xE1=\\x2c --source 10.0.0.1:5-6,fd00::1 --lifetime 1d --keepalive off --user-timeout 30s \
         --accept-proxy 10.0.0.0/8 --allow 10.0.0.0/8 --deny 10.1.0.0/16 --rate 5,burst=9 --source-rate 1 \
         --bytes-per-second 1025 --buffer-high 65537 --splice off --idle-timeout off --access-log ./x.log \
         --access-log-sample 5 --drain-spread --eject off --fail-closed --no-hold-ack --slow-start 1m1s --connect-when first-bytes \
         --queue 0 --loops 3 --pin never --stall-after off --report 1s --no-rescue --admin :1 --admin-public",
        "",
    );
    for check in ["connect", "tls", "off"] {
        assert_round_trip(&format!("--check {check} --eject off"), "");
    }
    assert_round_trip("", RICH);
    assert_round_trip("--loops 1 --rate off --access-log off --log trace", RICH);
}

#[test]
fn each_value_says_where_it_came_from() {
    // Goal: no surprise is left unexplained. Method: one of each origin, in each kind of section.
    let text =
        "[limits]\nrate = 5\n[[listener]]\nlisten = \":1\"\n[[group]]\nto = \"db1:1,weight=3\"\n";
    let printed = print(&resolve("--loops 2 --fail-closed --idle-timeout 5m", text));
    for (setting, origin) in [
        ("loops = 2", "--loops"),
        ("drain = \"30s\"", "default"),
        ("memory-max = \"auto\"", "default"),
        ("rate = \"5/s\"", "x.toml:2"),
        ("listen = [\"*:1\"]", "x.toml:4"),
        ("idle-timeout = \"5m\"", "--idle-timeout"),
        ("group = \"main\"", "default"),
        ("fail-open = false", "--fail-closed"),
        ("to = \"db1:1\"", "x.toml:6"),
        ("weight = 3", "x.toml:6"),
        ("max = \"off\"", "default"),
        (
            "# max-connections =",
            "default: all that fit under the limit of open files",
        ),
        ("# name =", "default: its target"),
    ] {
        let line = format!("{setting:<COMMENT_AT$} # {origin}");
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
    let headers: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with('['))
        .collect();
    assert_eq!(
        headers,
        [
            "[server]",
            "[limits]",
            "[[listener]]",
            "[[group]]",
            "[[group.backend]]"
        ]
    );
}
