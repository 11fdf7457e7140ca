//! Where a value came from: the question after every surprise.

use std::ops::Range;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// This flag, with its dashes.
    Flag(&'static str),
    /// The file; the bytes of the key, and of the value.
    File {
        /// The key.
        key: Range<usize>,
        /// The value.
        value: Range<usize>,
    },
}

impl Origin {
    /// The bytes to point at, if it came from the file.
    pub(crate) fn value_span(&self) -> Option<Range<usize>> {
        match self {
            Self::File { value, .. } => Some(value.clone()),
            Self::Default | Self::Flag(_) => None,
        }
    }

    /// The bytes of the key, if it came from the file.
    pub(crate) fn key_span(&self) -> Option<Range<usize>> {
        match self {
            Self::File { key, .. } => Some(key.clone()),
            Self::Default | Self::Flag(_) => None,
        }
    }
}
