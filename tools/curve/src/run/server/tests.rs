//! Tests of server processes, with scripts in their place.

use super::*;
use polyloop_measure::host::Scratch;
use std::net::TcpListener;

/// A subject that is a script: its files hold it, as commands are split at blanks.
fn script(text: &str, ready: &str) -> Subject {
    let text = format!(
        "name = \"script\"\nabout = \"x\"\ncommand = \"/bin/sh {{dir}}/run {{port}}\"\nready = \"{ready}\"\n\
         [files]\nrun = '''\n{text}\n'''\n"
    );
    Subject::parse(&text, Path::new("script.toml")).unwrap()
}

fn start(subject: &Subject, port: u16) -> Result<Server> {
    let scratch = Scratch::new().unwrap();
    let cores = polyloop_sys::cores::allowed();
    Server::start(
        subject,
        Post {
            port,
            upstream: None,
            loops: 1,
            cores: &cores[..1],
            dir: scratch.path(),
            options: &[],
        },
    )
}

#[test]
fn a_server_starts_is_seen_and_ends() {
    // Goal: readiness by its word, its child on the bill, threads and memory seen, a good end; by a script.
    let subject = script("sleep 600 &\necho listening on x\nwait", "says");
    let server = start(&subject, 1).unwrap();
    assert_eq!(server.pids().unwrap().len(), 2);
    assert!(server.threads().values().any(|(name, _)| name == "sh"));
    assert!(server.memory_bytes().unwrap() > 0);
    server.stop().unwrap();
}

#[test]
fn a_server_that_takes_connections_is_ready() {
    // Goal: readiness by a connection, by a script beside a listener of ours; and its death is told with its words.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let subject = script("echo oh no >&2; read x < /dev/zero; exit 3", "connects");
    let server = start(&subject, port).unwrap();
    drop(server);
    let error = start(&script("echo oh no >&2; exit 3", "says"), 1).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("oh no") && text.contains("exit status: 3"),
        "{text}"
    );
}

#[test]
fn an_exit_code_may_be_a_good_end() {
    // Goal: what the subject names is success and anything else is not; by a script that ends with 7.
    let text = "trap 'exit 7' TERM\necho listening on x\nsleep 600 &\nwait";
    let mut subject = script(text, "says");
    assert!(start(&subject, 1).unwrap().stop().is_err());
    subject.ends_with = vec![7];
    start(&subject, 1).unwrap().stop().unwrap();
}

#[test]
fn programs_are_found() {
    // Goal: by path, on the path, and none; by what every system has.
    assert!(find_program("sh").is_some());
    assert!(find_program("/bin/sh").is_some());
    assert_eq!(find_program("no-such-program"), None);
    assert_eq!(find_program("/bin"), None);
}

#[test]
fn a_thread_is_read_whatever_its_name() {
    // Goal: blanks and parentheses move no field; by an example.
    let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0";
    assert_eq!(thread_of(stat), Some(("a ) b".to_owned(), 42)));
    assert_eq!(thread_of("7"), None);
}
