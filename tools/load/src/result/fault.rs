//! Faults as text: the key in files, and words for people.
//!
//! The one idea: a key is what a script greps for (`connect ECONNREFUSED`), so it never changes; the words beside it
//! say what an operator may do about it, and may get better.

use crate::tally::Fault;

/// The fault's name in files and tables: `connect ECONNREFUSED`, `broken ECONNRESET`, `finished`, `garbage`, `timeout`.
#[must_use]
pub fn fault_key(fault: Fault) -> String {
    match fault {
        Fault::Connect(errno) => with_errno("connect", errno),
        Fault::Broken(errno) => with_errno("broken", errno),
        Fault::Finished => "finished".to_owned(),
        Fault::Garbage => "garbage".to_owned(),
        Fault::Timeout => "timeout".to_owned(),
    }
}

fn with_errno(what: &str, errno: i32) -> String {
    match polyloop_core::errno::name(errno) {
        _ if errno == 0 => what.to_owned(),
        Some(name) => format!("{what} {name}"),
        None => format!("{what} errno {errno}"),
    }
}

/// What a key means, in words.
#[must_use]
pub fn explain_fault(key: &str) -> String {
    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == key) {
        return (*words).to_owned();
    }
    let Some((what, errno)) = key.split_once(' ') else {
        return "a kind of fault that this version does not know".to_owned();
    };
    let number = errno.strip_prefix("errno ").map_or_else(
        || (1..ERRNO_END).find(|&number| polyloop_core::errno::name(number) == Some(errno)),
        |digits| digits.parse().ok(),
    );
    let what = match what {
        "connect" => "the connection could not be made",
        _ => "the connection broke",
    };
    match number {
        Some(number) => format!("{what}: {}", system_words(number)),
        None => what.to_owned(),
    }
}

/// The system's words, without the number that the library appends to them.
fn system_words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    words.to_lowercase()
}

/// Linux has no errno from here on.
const ERRNO_END: i32 = 134;

/// What is met often enough to say more about it than the system does.
const WORDS: [(&str, &str); 14] = [
    (
        "connect",
        "the connection could not be made, and the system gave no reason",
    ),
    (
        "connect ECONNREFUSED",
        "nobody listens at the target, or the listener went away",
    ),
    (
        "connect ECONNRESET",
        "the target reset the connection while it was made",
    ),
    (
        "connect ETIMEDOUT",
        "the target did not answer: a full backlog, a firewall or a loss",
    ),
    (
        "connect EADDRNOTAVAIL",
        "no local port is free: give more source addresses (--sources) or a wider ip_local_port_range",
    ),
    (
        "connect EMFILE",
        "this process may open no more files: raise the limit (ulimit -n)",
    ),
    (
        "connect ENFILE",
        "the system may open no more files: raise fs.file-max",
    ),
    (
        "connect EHOSTUNREACH",
        "no route leads to the target's host",
    ),
    (
        "connect ENETUNREACH",
        "no route leads to the target's network",
    ),
    (
        "broken ECONNRESET",
        "the server reset a connection that was in use",
    ),
    (
        "broken EPIPE",
        "the server had closed the connection that was written to",
    ),
    (
        "finished",
        "the server closed a connection that should have gone on",
    ),
    ("garbage", "the answer differed from what was expected"),
    ("timeout", "no whole answer came before the deadline"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_the_errno() {
        // Goal: keys are stable text, whatever the number. Method: a known errno, none, and one without a name.
        assert_eq!(fault_key(Fault::Connect(111)), "connect ECONNREFUSED");
        assert_eq!(fault_key(Fault::Connect(0)), "connect");
        assert_eq!(fault_key(Fault::Broken(200)), "broken errno 200");
        assert_eq!(fault_key(Fault::Garbage), "garbage");
    }

    #[test]
    fn every_key_has_words() {
        // Goal: no key is left unexplained. Method: one from the table, one that only the system knows, and strangers.
        assert!(explain_fault("connect ECONNREFUSED").contains("nobody listens"));
        assert_eq!(
            explain_fault("broken ENETDOWN"),
            "the connection broke: network is down"
        );
        assert_eq!(
            explain_fault("connect errno 88"),
            "the connection could not be made: socket operation on non-socket"
        );
        assert!(explain_fault("mystery").contains("does not know"));
        for fault in [Fault::Finished, Fault::Garbage, Fault::Timeout] {
            assert!(!explain_fault(&fault_key(fault)).contains("does not know"));
        }
    }
}
