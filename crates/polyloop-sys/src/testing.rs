//! What the tests of several modules share: waiting for a socket without sleeping.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until one of `sockets` has something to read, and answers which; far past any healthy answer it panics
/// instead.
pub(crate) fn readable<Fd: AsFd>(sockets: &[Fd]) -> usize {
    wait_for(sockets, PollFlags::IN)
}

/// Waits until `socket` can be written, which is also when a connect has ended.
pub(crate) fn writable<Fd: AsFd>(socket: &Fd) {
    wait_for(std::slice::from_ref(socket), PollFlags::OUT);
}

fn wait_for<Fd: AsFd>(sockets: &[Fd], flags: PollFlags) -> usize {
    let mut polled: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::new(socket, flags))
        .collect();
    let deadline = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_ne!(
        poll(&mut polled, Some(&deadline)).unwrap(),
        0,
        "nothing happened in 10 s"
    );
    polled
        .iter()
        .position(|socket| !socket.revents().is_empty())
        .unwrap()
}
