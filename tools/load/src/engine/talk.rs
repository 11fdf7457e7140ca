//! What a connection says and what it expects to hear: no clock, no socket.

use super::plan::{Plan, Workload};
use crate::plan::script::{Matcher, Progress, WrongAnswer};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) enum Talk {
    /// Messages that come back as they were sent.
    Echo {
        /// The number of the next message.
        next: u64,
        /// The number of the message whose echo is awaited.
        due: u64,
        /// The first number on this connection.
        first: u64,
        /// Bytes of that echo that have come, and how many it has; 0 until the first.
        at: usize,
        len: usize,
    },
    /// Requests and responses by a script.
    Script {
        /// Requests sent on this connection.
        sent: u64,
        matcher: Box<Matcher>,
    },
    /// A stream to the server; what comes back is dropped.
    Up { chunk: usize },
    /// A stream from the server.
    Down,
    /// Streams both ways, the one from the server dropped.
    Flood { chunk: usize },
}

/// What bytes from the server came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// An answer is whole; so many bytes belonged to it.
    Answer { used: usize },
    /// All of them belong to an answer that is not whole yet, or to a stream.
    More,
    /// They are not what was expected.
    Wrong(Wrong),
}

/// Why bytes are not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    /// Nothing was asked, or everything that was is answered.
    #[error("bytes came that nobody had asked for")]
    Unasked,
    /// An echo that is none.
    #[error("one of the bytes {from} to {until} of a message of {len} came back changed")]
    Echo {
        /// Counted from 0.
        from: usize,
        /// Without this one.
        until: usize,
        /// Of the message.
        len: usize,
    },
    /// Not the script's answer.
    #[error(transparent)]
    Script(#[from] WrongAnswer),
}

impl Talk {
    /// Beside a stream the probe sends messages.
    pub(crate) fn new(plan: &Plan, is_probe: bool) -> Self {
        let echo = Self::Echo {
            next: 0,
            due: 0,
            first: 0,
            at: 0,
            len: 0,
        };
        match &plan.workload {
            Workload::Echo { .. } => echo,
            Workload::Up { .. } | Workload::Down | Workload::Flood { .. } if is_probe => echo,
            Workload::Script(_) => Self::Script {
                sent: 0,
                matcher: Box::default(),
            },
            Workload::Up { chunk } => Self::Up { chunk: *chunk },
            Workload::Down => Self::Down,
            Workload::Flood { chunk } => Self::Flood { chunk: *chunk },
        }
    }

    /// Requests sent on this connection.
    pub(crate) const fn asked(&self) -> u64 {
        match self {
            Self::Echo { next, first, .. } => *next - *first,
            Self::Script { sent, .. } => *sent,
            Self::Up { .. } | Self::Down | Self::Flood { .. } => 0,
        }
    }

    /// Whether the server has said that it closes the connection after the answer that came last.
    pub(crate) fn is_last_answer(&self) -> bool {
        match self {
            Self::Script { matcher, .. } => {
                matcher.is_between_answers() && matcher.is_last_answer()
            }
            Self::Echo { .. } | Self::Up { .. } | Self::Down | Self::Flood { .. } => false,
        }
    }

    /// Whether there are no requests, but a stream, which the server may end.
    pub(crate) const fn is_stream(&self) -> bool {
        matches!(self, Self::Up { .. } | Self::Down | Self::Flood { .. })
    }

    /// The bytes of the next request of connection `index`, which is sent now.
    pub(crate) fn next_request<'p>(&mut self, plan: &'p Plan, index: u64) -> &'p [u8] {
        match (self, &plan.workload) {
            (Self::Echo { next, .. }, _) => {
                let number = *next;
                *next += 1;
                let len = plan.message_len(index, number);
                plan.pattern.slice(index, number, len)
            }
            (Self::Script { sent, .. }, Workload::Script(script)) => {
                *sent += 1;
                script.request(*sent - 1)
            }
            _ => &[],
        }
    }

    /// The bytes of the request that was sent last.
    pub(crate) fn last_request<'p>(&self, plan: &'p Plan, index: u64) -> &'p [u8] {
        match (self, &plan.workload) {
            (Self::Echo { next, .. }, _) => {
                let number = next.saturating_sub(1);
                plan.pattern
                    .slice(index, number, plan.message_len(index, number))
            }
            (Self::Script { sent, .. }, Workload::Script(script)) => {
                script.request(sent.saturating_sub(1))
            }
            _ => &[],
        }
    }

    /// Takes bytes from the server, up to the end of one answer. `has_asked` says whether one is awaited at all.
    pub(crate) fn feed(&mut self, plan: &Plan, index: u64, has_asked: bool, bytes: &[u8]) -> Fed {
        match (self, &plan.workload) {
            (Self::Up { .. } | Self::Down | Self::Flood { .. }, _) => Fed::More,
            _ if !has_asked => Fed::Wrong(Wrong::Unasked),
            (Self::Echo { due, at, len, .. }, _) => {
                if *at == 0 {
                    *len = plan.message_len(index, *due);
                }
                let used = bytes.len().min(*len - *at);
                let expected = &plan.pattern.slice(index, *due, *len)[*at..*at + used];
                if bytes[..used] != *expected {
                    return Fed::Wrong(Wrong::Echo {
                        from: *at,
                        until: *at + used,
                        len: *len,
                    });
                }
                *at += used;
                if *at < *len {
                    return Fed::More;
                }
                *at = 0;
                *due += 1;
                Fed::Answer { used }
            }
            (Self::Script { matcher, .. }, Workload::Script(script)) => {
                let fed = matcher.feed(script, bytes);
                match fed.progress {
                    Progress::Complete => Fed::Answer { used: fed.consumed },
                    Progress::Incomplete => Fed::More,
                    Progress::Wrong(wrong) => Fed::Wrong(wrong.into()),
                }
            }
            (Self::Script { .. }, _) => Fed::Wrong(Wrong::Unasked),
        }
    }

    /// The connection is over; the next begins anew.
    pub(crate) fn begin_again(&mut self) {
        match self {
            Self::Echo {
                next,
                due,
                first,
                at,
                ..
            } => {
                *due = *next;
                *first = *next;
                *at = 0;
            }
            Self::Script { sent, matcher, .. } => {
                *sent = 0;
                **matcher = Matcher::default();
            }
            Self::Up { .. } | Self::Down | Self::Flood { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
