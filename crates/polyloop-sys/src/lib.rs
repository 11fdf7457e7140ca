//! The operating system's side of polyloop: sockets, descriptors, cores, clocks and what `/proc` says about threads.
//!
//! One idea: everything that needs a system call the standard library does not offer lives here, behind types that
//! cannot be misused, so that every other crate can deny `unsafe`. Even here it is confined to seven modules with one
//! call each ([`clock`], [`cpu_filter`], [`descriptors`], [`dial`], [`memory`], [`net`], [`send_queue`]); the rest goes through
//! the safe wrappers of rustix.
//!
//! Deliberately absent: decisions. Nothing here retries, waits, counts or chooses; an error is handed on as the kernel
//! gave it. There is no poll object either; that is the driver's.
//!
//! Invariants: every descriptor opened here is close-on-exec, and every socket is non-blocking. Functions on the hot
//! path ([`Stream::recv`], [`Stream::send`], [`Stream::send_vectored`], [`Listener::accept`]) are exactly one system
//! call and allocate nothing.
//!
//! Linux only: `accept4`, reuseport filters, per-thread processor clocks and `/proc` have no portable equal, and a
//! fallback that nobody measures would only pretend.

#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(target_os = "linux"))]
compile_error!("polyloop-sys runs on Linux only: see the crate documentation");

pub mod alarm_clock;
pub mod clock;
pub mod cores;
pub mod counting;
pub mod cpu_filter;
pub mod descriptors;
pub mod dial;
pub mod listen_addr;
pub mod listen_error;
pub mod listener;
pub mod memory;
pub mod net;
pub mod peer;
pub mod pipe;
pub mod port_owner;
pub mod send_queue;
pub mod signals;
pub mod stream;
pub mod threads;

pub use clock::ThreadClock;
pub use cpu_filter::attach_cpu_filter;
pub use dial::{Dial, KeepAlive, Remote, Vigilance};
pub use listen_addr::{ListenAddr, ParseListenAddrError};
pub use listen_error::ListenError;
pub use listener::{ListenOptions, Listener, listen_group, remove_stale_socket_file};
pub use peer::PeerAddr;
pub use pipe::Pipe;
pub use port_owner::{PortOwner, who_listens};
pub use stream::Stream;

#[cfg(test)]
mod testing;
