//! The machine a run took place on.

use serde::{Deserialize, Serialize};

/// Facts about the machine, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
}

impl Machine {
    /// Reads the facts now.
    #[must_use]
    pub fn read() -> Self {
        Self {
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }
}
