//! How much memory this process may use, and how much is in use.
//!
//! The one idea: a limit and its use belong together. The control group that has the smallest limit above this process is
//! the one whose use is read; others in that group use it up as well. Without a group there is only the resident set.
//!
//! Both versions of control groups are read where they are usually mounted. The files are opened once: when memory or
//! descriptors run out is when they have to be read.
//!
//! Deliberately absent: what is too much, and the memory of the whole machine, which is nobody's limit.

#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "malloc_trim has no safe wrapper")
)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads the use of memory.
#[derive(Debug)]
pub struct MemoryGauge(Source);

#[derive(Debug)]
enum Source {
    Group(MemoryGroup),
    /// `/proc/self/statm`.
    Resident(File),
}

/// A control group with a limit of memory: this process's own, or one above it.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    limit_bytes: u64,
    usage: File,
    /// Of a version or kernel without it nothing is taken off.
    stat: Option<File>,
    cache_key: &'static str,
}

/// The group with the smallest limit among this process's own and those above it; `None` where none has a limit, or the
/// files are hidden.
#[must_use]
pub fn tightest_group() -> Option<MemoryGroup> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest_at(Path::new("/sys/fs/cgroup"), &groups)
}

impl MemoryGroup {
    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What may be used before the kernel kills somebody in it.
    #[must_use]
    pub const fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    fn used_bytes(&self) -> io::Result<u64> {
        let used = with_text(&self.usage, |text| text.trim().parse().ok())?;
        // Pages of files that nobody uses now are taken back before anybody is killed.
        let cached = match &self.stat {
            Some(stat) => with_text(stat, |text| field(text, self.cache_key))?,
            None => 0,
        };
        Ok(used.saturating_sub(cached))
    }
}

impl MemoryGauge {
    /// The use of a group, by all that are in it.
    #[must_use]
    pub const fn of_group(group: MemoryGroup) -> Self {
        Self(Source::Group(group))
    }

    /// What of this process is in memory, shared pages included. What the kernel holds for it (sockets, page tables) is not
    /// in that.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn of_process() -> io::Result<Self> {
        File::open("/proc/self/statm").map(|statm| Self(Source::Resident(statm)))
    }

    /// Bytes in use now. One or two system calls, and no allocation.
    ///
    /// # Errors
    /// The files cannot be read any more, or say something else.
    pub fn used_bytes(&self) -> io::Result<u64> {
        match &self.0 {
            Source::Group(group) => group.used_bytes(),
            Source::Resident(statm) => {
                let second = |text: &str| text.split_whitespace().nth(1)?.parse().ok();
                let pages: u64 = with_text(statm, second)?;
                Ok(pages.saturating_mul(rustix::param::page_size() as u64))
            }
        }
    }
}

/// Makes the allocator give its free pages back to the kernel; whether it had some. Each of its arenas is locked while it
/// is walked. With another C library than glibc nothing happens.
#[cfg(target_env = "gnu")]
pub fn release_free_pages() -> bool {
    // SAFETY: malloc_trim may be called at any time by any thread, as glibc's manual says (MT-Safe); it touches free memory
    // only.
    unsafe { libc::malloc_trim(0) != 0 }
}

/// Makes the allocator give its free pages back to the kernel: this one has no call for that.
#[cfg(not(target_env = "gnu"))]
pub const fn release_free_pages() -> bool {
    false
}

/// The tightest of all `groups`, which are lines of `number:controllers:path`, and of those above them.
fn tightest_at(mount: &Path, groups: &str) -> Option<MemoryGroup> {
    let found = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            return Vec::new();
        };
        let group = group.trim_start_matches('/');
        if controllers.is_empty() {
            // Beside version 1, version 2 is mounted below.
            let mut found = groups_above(mount, group, &VERSION_2);
            found.extend(groups_above(&mount.join("unified"), group, &VERSION_2));
            found
        } else if controllers.split(',').any(|name| name == "memory") {
            groups_above(&mount.join("memory"), group, &VERSION_1)
        } else {
            Vec::new()
        }
    });
    // Of equals the first, which is the nearest.
    found.min_by_key(MemoryGroup::limit_bytes)
}

/// What the files of one version are called.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// The line of `memory.stat` with what can be taken back, of the group and those below it.
    cache_key: &'static str,
}

const VERSION_2: Version = Version {
    limit: "memory.max",
    usage: "memory.current",
    cache_key: "inactive_file",
};

const VERSION_1: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache_key: "total_inactive_file",
};

/// The groups with a limit from `group` up to the mount.
fn groups_above(mount: &Path, group: &str, version: &Version) -> Vec<MemoryGroup> {
    // A group that lies outside of what is mounted here is not found; the mount itself then is the nearest known.
    let mut at: PathBuf = mount.join(group);
    let mut found = Vec::new();
    loop {
        found.extend(open_group(&at, version));
        if at == mount || !at.starts_with(mount) || !at.pop() {
            return found;
        }
    }
}

fn open_group(path: &Path, version: &Version) -> Option<MemoryGroup> {
    // The word `max` does not parse, and is no limit.
    let limit = fs::read_to_string(path.join(version.limit)).ok()?;
    let limit_bytes = limit
        .trim()
        .parse()
        .ok()
        .filter(|&bytes| bytes < UNLIMITED)?;
    Some(MemoryGroup {
        path: path.to_owned(),
        limit_bytes,
        usage: File::open(path.join(version.usage)).ok()?,
        stat: File::open(path.join("memory.stat")).ok(),
        cache_key: version.cache_key,
    })
}

/// Reads a small file from its beginning.
fn with_text(file: &File, read: impl FnOnce(&str) -> Option<u64>) -> io::Result<u64> {
    let mut bytes = [0; FILE_BYTES_MAX];
    let count = file.read_at(&mut bytes, 0)?;
    let text = std::str::from_utf8(&bytes[..count]).unwrap_or_default();
    read(text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "no number where one was expected",
        )
    })
}

/// The number after a name, in lines of names and numbers; 0 without such a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(Some(0), |value| value.trim().parse().ok())
}

/// Version 1 writes "no limit" as the largest number of whole pages: more than there can be is none.
const UNLIMITED: u64 = 1 << 60;

/// Larger than `memory.stat` is, whose lines are a known list; what lies beyond would be taken for nothing cached.
const FILE_BYTES_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up mount, gone with the value.
    struct Tree(PathBuf);

    impl Tree {
        fn new(test: &str) -> Self {
            let name = format!("polyloop-memory-{}-{test}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn tightest(&self, groups: &str) -> Option<(u64, String)> {
            let group = tightest_at(&self.0, groups)?;
            let path = group.path().strip_prefix(&self.0).unwrap();
            Some((group.limit_bytes(), path.display().to_string()))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_smallest_limit_counts_with_its_own_use() {
        // Goal: a limit further up is seen, `max` is none, and the use is that of the group with the limit. Method: a tree of
        // version 2.
        let tree = Tree::new("v2");
        let groups = "0::/a/b\n";
        assert_eq!(tree.tightest(groups), None);
        for (group, limit, used) in [("a/b", "max", "1"), ("a", "max", "2"), ("", "1000", "30")] {
            tree.write(&format!("{group}/memory.max"), &format!("{limit}\n"));
            tree.write(&format!("{group}/memory.current"), &format!("{used}\n"));
        }
        assert_eq!(tree.tightest(groups), Some((1000, String::new())));
        tree.write("a/memory.max", "900\n");
        assert_eq!(tree.tightest(groups), Some((900, "a".into())));
        tree.write("a/b/memory.max", "950\n");
        assert_eq!(tree.tightest(groups), Some((900, "a".into())));
        // A group that is not mounted here: the mount is what is known of it.
        assert_eq!(
            tree.tightest("0::/elsewhere/x\n"),
            Some((1000, String::new()))
        );
        let gauge = MemoryGauge::of_group(tightest_at(&tree.0, groups).unwrap());
        assert_eq!(gauge.used_bytes().unwrap(), 2, "there is no memory.stat");
        tree.write("a/memory.current", "800\n");
        assert_eq!(gauge.used_bytes().unwrap(), 800, "it is read anew");
    }

    #[test]
    fn what_can_be_taken_back_is_no_use() {
        // Goal: cached files are taken off, by the whole name of the line, and never make the use negative. Method: both
        // versions with their own lines.
        let tree = Tree::new("stat");
        tree.write("memory.max", "4096\n");
        tree.write("memory.current", "1000\n");
        tree.write(
            "memory.stat",
            "anon 5\nactive_file 9\ninactive_file 300\ninactive_file_x 7\n",
        );
        let used =
            |groups| MemoryGauge::of_group(tightest_at(&tree.0, groups).unwrap()).used_bytes();
        assert_eq!(used("0::/\n").unwrap(), 700);
        tree.write("memory/m/memory.limit_in_bytes", "2048\n");
        tree.write("memory/m/memory.usage_in_bytes", "1000\n");
        tree.write(
            "memory/m/memory.stat",
            "inactive_file 3\ntotal_inactive_file 5000\n",
        );
        assert_eq!(used("4:cpu,memory:/m\n0::/\n").unwrap(), 0);
    }

    #[test]
    fn the_first_version_and_the_mixture_are_understood() {
        // Goal: "no limit" of version 1 is none, and version 2 is found beside it. Method: files of both.
        let tree = Tree::new("v1");
        let groups = "9:name=systemd:/\n4:memory:/box\n0::/box\n";
        tree.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        tree.write("memory/memory.usage_in_bytes", "5\n");
        assert_eq!(tree.tightest(groups), None);
        tree.write("memory/box/memory.limit_in_bytes", "100663296\n");
        assert_eq!(tree.tightest(groups), None, "its use cannot be read");
        tree.write("memory/box/memory.usage_in_bytes", "5\n");
        assert_eq!(tree.tightest(groups), Some((96 << 20, "memory/box".into())));
        tree.write("unified/box/memory.max", "1048576\n");
        tree.write("unified/box/memory.current", "5\n");
        assert_eq!(tree.tightest(groups), Some((1 << 20, "unified/box".into())));
    }

    #[test]
    fn odd_files_are_no_limit() {
        // Goal: no panic and no made-up figure. Method: empty and broken contents, and lines and paths that lead nowhere.
        let tree = Tree::new("odd");
        tree.write("a/memory.current", "x\n");
        for text in ["", "x", "-1", "1 2", "max"] {
            tree.write("a/memory.max", text);
            assert_eq!(tree.tightest("0::/a\n"), None, "{text}");
        }
        for groups in ["", "\n", "0", "0:", "0::/../../..\n", "x:y:z:0\n"] {
            assert_eq!(tree.tightest(groups), None, "{groups}");
        }
        tree.write("a/memory.max", "7");
        let gauge = MemoryGauge::of_group(tightest_at(&tree.0, "0::/a\n").unwrap());
        let error = gauge.used_bytes().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_process_uses_what_it_touches() {
        // Goal: the gauge follows, and free pages go back. Method: a reading with 64 MiB that were written to, and one less.
        const BYTES: usize = 64 << 20;
        let gauge = MemoryGauge::of_process().unwrap();
        let before = gauge.used_bytes().unwrap();
        assert!(before > 100_000, "{before}");
        // In pieces that the allocator keeps for itself when they are freed.
        let pieces: Vec<Vec<u8>> = (0..BYTES / 4096).map(|_| vec![1; 4096]).collect();
        let full = gauge.used_bytes().unwrap();
        assert!(full >= before + BYTES as u64 / 2, "{before} to {full}");
        drop(std::hint::black_box(pieces));
        if !cfg!(target_env = "gnu") {
            return;
        }
        release_free_pages();
        let after = gauge.used_bytes().unwrap();
        assert!(after + BYTES as u64 / 2 <= full, "{full} to {after}");
    }
}
