//! Looks at a finished run, and says what to mistrust. The thresholds and words are [`doubt`](crate::doubt)'s.

use std::fs;

use polyloop::Remote;
use polyloop_core::cores::CoreList;

use crate::doubt::{Doubt, judge as of};
use crate::engine::Plan;
use crate::result::{Mode, RunResult, Severity, StageKind, StageResult, Warning, WindowRow};

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
    // Where next to nothing was planned there is no pace to doubt; a stream plans none, and has one.
    let has_pace = |stage: &&StageResult| {
        let is_stream = plan.workload.is_stream();
        is_stream || stage.counts.offered >= OFFERED_MIN
    };
    let warm_ups = run.stages.iter().filter(has_pace);
    doubts.extend(warm_ups.filter_map(|stage| of::never_steady(stage.settled?, stage.seconds)));
    let mut of_stages = Vec::new();
    let is_one_of_several = run.measured().count() > 1;
    for stage in run.measured() {
        // Where connections end as they should, some are always just being made.
        let come_and_go = plan.churn.is_some() || stage.counts.closed > 0 && reasons.is_empty();
        if !come_and_go {
            doubts.extend(of::fewer_connections(
                plan.connections + plan.probe_connections,
                stage.connections,
                &reasons,
            ));
        }
        let mut doubts = Vec::new();
        judge_stage(run.mode, stage, &mut doubts);
        of_stages.extend(doubts.iter().map(|doubt| {
            let mut warning = Warning::from(doubt);
            if is_one_of_several {
                warning.text = format!("{}: {}", stage.name, warning.text);
            }
            warning
        }));
    }
    let congestion = plan
        .congestion
        .as_deref()
        .or_else(|| run.machine.congestion_control());
    // A unix socket has none.
    let has_tcp = plan.to.iter().any(|to| matches!(to, Remote::Tcp(_)));
    let congestion = congestion.filter(|_| has_tcp);
    doubts.extend(congestion.and_then(of::paced_congestion));
    let generator = run.machine.affinity.clone();
    let server: Vec<usize> = server_pids.iter().flat_map(|&pid| cores_of(pid)).collect();
    let pinned = run.settings.iter().find(|setting| setting.name == "cores");
    let generator = pinned
        .and_then(|setting| setting.value.parse::<CoreList>().ok())
        .map_or(generator, |list| list.as_slice().to_vec());
    doubts.extend(of::shared_cores(&generator, &server));
    let warnings = of_stages
        .into_iter()
        .chain(doubts.iter().map(Warning::from));
    for warning in warnings {
        if !run.warnings.contains(&warning) {
            run.warnings.push(warning);
        }
    }
}

fn judge_stage(mode: Mode, stage: &StageResult, doubts: &mut Vec<Doubt>) {
    let counts = &stage.counts;
    let ns = |us: Option<f64>| us.map(|us| (us * 1e3) as u64);
    doubts.extend(of::steal(stage.machine_steal_share));
    doubts.extend(of::retransmits(
        stage.retransmits.unwrap_or(0),
        counts.sent,
        stage.rates.sent / stage.connections.max(1) as f64,
    ));
    doubts.extend(of::faults(counts.faults.values().sum(), counts.sent));
    // Planned and never sent is the worst of slips, and no reason to be silent.
    if counts.sent == 0 && counts.offered == 0 {
        return;
    }
    doubts.extend(of::unanswered(counts.unanswered));
    doubts.extend(of::too_few_samples(&[0.99, 0.999], stage.latency.samples));
    if mode == Mode::Open {
        doubts.extend(stage.busiest_loop_share.and_then(of::generator_saturated));
        doubts.extend(of::schedule_slipped(counts.sent_in_time(), counts.offered));
        doubts.extend(of::late_sends(
            ns(stage.own_lag.p99_us),
            ns(stage.latency.p99_us),
        ));
    }
    let windows: Vec<u64> = stage
        .windows
        .iter()
        .map(WindowRow::completed_in_time)
        .collect();
    doubts.extend(of::unstable_windows(&windows));
}

/// Requests that make a pace, in a warm-up.
const OFFERED_MIN: u64 = 10;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::small_stage;

    #[test]
    fn a_stage_that_sent_nothing_is_doubted_all_the_same() {
        // Goal: the worst slip is no exception. Method: the small stage, planned and never sent; and one without a plan.
        let mut stage = small_stage();
        stage.counts.sent = 0;
        let codes = |stage: &StageResult| {
            let mut doubts = Vec::new();
            judge_stage(Mode::Open, stage, &mut doubts);
            doubts.iter().map(Doubt::code).collect::<Vec<_>>()
        };
        assert!(codes(&stage).contains(&"schedule-slipped"));
        stage.counts.offered = 0;
        assert!(!codes(&stage).contains(&"schedule-slipped"));
    }

    #[test]
    fn a_backlog_sent_in_the_grace_is_a_slip() {
        // Goal: a rate beyond reach does not pass for reached since the grace is long. Method: a tenth of it sent late.
        let mut stage = small_stage();
        let mut doubts = Vec::new();
        judge_stage(Mode::Open, &stage, &mut doubts);
        let slip = |doubts: &[Doubt]| doubts.iter().any(|it| it.code() == "schedule-slipped");
        assert!(!slip(&doubts), "{doubts:?}");
        stage.counts.sent_late = stage.counts.sent / 10;
        judge_stage(Mode::Open, &stage, &mut doubts);
        assert!(slip(&doubts), "{doubts:?}");
    }
}
