//! What a result file says about the machine a figure was measured on.
//!
//! The one idea: everything about a machine that could explain a result is written down with it, as the kernel tells it,
//! and can be read back to compare two files. What cannot be read is left empty and is no error: containers hide much.
//!
//! Deliberately absent: judgement. Whether two machines are alike is for the reader to say.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::host::{self, MachineTime, after_label, read_line, setting_path};

/// The facts. Empty texts stand for what could not be read; so do fields that an older file does not have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Kernel command line; idle and mitigation settings are there.
    pub kernel_arguments: String,
    /// Processor model.
    pub processor: String,
    /// How many cores this process may run on, quota included.
    pub cores: usize,
    /// Numbers of the cores this process may run on.
    pub affinity: Vec<usize>,
    /// Cores' worth of time the control groups allow; `None` without a limit.
    pub quota_cores: Option<f64>,
    /// How the clock of these cores is chosen, `none` where nobody chooses; several where they differ.
    pub governor: String,
    /// What the kernel reads the time from.
    pub clocksource: String,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Soft limit of open files, after raising it to the hard limit.
    pub open_files_max: u64,
    /// Hard limit of open files.
    pub open_files_hard_max: u64,
    /// Load average over the last minute, before the run.
    pub load_average: String,
    /// Share of the machine's time the hypervisor gave away; `None` until [`note_steal`](Self::note_steal).
    pub steal_share: Option<f64>,
    /// Kernel settings that decide about loopback TCP and many connections, by name.
    pub settings: Vec<(String, String)>,
}

impl Machine {
    /// Reads the facts now.
    #[must_use]
    pub fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = read_line("/proc/loadavg");
        let open_files = getrlimit(Resource::Nofile);
        let affinity = polyloop_sys::cores::allowed();
        Self {
            kernel: read_line("/proc/sys/kernel/osrelease"),
            kernel_arguments: read_line("/proc/cmdline"),
            processor: after_label(&cpuinfo, "model name").unwrap_or_default(),
            cores: host::cores(),
            quota_cores: cgroup::quota_cores(),
            governor: governor(Path::new("/sys/devices/system/cpu"), &affinity),
            affinity,
            clocksource: read_line(CLOCKSOURCE),
            memory_kib: after_label(&meminfo, "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse().ok())
                .unwrap_or(0),
            open_files_max: open_files.current.unwrap_or(u64::MAX),
            open_files_hard_max: open_files.maximum.unwrap_or(u64::MAX),
            load_average: load.split_whitespace().next().unwrap_or("").to_owned(),
            steal_share: None,
            settings: SETTINGS
                .iter()
                .map(|name| ((*name).to_owned(), read_line(&setting_path(name))))
                .collect(),
        }
    }

    /// Notes the share that was stolen since `start`, at the end of a run.
    ///
    /// # Errors
    /// When the machine's time cannot be read.
    pub fn note_steal(&mut self, start: MachineTime) -> Result<()> {
        self.steal_share = Some(MachineTime::read()?.since(start).steal_share());
        Ok(())
    }

    /// A kernel setting by its name, such as `net.core.somaxconn`.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        let (_, value) = self.settings.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The host's congestion control.
    #[must_use]
    pub fn congestion_control(&self) -> Option<&str> {
        self.setting(host::CONGESTION)
    }
}

/// How the clocks of `cores` are chosen, each answer once.
fn governor(directory: &Path, cores: &[usize]) -> String {
    let mut governors: Vec<String> = cores
        .iter()
        .map(|core| directory.join(format!("cpu{core}/cpufreq/scaling_governor")))
        .map(|path| fs::read_to_string(path).unwrap_or_else(|_| "none".to_owned()))
        .map(|text| text.trim().to_owned())
        .collect();
    governors.sort_unstable();
    governors.dedup();
    if governors.is_empty() {
        "none".to_owned()
    } else {
        governors.join("+")
    }
}

const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

const SETTINGS: [&str; 15] = [
    host::CONGESTION,
    "net.core.default_qdisc",
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "fs.nr_open",
    "fs.file-max",
    "fs.epoll.max_user_watches",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Scratch;

    #[test]
    fn facts_of_this_machine_can_be_read() {
        // Goal: the readers understand the kernel they run on, by reading everything once.
        let start = MachineTime::read().unwrap();
        let mut machine = Machine::read();
        assert!(machine.memory_kib > 0 && machine.cores > 0);
        assert!(machine.affinity.len() >= machine.cores);
        assert!(machine.open_files_max <= machine.open_files_hard_max);
        assert!(!machine.governor.is_empty());
        assert!(
            machine
                .setting("fs.file-max")
                .unwrap()
                .parse::<u64>()
                .is_ok()
        );
        assert_ne!(machine.congestion_control(), Some(""));
        assert_eq!(machine.setting("no.such"), None);
        machine.note_steal(start).unwrap();
        assert!((0.0..=1.0).contains(&machine.steal_share.unwrap()));
    }

    #[test]
    fn a_machine_is_read_back_as_it_was_written() {
        // Goal: result files can be compared later, also those of an older version; by the way there and back, and a
        // file with one field.
        let mut machine = Machine::read();
        machine.quota_cores = Some(1.5);
        machine.open_files_hard_max = u64::MAX;
        let text = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
        let old: Machine = serde_json::from_str(r#"{"kernel": "6.1"}"#).unwrap();
        assert_eq!((old.kernel.as_str(), old.steal_share), ("6.1", None));
    }

    #[test]
    fn governors_are_told_once_each() {
        // Goal: equal cores give one word, unlike ones both, and none is said as such; by files made for it.
        let scratch = Scratch::new().unwrap();
        for (core, text) in [
            (0, "performance\n"),
            (1, "powersave\n"),
            (2, "performance\n"),
        ] {
            let directory = scratch.path().join(format!("cpu{core}/cpufreq"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("scaling_governor"), text).unwrap();
        }
        assert_eq!(governor(scratch.path(), &[0, 2]), "performance");
        assert_eq!(governor(scratch.path(), &[0, 1]), "performance+powersave");
        assert_eq!(governor(scratch.path(), &[7]), "none");
        assert_eq!(governor(scratch.path(), &[]), "none");
    }
}
