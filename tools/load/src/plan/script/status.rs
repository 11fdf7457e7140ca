//! Which HTTP status is a right answer.

use std::fmt;

/// Which status of a response is right. Interim ones (1xx, but 101) are passed over and never judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatusRule {
    /// 2xx and 3xx, and 101: a server that answers quickly with errors is not fast.
    #[default]
    BelowErrors,
    /// Any.
    Any,
    /// This one.
    Exactly(u16),
    /// This first digit.
    Class(u8),
}

impl StatusRule {
    /// Reads `any`, `2xx` or `404`; nothing is [`BelowErrors`](Self::BelowErrors).
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [] => Some(Self::BelowErrors),
            b"any" => Some(Self::Any),
            [class @ b'1'..=b'5', b'x', b'x'] => Some(Self::Class(class - b'0')),
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => text.parse().ok().map(Self::Exactly),
            _ => None,
        }
    }

    /// Whether a response with `status` is a right answer.
    #[must_use]
    pub const fn accepts(self, status: u16) -> bool {
        match self {
            Self::BelowErrors => status < 400,
            Self::Any => true,
            Self::Exactly(wanted) => status == wanted,
            Self::Class(class) => status / 100 == class as u16,
        }
    }
}

impl fmt::Display for StatusRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowErrors => f.write_str("one below 400"),
            Self::Any => f.write_str("any"),
            Self::Exactly(status) => status.fmt(f),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}
