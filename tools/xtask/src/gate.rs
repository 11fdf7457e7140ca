//! `cargo xtask bench-gate`: builds the servers and the benchmark, measures, and asks for a verdict.
//!
//! What is measured and what a loss is, `polyloop-bench gate` knows, so that this one goes on knowing nothing about the product.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::ci::{build_release, target_directory};

/// Answers whether the gate is passed, or undecided without `--strict`; `arguments` are those of `polyloop-bench gate`.
///
/// # Errors
/// If something cannot be built or started.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<bool> {
    if !build_release(root, &BUILDS)? {
        return Ok(false);
    }
    let bench = target_directory(root).join("release/polyloop-bench");
    let status = Command::new(&bench)
        .arg("gate")
        .args(arguments)
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot start {}", bench.display()))?;
    Ok(status.success())
}

const BUILDS: [&[&str]; 2] = [
    &["--package", "polyloop-server"],
    &[
        "--package",
        "polyloop-benches",
        "--bin",
        "bare-mio",
        "--bin",
        "polyloop-bench",
    ],
];
