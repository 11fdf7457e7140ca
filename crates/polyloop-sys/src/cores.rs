//! Cores this process may use, how they hang together, and pinning a thread to one.
//!
//! The one idea: report facts; which loop goes where is decided in the core crate.
//!
//! Invariant: core numbers are the kernel's, as in `taskset` and `--cores`. Ask before pinning: a pinned thread is
//! allowed one core only, and its children inherit that.

use std::fs;
use std::io;
use std::path::Path;

use core_affinity::CoreId;
use rustix::thread::CpuSet;

/// Where one core sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreFacts {
    /// The kernel's number of the core.
    pub core: usize,
    /// The socket it is in.
    pub package: usize,
    /// The physical core it belongs to, unique within its package only; hyper-threads share it.
    pub physical: usize,
}

/// The cores the calling thread may run on (its affinity mask), ascending. Empty when the kernel does not tell, which
/// happens with more than 1,024 cores.
#[must_use]
pub fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect()
}

/// How many cores' worth of time this process gets: the smaller of the affinity mask and the control group's quota,
/// rounded up, at least one.
#[must_use]
pub fn quota() -> usize {
    num_cpus::get().max(1)
}

/// Where each of the [`allowed`] cores sits. A core the kernel does not describe (containers often hide the files) is
/// left out: a number made up for it could be that of another core, and placement counts a core without facts as one
/// of its own.
#[must_use]
pub fn topology() -> Vec<CoreFacts> {
    topology_at(Path::new("/sys/devices/system/cpu"), &allowed())
}

/// Lets the calling thread run on `core` only, and checks that the kernel took it so.
///
/// # Errors
/// `InvalidInput` when the host has no such core or the control group does not allow it, `PermissionDenied` under a
/// filter that forbids it.
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    // The wrapper below indexes a fixed set and would panic beyond it.
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "core {core}: the kernel's set ends at {}",
                CpuSet::MAX_CPU - 1
            ),
        ));
    }
    if !core_affinity::set_for_current(CoreId { id: core }) {
        return Err(io::Error::last_os_error());
    }
    let mask = rustix::thread::sched_getaffinity(None)?;
    if mask.is_set(core) && mask.count() == 1 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "core {core}: the kernel accepted the mask and uses another"
        )))
    }
}

fn topology_at(root: &Path, cores: &[usize]) -> Vec<CoreFacts> {
    let fact = |core: usize, name: &str| -> Option<usize> {
        let path = root.join(format!("cpu{core}/topology/{name}"));
        // Some architectures write -1 for "unknown", which does not parse and so counts as missing.
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let facts = cores.iter().filter_map(|&core| {
        let package = fact(core, "physical_package_id")?;
        let physical = fact(core, "core_id")?;
        Some(CoreFacts {
            core,
            package,
            physical,
        })
    });
    facts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_agree_with_each_other() {
        // Goal: the three sources tell one story. Method: compare them on this host.
        let allowed = allowed();
        assert!(!allowed.is_empty());
        assert!(allowed.is_sorted());
        assert!((1..=allowed.len()).contains(&quota()));
        let cores: Vec<usize> = topology().iter().map(|facts| facts.core).collect();
        assert!(cores.iter().all(|core| allowed.contains(core)));
    }

    #[test]
    fn topology_reads_what_is_there_and_makes_nothing_up() {
        // Goal: hidden or odd files never stop a start. Method: a made-up tree with one good, one odd, one missing
        // core.
        let root = std::env::temp_dir().join(format!("polyloop-topology-{}", std::process::id()));
        for (core, package, physical) in [(0, "1\n", "7\n"), (1, "-1\n", "x\n")] {
            let directory = root.join(format!("cpu{core}/topology"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("physical_package_id"), package).unwrap();
            fs::write(directory.join("core_id"), physical).unwrap();
        }
        let facts = topology_at(&root, &[0, 1, 2]);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            facts,
            [CoreFacts {
                core: 0,
                package: 1,
                physical: 7
            }]
        );
    }

    #[test]
    fn pins_where_it_is_told() {
        // Goal: after pinning, the thread runs there. Method: pin a thread of its own to each core and ask the kernel.
        for core in allowed() {
            let seen = std::thread::spawn(move || {
                pin_current_thread(core).unwrap();
                (rustix::thread::sched_getcpu(), allowed())
            });
            assert_eq!(seen.join().unwrap(), (core, vec![core]));
        }
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error() {
        // Goal: no panic on any number. Method: one inside the kernel's set and two outside.
        std::thread::spawn(|| {
            for core in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
                let error = pin_current_thread(core).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "core {core}");
            }
        })
        .join()
        .unwrap();
    }
}
