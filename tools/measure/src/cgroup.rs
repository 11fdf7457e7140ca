//! How much processor time the control groups of this process allow.
//!
//! The one idea: each group above this process may set a limit, and the tightest one counts. Both versions of the
//! kernel's interface are read where they are usually mounted.

use std::fs;
use std::path::{Path, PathBuf};

/// Cores' worth of time; `None` without a limit, or where the files are hidden.
pub(crate) fn quota_cores() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest(Path::new("/sys/fs/cgroup"), &groups)
}

/// The smallest limit of all `groups`, which are lines of `number:controllers:path`, and of those above them.
fn tightest(mount: &Path, groups: &str) -> Option<f64> {
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?.trim_start_matches('/')))
        })
        .filter_map(|(controllers, group)| {
            if controllers.is_empty() {
                smallest_above(mount, group, limit_v2)
            } else if controllers.split(',').any(|name| name == "cpu") {
                // Where several controllers share a mount, the kernel's own link `cpu` leads there.
                smallest_above(&mount.join("cpu"), group, limit_v1)
            } else {
                None
            }
        })
        .min_by(f64::total_cmp)
}

fn smallest_above(mount: &Path, group: &str, limit: impl Fn(&Path) -> Option<f64>) -> Option<f64> {
    // A group that lies outside of what is mounted here is not found; the mount itself then is the nearest known.
    let mut at: PathBuf = mount.join(group);
    let mut smallest: Option<f64> = None;
    loop {
        if let Some(found) = limit(&at) {
            smallest = Some(smallest.map_or(found, |known| known.min(found)));
        }
        if at == mount || !at.starts_with(mount) || !at.pop() {
            return smallest;
        }
    }
}

/// `cpu.max`: quota and period, or the word `max`.
fn limit_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut words = text.split_whitespace();
    share(words.next()?, words.next()?)
}

/// Two files; a quota of -1 is none.
fn limit_v1(group: &Path) -> Option<f64> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let (quota, period) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
    share(quota.trim(), period.trim())
}

fn share(quota_us: &str, period_us: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota_us.parse().ok()?, period_us.parse().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Scratch;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_tightest_group_counts() {
        // Goal: a limit further up is seen, `max` is none, fractions stay; by a tree of files of version 2.
        let scratch = Scratch::new().unwrap();
        let root = scratch.path();
        assert_eq!(tightest(root, "0::/a/b\n"), None);
        write(root, "a/b/cpu.max", "max 100000\n");
        assert_eq!(tightest(root, "0::/a/b\n"), None);
        write(root, "a/cpu.max", "150000 100000\n");
        assert_eq!(tightest(root, "0::/a/b\n"), Some(1.5));
        write(root, "cpu.max", "50000 100000\n");
        assert_eq!(tightest(root, "0::/a/b\n"), Some(0.5));
        assert_eq!(tightest(root, "0::/elsewhere/c\n"), Some(0.5));
        assert_eq!(tightest(root, "0::/\n"), Some(0.5));
    }

    #[test]
    fn the_first_version_is_understood() {
        // Goal: the two files of version 1 and their -1, among lines of other controllers.
        let scratch = Scratch::new().unwrap();
        let root = scratch.path();
        let groups = "4:memory:/m\n3:cpu,cpuacct:/box\n0::/\n";
        write(root, "cpu/cpu.cfs_quota_us", "-1\n");
        write(root, "cpu/cpu.cfs_period_us", "100000\n");
        assert_eq!(tightest(root, groups), None);
        write(root, "cpu/box/cpu.cfs_quota_us", "200000\n");
        write(root, "cpu/box/cpu.cfs_period_us", "100000\n");
        assert_eq!(tightest(root, groups), Some(2.0));
    }

    #[test]
    fn odd_files_are_no_limit() {
        // Goal: no panic and no made-up figure; by empty, broken and dividing-by-zero contents, and paths that climb.
        let scratch = Scratch::new().unwrap();
        for text in ["", "x y", "100", "100 0", "-5 100"] {
            write(scratch.path(), "a/cpu.max", text);
            assert_eq!(tightest(scratch.path(), "0::/a\n"), None, "{text}");
        }
        for groups in ["", "\n", "0", "0:", "0::/../../..\n", "x:y:z:0\n"] {
            assert_eq!(tightest(scratch.path(), groups), None, "{groups}");
        }
    }
}
