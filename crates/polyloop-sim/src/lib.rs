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
//! * Readiness is edge-triggered, as epoll tells it: an edge (arrival, room after a write that was cut short, FIN, reset,
//!   registration of what is ready already) makes the poll look at a socket once; see `poll.rs`.
//! * Time moves only when every loop would sleep, and only by [`Sim::advance`].
//! * Faults are drawn from the seed, [`Faults`] names them all: interrupted calls, short reads and writes, events that
//!   are spurious, stale or late, accepts and registrations that fail, connections that are lost, loops that stall.
//! * [`World::trace`] is a number made of all that happened: the same seed, the same number.
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
pub use driver::{SimDriver, SimListener, SimPipe, SimStream};
pub use faults::{Faults, Random};
pub use sim::Sim;
pub use world::World;
