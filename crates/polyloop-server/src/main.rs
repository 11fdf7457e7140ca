//! The `polyloop` binary.
fn main() {}
