//! What `tidy` says: one finding per broken rule and place, with the way out.
//!
//! A rule is a value of an enum rather than a string, so that the printed name, the advice, and whether the rule may be
//! waived by a comment are decided in one place each.

use std::fmt;

/// Each thing `tidy` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A crate depends on one that is not below it.
    Arrow,
    /// The core names a clock, thread, socket, file, environment or random source.
    CorePurity,
    /// A function over the limit that the ratchet does not list, or longer than it lists.
    LongFunction,
    /// A line of the ratchet that is no longer true, or never was one.
    Ratchet,
    /// A long file that does not say why it is whole.
    LongFile,
    /// `unsafe` outside the one crate that may have it.
    UnsafePlace,
    /// An `unsafe` block or impl with no reason above it.
    SafetyComment,
    /// A member that does not inherit the workspace's lints.
    LintsTable,
    /// Something new and visible in the root directory.
    TopLevel,
    /// A Rust file that does not open with `//!`.
    ModuleHeader,
    /// A test that sleeps.
    TestSleep,
    /// A test that hopes for a certain port to be free.
    FixedPort,
    /// A document that points at a line number.
    LineLink,
    /// A path that exists on one machine only.
    MachinePath,
    /// A Rust file that does not parse, so that nothing else can be said of it.
    Unparsable,
    /// A waiver that waives nothing, or gives no reason.
    Waiver,
}

impl Rule {
    /// All rules, for looking one up by name.
    pub(crate) const ALL: [Self; 16] = [
        Self::Arrow,
        Self::CorePurity,
        Self::LongFunction,
        Self::Ratchet,
        Self::LongFile,
        Self::UnsafePlace,
        Self::SafetyComment,
        Self::LintsTable,
        Self::TopLevel,
        Self::ModuleHeader,
        Self::TestSleep,
        Self::FixedPort,
        Self::LineLink,
        Self::MachinePath,
        Self::Unparsable,
        Self::Waiver,
    ];

    /// The name as printed and as written in a waiver.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::CorePurity => "core-purity",
            Self::LongFunction => "long-function",
            Self::Ratchet => "ratchet",
            Self::LongFile => "long-file",
            Self::UnsafePlace => "unsafe-place",
            Self::SafetyComment => "safety-comment",
            Self::LintsTable => "lints-table",
            Self::TopLevel => "top-level",
            Self::ModuleHeader => "module-header",
            Self::TestSleep => "test-sleep",
            Self::FixedPort => "fixed-port",
            Self::LineLink => "line-link",
            Self::MachinePath => "machine-path",
            Self::Unparsable => "unparsable",
            Self::Waiver => "waiver",
        }
    }

    /// What to do about it.
    pub(crate) const fn way_out(self) -> &'static str {
        match self {
            Self::Arrow => "move the code down, or invert the need with a trait of the lower crate",
            Self::CorePurity => "take it as an argument and let the edge supply it",
            Self::LongFunction => "split where the phase changes or where pure meets impure",
            Self::Ratchet => "make the line say what is true; lines are never added",
            Self::LongFile => "split it by noun, or say `Whole because ...` in its `//!` header",
            Self::UnsafePlace => "wrap the operation in a safe function of crates/polyloop-sys",
            Self::SafetyComment => "put `// SAFETY: <the fact relied on>` right above",
            Self::LintsTable => "add `[lints]` with `workspace = true` to the manifest",
            Self::TopLevel => {
                "move it under crates, tools, benches or docs, or give it a dotted name"
            }
            Self::ModuleHeader => "open with `//!`: what it is for, the one idea, what is absent",
            Self::TestSleep => "wait for the event itself, or drive virtual time",
            Self::FixedPort => "bind port 0 and ask which one it became",
            Self::LineLink => "name the file and the item; line numbers move",
            Self::MachinePath => "use a path relative to the repository, or a temporary directory",
            Self::Unparsable => "make it compile",
            Self::Waiver => "remove it, or write tidy-allow(<rule>): <reason> beside the place",
        }
    }

    /// Whether a comment beside the place may except it. Only rules that guess from the look of the text: the others
    /// are exact, and an exception to them is a change of the design.
    pub(crate) const fn may_be_waived(self) -> bool {
        matches!(
            self,
            Self::TestSleep | Self::FixedPort | Self::LineLink | Self::MachinePath
        )
    }
}

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Relative to the repository's root, with forward slashes.
    pub(crate) path: String,
    /// Counted from 1; 1 also where the whole file is meant.
    pub(crate) line: usize,
    pub(crate) rule: Rule,
    /// What was seen, in one clause.
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, rule: Rule, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            what,
        } = self;
        write!(
            f,
            "{path}:{line}: [{}] {what}; way out: {}",
            rule.name(),
            rule.way_out()
        )
    }
}
