//! The file of access records: full disks, rotation, and standard error instead of a file.

use super::backend::Backend;
use super::{Records, proxy};
use crate::harness::{assert_echo, eventually};
use rustix::process::Signal;
use std::fs;

#[test]
fn a_full_disk_is_counted_and_told_and_stops_nobody() {
    // Goal: sessions go on when the file takes nothing; each lost record is counted, and the operator is told. Method: the
    // device that is always full.
    let backend = Backend::echo();
    let server = proxy(&[backend.to()], &["--access-log", "/dev/full"]);
    for _ in 0..10 {
        assert_echo(&mut server.connect());
    }
    eventually("every record is counted", || {
        server.metric("polyloop_proxy_access_log_write_errors_total") == 10
    });
    assert_eq!(server.metric("polyloop_proxy_access_log_dropped_total"), 0);
    eventually("it was told", || server.stderr().contains("lost records"));
    server.end();
}

#[test]
fn the_file_is_opened_anew_when_told_to() {
    // Goal: rotation by rename and SIGHUP loses no record and ends nobody. Method: a session, a rename, the signal, and
    // sessions until the new file is there; all records are in one of the two.
    let records = Records::new("rotated");
    let old = records.path.with_extension("old");
    let backend = Backend::echo();
    let server = records.proxy(&[backend.to()], &[]);
    let mut sessions = 1;
    assert_echo(&mut server.connect());
    eventually("the first is written", || {
        fs::read_to_string(&records.path).is_ok_and(|text| text.ends_with('\n'))
    });
    fs::rename(&records.path, &old).unwrap();
    server.signal(Signal::HUP);
    // The signal is on its way: a record or two may be faster.
    eventually("there is a new file", || {
        assert_echo(&mut server.connect());
        sessions += 1;
        records.path.exists()
    });
    assert_echo(&mut server.connect());
    sessions += 1;
    server.end();
    let before = fs::read_to_string(&old).unwrap();
    fs::remove_file(&old).unwrap();
    assert!(before.ends_with('\n'), "{before}");
    assert_eq!(before.lines().count() + records.read().len(), sessions);
    assert!(!records.read().is_empty());
}

#[test]
fn records_on_standard_error_are_all_there_at_the_end() {
    // Goal: the last lines are not lost, nor taken for dropped ones. Method: sessions, and the end at once.
    let backend = Backend::echo();
    let mut server = proxy(&[backend.to()], &["--access-log", "stderr"]);
    for _ in 0..50 {
        assert_echo(&mut server.connect());
    }
    server.settle();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.last_line().starts_with("stopped: "));
    let stderr = server.stderr();
    assert_eq!(stderr.matches(" state=-- ").count(), 50, "{stderr}");
}
