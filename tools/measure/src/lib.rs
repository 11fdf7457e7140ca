//! What the instruments of polyloop share: the benches, the load generator and the curves.
//!
//! The one idea: two instruments that disagree about what a median, a machine or a processor bill is cannot be compared,
//! so these are defined once, here, below all of them.
//!
//! ```text
//!   host ── what the machine is, how busy it was, and what a run must put right behind it
//!   bill ── processor time, switches and memory of a process       quantile ── what a histogram is able to tell
//!   stats ── medians, pairwise ratios, bootstrap intervals
//!   significance ── whether two unpaired sets differ ── mann_whitney
//!   ks ── how far samples are from a known law          steady ── whether a run has settled
//! ```
//!
//! Deliberately absent: sockets, load, servers, tables. Nothing here knows what is being measured.

pub mod bill;
#[cfg(test)]
mod draws;
pub mod host;
pub mod ks;
pub mod mann_whitney;
pub mod quantile;
pub mod significance;
pub mod stats;
pub mod steady;
