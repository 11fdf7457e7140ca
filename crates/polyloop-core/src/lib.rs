//! The decisions of polyloop, as pure code.
//!
//! Everything here maps (state, fact, now) to (state, decision). Time and seeds are arguments; this crate knows no
//! clock, socket, thread, file or random source, has no dependencies and no `unsafe`, so that each part can be
//! tested exhaustively and replayed from a seed. The edge that turns decisions into system calls is the crate
//! `polyloop`.
#![forbid(unsafe_code)]

pub mod admission;
pub mod cores;
pub mod errno;
pub mod overload;
pub mod placement;
pub mod runqueue;
pub mod slots;
pub mod spread;
pub mod stall;
pub mod stride;
pub mod units;
pub mod wheel;
