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
    let target = target_directory(root);
    let bench = target.join("release/polyloop-bench");
    let mut command = Command::new(&bench);
    command.arg("gate").args(arguments);
    // What was built just now, wherever that is; `target` in the tree may hold something older.
    for (flag, path) in [("--polyloop", "release/polyloop"), ("--out", "bench")] {
        if !arguments.iter().any(|typed| typed.starts_with(flag)) {
            command.arg(flag).arg(target.join(path));
        }
    }
    let status = command
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
