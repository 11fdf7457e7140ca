//! polyloop-sys
