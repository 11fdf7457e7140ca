//! Real sockets on loopback, and facts that two modules or two crates have to agree on.
