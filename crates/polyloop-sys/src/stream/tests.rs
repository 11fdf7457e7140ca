//! Real sockets on loopback; what they are asked must be what the kernel did.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::listener::{ListenOptions, Listener, listen_group};
use crate::testing::{readable, writable};

fn listener() -> (Listener, SocketAddr) {
    let any_port = "127.0.0.1:0".parse().unwrap();
    let options = ListenOptions {
        reuse_port: false,
        ..ListenOptions::default()
    };
    let listener = listen_group(&any_port, 1, &options).unwrap().remove(0);
    let addr = listener.local_addr().unwrap().socket_addr().unwrap();
    (listener, addr)
}

/// Both ends of one TCP connection: who connected, who accepted.
fn connected() -> (Stream, Stream) {
    let (listener, addr) = listener();
    let client = Stream::connect(&addr.into()).unwrap();
    readable(&[&listener]);
    let (server, peer) = listener.accept().unwrap();
    writable(&client);
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(client.peer_addr().unwrap(), addr.into());
    (client, server)
}

#[test]
fn is_a_descriptor_and_nothing_else() {
    // Goal: a connection's socket costs four bytes, optional or not. Method: ask the compiler.
    assert_eq!(size_of::<Stream>(), 4);
    assert_eq!(size_of::<Option<Stream>>(), 4);
}

#[test]
fn bytes_go_both_ways() {
    // Goal: one call moves bytes, an empty socket says so. Method: an echo by hand over TCP and over a unix pair.
    for (client, server) in [connected(), Stream::pair().unwrap()] {
        let mut buffer = [0; 64];
        assert_eq!(
            server.recv(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(client.send(b"hello").unwrap(), 5);
        readable(&[&server]);
        let received = server.recv(&mut buffer).unwrap();
        assert_eq!(server.send(&buffer[..received]).unwrap(), 5);
        readable(&[&client]);
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
    }
}

#[test]
fn slices_leave_in_order_up_to_the_bound() {
    // Goal: the documented number of slices is sent, and the rest is not lost but not taken. Method: more than allowed.
    let (client, server) = connected();
    let bytes: Vec<u8> = (0..20).collect();
    let slices: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
    assert_eq!(client.send_vectored(&slices).unwrap(), Stream::SLICES_MAX);
    readable(&[&server]);
    let mut buffer = [0; 64];
    assert_eq!(server.recv(&mut buffer).unwrap(), Stream::SLICES_MAX);
    assert_eq!(&buffer[..Stream::SLICES_MAX], &bytes[..Stream::SLICES_MAX]);
    assert_eq!(client.send_vectored(&[]).unwrap(), 0);
}

#[test]
fn a_full_socket_says_so() {
    // Goal: writing never blocks. Method: write to a peer that does not read until the kernel takes no more.
    let (client, _server) = connected();
    let block = [0; 65_536];
    let error = loop {
        match client.send(&block) {
            Ok(sent) => assert!((1..=block.len()).contains(&sent)),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_fin_closes_one_direction() {
    // Goal: half-close is passed on after the data, and the other half lives. Method: finish one side, then answer.
    let (client, server) = connected();
    client.send(b"last").unwrap();
    client.shutdown_write().unwrap();
    readable(&[&server]);
    let mut buffer = [0; 16];
    assert_eq!(server.recv(&mut buffer).unwrap(), 4);
    readable(&[&server]);
    assert_eq!(server.recv(&mut buffer).unwrap(), 0);
    assert_eq!(server.send(b"answer").unwrap(), 6);
    readable(&[&client]);
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    assert_eq!(client.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn an_abort_is_a_reset() {
    // Goal: the peer learns of an abort as a reset, once; whoever takes it reads 0 afterwards. Method: drop one end
    // after asking for it.
    let (client, server) = connected();
    client.set_abort_on_close().unwrap();
    drop(client);
    readable(&[&server]);
    assert_eq!(
        server.take_error().unwrap().unwrap().kind(),
        ErrorKind::ConnectionReset
    );
    assert!(server.take_error().unwrap().is_none());
    assert_eq!(server.recv(&mut [0; 1]).unwrap(), 0);
    assert_eq!(
        server.peer_addr().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    assert!(server.shutdown_write().is_err());
}

#[test]
fn a_refused_connect_is_told_by_the_socket() {
    // Goal: connecting begins without waiting, and its failure is found where the doc says. Method: a port that is
    // held by a socket that does not listen, so nobody else can get it meanwhile.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let addr = held.local_addr().unwrap().as_socket().unwrap();
    let kind = match Stream::connect_tcp(addr) {
        Ok(stream) => {
            writable(&stream);
            stream.take_error().unwrap().unwrap().kind()
        }
        Err(error) => error.kind(),
    };
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    let error = Stream::connect(&PeerAddr::Unix).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn sockets_are_opened_as_promised() {
    // Goal: close-on-exec and non-blocking from the first moment, Nagle off at both ends. Method: ask the kernel.
    let (client, server) = connected();
    let (left, right) = Stream::pair().unwrap();
    for stream in [&client, &server, &left, &right] {
        assert!(
            rustix::io::fcntl_getfd(stream)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        assert!(
            rustix::fs::fcntl_getfl(stream)
                .unwrap()
                .contains(rustix::fs::OFlags::NONBLOCK)
        );
    }
    assert!(sockopt::tcp_nodelay(&client).unwrap());
    // Inherited from the listener: accepting costs one system call.
    assert!(sockopt::tcp_nodelay(&server).unwrap());
    assert_eq!(left.peer_addr().unwrap(), PeerAddr::Unix);
    assert_eq!(left.local_addr().unwrap(), PeerAddr::Unix);
}

#[test]
fn silent_peers_can_be_given_up() {
    // Goal: the settings arrive. Method: read them back; and a unix socket refuses them without harm.
    let (client, _server) = connected();
    let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
    client.set_keepalive(idle, interval, 6).unwrap();
    client.set_user_timeout(30_000).unwrap();
    assert!(sockopt::socket_keepalive(&client).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&client).unwrap(), idle);
    assert_eq!(sockopt::tcp_keepintvl(&client).unwrap(), interval);
    assert_eq!(sockopt::tcp_keepcnt(&client).unwrap(), 6);
    assert_eq!(sockopt::tcp_user_timeout(&client).unwrap(), 30_000);
    assert!(
        client
            .set_keepalive(Duration::from_secs(40_000), interval, 6)
            .is_err()
    );
    let (left, _right) = Stream::pair().unwrap();
    assert!(left.set_keepalive(idle, interval, 6).is_err());
    assert!(left.set_user_timeout(30_000).is_err());
}
