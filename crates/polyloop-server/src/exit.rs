//! Exit codes, as `--help` documents them.

use std::process::ExitCode;

use polyloop::Ended;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every connection ended by itself.
    Clean,
    /// The server could not start, or a loop died.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Connections were cut: at the drain's deadline, or by a second signal.
    Cut,
}

impl Exit {
    /// The code of a server that ended.
    pub(crate) const fn of(ended: &Ended) -> Self {
        if !ended.loops_failed.is_empty() || matches!(ended.by, polyloop::EndedBy::LoopFailed) {
            Self::Failed
        } else if ended.cut > 0 {
            Self::Cut
        } else {
            Self::Clean
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Cut => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyloop::EndedBy;
    use std::time::Duration;

    #[test]
    fn the_code_tells_the_worst_of_it() {
        // Goal: a supervisor can tell the ends apart. Method: a table, with a stuck loop among the drained.
        let code = |by, cut, failed: &[&str]| {
            let loops_failed = failed.iter().map(ToString::to_string).collect();
            let ended = Ended {
                by,
                cut,
                loops_failed,
                jobs_dropped: 0,
                took: Duration::ZERO,
            };
            Exit::of(&ended).code()
        };
        assert_eq!(code(EndedBy::Drain, 0, &[]), 0);
        assert_eq!(code(EndedBy::Stop, 0, &[]), 0);
        assert_eq!(code(EndedBy::Drain, 1, &[]), 3);
        assert_eq!(code(EndedBy::Stop, 9, &[]), 3);
        assert_eq!(code(EndedBy::Drain, 1, &["loop 0 did not end in time"]), 1);
        assert_eq!(code(EndedBy::LoopFailed, 0, &[]), 1);
        assert_eq!(Exit::Usage.code(), 2);
    }
}
