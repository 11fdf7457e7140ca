//! # polyloop
//!
//! The Reactor pattern for many cores: one single-threaded event loop pinned to each core, nothing shared between
//! them, connections spread over the loops by `SO_REUSEPORT` or by a loop that accepts and hands sockets over.
//!
//! ```no_run
//! use polyloop::{Ctx, Handler, Input, Server, Verdict};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Message = ();
//!
//!     fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
//!         let _ = cx.write(input.take_all());
//!         Verdict::Continue
//!     }
//! }
//!
//! fn main() -> Result<(), polyloop::StartError> {
//!     Server::new(|_| Echo).listen("127.0.0.1:7000")?.run().map(drop)
//! }
//! ```
//!
//! * [`Handler`] is what you write: one value per connection, told what happened, answering with a [`Verdict`], acting
//!   through its [`Ctx`]. It need not be `Send`: it is made on its loop and stays there.
//! * [`Server`] starts the loops, places them on cores, spreads connections, drains on SIGTERM.
//! * [`Dispatcher`] is one loop, generic over its [`driver::Driver`], for tests on virtual time and for unusual uses.
//!
//! The picture of the whole is in `docs/ARCHITECTURE.md`, the terms in `docs/LEXICON.md`.

// The model checker sees the three modules whose interleavings it checks, and what they need, and nothing else.
pub mod bell;
mod guard;
pub mod inbox;
pub mod permits;
mod sync;

#[cfg(not(loom))]
mod alarms;
#[cfg(not(loom))]
mod blocks;
#[cfg(not(loom))]
mod close;
#[cfg(not(loom))]
mod control;
#[cfg(not(loom))]
mod ctx;
#[cfg(not(loom))]
mod dispatcher;
#[cfg(not(loom))]
pub mod driver;
#[cfg(not(loom))]
mod handler;
#[cfg(not(loom))]
pub mod hist;
#[cfg(not(loom))]
mod hub;
#[cfg(not(loom))]
mod input;
#[cfg(not(loom))]
pub mod jobs;
#[cfg(not(loom))]
pub mod offload;
#[cfg(not(loom))]
mod outbox;
#[cfg(not(loom))]
pub mod overload;
#[cfg(not(loom))]
pub mod server;
#[cfg(not(loom))]
pub mod telemetry;
#[cfg(not(loom))]
mod token;
#[cfg(not(loom))]
mod tuning;
#[cfg(not(loom))]
mod wiring;

#[cfg(not(loom))]
pub use crate::{
    close::{CloseReason, Initiator},
    control::LoopEnd,
    ctx::{ConnRef, Ctx, PoolFull, Room, SendError, TIMERS_PER_SESSION_MAX},
    dispatcher::{Choice, Dispatcher, Gate, GateKind, Spreading, Turn},
    handler::{Accepted, End, Factory, Handler, Verdict},
    hub::Mailer,
    input::Input,
    offload::{JobId, PoolId},
    server::{
        AcceptMode, BoundListener, DescriptorFacts, DescriptorTables, Ended, EndedBy, Life,
        LoopInfo, MemoryFacts, MemoryMax, Running, Server, ServerSettings, StartError, Status,
    },
    token::{Side, Target, Token},
    tuning::Tuning,
    wiring::{Capacities, Console, Seat, wire},
};
#[cfg(not(loom))]
pub use polyloop_core::{
    admission::WhenFull, overload::Level, runqueue::Class, spread::Spread, wheel::TimerKey,
};
#[cfg(not(loom))]
pub use polyloop_sys::{
    dial::{Dial, KeepAlive, KeepAliveNumbers, Remote, Vigilance},
    peer::PeerAddr,
};
