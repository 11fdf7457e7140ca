//! What is sent, when, and what has to come back: decided before the first byte moves.
//!
//! The one idea: load is planned, not chased. A connection's next send follows from a rate, a phase and a seed, never
//! from how the last one went, so that a slow server cannot talk the generator into asking less.
//!
//! ```text
//!   stage ── which rate, for how long         sources ── from which addresses
//!     │
//!     v            one per connection                    shared by all
//!   arrivals ── when the next request is due  sizes ── how long it is   payload ── which bytes, and whether they came back
//!                                             script ── or: what to say, and what answer to wait for
//! ```
//!
//! Deliberately absent: clocks, sockets, threads and unseeded chance. Times are nanoseconds of the caller's clock.

pub mod arrivals;
pub mod payload;
pub mod script;
pub mod sizes;
pub mod sources;
pub mod stage;
