//! Tests of subjects.

use super::*;

/// A subject that needs nothing, for tests of others.
pub(crate) fn plain(name: &str) -> Subject {
    let text = format!("name = \"{name}\"\nabout = \"x\"\ncommand = \"x {{port}} {{options}}\"\n");
    Subject::parse(&text, Path::new("plain.toml")).unwrap()
}

fn error_of(text: &str) -> String {
    Subject::parse(text, Path::new("s.toml"))
        .unwrap_err()
        .to_string()
}

const GOOD: &str = r#"name = "mine"
about = "a test"
command = "srv --port {port} --threads {loops} -c {dir}/srv.cfg {options}"
ready = "says"
needs = ["srv"]
loops-max = 4
ends-with = [143]
load = ["--send", "PING\\r\\n"]
[option]
accept = "--accept {value}"
[option.mode]
fair = "--accept acceptor --spread least"
[files]
"srv.cfg" = """
events { workers {loops}; }
"""
"#;

#[test]
fn a_subject_is_read_whole() {
    // Goal: each key arrives, places are filled and braces of a file stay; by one that has them all.
    let subject = Subject::parse(GOOD, Path::new("s.toml")).unwrap();
    assert_eq!((subject.ready, subject.bill), (Ready::Says, Bill::Tree));
    assert_eq!((subject.loops_max, subject.is_proxy()), (Some(4), false));
    let post = Post {
        port: 7,
        upstream: None,
        loops: 2,
        cores: &[0, 1],
        dir: Path::new("/a dir"),
        options: &["-x".into(), "y".into()],
    };
    let words = subject.command.words(post);
    assert_eq!(
        words,
        [
            "srv",
            "--port",
            "7",
            "--threads",
            "2",
            "-c",
            "/a dir/srv.cfg",
            "-x",
            "y"
        ]
    );
    assert_eq!(
        subject.files["srv.cfg"].filled(post),
        "events { workers 2; }\n"
    );
    assert_eq!(
        subject.options["accept"].words("a").unwrap(),
        ["--accept", "a"]
    );
    assert_eq!(subject.options["mode"].words("fair").unwrap().len(), 4);
    assert_eq!(subject.options["mode"].words("unfair"), None);
}

#[test]
fn a_mistake_is_told_with_its_line() {
    // Goal: syntax, types, unknown keys and places name file and line; by one text each.
    for (from, to, place, what) in [
        ("about = \"a test\"", "about = ", "s.toml:2", "string"),
        ("needs =", "neds =", "s.toml:5", "neds"),
        ("loops-max = 4", "loops-max = 0", "s.toml:6", "one loop"),
        (
            "loops-max = 4",
            "loops-max = \"4\"",
            "s.toml:6",
            "invalid type",
        ),
        (
            "--threads {loops}",
            "--threads {threads}",
            "s.toml:3",
            "{threads}",
        ),
        (
            "workers {loops}",
            "workers {worker}",
            "s.toml:15",
            "{worker}",
        ),
        ("{port}", "7000", "s.toml:3", "{port}"),
        ("--accept {value}", "--accept", "s.toml:10", "{value}"),
        ("\"mine\"", "\"../mine\"", "s.toml:1", "letters"),
        (
            "\"srv.cfg\" =",
            "\"/etc/srv.cfg\" =",
            "s.toml:14",
            "not a path",
        ),
        ("ready = \"says\"", "ready = \"sings\"", "s.toml:4", "sings"),
        ("loops-max = 4", "upstream = \"x\"", "s.toml:6", "nowhere"),
        ("{options}", "{upstream}", "s.toml:3", "upstream ="),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = error_of(&GOOD.replace(from, to));
        assert!(
            error.starts_with(place) && error.contains(what),
            "{to}: {error}"
        );
    }
}

#[test]
fn what_comes_with_the_program_can_be_read() {
    // Goal: no built-in subject is wrong and each is found by its name; by reading all of them, and their upstreams.
    for (file, text) in BUILT_IN {
        let subject = Subject::parse(text, Path::new(file)).unwrap();
        assert_eq!(subject.name, file.trim_end_matches(".toml"));
        assert!(
            !subject.needs.is_empty(),
            "{file} may be missing and says not what"
        );
        if let Some(upstream) = &subject.upstream {
            assert!(Subject::built_in(upstream).is_some(), "{file}");
        }
    }
    assert!(Subject::find("/nowhere/x.toml").is_err());
}

#[test]
fn nothing_in_the_directory_is_forgotten() {
    // Goal: each file of `subjects/` comes with the program, and each kind of server that the curves promise is among
    // them; by the directory, and by name.
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("subjects");
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, BUILT_IN.map(|(file, _)| file));
    let proxies = ["haproxy", "nginx-stream", "polyloop-proxy", "tokio-proxy"];
    for name in Subject::built_in_names() {
        let is_proxy = Subject::built_in(name).unwrap().is_proxy();
        assert_eq!(is_proxy, proxies.contains(&name), "{name}");
    }
}

#[test]
fn what_is_missing_is_named() {
    // Goal: a subject can be skipped with a reason; by asking with an answer of our own.
    let mut subject = plain("x");
    subject.needs = vec!["here".into(), "gone".into()];
    assert_eq!(subject.missing(|need| need == "here"), Some("gone"));
    assert_eq!(subject.missing(|_| true), None);
}
