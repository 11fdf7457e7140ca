//! One row of the proof: what is claimed, what was found, what was wanted.

use polyloop_load::result::{RunResult, Severity};

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) measured: String,
    pub(crate) goal: String,
    pub(crate) verdict: Verdict,
    /// Codes of what the runs behind it said against themselves.
    pub(crate) doubts: String,
}

/// What is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The figure is within its goal.
    Holds,
    /// It is not.
    Fails,
    /// The machine did not allow to tell.
    Undecided,
    /// It has no goal, or there is too little to judge it by.
    Told,
}

impl Verdict {
    pub(crate) const fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "FAILS",
            Self::Undecided => "undecided",
            Self::Told => "told",
        }
    }
}

impl Claim {
    /// A claim with a goal.
    pub(crate) fn judged(name: &str, measured: String, goal: String, holds: bool) -> Self {
        Self {
            name: name.to_owned(),
            measured,
            goal,
            verdict: Verdict::of(holds),
            doubts: String::new(),
        }
    }

    /// A figure that stands beside a claim.
    pub(crate) fn told(name: &str, measured: String) -> Self {
        Self {
            name: name.to_owned(),
            measured,
            goal: String::new(),
            verdict: Verdict::Told,
            doubts: String::new(),
        }
    }

    /// Adds what a run says against itself.
    #[must_use]
    pub(crate) fn doubted_by(mut self, run: &RunResult) -> Self {
        let codes: Vec<&str> = run
            .warnings
            .iter()
            .filter(|warning| warning.severity >= Severity::Warning)
            .map(|warning| warning.code.as_str())
            .collect();
        self.doubts = codes.join(", ");
        self
    }
}

/// Microseconds as people read them.
pub(crate) fn duration(us: f64) -> String {
    if us >= 1e6 {
        format!("{:.3} s", us / 1e6)
    } else if us >= 1e3 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{us:.1} us")
    }
}
