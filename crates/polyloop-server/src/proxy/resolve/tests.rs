//! Tests of what comes before what: defaults, file, flags.

use super::super::testing::{messages, resolve};
use polyloop_proxy::settings::{ProxySettings, Target};
use polyloop_sys::ListenAddr;
use std::time::Duration;

#[test]
fn nothing_at_all_is_an_echo_on_this_host() {
    // Goal: a newcomer sees bytes move. Method: no flag, no file.
    let effective = resolve("", "");
    let ProxySettings {
        listeners, groups, ..
    } = &effective.proxy;
    assert_eq!(
        listeners[0].listen,
        ["127.0.0.1:7000".parse::<ListenAddr>().unwrap()]
    );
    assert_eq!(listeners[0].routing.otherwise, Some(0));
    assert_eq!(groups[0].backends.len(), 1);
    let backend = &groups[0].backends[0];
    assert_eq!(
        (&backend.to, backend.name.as_str()),
        (&Target::Echo, "echo")
    );
    assert_eq!(effective.server.listen, listeners[0].listen);
    assert_eq!(effective.server.server.connection_cost, 2);
    assert_eq!(effective.warnings, "");
}

#[test]
fn one_line_is_a_listener_and_a_group() {
    // Goal: the line of the documentation. Method: short forms.
    let proxy = resolve(
        "-l :5432 -t db1:5432 -t db2:5432,weight=2 --balance least --deny 10.0.0.0/8",
        "",
    )
    .proxy;
    assert_eq!(proxy.listeners[0].listen, [ListenAddr::TcpAny(5432)]);
    assert_eq!(proxy.listeners[0].deny.len(), 1);
    let group = &proxy.groups[0];
    assert_eq!(group.backends[1].weight, 2);
    assert_eq!(group.balance, polyloop_proxy::settings::Algorithm::Least);
}

#[test]
fn flags_come_before_the_file() {
    // Goal: a line typed in need wins. Method: each scope, and what is left of the file.
    let text = "[server]\nloops = 4\ndrain = \"5s\"\n[limits]\nmax-connections = 10\nrate = 5\n[[listener]]\n\
                listen = \":1\"\nidle-timeout = \"5m\"\nbuffer-high = 4096\nlifetime = \"1h\"\n[[group]]\n\
                to = [\"db1:1\", \"db2:1\"]\nretries = 9\nfail-open = true\n";
    let flags = "--loops 2 --max-connections 1k --rate 7 -l :2 --idle-timeout off --buffer-high 8KiB -t db3:1 \
                 --retries 0 --fail-closed";
    let effective = resolve(flags, text);
    let server = &effective.server.server;
    assert_eq!(
        (server.wish.loops, server.connections_max),
        (Some(2), Some(1000))
    );
    assert_eq!(server.drain, Duration::from_secs(5));
    let proxy = &effective.proxy;
    assert_eq!(proxy.limits.rate.map(|rate| rate.per_second), Some(7));
    let listener = &proxy.listeners[0];
    assert_eq!(listener.listen, [ListenAddr::TcpAny(2)]);
    assert_eq!(
        (listener.timeouts.idle, listener.buffer_high_bytes),
        (None, 8192)
    );
    assert_eq!(listener.timeouts.lifetime, Some(Duration::from_secs(3600)));
    let group = &proxy.groups[0];
    assert_eq!(
        (group.backends.len(), group.retries, group.fail_open),
        (1, 0, false)
    );
}

#[test]
fn the_tuning_of_loops_is_not_the_listeners() {
    // Goal: flags that mean a listener here do not change the loop's own settings. Method: both of them.
    let server = resolve("--idle-timeout 5m --buffer-high 1MiB", "")
        .server
        .server;
    assert_eq!(server.tuning, polyloop::Tuning::default());
}

#[test]
fn a_flag_about_one_of_several_is_told() {
    // Goal: no guess which listener is meant. Method: two of each kind.
    let text = "[[listener]]\nname = \"pg\"\nlisten = \":1\"\ngroup = \"a\"\n[[listener]]\nname = \"redis\"\n\
                listen = \":2\"\ngroup = \"b\"\n[[group]]\nname = \"a\"\nto = \"db:1\"\n[[group]]\nname = \"b\"\n\
                to = \"db:2\"\n";
    assert_eq!(
        messages("--idle-timeout 5m -t db:3 --fail-closed", text),
        [
            "error: --to is about one group, and x.toml defines 2: a (line 9), b (line 12); set to there, in the [[group]] \
         that is meant",
            "error: --fail-closed is about one group, and x.toml defines 2: a (line 9), b (line 12); set fail-open there, in \
         the [[group]] that is meant",
            "error: --idle-timeout is about one listener, and x.toml defines 2: pg (line 1), redis (line 5); set \
         idle-timeout there, in the [[listener]] that is meant",
        ]
    );
    // What is about the process is not ambiguous.
    assert_eq!(
        messages("--rate 5 --loops 2 --access-log stderr", text),
        Vec::<String>::new()
    );
}

#[test]
fn a_file_may_leave_out_either_half() {
    // Goal: flags complete a file. Method: listeners alone, groups alone.
    let proxy = resolve("-t db:1", "[[listener]]\nlisten = \":1\"").proxy;
    assert_eq!(proxy.listeners[0].routing.otherwise, Some(0));
    assert!(matches!(
        proxy.groups[0].backends[0].to,
        Target::Name { .. }
    ));
    let proxy = resolve("-l :9", "[[group]]\nname = \"db\"\nto = \"db:1\"").proxy;
    assert_eq!(proxy.listeners[0].listen, [ListenAddr::TcpAny(9)]);
}
