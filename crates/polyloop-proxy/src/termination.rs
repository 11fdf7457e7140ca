//! termination.
