//! Tests neither sleep nor hope for a port: both make a suite slow on good days and red on bad ones.
//!
//! Both rules go by the look of the code and can be wrong (a command line that is only parsed names ports freely), so
//! they may be waived beside the place. Ports are looked for in `tests` directories only, where sockets are real.

use super::finding::{Finding, Rule};
use super::source::{Kind, RustFile, Token};

/// Last segments of a path that stops a thread for a time.
const SLEEPS: [&str; 6] = [
    "sleep",
    "sleep_ms",
    "sleep_until",
    "usleep",
    "nanosleep",
    "clock_nanosleep",
];

/// Local hosts as they stand before a port.
const HOSTS: [&str; 5] = ["127.0.0.1:", "0.0.0.0:", "[::1]:", "[::]:", "localhost:"];

/// Finds sleeps in test code.
pub(crate) fn check_sleeps(file: &RustFile) -> Vec<Finding> {
    file.paths()
        .into_iter()
        .filter(|path| file.is_test_line(path.line) && path.segments.len() > 1)
        .filter(|path| {
            path.segments
                .last()
                .is_some_and(|last| SLEEPS.contains(&last.as_str()))
        })
        .map(|path| {
            let what = format!("a test calls `{}`", path.segments.join("::"));
            Finding::new(&file.path, path.line, Rule::TestSleep, what)
        })
        .collect()
}

/// Finds ports that are chosen before the kernel was asked.
pub(crate) fn check_ports(file: &RustFile) -> Vec<Finding> {
    if !file.path.split('/').any(|part| part == "tests") {
        return Vec::new();
    }
    let told = |line: usize, what: String| Finding::new(&file.path, line, Rule::FixedPort, what);
    let mut findings = Vec::new();
    for (at, token) in file.tokens.iter().enumerate() {
        if let Kind::Literal(text) = &token.kind {
            for (below, part) in text.lines().enumerate() {
                if let Some(place) = fixed_port(part) {
                    findings.push(told(
                        token.line + below,
                        format!("a fixed port (`{place}`)"),
                    ));
                }
            }
        }
        if (token.is_ident("LOCALHOST") || token.is_ident("UNSPECIFIED"))
            && let Some(port) = port_after(&file.tokens[at + 1..])
        {
            findings.push(told(token.line, format!("a fixed port ({port})")));
        }
    }
    findings
}

/// Ports of one digit are left alone: nobody serves there, and tests want one where nobody does.
fn fixed_port(text: &str) -> Option<String> {
    HOSTS.iter().find_map(|host| {
        text.match_indices(host).find_map(|(at, _)| {
            let digits: String = text[at + host.len()..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            (digits.len() > 1 && !digits.starts_with('0')).then(|| format!("{host}{digits}"))
        })
    })
}

/// The number in `LOCALHOST, 7000` and `LOCALHOST), 7000`.
fn port_after(tokens: &[Token]) -> Option<&str> {
    let mut rest = tokens
        .iter()
        .skip_while(|token| matches!(token.kind, Kind::Close(_)));
    let comma = rest.next()?.is_punct(',');
    match &rest.next()?.kind {
        Kind::Literal(port) if comma && port.len() > 1 && !port.starts_with('0') => Some(port),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, text: &str) -> RustFile {
        RustFile::parse(path, text).unwrap()
    }

    const TEST: &str = "crates/x/tests/it/a.rs";

    /// Goal: sleeping tests are found in each place tests live. Method: a test file, a test module, an import.
    #[test]
    fn sleeping_tests_are_found() {
        assert_eq!(
            check_sleeps(&parse(TEST, "fn f() { std::thread::sleep(d); }")).len(),
            1
        );
        assert_eq!(
            check_sleeps(&parse(TEST, "use std::thread::sleep;")).len(),
            1
        );
        let module = "#[cfg(test)]\nmod tests {\n#[test]\nfn t() { thread::sleep(d); }\n}";
        assert_eq!(check_sleeps(&parse("crates/x/src/a.rs", module)).len(), 1);
    }

    /// Goal: other code may sleep, and tests may speak of it. Method: an example, a comment, a method by that name.
    #[test]
    fn only_sleeping_tests_are_found() {
        let example = "fn f() { std::thread::sleep(d); }";
        assert_eq!(check_sleeps(&parse("crates/x/examples/a.rs", example)), []);
        let test = "//! Never thread::sleep.\nfn f() { world.sleep(); \"thread::sleep\"; }";
        assert_eq!(check_sleeps(&parse(TEST, test)), []);
    }

    /// Goal: a chosen port is found in strings and in tuples. Method: one spelling each.
    #[test]
    fn fixed_ports_are_found() {
        for text in [
            concat!("fn f() { bind(\"127.0.0", ".1:7000\"); }"),
            concat!("fn f() { bind(\"[::", "1]:80\"); }"),
            "fn f() { bind((Ipv4Addr::LOCALHOST, 7000)); }",
            "fn f() { bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7000)); }",
        ] {
            assert_eq!(check_ports(&parse(TEST, text)).len(), 1, "{text}");
        }
    }

    /// Goal: ports that are asked for, dead, or only told of pass. Method: those, and a parser's unit test.
    #[test]
    fn other_ports_pass() {
        for text in [
            "fn f() { bind(\"127.0.0.1:0\"); bind((Ipv4Addr::LOCALHOST, 0)); }",
            "fn f() { connect(\"127.0.0.1:1\"); format!(\"127.0.0.1:{port}\"); }",
            concat!("/// Such as 127.0.0", ".1:7000.\nfn f() {}"),
        ] {
            assert_eq!(check_ports(&parse(TEST, text)), [], "{text}");
        }
        let parser = concat!("#[test]\nfn t() { parse(\"127.0.0", ".1:7000\"); }");
        assert_eq!(check_ports(&parse("crates/x/src/args.rs", parser)), []);
    }
}
