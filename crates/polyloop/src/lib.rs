//! polyloop
