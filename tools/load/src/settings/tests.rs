//! What was typed, and what it is taken for.

use super::*;

/// The settings of a load against one target.
fn settled(target: &str, args: RunArgs) -> Settings {
    let target = vec![target.to_owned()];
    Settings::new(&RunArgs { target, ..args }).unwrap()
}

fn first_request(settings: &Settings) -> String {
    let Workload::Script(script) = &settings.plan.workload else {
        panic!("no script: {:?}", settings.plan.workload);
    };
    String::from_utf8(script.request(0).to_vec()).unwrap()
}

#[test]
fn typed_texts_are_those_of_a_script() {
    // Goal: what a shell lets through is what is sent, whether its quotes are escaped or not. Method: each way to write a quote, an
    // end of line and a backslash.
    for (typed, sent) in [
        (r"PING\r\n", "PING\r\n"),
        (r#"a "b""#, "a \"b\""),
        (r#"a \"b\""#, "a \"b\""),
        (r"a\\", "a\\"),
        ("a\r\nb", "a\r\nb"),
        ("\u{e9}", "\u{e9}"),
    ] {
        let args = RunArgs {
            send: Some(typed.to_owned()),
            expect: Some("+".to_owned()),
            ..RunArgs::default()
        };
        assert_eq!(
            first_request(&settled("127.0.0.1:1", args)),
            sent,
            "{typed}"
        );
    }
    let args = RunArgs {
        target: vec!["127.0.0.1:1".to_owned()],
        send: Some(r"half an escape\".to_owned()),
        expect: Some("+".to_owned()),
        ..RunArgs::default()
    };
    let error = Settings::new(&args).unwrap_err().to_string();
    assert!(error.starts_with("--send, --expect: "), "{error}");
}

#[test]
fn a_path_is_no_host() {
    // Goal: an HTTP server on a unix socket is asked for a host that is one. Method: the first request of each kind of target.
    for (target, host) in [
        ("unix:/run/a.sock", "localhost"),
        ("127.0.0.1:80", "127.0.0.1:80"),
    ] {
        let args = RunArgs {
            http: Some("/".to_owned()),
            ..RunArgs::default()
        };
        let request = first_request(&settled(target, args));
        assert!(
            request.contains(&format!("\r\nHost: {host}\r\n")),
            "{request}"
        );
    }
}

#[test]
fn every_setting_of_a_search_is_written_down() {
    // Goal: the result says where the search began, typed or not. Method: both.
    for (rate, noted) in [(None, "1000/s"), (Some(250.0), "250/s")] {
        let args = RunArgs {
            find_max: Some("p99<2ms".parse().unwrap()),
            rate,
            ..RunArgs::default()
        };
        let settings = settled("127.0.0.1:1", args);
        let found = settings.list.iter().find(|setting| setting.name == "rate");
        assert_eq!(found.unwrap().value, noted);
        let start = settings.find_max.unwrap().start_rate;
        assert_eq!(format!("{start}/s"), noted);
    }
}

#[test]
fn names_that_the_kernel_does_not_know_are_refused() {
    // Goal: a slip of the keyboard is told before the load, with what there is. Method: a process and a congestion control that are not
    // there, and those that are.
    let with = |server_pid, congestion: Option<&str>| {
        Settings::new(&RunArgs {
            target: vec!["127.0.0.1:1".to_owned()],
            server_pid: vec![server_pid],
            congestion: congestion.map(str::to_owned),
            ..RunArgs::default()
        })
        .map_err(|error| error.to_string())
    };
    let own = std::process::id();
    let known = fs::read_to_string(CONGESTIONS).unwrap();
    let first = known.split_whitespace().next();
    with(own, first).unwrap();
    let error = with(u32::MAX, None).unwrap_err();
    assert!(error.starts_with("--server-pid 4294967295: "), "{error}");
    let error = with(own, Some("cubik")).unwrap_err();
    assert!(error.starts_with("--congestion cubik: "), "{error}");
    assert!(error.contains(known.trim()), "{error}");
}
