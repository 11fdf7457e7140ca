//! The binary against servers: real sockets, its real exit codes and output.
//!
//! What belongs where:
//!
//! * [`harness`]: a run of the binary, what it printed, and the laws that hold for every result.
//! * [`servers`]: small servers of the test's process: an echo, one that never answers, one that resets, and so on.
//! * [`pace`]: when requests are sent: open and closed loops, rates that cannot be reached, the search, the probe.
//! * [`workloads`]: what is said: sizes, pipelines, streams, churn, idle and slow connections, scripts, HTTP.
//! * [`targets`]: whom it connects to, from where and how often: families, sources, the limits of the system.
//! * [`faults`]: servers that misbehave.
//! * [`outputs`]: files, full disks, `--strict`, `compare`.
//! * [`signals`]: what is written when a run is interrupted.
//!
//! Decisions are tested beside their code. No test asserts how long something took: it is counts that are held to laws.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report; clippy exempts test functions alone"
)]

mod faults;
mod harness;
mod outputs;
mod pace;
mod servers;
mod signals;
mod targets;
mod workloads;
