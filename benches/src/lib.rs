//! The instruments behind polyloop's performance claims.
//!
//! The one idea: an absolute figure says something about a machine, a ratio to an anchor measured in the same run says
//! something about a program. So every comparison starts its subjects anew round after round, puts the same load on each,
//! bills the server's processor time from outside, and divides within the round.
//!
//! ```text
//!   subject ── starts and stops a server process          load ── connections, messages, latency
//!        \                                                  /
//!         measure ── one window: requests and processor time, and why the window may be doubted
//!          turns  ── one round: all servers up, windows cut into short slices that take turns
//!              \
//!             polyloop_measure::stats ── medians, pairwise ratios, bootstrap intervals ── report ── table and JSON
//! ```
//!
//! What other instruments need as well (statistics, facts of the machine, the bill of a process) is in
//! `polyloop_measure`.
//! A subject that is a proxy ([`proxy`]) stands between the load and a backend of its own. Beside messages it is given
//! streams ([`bulk`]) and connections that come and go ([`churn`]); both check every byte as the load does. And it is given clients that
//! never read ([`flood`]).
//!
//! Deliberately absent: thresholds on elapsed time (a shared machine would break them), means of ratios, and a search
//! for the highest rate, which is the business of the load generator.

pub mod bulk;
pub mod churn;
pub mod flood;
pub mod gate;
pub mod generator;
pub mod load;
pub mod measure;
pub mod proxy;
pub mod report;
pub mod subject;
pub mod tokio_anchor;
pub mod turns;
