//! How many loops there are and which core each is pinned to, decided from facts.
//!
//! One idea: the edge reads the affinity mask, the cgroup quota and the topology once at the start; this module
//! turns them and the operator's wish into a [`Placement`] whose [`Reason`] the start-up block prints, so that
//! nobody has to guess why there are three loops on a machine with eight cores.
//!
//! The rules:
//!
//! 1. Without a wish there are as many loops as the smaller of quota and mask, at most [`LOOPS_MAX`].
//! 2. Cores are taken from the mask, one hardware thread of each physical core before any second one, and the
//!    packages one after the other, so that few loops share a cache.
//! 3. A quota smaller than the mask means no pinning: the scheduler throttles the whole group, and a pinned loop
//!    that has run out of its slice cannot be moved to a core that has time left.
//! 4. Named cores are taken in the order named, and are a wish to pin, whatever the quota says.
//! 5. More loops than cores are not pinned (the scheduler evens them out better than a fixed pairing), except
//!    onto named cores, which loops then share in turn. Either way the result says that it is over-subscribed.
//!
//! Deliberately absent: reading any of the facts, NUMA memory policy, and interrupt affinity.

use crate::cores::{CoreList, format_cores};
use std::error::Error;
use std::fmt;

#[cfg(test)]
mod tests;

/// The largest number of loops. Each has a thread and a poll; past this the machine is not one to guess about.
pub const LOOPS_MAX: usize = 1024;

/// What the machine says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The cores of the affinity mask, in any order.
    pub allowed: Vec<usize>,
    /// Whole cores that the cgroup quota grants, rounded down, at least 1; `None` without a quota.
    pub quota: Option<usize>,
    /// What is known of the cores. A core without an entry counts as a physical core of its own, after the known.
    pub topology: Vec<CoreFacts>,
}

/// Where one core sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreFacts {
    /// The core's number, as in the affinity mask.
    pub core: usize,
    /// Its package (socket).
    pub package: usize,
    /// Its physical core within the package; hardware threads of one physical core share the number.
    pub physical: usize,
}

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The number of loops, if named.
    pub loops: Option<usize>,
    /// The cores, if named.
    pub cores: Option<CoreList>,
    /// Whether to pin.
    pub pin: Pin,
}

/// Whether loops are pinned to cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pin {
    /// As the rules of this module say.
    #[default]
    Auto,
    /// Always, several loops to a core if need be.
    Always,
    /// Never.
    Never,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// One entry per loop, at least one: the core to pin it to, or `None` to leave it to the scheduler.
    pub loops: Vec<Option<usize>>,
    /// Why it is so.
    pub reason: Reason,
    /// There are more loops than cores (or than the quota grants): worth a warning at the start.
    pub oversubscribed: bool,
}

/// Why a placement is as it is, for the start-up block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// One loop on each of `cores`, out of `allowed` that may be used.
    Pinned {
        /// The cores in use.
        cores: usize,
        /// The cores of the affinity mask.
        allowed: usize,
    },
    /// On the cores that the operator named.
    NamedCores {
        /// How many were named.
        cores: usize,
    },
    /// Not pinned, because the quota is smaller than the mask.
    Quota {
        /// Whole cores granted.
        quota: usize,
        /// The cores of the affinity mask.
        allowed: usize,
    },
    /// Not pinned, because there are more loops than cores.
    MoreLoopsThanCores {
        /// The loops.
        loops: usize,
        /// The cores of the affinity mask.
        allowed: usize,
    },
    /// Not pinned, because the operator said so.
    NeverPinned,
    /// Pinned against the rules, because the operator said so.
    AlwaysPinned {
        /// The cores in use.
        cores: usize,
        /// The cores of the affinity mask.
        allowed: usize,
    },
}

/// A wish that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlacementError {
    /// The affinity mask is empty.
    NoCores,
    /// No loops were asked for.
    NoLoops,
    /// More than [`LOOPS_MAX`] loops were asked for.
    TooManyLoops {
        /// The number asked for.
        loops: usize,
    },
    /// A named core is not in the affinity mask.
    CoreNotAllowed {
        /// The core.
        core: usize,
        /// The cores that may be used, ascending.
        allowed: Vec<usize>,
    },
    /// Cores were named and pinning was forbidden.
    CoresWithoutPinning,
}

/// Decides loops and cores.
///
/// # Errors
/// [`PlacementError`] when the wish contradicts the facts or itself.
pub fn place(facts: &Facts, wish: &Wish) -> Result<Placement, PlacementError> {
    let ordered = order_cores(facts);
    if ordered.is_empty() {
        return Err(PlacementError::NoCores);
    }
    check_wish(&ordered, wish)?;

    let allowed = ordered.len();
    let quota = facts.quota.map_or(allowed, |quota| quota.clamp(1, allowed));
    let cores = wish
        .cores
        .as_ref()
        .map_or(ordered.as_slice(), CoreList::as_slice);
    let loops = match (wish.loops, &wish.cores) {
        (Some(loops), _) => loops,
        (None, Some(named)) => named.as_slice().len().min(LOOPS_MAX),
        (None, None) => quota.min(LOOPS_MAX),
    };

    let in_use = loops.min(cores.len());
    let reason = match wish.pin {
        Pin::Never => Reason::NeverPinned,
        _ if wish.cores.is_some() => Reason::NamedCores { cores: in_use },
        Pin::Auto if quota < allowed => Reason::Quota { quota, allowed },
        Pin::Auto if loops > allowed => Reason::MoreLoopsThanCores { loops, allowed },
        Pin::Always if quota < allowed || loops > allowed => Reason::AlwaysPinned {
            cores: in_use,
            allowed,
        },
        Pin::Auto | Pin::Always => Reason::Pinned {
            cores: in_use,
            allowed,
        },
    };
    let loops_placed = (0..loops)
        .map(|index| reason.is_pinned().then(|| cores[index % cores.len()]))
        .collect();
    Ok(Placement {
        loops: loops_placed,
        reason,
        oversubscribed: loops > cores.len() || loops > quota,
    })
}

impl Placement {
    /// Whether loops are pinned to cores.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.reason.is_pinned()
    }
}

impl Reason {
    /// Whether loops are pinned to cores.
    #[must_use]
    pub const fn is_pinned(self) -> bool {
        match self {
            Self::Pinned { .. } | Self::NamedCores { .. } | Self::AlwaysPinned { .. } => true,
            Self::Quota { .. } | Self::MoreLoopsThanCores { .. } | Self::NeverPinned => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned { cores, allowed } => {
                write!(
                    f,
                    "pinned to {cores} of {allowed} allowed cores, physical cores first"
                )
            }
            Self::NamedCores { cores } => {
                write!(f, "pinned to {cores} of the cores that were named")
            }
            Self::Quota { quota, allowed } => write!(
                f,
                "not pinned: the cgroup quota grants {quota} of {allowed} allowed cores"
            ),
            Self::MoreLoopsThanCores { loops, allowed } => {
                write!(
                    f,
                    "not pinned: {loops} loops are more than {allowed} allowed cores"
                )
            }
            Self::NeverPinned => f.write_str("not pinned, as asked"),
            Self::AlwaysPinned { cores, allowed } => {
                write!(f, "pinned to {cores} of {allowed} allowed cores, as asked")
            }
        }
    }
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCores => f.write_str(
                "no core may be used: the affinity mask is empty; give the process cores (taskset, cpuset)",
            ),
            Self::NoLoops => {
                f.write_str("0 loops serve nobody; ask for 1 or more, or leave the number out")
            }
            Self::TooManyLoops { loops } => {
                write!(f, "{loops} loops are more than {LOOPS_MAX}, the most there can be; ask for fewer")
            }
            Self::CoreNotAllowed { core, allowed } => {
                write!(f, "core {core} is not among the cores this process may use (")?;
                format_cores(f, allowed)?;
                f.write_str("); name cores from that list, or widen the mask (taskset, cpuset)")
            }
            Self::CoresWithoutPinning => f.write_str(
                "cores are named and pinning is forbidden; leave out one of the two (a number of loops \
                 needs no list of cores)",
            ),
        }
    }
}

impl Error for PlacementError {}

fn check_wish(ordered: &[usize], wish: &Wish) -> Result<(), PlacementError> {
    match wish.loops {
        Some(0) => return Err(PlacementError::NoLoops),
        Some(loops) if loops > LOOPS_MAX => return Err(PlacementError::TooManyLoops { loops }),
        _ => {}
    }
    let Some(named) = &wish.cores else {
        return Ok(());
    };
    if wish.pin == Pin::Never {
        return Err(PlacementError::CoresWithoutPinning);
    }
    match named.as_slice().iter().find(|core| !ordered.contains(core)) {
        None => Ok(()),
        Some(&core) => {
            let mut allowed = ordered.to_vec();
            allowed.sort_unstable();
            Err(PlacementError::CoreNotAllowed { core, allowed })
        }
    }
}

/// The allowed cores, each once, in the order in which loops take them.
fn order_cores(facts: &Facts) -> Vec<usize> {
    let mut allowed = facts.allowed.clone();
    allowed.sort_unstable();
    allowed.dedup();
    let place_of = |core: usize| {
        facts
            .topology
            .iter()
            .find(|known| known.core == core)
            .map_or((usize::MAX, core), |known| (known.package, known.physical))
    };
    let mut keyed: Vec<(usize, usize, usize)> = Vec::with_capacity(allowed.len());
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(allowed.len());
    for &core in &allowed {
        let place = place_of(core);
        // How many hardware threads of the same physical core come before this one *in the mask*: a mask that
        // holds only second threads still has a first on each physical core.
        let rank = places.iter().filter(|earlier| **earlier == place).count();
        places.push(place);
        keyed.push((rank, place.0, core));
    }
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, _, core)| core).collect()
}
