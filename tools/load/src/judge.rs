//! Looks at a finished run, and says what to mistrust. The thresholds and words are [`doubt`](crate::doubt)'s.

use std::fs;

use polyloop_core::cores::CoreList;

use crate::doubt::{Doubt, judge as of};
use crate::engine::Plan;
use crate::result::{Mode, RunResult, Severity, StageKind, StageResult, Warning};

/// Adds its doubts to a run.
pub(crate) fn judge(run: &mut RunResult, plan: &Plan, server_pids: &[u32], is_interrupted: bool) {
    let mut doubts = Vec::new();
    let reasons: Vec<(String, u64)> = run
        .stages
        .iter()
        .filter(|stage| stage.kind == StageKind::Ramp)
        .flat_map(|stage| stage.counts.faults.clone())
        .filter(|(key, _)| key.starts_with("connect"))
        .collect();
    if is_interrupted {
        doubts.push(Doubt::Interrupted);
    }
    for stage in run.measured() {
        if plan.churn.is_none() {
            doubts.extend(of::fewer_connections(
                plan.connections + plan.probe_connections,
                stage.connections,
                &reasons,
            ));
        }
        judge_stage(run.mode, stage, plan, &mut doubts);
    }
    let congestion = plan
        .congestion
        .as_deref()
        .or_else(|| run.machine.congestion_control());
    doubts.extend(congestion.and_then(of::paced_congestion));
    let generator = run.machine.affinity.clone();
    let server: Vec<usize> = server_pids.iter().flat_map(|&pid| cores_of(pid)).collect();
    let pinned = run.settings.iter().find(|setting| setting.name == "cores");
    let generator = pinned
        .and_then(|setting| setting.value.parse::<CoreList>().ok())
        .map_or(generator, |list| list.as_slice().to_vec());
    doubts.extend(of::shared_cores(&generator, &server));
    for doubt in &doubts {
        let warning = Warning::from(doubt);
        if !run.warnings.contains(&warning) {
            run.warnings.push(warning);
        }
    }
}

fn judge_stage(mode: Mode, stage: &StageResult, plan: &Plan, doubts: &mut Vec<Doubt>) {
    let counts = &stage.counts;
    let loop_seconds = stage.seconds * plan.loops as f64;
    let ns = |us: Option<f64>| us.map(|us| (us * 1e3) as u64);
    doubts.extend(of::steal(stage.machine_steal_share));
    doubts.extend(of::faults(counts.faults.values().sum(), counts.sent));
    if counts.sent == 0 {
        return;
    }
    doubts.extend(of::unanswered(counts.unanswered));
    doubts.extend(of::too_few_samples(&[0.99, 0.999], stage.latency.samples));
    if mode == Mode::Open {
        doubts.extend(of::generator_saturated(stage.load_cpu_s / loop_seconds));
        doubts.extend(of::schedule_slipped(counts.sent, counts.offered));
        doubts.extend(of::late_sends(
            ns(stage.own_lag.p99_us),
            ns(stage.latency.p99_us),
        ));
    }
    let windows: Vec<u64> = stage
        .windows
        .iter()
        .map(|window| window.completed)
        .collect();
    doubts.extend(of::unstable_windows(&windows));
}

/// Whether there is more than notes.
pub(crate) fn is_doubtful(run: &RunResult) -> bool {
    run.warnings
        .iter()
        .any(|warning| warning.severity >= Severity::Warning)
}

/// The cores that a process may run on; none if nobody says.
fn cores_of(pid: u32) -> Vec<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| list.trim().parse::<CoreList>().ok())
        .map(|list| list.as_slice().to_vec())
        .unwrap_or_default()
}
