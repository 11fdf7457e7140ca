//! # polyloop-load
//!
//! A load generator for TCP servers that tells the truth, and says when it cannot.
//!
//! ```text
//!   args -> settings ──> engine: loops, one handler per connection      plan: arrivals, sizes, payload, script (pure)
//!                          │ sends when the plan says, times replies  <───┘
//!                          v
//!                        tally: histograms and counts, one per loop, handed over every interval
//!                          │
//!                          v
//!                        director: stages (ramp, warm-up, measure), search for the highest rate (pure)
//!                          │
//!                          v
//!                        result ──> output: live view, summary, JSON, CSV, hlog, hgrm;  doubt: what to mistrust (pure)
//! ```
//!
//! The one idea: latency counts from the moment a request was *planned*, so that a server that stops cannot stop the
//! clock that measures it. The histogram that counts from the moment it was sent is kept beside it, and so is the
//! difference, the send lag, which is the generator's own fault where the connection was free.

pub mod args;
mod collector;
pub mod compare;
pub mod director;
pub mod doubt;
pub mod engine;
mod hunt;
mod judge;
pub mod objective;
pub mod output;
pub mod plan;
pub mod result;
pub mod search;
pub mod settings;
pub mod tally;
mod warmup;
