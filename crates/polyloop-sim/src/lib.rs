//! polyloop-sim
