//! What is said: sizes, pipelines, streams, churn, idle and slow connections, scripts, HTTP.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;

use crate::harness::{
    SHORT, beside_others, directory, doubts, eventually, is_clean, measure, path_in, run,
};
use crate::servers::{
    Served, echo, echo_then_reset, finite_source, http, redis_like, silent, source,
};

#[test]
fn messages_of_every_size_come_back_and_are_verified() {
    // Goal: each way to write sizes works, alone and pipelined. Method: an echo; as many bytes come in as go out.
    let _shared = beside_others();
    let served = Served::with(echo);
    for sizes in ["1", "1KiB", "64..1400", "exp:512", "64:90,16KiB:10"] {
        for pipeline in ["1", "8"] {
            let flags = [
                "--size",
                sizes,
                "--pipeline",
                pipeline,
                "--rate",
                "1k/s",
                "-c",
                "8",
            ];
            let (stage, _) = measure(&served.target, &flags);
            is_clean(&stage);
            assert_eq!(stage.counts.bytes_in, stage.counts.bytes_out, "{sizes}");
        }
    }
}

#[test]
fn the_largest_message_fits() {
    // Goal: a message beyond every buffer is sent and verified whole. Method: the largest size there is, two at once.
    let _shared = beside_others();
    let served = Served::with(echo);
    let flags = [
        "--size",
        "16MiB",
        "--closed",
        "-c",
        "1",
        "--pipeline",
        "2",
        "--grace",
        "30s",
        "--timeout",
        "60s",
    ];
    let (stage, _) = measure(&served.target, &flags);
    is_clean(&stage);
    assert_eq!(stage.counts.bytes_out, stage.counts.sent << 24);
}

#[test]
fn a_pipeline_is_as_deep_as_asked() {
    // Goal: so many requests are on their way at once, and no more. Method: a server that never answers.
    let _shared = beside_others();
    let served = Served::with(silent);
    let flags = ["--closed", "-c", "2", "--pipeline", "5", "--grace", "0s"];
    let (stage, result) = measure(&served.target, &flags);
    assert_eq!(stage.counts.sent, 10);
    assert_eq!(stage.counts.unanswered, 10);
    assert!(doubts(&result, "unanswered"));
    assert_eq!(served.bytes(), 640);
}

#[test]
fn a_stream_up_fills_the_server() {
    // Goal: bytes go out as long as the server takes them, and none are claimed that it did not get. Method: a server that counts
    // and is silent.
    let _shared = beside_others();
    let served = Served::with(silent);
    let (stage, result) = measure(&served.target, &["--stream", "up", "-c", "2"]);
    assert_eq!(result.mode, polyloop_load::result::Mode::Closed);
    assert!(stage.counts.bytes_out > 1 << 20, "{stage:?}");
    assert_eq!((stage.counts.bytes_in, stage.counts.sent), (0, 0));
    assert!(stage.counts.faults.is_empty(), "{stage:?}");
    // What the kernels and the loop hold of two connections is lost at the end.
    eventually("the server has read the rest", || {
        served.bytes() + (2 << 24) >= stage.counts.bytes_out
    });
}

#[test]
fn a_stream_down_is_read() {
    // Goal: what the server sends is counted and dropped. Method: a server that sends for ever, and one whose stream ends, which
    // is no fault: the connection is made anew.
    let _shared = beside_others();
    let served = Served::with(source);
    let (stage, _) = measure(&served.target, &["--stream", "down", "-c", "2"]);
    assert!(stage.counts.bytes_in > 1 << 20, "{stage:?}");
    assert_eq!(stage.counts.bytes_out, 0);
    assert!(stage.counts.faults.is_empty(), "{stage:?}");
    let served = Served::with(finite_source);
    let (stage, _) = measure(&served.target, &["--stream", "down", "-c", "2"]);
    assert!(stage.counts.faults.is_empty(), "{stage:?}");
    assert!(stage.counts.closed > 2, "{stage:?}");
    assert!(stage.counts.connected > 2, "{stage:?}");
}

#[test]
fn a_stream_both_ways_goes_both_ways() {
    // Goal: writing does not keep it from reading. Method: an echo.
    let _shared = beside_others();
    let served = Served::with(echo);
    let (stage, _) = measure(&served.target, &["--stream", "both", "-c", "2"]);
    assert!(stage.counts.bytes_in > 1 << 20, "{stage:?}");
    assert!(stage.counts.bytes_out > 1 << 20, "{stage:?}");
    assert!(stage.counts.faults.is_empty(), "{stage:?}");
}

#[test]
fn churn_makes_a_connection_for_each_request() {
    // Goal: connections are made by plan and end politely, or with a reset if that is asked for. Method: the server's word on how
    // many there were and how each ended.
    let _shared = beside_others();
    for (close, flags) in [("fin", &[] as &[&str]), ("reset", &["--close", "reset"])] {
        let served = Served::with(echo);
        let mut all = vec!["--connect-rate", "400/s", "-c", "16"];
        all.extend(flags);
        let (stage, _) = measure(&served.target, &all);
        is_clean(&stage);
        let counts = &stage.counts;
        assert!((70..=180).contains(&counts.sent), "{counts:?}");
        assert_eq!(
            (counts.connects, counts.connected),
            (counts.sent, counts.sent)
        );
        assert_eq!(counts.closed, counts.sent);
        assert_eq!(stage.connect.samples, counts.sent);
        let seen = &served.seen;
        eventually("the server sees the end of all", || {
            seen.finished.load(Relaxed) + seen.reset.load(Relaxed) == counts.sent
        });
        let of_kind = if close == "fin" {
            &seen.finished
        } else {
            &seen.reset
        };
        assert_eq!(of_kind.load(Relaxed), counts.sent, "{close}");
        assert_eq!(served.connections(), counts.sent);
    }
}

#[test]
fn a_rate_of_connections_is_one_of_connections() {
    // Goal: each connection of churn has all of its requests, however many, and the rate is that of connections. Method: three
    // requests for each; the server's word on how many connections there were.
    let _shared = beside_others();
    let served = Served::with(echo);
    let flags = [
        "--connect-rate",
        "300/s",
        "-c",
        "8",
        "--requests-per-connection",
        "3",
    ];
    let (stage, _) = measure(&served.target, &flags);
    is_clean(&stage);
    assert_eq!(stage.rate_planned, Some(900.0));
    let connections = served.connections();
    assert!((45..=150).contains(&connections), "{connections}");
    // The last ones may be cut off by the end of the stage.
    let sent = stage.counts.sent;
    assert!(
        (connections * 3 - 16..=connections * 3).contains(&sent),
        "{sent} on {connections}"
    );
}

#[test]
fn requests_may_renew_their_connection() {
    // Goal: with a rate of requests, a connection ends after so many of them. Method: the server's count of connections.
    let _shared = beside_others();
    let served = Served::with(echo);
    let flags = [
        "--rate",
        "1k/s",
        "-c",
        "4",
        "--requests-per-connection",
        "10",
    ];
    let (stage, _) = measure(&served.target, &flags);
    is_clean(&stage);
    assert_eq!(stage.rate_planned, Some(1_000.0));
    let least = stage.counts.sent / 10;
    assert!(
        (least..=least + 4).contains(&served.connections()),
        "{stage:?}"
    );
}

#[test]
fn churn_survives_a_server_that_resets() {
    // Goal: a reset where a FIN was due ends that connection and no other. Method: a server that resets after its answer, one
    // client: were it lost, there would be no second connection.
    let _shared = beside_others();
    let served = Served::with(echo_then_reset);
    let (stage, _) = measure(&served.target, &["--connect-rate", "300/s", "-c", "1"]);
    assert!(stage.counts.connected > 10, "{stage:?}");
    assert!(stage.counts.completed > 10, "{stage:?}");
}

#[test]
fn idle_connections_hold_still() {
    // Goal: nothing is sent, all stay open, and nothing is doubted for it. Method: an echo that has seen no byte.
    let _shared = beside_others();
    let served = Served::with(echo);
    let (stage, result) = measure(&served.target, &["--idle", "-c", "50"]);
    assert_eq!((stage.counts.sent, stage.connections), (0, 50));
    assert_eq!((served.bytes(), served.connections()), (0, 50));
    assert!(!doubts(&result, "schedule-slipped") && !doubts(&result, "fewer-connections"));
}

#[test]
fn idle_connections_may_trickle() {
    // Goal: --idle with a rate sends at that rate. Method: the server's bytes.
    let _shared = beside_others();
    let served = Served::with(echo);
    let (stage, _) = measure(&served.target, &["--idle", "-c", "50", "--rate", "200/s"]);
    is_clean(&stage);
    assert_eq!(served.bytes(), stage.counts.sent * 64);
    assert_eq!(stage.connections, 50);
}

#[test]
fn a_slow_reader_reads_no_faster_than_asked() {
    // Goal: --read-rate bounds what each connection takes. Method: a server that sends for ever; what was counted in 300 ms is less
    // than a second's worth.
    let _shared = beside_others();
    let served = Served::with(source);
    let flags = ["--stream", "down", "-c", "1", "--read-rate", "100KiB"];
    let (stage, _) = measure(&served.target, &flags);
    let bytes = stage.counts.bytes_in;
    assert!(bytes > 0 && bytes < 100 << 10, "{bytes}");
}

#[test]
fn a_slow_sender_writes_no_faster_than_asked() {
    // Goal: --write-rate bounds what each connection sends, messages that fit into one write and streams too. Method: as much
    // as the connection takes in 300 ms is less than a second's worth.
    let _shared = beside_others();
    let served = Served::with(echo);
    for (size, rate, most) in [("1000", "20KiB", 20), ("64", "64KiB", 1_024)] {
        let flags = ["--closed", "-c", "1", "--size", size, "--write-rate", rate];
        let (stage, _) = measure(&served.target, &flags);
        is_clean(&stage);
        assert!(stage.counts.sent < most, "{size}: {stage:?}");
    }
    let served = Served::with(silent);
    let flags = ["--stream", "up", "-c", "1", "--write-rate", "100KiB"];
    let (stage, _) = measure(&served.target, &flags);
    let bytes = stage.counts.bytes_out;
    assert!(bytes > 0 && bytes < 100 << 10, "{bytes}");
}

#[test]
fn a_script_is_followed() {
    // Goal: requests and answers of a file, in turn, alone and pipelined. Method: a server that answers two kinds of lines.
    let _shared = beside_others();
    let served = Served::with(redis_like);
    let directory = directory("a_script_is_followed");
    let path = path_in(&directory, "script");
    let text = "send \"PING\\r\\n\"\nexpect \"+PONG\\r\\n\"\nsend \"INCR x\\r\\n\"\nexpect-until \"\\r\\n\"\n";
    fs::write(&path, text).unwrap();
    for pipeline in ["1", "4"] {
        let flags = [
            "--script",
            &path,
            "--pipeline",
            pipeline,
            "--rate",
            "1k/s",
            "-c",
            "4",
        ];
        let (stage, _) = measure(&served.target, &flags);
        is_clean(&stage);
    }
}

#[test]
fn one_exchange_may_be_typed() {
    // Goal: --send and --expect make a script of one, and a wrong answer is told. Method: the right answer and another.
    let _shared = beside_others();
    let served = Served::with(redis_like);
    let flags = ["--send", "PING\\r\\n", "--expect", "+PONG\\r\\n", "-c", "4"];
    is_clean(&measure(&served.target, &flags).0);
    let flags = ["--send", "PING\\r\\n", "--expect", "+NO\\r\\n", "-c", "4"];
    let (stage, _) = measure(&served.target, &flags);
    assert_eq!(stage.counts.completed, 0, "{stage:?}");
    assert!(stage.counts.faults["garbage"] > 0, "{stage:?}");
    let wrong = stage.first_wrong.unwrap();
    assert_eq!(
        wrong,
        r#"byte 1 of the answer is not the one expected; what came: "+PONG\r\n""#
    );
}

#[test]
fn a_wrong_answer_is_shown() {
    // Goal: whoever measures the wrong page learns why nothing is counted. Method: a status that is not expected, in the text.
    let _shared = beside_others();
    let served = Served::with(http(usize::MAX));
    let directory = directory("a_wrong_answer_is_shown");
    let path = path_in(&directory, "script");
    let text = "send \"GET /page HTTP/1.1\\r\\n\\r\\n\"\nexpect-http 404\n";
    fs::write(&path, text).unwrap();
    let mut args = vec![served.target.as_str(), "--script", &path, "-c", "4"];
    args.extend(SHORT);
    run(&args).exits(0).says(&[
        "first wrong answer in measure: the status is 200, expected was 404",
        "HTTP/1.1 200 OK",
    ]);
}

#[test]
fn an_http_server_is_asked_for_pages() {
    // Goal: --http asks and understands. Method: a server that keeps its connections.
    let _shared = beside_others();
    let served = Served::with(http(usize::MAX));
    let flags = ["--http", "/page", "--rate", "1k/s", "-c", "4"];
    is_clean(&measure(&served.target, &flags).0);
}

#[test]
fn an_http_server_may_close_after_some_requests() {
    // Goal: an end that the server has announced is no fault; the next request goes over a new connection. Method: a server that
    // closes after ten answers.
    let _shared = beside_others();
    let served = Served::with(http(10));
    let flags = ["--http", "/page", "--rate", "1k/s", "-c", "4"];
    let (stage, _) = measure(&served.target, &flags);
    is_clean(&stage);
    assert!(stage.counts.closed > 4, "{stage:?}");
    assert!(stage.counts.connected > 4, "{stage:?}");
}

#[test]
fn an_end_that_was_announced_costs_no_pause() {
    // Goal: what a pipeline had on its way behind the last answer is counted as a fault, and the next connection is made at once.
    // Method: a server that closes after ten answers, a closed loop of four at once: with a pause of a tenth of a second after each
    // end there would be four connections of each client at most.
    let _shared = beside_others();
    let served = Served::with(http(10));
    let flags = ["--http", "/page", "--closed", "--pipeline", "4", "-c", "4"];
    let (stage, _) = measure(&served.target, &flags);
    assert!(stage.counts.faults["finished"] > 24, "{stage:?}");
    assert!(stage.counts.connected > 24, "{stage:?}");
    assert!(stage.counts.unanswered > 0, "{stage:?}");
}
