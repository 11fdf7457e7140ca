//! What the operating system says about this process.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use polyloop_sys::{clock, descriptors};

/// One reading. A figure that the system does not tell is `None`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) id: u32,
    /// Processor time of all threads, in seconds.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) descriptors_open: Option<u64>,
    /// Memory in use (resident set).
    pub(crate) resident_bytes: Option<u64>,
    /// When it started, in seconds since 1970.
    pub(crate) started_unix_seconds: f64,
}

impl Process {
    /// Reads everything now. It reads files under /proc: not for a loop.
    pub(crate) fn read() -> Self {
        let id = std::process::id();
        Self {
            id,
            cpu_seconds: clock::process_cpu_ns(id).ok().map(|ns| ns as f64 / 1e9),
            descriptors_open: descriptors::count_open().ok(),
            resident_bytes: resident_bytes(),
            started_unix_seconds: note_start(),
        }
    }
}

/// Notes the start of the process, the first time it is called, and tells it.
pub(crate) fn note_start() -> f64 {
    static STARTED: OnceLock<f64> = OnceLock::new();
    *STARTED.get_or_init(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    })
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells() {
        // Goal: on Linux nothing is missing, and the start does not move. Method: two readings.
        let (first, second) = (Process::read(), Process::read());
        assert!(first.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
        assert!(first.descriptors_open.is_some_and(|open| open > 2));
        assert!(first.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert_eq!(first.started_unix_seconds, second.started_unix_seconds);
        assert!(first.started_unix_seconds > 1e9);
    }
}
