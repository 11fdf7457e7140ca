//! A driver for polyloop made of memory: virtual clock, in-memory sockets, deterministic order.
//!
//! The dispatcher and the handlers that run on it are the ones that serve on real sockets, unchanged; only the
//! [`Driver`](polyloop::driver::Driver) is another. Several loops take turns on one thread, so that what they say to
//! each other happens in an order that a seed decides and repeats.
//!
//! ```text
//!   test --> Client (the peer's end)          Dispatcher 0   Dispatcher 1   (the real ones)
//!                 |                                |              |
//!                 +---------- World ---------- SimDriver 0    SimDriver 1
//!                    sockets, edges, clock, faults
//! ```
//!
//! * Readiness is edge-triggered, as epoll tells it: on arrival, on room after a write that was cut short, on FIN and
//!   reset, on registration if ready already. Nothing is told twice.
//! * Time moves only when every loop would sleep, and only by [`Sim::advance`].
//! * Faults are drawn from the seed: interrupted calls, spurious events, output that is taken in pieces, accepts that
//!   fail.
//!
//! Deliberately absent: packet loss and ordering, which the kernel hides from a program as well.

mod client;
mod driver;
mod faults;
mod poll;
mod sim;
mod socket;
mod world;

pub use client::Client;
pub use driver::{SimDriver, SimListener, SimStream};
pub use faults::{Faults, Random};
pub use sim::Sim;
pub use world::World;
