//! The library against the kernel: real sockets, real threads, servers started with [`polyloop::Server::start`].
//!
//! What belongs where:
//!
//! * [`harness`]: a server under test, its clients, and the postcondition that every test ends with.
//! * [`bytes`]: every byte arrives, or is refused in time: half-close, resets, peers that do not read.
//! * [`handlers`]: what a handler may do: panic, be `!Send`, send messages, offload, set timers, connect.
//! * [`spread`]: connections over loops, listeners of each kind, the cap.
//! * [`alarms`]: exact deadlines, of a server that listens to nobody.
//! * [`signals`]: signals that handlers are told of.
//! * [`tuned`]: settings that a running loop must be seen to obey.
//! * [`lifecycle`]: starting, deadlines, draining, stopping, and starts that fail.
//! * [`urgent`]: urgent data, at whose mark the kernel's reads stop.
//! * [`stall`]: a loop that is stuck is seen, named and rescued.
//!
//! Decisions that need no kernel are tested beside their code and on the simulator; the binary's flags and signals in
//! `polyloop-server`. Tests run one at a time (see [`harness::Site`]), since they count the descriptors and threads
//! of the process.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report; clippy exempts test functions alone"
)]

mod alarms;
mod bytes;
mod handlers;
mod harness;
mod lifecycle;
mod signals;
mod spread;
mod stall;
mod tuned;
mod urgent;
