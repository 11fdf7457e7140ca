//! The host name in a hello.

use std::fmt;

use super::Reason;

/// The longest host name without its final dot, in the form in which names are written.
const NAME_BYTES_MAX: usize = 253;

/// The longest part of one between dots.
const LABEL_BYTES_MAX: usize = 63;

/// A name that a client asked for: letters, digits, hyphens and underscores between dots, parts of 1 to 63 bytes, at
/// most 253 in all, no dot at the end. Compared without regard to case, shown as it was sent.
///
/// An IPv4 address passes as a name of four numbers (clients are told not to send one, some do); an IPv6 address does
/// not. Underscores are no part of a host name by the book, but of many a service's name inside a house.
#[derive(Clone, Copy, Debug)]
pub struct ServerName<'a>(&'a str);

impl<'a> ServerName<'a> {
    /// Checks a name as it was sent.
    ///
    /// # Errors
    /// [`Reason::HostName`] when it is not a name as described above.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Reason> {
        let is_label = |label: &[u8]| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if bytes.len() > NAME_BYTES_MAX || !bytes.split(|byte| *byte == b'.').all(is_label) {
            return Err(Reason::HostName);
        }
        std::str::from_utf8(bytes)
            .map(Self)
            .map_err(|_| Reason::HostName)
    }

    /// The name as it was sent; ASCII, nothing in it needs escaping.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether the name is below `suffix`: `a.example.com` and `b.a.example.com` are below `example.com`, it itself
    /// and `badexample.com` are not.
    #[must_use]
    pub fn is_below(&self, suffix: &str) -> bool {
        let Some(dot_at) = self.0.len().checked_sub(suffix.len() + 1) else {
            return false;
        };
        // Bytes, as `suffix` may be any text: a split inside a character would panic.
        let (_, tail) = self.0.as_bytes().split_at(dot_at);
        dot_at > 0 && tail[0] == b'.' && tail[1..].eq_ignore_ascii_case(suffix.as_bytes())
    }
}

impl PartialEq for ServerName<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for ServerName<'_> {}

impl PartialEq<str> for ServerName<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl PartialEq<&str> for ServerName<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for ServerName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_pass() {
        // Goal: nothing odd reaches routes and logs. Method: names good and bad.
        let label = "a".repeat(63);
        let long = [&*label, &label, &label, &"b".repeat(61)].join(".");
        assert_eq!(long.len(), 253);
        for name in [
            "a",
            "db1.Example.com",
            "_pg.x-y.z0",
            "127.0.0.1",
            "xn--bcher-kva.example",
            &long,
        ] {
            assert_eq!(ServerName::new(name.as_bytes()).unwrap().as_str(), name);
        }
        let over = format!("{long}b");
        let over_label = format!("{label}a.example");
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\n",
            "a\0b",
            "::1",
            "[::1]",
            "b\u{fc}cher",
            "a/b",
            "*.a",
            "a:443",
            &over,
            &over_label,
        ] {
            assert_eq!(
                ServerName::new(name.as_bytes()),
                Err(Reason::HostName),
                "{name}"
            );
        }
        assert_eq!(ServerName::new(b"a\xff"), Err(Reason::HostName));
    }

    #[test]
    fn case_does_not_matter_and_suffixes_end_at_dots() {
        // Goal: routes match what they say. Method: pairs of name and pattern.
        let name = |text: &'static str| ServerName::new(text.as_bytes()).unwrap();
        assert_eq!(name("DB1.example.COM"), "db1.Example.com");
        assert_eq!(name("DB1.example.COM"), name("db1.example.com"));
        assert_ne!(name("db2.example.com"), "db1.example.com");
        for (text, suffix, is_below) in [
            ("a.example.com", "Example.com", true),
            ("b.a.example.com", "example.com", true),
            ("example.com", "example.com", false),
            ("badexample.com", "example.com", false),
            ("com", "example.com", false),
            ("a.com", "", false),
            ("a.com", "\u{fc}", false),
        ] {
            assert_eq!(name(text).is_below(suffix), is_below, "{text} {suffix}");
        }
    }
}
