//! proxy_protocol.
