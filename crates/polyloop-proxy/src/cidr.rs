//! cidr.
