//! Tests of the rules: each with the text that tells of it, and a neighbour that is allowed.

use super::super::testing::{messages, resolve};
use polyloop_proxy::settings::{CheckKind, Keepalive, NamePattern, PassiveEjection, Target};
use std::time::Duration;

/// Two listeners, two groups, five backends: everything there is room for.
pub(in super::super) const RICH: &str = include_str!("rich.toml");

#[track_caller]
fn tells(flags: &str, text: &str, expected: &[&str]) {
    assert_eq!(messages(flags, text), expected, "{flags}\n{text}");
}

/// One rule, in a listener.
#[track_caller]
fn listener_tells(lines: &str, expected: &[&str]) {
    let text = format!("[[group]]\nto = \"db:1\"\n[[listener]]\nlisten = \":1\"\n{lines}");
    tells("", &text, expected);
}

/// One rule, in a group.
#[track_caller]
fn group_tells(lines: &str, expected: &[&str]) {
    let text = format!("[[listener]]\nlisten = \":1\"\n[[group]]\n{lines}");
    tells("", &text, expected);
}

#[test]
fn a_rich_file_is_fine_and_becomes_settings() {
    // Goal: what the documentation promises can be said. Method: a file with everything, and what it comes to.
    let effective = resolve("", RICH);
    assert_eq!(effective.warnings, "");
    let proxy = effective.proxy;
    let [pg, tls] = proxy.listeners.as_slice() else {
        panic!("{:?}", proxy.listeners)
    };
    assert_eq!(
        (pg.routing.otherwise, pg.routing.routes.len()),
        (Some(0), 0)
    );
    assert_eq!(pg.timeouts.idle, None);
    assert_eq!(
        pg.accept_proxy.as_ref().map(|accept| accept.from.len()),
        Some(2)
    );
    assert_eq!((tls.routing.otherwise, tls.routing.routes.len()), (None, 2));
    let route = &tls.routing.routes[0];
    let sni = [
        NamePattern::Exact("db.example.org".to_owned()),
        NamePattern::Below("db.example.org".to_owned()),
    ];
    assert_eq!((route.sni.as_slice(), route.group), (sni.as_slice(), 0));
    assert_eq!(tls.keepalive, None);
    let [db, web] = proxy.groups.as_slice() else {
        panic!("{:?}", proxy.groups)
    };
    let health = db.health.as_ref().unwrap();
    let send = CheckKind::SendExpect {
        send: b"PING\r\n".to_vec(),
        expect: b"+PONG".to_vec(),
    };
    assert_eq!((&health.kind, health.rise), (&send, 3));
    let names: Vec<_> = db
        .backends
        .iter()
        .map(|backend| backend.name.as_str())
        .collect();
    assert_eq!(names, ["db1:5432", "spare", "unix:/run/db.sock"]);
    assert!(db.backends[1].backup && db.backends[1].connections_max == Some(200));
    assert_eq!(web.passive, None);
    assert!(matches!(web.backends[1].to, Target::Srv { .. }));
}

#[test]
fn parts_become_wholes() {
    // Goal: what is written in parts is put together whatever the order. Method: parts without their wholes.
    let text = "[[group]]\neject-share = \"10%\"\nto = \"db:1\"\n[[listener]]\nkeepalive-count = 9\nlisten = \":1\"";
    let proxy = resolve("", text).proxy;
    let keepalive = Keepalive {
        count: 9,
        ..Keepalive::default()
    };
    assert_eq!(proxy.listeners[0].keepalive, Some(keepalive));
    let passive = PassiveEjection {
        share_max_percent: 10,
        ..PassiveEjection::default()
    };
    assert_eq!(proxy.groups[0].passive, Some(passive));
    let proxy = resolve("", "[[group]]\nto = \"db:1\"\neject = 9\ncheck = \"tls\"\n").proxy;
    assert_eq!(
        proxy.groups[0].passive.map(|passive| passive.errors),
        Some(9)
    );
    let health = proxy.groups[0].health.clone().unwrap();
    assert_eq!(health.kind, CheckKind::TlsHello { sni: None });
    assert_eq!(health.interval, Duration::from_secs(2));
}

#[test]
fn names_are_unique_and_given_among_several() {
    // Goal: logs and metrics can be told apart. Method: the same name twice, and none.
    let text = "[[listener]]\nname = \"a\"\nlisten = \":1\"\ngroup = \"g\"\n[[listener]]\nname = \"a\"\nlisten = \":2\"\n\
                group = \"g\"\n[[listener]]\nlisten = \":3\"\ngroup = \"g\"\n[[group]]\nname = \"g\"\nto = \"db:1\"\n";
    tells(
        "",
        text,
        &[
            "x.toml:6:8: error: there is a listener \"a\" already (x.toml:2); give each its own name",
            "x.toml:9:1: error: there are 3 listeners, so each needs a name; add name = \"...\"",
        ],
    );
    group_tells(
        "to = [\"db:1\", \"db:1\"]",
        &[
            "x.toml:4:15: error: the group has a backend \"db:1\" already (x.toml:4); a larger share is weight=2, another \
         name is name=NAME",
        ],
    );
    group_tells(
        "to = [\"db:1,name=a\", \"db:2,name=a\"]",
        &[
            "x.toml:4:22: error: the group has a backend \"a\" already (x.toml:4); give each backend its own name",
        ],
    );
    group_tells("to = [\"db:1\", \"db:1,name=b\"]", &[]);
    tells(
        "-t db:1 db:1",
        "",
        &[
            "error: the group has a backend \"db:1\" already; a larger share is weight=2, another name is name=NAME",
        ],
    );
}

#[test]
fn groups_are_found_and_used() {
    // Goal: no listener leads nowhere, and no group is forgotten. Method: dangling, missing, unused.
    let groups =
        "[[group]]\nname = \"red\"\nto = \"db:1\"\n[[group]]\nname = \"blue\"\nto = \"db:2\"\n";
    let with = |lines: &str| format!("{groups}[[listener]]\nlisten = \":1\"\n{lines}");
    tells(
        "",
        &with("group = \"bleu\""),
        &["x.toml:9:9: error: group: there is no group \"bleu\"; did you mean \"blue\"?"],
    );
    tells(
        "",
        &with("group = \"production\""),
        &["x.toml:9:9: error: group: there is no group \"production\"; there are blue, red"],
    );
    tells(
        "",
        &with(""),
        &[
            "x.toml:7:1: error: which group serves this listener? add group = \"...\", one of blue, red",
        ],
    );
    tells(
        "",
        &with("group = \"red\""),
        &["x.toml:5:8: warning: no listener sends anybody to the group \"blue\""],
    );
    tells(
        "",
        "[[listener]]\nlisten = \":1\"\ngroup = \"db\"",
        &[
            "x.toml:3:9: error: group: there is no group \"db\"; define it with [[group]] and name = \"db\"",
        ],
    );
}

#[test]
fn routes_lead_somewhere_and_can_be_reached() {
    // Goal: each route matches something that no earlier one takes. Method: one of each.
    let route = |lines: &str| format!("[[listener.route]]\ngroup = \"main\"\n{lines}\n");
    let nothing = "x.toml:5:1: error: a route without sni and alpn matches everything; give one of them, or make its \
                   group that of the listener";
    listener_tells(&route(""), &[nothing]);
    listener_tells(
        "[[listener.route]]\nsni = \"a.org\"",
        &["x.toml:5:1: error: a route needs group = \"...\", which serves what it matches"],
    );
    for (first, second, name) in [
        ("a.org", "a.org", "a.org"),
        ("*.org", "a.org", "a.org"),
        ("*.org", "*.a.org", "*.a.org"),
    ] {
        let lines = [
            route(&format!("sni = \"{first}\"")),
            route(&format!("sni = \"{second}\"")),
        ];
        let taken = format!(
            "x.toml:10:7: error: sni: {name} never comes here, as an earlier route takes it (x.toml:5); put the \
             narrower route first"
        );
        listener_tells(&lines.concat(), &[&taken]);
    }
    for (first, second) in [
        ("sni = \"a.org\"", "sni = \"*.org\""),
        ("sni = \"*.a.org\"", "sni = \"a.org\""),
        ("sni = \"a.org\"\nalpn = \"h2\"", "sni = \"a.org\""),
        ("alpn = \"h2\"", "alpn = \"h3\""),
    ] {
        listener_tells(&[route(first), route(second)].concat(), &[]);
    }
}

#[test]
fn listeners_serve_each_address_once_and_not_themselves() {
    // Goal: no address is ambiguous, no session feeds itself. Method: twice in one, twice in two, a loop.
    let text = "[[listener]]\nname = \"a\"\nlisten = [\":1\", \":1\"]\n[[listener]]\nname = \"b\"\nlisten = \"*:1\"\n\
                [[group]]\nto = \"db:1\"";
    tells(
        "",
        text,
        &[
            "x.toml:3:10: error: listen: *:1 is served twice; give each address once",
            "x.toml:6:10: error: listen: *:1 is served twice, first by \"a\" (x.toml:3); give each address once",
        ],
    );
    tells(
        "",
        "[[listener]]\nname = \"a\"\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]",
        &[],
    );
    tells(
        "",
        "[[listener]]\nname = \"a\"",
        &[
            "x.toml:1:1: error: a listener needs listen = \":5432\", or any other address of this host",
        ],
    );
    let itself = |to: &str| {
        format!(
            "error: to: {to} is served by this proxy itself, so that each session would open the next; give the \
             backend's own address"
        )
    };
    for (flags, to) in [
        ("-l :5 -t 127.0.0.1:5", "127.0.0.1:5"),
        ("-l :5 -t localhost:5", "localhost:5"),
        ("-l [::1]:5 -t [::1]:5", "[::1]:5"),
        ("-l unix:/x -t unix:/x", "unix:/x"),
    ] {
        tells(flags, "", &[&itself(to)]);
    }
    tells("-l 127.0.0.1:5 -t 127.0.0.2:5 127.0.0.1:6", "", &[]);
}

#[test]
fn ranges_are_not_ambiguous() {
    // Goal: who may connect can be read off the file. Method: in both lists, twice in one, everybody trusted.
    listener_tells(
        "allow = \"10.0.0.0/8\"\ndeny = [\"10.0.0.0/8\"]",
        &[
            "x.toml:6:8: error: 10.0.0.0/8 is in both allow and deny, so nobody can say which is meant; leave it out of \
         one, or give a longer prefix",
        ],
    );
    listener_tells("allow = \"10.0.0.0/8\"\ndeny = [\"10.0.0.0/9\"]", &[]);
    listener_tells(
        "deny = [\"10.0.0.0/8\", \"10.0.0.0/8\"]",
        &["x.toml:5:8: warning: deny: 10.0.0.0/8 is given twice"],
    );
    listener_tells(
        "accept-proxy = \"0.0.0.0/0\"",
        &[
            "x.toml:5:16: warning: accept-proxy: 0.0.0.0/0 lets everybody who connects claim any address, past allow, deny \
         and the limits per source; give the addresses of your load balancers",
        ],
    );
    let ambiguous = messages(
        "",
        "[[listener]]\nlisten = \":1\"\nallow = [\"10.0.0.0/8\", \"::ffff:10.0.0.0/8\"]",
    );
    assert!(
        ambiguous[0].starts_with("x.toml:3:24: error: allow: \"::ffff:10.0.0.0/8\" "),
        "{ambiguous:?}"
    );
}

#[test]
fn values_without_effect_are_warned_of() {
    // Goal: nobody believes in a limit that is not there. Method: each dependent without what it depends on.
    for (lines, because) in [
        ("lifetime-jitter = \"5%\"", "lifetime is off"),
        (
            "keepalive-interval = \"5s\"\nkeepalive = \"off\"",
            "keepalive is off",
        ),
        (
            "keepalive-count = 3\nkeepalive = \"off\"",
            "keepalive is off",
        ),
        (
            "keepalive-count = 3\nuser-timeout = \"5m\"",
            "user-timeout takes its place",
        ),
        ("proxy-header-timeout = \"6s\"", "accept-proxy names nobody"),
        ("hello-timeout = \"5s\"", "no route reads a TLS hello"),
    ] {
        let name = lines.split(' ').next().unwrap();
        listener_tells(
            lines,
            &[&format!(
                "x.toml:5:1: warning: {name} has no effect: {because}"
            )],
        );
    }
    for (lines, because) in [
        ("queue = 5", "no backend has a max, so nobody waits"),
        (
            "check-interval = \"5s\"",
            "check is off; check = \"connect\" would be the simplest",
        ),
        (
            "check-send = \"x\"",
            "check is off; check = \"connect\" would be the simplest",
        ),
        ("eject-time = \"5s\"\neject = \"off\"", "eject is off"),
    ] {
        let name = lines.split(' ').next().unwrap();
        let expected = format!("x.toml:4:1: warning: {name} has no effect: {because}");
        group_tells(&format!("{lines}\nto = \"db:1\""), &[&expected]);
    }
    // Whoever writes the default down says nothing by it.
    listener_tells(
        "hello-timeout = \"10s\"\nkeepalive = \"off\"\nkeepalive-count = 4",
        &[],
    );
    group_tells("to = \"db:1\"\ncheck = \"tls\"\ncheck-send = \"\"", &[]);
    let text = "[server]\naccess-log-format = \"json\"\n[limits]\nsources-max = 5";
    tells(
        "",
        text,
        &[
            "x.toml:2:1: warning: access-log-format has no effect: access-log is off",
            "x.toml:4:1: warning: sources-max has no effect: no source-connections and no source-rate is set",
        ],
    );
    tells(
        "--rise 3",
        "",
        &["warning: --rise has no effect: check is off; check = \"connect\" would be the simplest"],
    );
    tells(
        "--half-close-timeout 2m --idle-timeout 1m",
        "",
        &[
            "warning: --half-close-timeout is longer than --idle-timeout (1m): a session that is half closed is kept longer \
         than an open one",
        ],
    );
}

#[test]
fn checks_and_ejections_are_whole() {
    // Goal: a check does what its settings say. Method: parts of another kind, times that overlap.
    group_tells(
        "to = \"db:1\"\ncheck = \"connect\"\ncheck-send = \"x\"",
        &[
            "x.toml:6:1: error: check-send belongs to another check; write check = \"send\", or leave it out",
        ],
    );
    group_tells(
        "to = \"db:1\"\ncheck = \"send\"\ncheck-send = \"x\"\ncheck-sni = \"x\"",
        &[
            "x.toml:7:1: error: check-sni belongs to another check; write check = \"tls\", or leave it out",
        ],
    );
    group_tells(
        "to = \"db:1\"\ncheck = \"connect\"\ncheck-timeout = \"3s\"",
        &[
            "x.toml:6:17: error: a check may take 3s and the next begins after 2s; make check-timeout at most check-interval",
        ],
    );
    group_tells(
        "to = \"db:1\"\ncheck = \"connect\"\ncheck-interval = \"1s\"",
        &[
            "x.toml:6:18: error: a check may take 2s and the next begins after 1s; make check-timeout at most check-interval",
        ],
    );
    group_tells(
        "to = \"db:1\"\ncheck = \"send\"",
        &[
            "x.toml:5:9: warning: a send check that sends nothing and expects nothing waits for any byte; give check-send \
         or check-expect, or take check = \"connect\"",
        ],
    );
    tells(
        "--eject-time 10m",
        "",
        &[
            "error: --eject-time is 10m and eject-time-max is 5m; the first ejection cannot be longer than the longest",
        ],
    );
}

#[test]
fn backends_can_serve() {
    // Goal: a group that can never serve is not started. Method: no backend, no weight, no ordinary one.
    group_tells(
        "name = \"g\"",
        &[
            "x.toml:3:1: error: a group needs a backend; add to = \"HOST:PORT\", or a [[group.backend]]",
        ],
    );
    group_tells(
        "to = [\"db:1,weight=0\", \"db:2,weight=0\"]",
        &[
            "x.toml:4:7: error: every backend has weight 0, so nobody is served; give one of them a weight",
        ],
    );
    group_tells(
        "to = \"db:1,backup\"",
        &[
            "x.toml:4:6: warning: every backend is a backup, so that none is; leave it out of the ordinary ones",
        ],
    );
}

#[test]
fn sources_fit_the_backends() {
    // Goal: no connect that must fail. Method: both addresses, the wrong family, shared ports.
    group_tells(
        "to = \"unix:/x\"\ntransparent = true\nsource = \"10.0.0.5\"",
        &[
            "x.toml:4:6: error: a unix socket knows no addresses, so that it cannot be connected to from the client's; leave \
         out transparent, or put it into another group",
            "x.toml:5:15: error: transparent connects from the client's address, and source from one of this host; leave \
         out one of the two",
        ],
    );
    group_tells(
        "to = \"[fd00::1]:1\"\nsource = \"10.0.0.5\"",
        &[
            "x.toml:4:6: error: [fd00::1]:1 cannot be connected to from any source of the group, as none is IPv6; add one",
        ],
    );
    let twice =
        "x.toml:5:10: error: source: 10.0.0.5 is given twice with ports in common; give each once";
    group_tells("to = \"db:1\"\nsource = \"10.0.0.5,10.0.0.5\"", &[twice]);
    group_tells(
        "to = \"db:1\"\nsource = \"10.0.0.5:1-9,10.0.0.5:9-20\"",
        &[twice],
    );
    group_tells(
        "to = \"db:1\"\nsource = \"10.0.0.5:1-9,10.0.0.5:10-20,fd00::1\"",
        &[],
    );
    group_tells(
        "to = \"db:1\"\nsend-proxy = \"v2,authority\"",
        &[
            "x.toml:5:14: warning: send-proxy: authority and alpn are known where a route reads the TLS hello, and no \
         listener of this group has one",
        ],
    );
}

#[test]
fn names_become_as_many_backends_as_they_have_slots() {
    // Goal: slots are backends with names of their own, and a group has room for so many. Method: each kind of target; then
    // too many, and slots where there is one address.
    let effective = resolve(
        "-t a:1 -t b:1,slots=2 -t srv:_c._tcp.test,name=c -t 10.0.0.1:1",
        "",
    );
    let backends = &effective.proxy.groups[0].backends;
    let names: Vec<_> = backends
        .iter()
        .map(|backend| backend.name.as_str())
        .collect();
    assert_eq!(&names[..4], ["a:1", "b:1#1", "b:1#2", "c#1"]);
    assert_eq!(&names[10..], ["c#8", "10.0.0.1:1"]);
    let slots: Vec<_> = backends[..3].iter().map(|backend| backend.slot).collect();
    assert_eq!(slots, [0, 0, 1]);
    let many = (0..17).map(|at| format!("\"db{at}:1,slots=64\""));
    let many = many.collect::<Vec<_>>().join(", ");
    let told = messages(
        "",
        &format!("[[listener]]\nlisten = \":1\"\n[[group]]\nto = [{many}]"),
    );
    assert!(
        told.iter().any(|line| line.contains("1088 backends")),
        "{told:?}"
    );
    let told = messages("-t 10.0.0.1:1,slots=2", "");
    assert!(
        told.iter().any(|line| line.contains("slots has no effect")),
        "{told:?}"
    );
    let none = "[[listener]]\nlisten = \":1\"\n[[group]]\nto = \"db:1,slots=0\"";
    let told = messages("", none);
    assert!(
        told.iter().any(|line| line.contains("give 1 to 64")),
        "{told:?}"
    );
}

#[test]
fn what_loops_know_once_is_the_same_for_all_listeners() {
    // Goal: no setting is shown and not kept. Method: two listeners with two watermarks, and with one.
    let text = |second: &str| {
        format!(
            "[[group]]\nto = \"db:1\"\n[[listener]]\nname = \"a\"\nlisten = \":1\"\nbuffer-high = \"64KiB\"\n\
             [[listener]]\nname = \"b\"\nlisten = \":2\"\nbuffer-high = \"{second}\"\n"
        )
    };
    let message = "x.toml:10:15: error: buffer-high is 32KiB here and 64KiB of \"a\", and loops have one for all listeners; give each \
                   the same";
    tells("", &text("32KiB"), &[message]);
    tells("", &text("64KiB"), &[]);
}

#[test]
fn a_header_has_room_for_all_it_tells() {
    // Goal: no backend that expects a header gets payload in its place. Method: two values of the longest size, and one.
    let value = "x".repeat(1024);
    let both = format!("to = \"db:1\"\nsend-proxy = \"v2,0xE0={value},0xE1={value}\"\n");
    let message = "x.toml:5:14: error: send-proxy: the header may get 2286 bytes long, and backends read at most 2048; leave out a \
                   value, or shorten one";
    group_tells(&both, &[message]);
    group_tells(
        &format!("to = \"db:1\"\nsend-proxy = \"v2,0xE0={value}\"\n"),
        &[],
    );
}
