//! The gate as a command: a result on disk, a baseline, exit codes and words.

#![expect(
    clippy::unwrap_used,
    reason = "these are helpers of tests, where a panic is the report"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use polyloop_measure::host::Scratch;
use serde_json::json;

/// A result of `echo-cost` in which both sides cost the same.
fn result() -> String {
    let mut cells = Vec::new();
    for round in 0..6 {
        for subject in ["polyloop", "bare-mio"] {
            for connections in [64, 1_000] {
                let none =
                    json!({ "p50_us": null, "p99_us": null, "p999_us": null, "max_us": null });
                cells.push(json!({
                    "subject": subject, "round": round, "connections": connections, "requests": 1, "seconds": 1.0,
                    "requests_per_second": 1.0, "server_cpu_ns": 5000.0 + f64::from(round), "machine_cpu_ns": 1.0,
                    "load_cpu_ns": 1.0, "server_cores": 1.0, "load_cores": 1.0, "backend_cores": 0.0,
                    "other_cores": 0.0, "sleeps": 0.0, "forced_switches": 0.0, "steal_share": 0.0,
                    "latency": none, "lag": none, "doubts": [],
                }));
            }
        }
    }
    let machine = serde_json::to_value(polyloop_measure::machine::Machine::default()).unwrap();
    json!({
        "benchmark": "echo-cost", "started_s": 0, "commit": null, "machine": machine, "cells": cells,
        "settings": { "message_bytes": 64, "others": "are passed over" }, "warnings": [],
    })
    .to_string()
}

fn gate(directory: &Path, flags: &str, code: i32, what: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_polyloop-bench"))
        .args(["gate", "result.json", "--baseline", "baseline.toml"])
        .args(flags.split_whitespace())
        .current_dir(directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{flags}: {said}");
    assert!(said.contains(what), "{flags}: {said}");
}

#[test]
fn a_gate_writes_its_baseline_and_judges_by_it() {
    // Goal: exit codes and words of the gate, from a result on disk to the file: no baseline, one written, a pass, a
    // loss, undecided, and a foreign result. Method: a result written here and baselines that differ.
    let scratch = Scratch::new().unwrap();
    let (result_file, baseline) = (
        scratch.path().join("result.json"),
        scratch.path().join("baseline.toml"),
    );
    let gate = |flags: &str, code, what: &str| gate(scratch.path(), flags, code, what);
    fs::write(&result_file, result()).unwrap();
    gate("", 1, "--update writes one");
    gate("--update", 0, "baseline: baseline.toml");
    gate("", 0, "bench-gate: pass");
    let written = fs::read_to_string(&baseline).unwrap();
    let ratio = "ratio = 1.0000\nlow = 1.0000\nhigh = 1.0000";
    assert!(written.contains(ratio), "{written}");
    let put = |text: &str| fs::write(&baseline, written.replacen(ratio, text, 1)).unwrap();
    fs::write(
        &result_file,
        result().replace("\"warnings\":[]", "\"warnings\":[\"idle\"]"),
    )
    .unwrap();
    gate("", 0, "warning of the result: idle");
    gate("--strict", 3, "bench-gate: pass");
    let other_size = result().replace("\"message_bytes\":64", "\"message_bytes\":16384");
    fs::write(&result_file, other_size).unwrap();
    gate("--update", 1, "16384 bytes");
    fs::write(&result_file, result()).unwrap();
    put("ratio = 0.9\nlow = 0.8\nhigh = 0.9");
    gate("", 4, "bench-gate: FAIL");
    gate("--limit 20 --strict", 3, "bench-gate: undecided");
    gate("--limit 20", 0, "undecided");
    put("ratio = ");
    gate("", 1, "baseline.toml");
    fs::write(&result_file, "something else\n").unwrap();
    gate("--update", 1, "not a result");
    fs::write(&result_file, result().replace("echo-cost", "loops")).unwrap();
    gate("--update", 1, "\"loops\"");
    gate("--limit x", 2, "percent");
}
