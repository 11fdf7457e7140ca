//! The layer-4 proxy: what it decides, and the sessions that carry it out.
//!
//! ```text
//!   accept -> access, limits -> PROXY header -> TLS hello -> choose a backend -> connect -> relay -> close, record
//!             access, limits    proxy_protocol  tls_hello    balance, health     ports      relay    termination, record
//! ```
//!
//! The one idea: each question is answered by a module that is data in, decision out, and can be tested without a
//! socket; the session is a [`Handler`](polyloop::Handler) that asks them in order.
//!
//! Deliberately absent: system calls and clocks (the library's drivers), text of command lines and files (the binary).

pub mod access;
pub mod balance;
pub mod checker;
pub mod cidr;
mod doors;
pub mod health;
pub mod limits;
pub mod names;
pub mod ports;
pub mod proxy_protocol;
pub mod record;
pub mod relay;
pub mod session;
pub mod settings;
pub mod site;
pub mod termination;
pub mod tls_hello;
