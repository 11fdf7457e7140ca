//! Tests of reading a file: every kind of mistake with its place, all of them at once.

use super::super::testing::{messages, resolve};
use super::*;

#[track_caller]
fn tells(text: &str, expected: &[&str]) {
    assert_eq!(messages("", text), expected, "{text}");
}

#[test]
fn unknown_names_are_told_with_what_was_meant() {
    // Goal: one look at the message mends it. Method: a near name, one of another section, one that is nowhere.
    tells(
        "[server]\nlops = 2",
        &["x.toml:2:1: error: \"lops\" is no setting of [server]; did you mean \"loops\"?"],
    );
    tells(
        "[server]\nidle-timeout = \"5s\"",
        &[
            "x.toml:2:1: error: \"idle-timeout\" is no setting of [server]; it belongs into a [[listener]]",
        ],
    );
    tells(
        "[server]\nidle-timout = \"5s\"",
        &[
            "x.toml:2:1: error: \"idle-timout\" is no setting of [server]; did you mean \"idle-timeout\", which belongs into \
         a [[listener]]?",
        ],
    );
    tells(
        "[limits]\nzebra = 1",
        &[
            "x.toml:2:1: error: \"zebra\" is no setting of [limits]; there are max-connections, reserve, when-full, \
         memory-max, rate, source-connections, source-rate, sources-max",
        ],
    );
    tells(
        "[limts]\n",
        &["x.toml:1:2: error: \"limts\" is no section; did you mean [limits]?"],
    );
    tells(
        "[zebra]\n",
        &[
            "x.toml:1:2: error: \"zebra\" is no section; there are [server], [limits], [[listener]], [[group]]",
        ],
    );
    tells(
        "to = \"db:1\"\n",
        &["x.toml:1:1: error: \"to\" stands before any section; it belongs into a [[group]]"],
    );
    tells(
        "[[group]]\nto = \"db:1\"\nlisten = \":1\"",
        &["x.toml:3:1: error: \"listen\" is no setting of a group; it belongs into a [[listener]]"],
    );
    tells(
        "[[group]]\n[[group.backend]]\nto = \"db:1\"\nwieght = 2",
        &["x.toml:4:1: error: \"wieght\" is no setting of a backend; did you mean \"weight\"?"],
    );
    tells(
        "[[group]]\nbackend = [{ to = \"db:1\", max_ = 2 }]",
        &["x.toml:2:27: error: \"max_\" is no setting of a backend; did you mean \"max\"?"],
    );
    tells(
        "[[listener]]\nlisten=\":1\"\n[[listener.route]]\nsin = \"a.org\"\ngroup = \"main\"\n[[group]]\nto = \"a:1\"",
        &[
            "x.toml:3:1: error: a route without sni and alpn matches everything; give one of them, or make its group that \
         of the listener",
            "x.toml:4:1: error: \"sin\" is no setting of a route; did you mean \"sni\"?",
        ],
    );
    let told = messages(
        "",
        "[[group]]\nbackend = [{ to = \"db:1\", max-connections = 2 }]",
    );
    assert!(told[0].ends_with("did you mean \"max\"?"), "{told:?}");
}

#[test]
fn wrong_kinds_and_units_are_told_at_the_value() {
    // Goal: the column is that of the mistake, in lists too. Method: each kind where another is due.
    for (line, expected) in [
        (
            "drain = 30",
            "2:9: error: drain: duration \"30\" has no unit",
        ),
        (
            "drain = true",
            "2:9: error: drain: it takes a time, as in \"30s\", and this is true or false",
        ),
        (
            "drain = [\"1s\"]",
            "2:9: error: drain: it takes a time, as in \"30s\", and this is a list",
        ),
        (
            "drain = 1.5",
            "2:9: error: drain: it takes a time, as in \"30s\", and this is a fraction",
        ),
        (
            "drain = 2026-01-01",
            "2:9: error: drain: it takes a time, as in \"30s\", and this is a date",
        ),
        (
            "drain = { s = 1 }",
            "2:9: error: drain: it takes a time, as in \"30s\", and this is a table",
        ),
        (
            "drain = \"30 parsecs\"",
            "2:9: error: drain: duration \"30 parsecs\" has the unknown unit",
        ),
        (
            "loops = -1",
            "2:9: error: loops: count \"-1\" does not start with a number",
        ),
        (
            "read-budget = \"64kb/s\"",
            "2:15: error: read-budget: size \"64kb/s\" has the unknown unit",
        ),
        (
            "correct-above = 10",
            "2:17: error: correct-above: percentage \"10\" has no unit",
        ),
        (
            "no-rescue = \"yes\"",
            "2:13: error: no-rescue: it takes true or false, and this is a text",
        ),
        (
            "pin = \"allways\"",
            "2:7: error: pin: \"allways\" is none of auto, always, never; did you mean \"always\"?",
        ),
        (
            "cores = [0, 1]",
            "2:9: error: cores: it takes a list of cores in one text",
        ),
        (
            "cores = \"4-2\"",
            "2:9: error: cores: cores \"4-2\": the range 4-2 goes down",
        ),
        (
            "on-core = [\"1:spin=1us\", \"x\"]",
            "2:26: error: on-core: ",
        ),
        (
            "admin = \"9000\"",
            "2:9: error: admin: \"9000\" is not an address to listen on",
        ),
        (
            "access-log = \"stdout\"",
            "2:14: error: access-log: \"stdout\" is neither off nor stderr; a file in this",
        ),
        (
            "access-log = \"\"",
            "2:14: error: access-log: \"\" is no path",
        ),
        (
            "log = \"loud\"",
            "2:7: error: log: \"loud\" is none of off, error, warn, info, debug, trace",
        ),
    ] {
        let text = format!("[server]\n{line}");
        let told = messages("", &text);
        assert_eq!(told.len(), 1, "{line}: {told:?}");
        assert!(
            told[0].starts_with(&format!("x.toml:{expected}")),
            "{line}: {told:?}"
        );
    }
}

#[test]
fn sections_have_their_form() {
    // Goal: one bracket or two is told as such. Method: each confusion.
    tells(
        "[[server]]\n",
        &["x.toml:1:3: error: [server] is one table of settings; begin it with the line [server]"],
    );
    tells(
        "[listener]\nlisten = \":1\"",
        &[
            "x.toml:1:2: error: there may be several; begin each with [[listener]], in double brackets",
        ],
    );
    tells(
        "group = \"a\"",
        &["x.toml:1:1: error: \"group\" is no single value; begin each with the line [[group]]"],
    );
    tells(
        "group = [1]",
        &["x.toml:1:10: error: this is no table; begin each with the line [[group]]"],
    );
    tells(
        "[[group]]\n[[group.backend]]\nweight = 2",
        &["x.toml:2:1: error: a backend needs to = \"HOST:PORT\", which says where it is"],
    );
}

#[test]
fn short_backends_tell_which_part_is_wrong() {
    // Goal: a backend on one line is as exact as its table. Method: each mistake within the line.
    for (to, expected) in [
        ("db1", "to: \"db1\" has no port; write db1:5432"),
        (
            "db1:1,wieght=3",
            "to: \"wieght\" is no setting of a backend; did you mean \"weight\"?",
        ),
        (
            "db1:1,zebra",
            "to: \"zebra\" is no setting of a backend; there are name, weight, backup, max, slots, as in",
        ),
        ("db1:1,weight", "to: weight needs a value, as in weight=3"),
        (
            "db1:1,weight=257",
            "to: weight: 257 is out of range; give 0 to 256",
        ),
        (
            "db1:1,max=0",
            "to: max: 0 is out of range; give 1 to 4294967295, or off",
        ),
        ("db1:1,weight=1,weight=2", "to: weight is given twice in"),
        ("db1:1,to=db2:2", "to: \"to\" is no setting of a backend"),
        ("db1:1,name=a b", "to: name: \"a b\" is no name"),
        ("db1:1,backup=yes", "to: backup: it takes true or false"),
        (
            "0.0.0.0:1",
            "to: 0.0.0.0:1 can be listened on, not connected to",
        ),
    ] {
        let told = messages("", &format!("[[group]]\nto = [\"ok:1\", \"{to}\"]"));
        assert_eq!(told.len(), 1, "{to}: {told:?}");
        assert!(
            told[0].starts_with(&format!("x.toml:2:15: error: {expected}")),
            "{to}: {told:?}"
        );
    }
    let group = &resolve(
        "",
        "[[group]]\nto = \"db1:1,weight=3,backup=false,max=off,name=a\"",
    )
    .proxy
    .groups[0];
    assert_eq!(
        (group.backends[0].weight, group.backends[0].name.as_str()),
        (3, "a")
    );
}

#[test]
fn what_toml_itself_refuses_is_told_with_the_rest() {
    // Goal: mistakes of the syntax do not hide the others. Method: a key twice, a text without quotes, and a name.
    let told = messages("", "[server]\nloops = 1\nloops = 2\n[limits]\nrserve = 5");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("x.toml:3:1: error: duplicate key"),
        "{told:?}"
    );
    assert!(
        told[1].contains("x.toml:5:1: error: \"rserve\""),
        "{told:?}"
    );
    let told = messages("", "[server]\nlog = debug\n[limits]\nrserve = 5");
    assert!(told[0].starts_with("x.toml:2:7: error: "), "{told:?}");
    assert!(told.last().unwrap().contains("rserve"), "{told:?}");
}

#[test]
fn values_of_several_contradict_each_other_at_their_place() {
    // Goal: what echo refuses, a file is refused for too, all of it, in its own words. Method: three at once, one typed.
    let text = "[server]\nspread = \"least\"\noffload-cpu = 5000\nadmin = \":9000\"";
    let told = messages("--backlog 0", text);
    assert_eq!(
        told,
        [
            "error: --backlog 0 is out of range; give 1 to 2147483647",
            "x.toml:2:10: error: spread says how the acceptor spreads connections, and accept is reuseport; add accept \
         acceptor, or leave out spread",
            "x.toml:3:15: error: offload-cpu 5000 is out of range; give 0 to 1024",
            "x.toml:4:9: error: admin *:9000 can be reached from other hosts, and nobody is asked for a password there; use \
         127.0.0.1:9000 or unix:PATH, or add admin-public if the network is trusted",
        ]
    );
    tells(
        "[server]\non-core = [\"0:idle=5s\"]",
        &[
            "x.toml:2:11: error: on-core: idle does not differ by core in a proxy; set idle-timeout of the listener",
        ],
    );
}

#[test]
fn no_text_makes_it_panic() {
    // Goal: any file is answered with words. Method: every prefix of a rich file, and every byte of it replaced.
    let rich = include_str!("../check/rich.toml");
    for end in (0..rich.len()).step_by(7) {
        if rich.is_char_boundary(end) {
            messages("", &rich[..end]);
        }
    }
    for (at, byte) in (0..rich.len())
        .step_by(11)
        .zip(b"\"[]{}=\\\n\x01 '#.,x9".iter().cycle())
    {
        let mut bytes = rich.as_bytes().to_vec();
        bytes[at] = *byte;
        if let Ok(text) = String::from_utf8(bytes) {
            messages("", &text);
        }
    }
    let deep = format!("a = {}", "[".repeat(5000));
    assert!(!messages("", &deep).is_empty());
}

#[test]
fn files_that_cannot_be_read_are_told() {
    // Goal: the path and the reason. Method: one that is not there, a directory, bytes that are no text.
    let told = load(Path::new("/nowhere/x.toml")).unwrap_err();
    assert!(
        told.starts_with("/nowhere/x.toml: ") && told.contains("give the path"),
        "{told}"
    );
    assert!(load(Path::new("/")).unwrap_err().starts_with("/: "));
    let told = load(Path::new("/proc/self/exe")).unwrap_err();
    assert!(
        told.contains("more than 1 MiB") || told.contains("not UTF-8"),
        "{told}"
    );
}
