//! `polyloop-curve`: see the library's documentation.

fn main() {}
