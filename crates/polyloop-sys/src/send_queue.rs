//! What the kernel still holds of what was written to a socket.
//!
//! Deliberately absent: waiting for it. It is asked when a deadline has to know whether a peer is slow or gone.

#![expect(unsafe_code, reason = "SIOCOUTQ has no safe wrapper")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes in the send queue of a socket: sent and not acknowledged, or not sent yet.
///
/// # Errors
/// Whatever `ioctl(2)` says; `InvalidInput` for a listening socket.
pub fn unacked_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ by another name, writes one int to the address that it is given, and `count` is one
    // that lives until the call has returned. The descriptor is open as long as it is borrowed.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn what_the_peer_has_not_taken_is_counted() {
        // Goal: the count falls when the peer reads, and to nothing. Method: fill a connection until it blocks, then read at the
        // other end; the count is a lower bound of what is missing there.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        assert_eq!(unacked_bytes(near.as_fd()).unwrap(), 0);
        near.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = near.write(&[7; 65_536]) {
            written += count;
        }
        let queued = unacked_bytes(near.as_fd()).unwrap();
        assert!(queued > 0 && queued <= written, "{queued} of {written}");
        let mut all = vec![0; written];
        far.read_exact(&mut all).unwrap();
        // The last acknowledgement may still be on its way; on loopback nothing but time is needed, and there is a bound.
        while unacked_bytes(near.as_fd()).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
}
