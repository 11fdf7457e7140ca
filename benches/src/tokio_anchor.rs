//! What the anchors on tokio share: the runtime that a number of threads means, and a listener.
//!
//! The one idea: an anchor must not lose because of a knob. Where one thread is asked for it is the current-thread runtime,
//! which a tokio user takes then and which costs less than the work-stealing one with a single worker.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

/// The runtime of `threads` threads.
///
/// # Errors
/// When the system has no descriptor or thread left for it.
pub fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = if threads <= 1 {
        Builder::new_current_thread()
    } else {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    };
    builder.enable_io().build()
}

/// Listens with the same backlog as every other subject.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(4096)
}
