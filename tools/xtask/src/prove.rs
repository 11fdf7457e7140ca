//! `cargo xtask prove-load`: builds the load generator, the servers it is held against and the proof, and runs that.
//!
//! The proof itself is a program of the benches (`prove-load`), so that this one goes on knowing nothing about the product.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::ci::{build_release, target_directory};

/// Answers whether every claim holds; `arguments` are the proof's.
///
/// # Errors
/// If something cannot be built or started.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<bool> {
    if !build_release(root, &BUILDS)? {
        return Ok(false);
    }
    let binaries = target_directory(root).join("release");
    let proof = binaries.join("prove-load");
    let status = Command::new(&proof)
        .arg("--binaries")
        .arg(&binaries)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot start {}", proof.display()))?;
    Ok(status.success())
}

/// In three calls, as an example is named together with its package only.
const BUILDS: [&[&str]; 3] = [
    &["--package", "polyloop-server", "--package", "polyloop-load"],
    &["--package", "polyloop", "--example", "delay_echo"],
    &["--package", "polyloop-benches", "--bin", "prove-load"],
];
