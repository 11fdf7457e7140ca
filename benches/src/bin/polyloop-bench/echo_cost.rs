//! What does an echo cost? One loop, one core, beside the bare mio loop and tokio on one thread.

use std::path::PathBuf;

use anyhow::Result;

use polyloop_benches::measure::Cell;
use polyloop_benches::subject::Subject;
use polyloop_measure::host;
use polyloop_measure::stats::Spread;

use crate::args::{Common, EchoCost, seconds};
use crate::session::{Session, one_thread};

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: EchoCost) -> Result<bool> {
    Ok(measure(common, question)?.0)
}

/// Answers whether the result has warnings, and where it is.
pub(crate) fn measure(common: Common, question: EchoCost) -> Result<(bool, PathBuf)> {
    host::require_core(question.load_core)?;
    let subjects = question
        .subjects
        .iter()
        .map(|&kind| one_thread(kind, &common.polyloop, Some(question.server_core)))
        .collect::<Result<Vec<_>>>()?;
    let mut session = Session::begin("echo-cost", common, question.clone())?;
    session.report.subjects.clone_from(&subjects);
    let cores = [Some(question.load_core)];
    for &connections in &question.connections {
        session.measure_rounds(&subjects, connections, seconds(question.seconds), &cores)?;
    }
    let cpu = |cell: &Cell| cell.server_cpu_ns;
    let machine = |cell: &Cell| cell.machine_cpu_ns;
    for &connections in &question.connections {
        let goal = |goals: [(usize, f64); 2]| {
            let goal = goals.into_iter().find(|&(at, _)| at == connections);
            goal.map(|(_, goal)| goal)
        };
        let to_bare = goal([(64, 1.05), (1000, 1.05)]);
        let to_tokio = goal([(64, 1.0), (1000, 0.9)]);
        session.compare(
            "server CPU",
            ("polyloop", "bare-mio"),
            connections,
            cpu,
            to_bare,
        );
        session.compare(
            "server CPU",
            ("polyloop", "tokio"),
            connections,
            cpu,
            to_tokio,
        );
        session.compare("server CPU", ("tokio", "bare-mio"), connections, cpu, None);
        session.compare(
            "machine",
            ("polyloop", "bare-mio"),
            connections,
            machine,
            None,
        );
        session.compare("machine", ("polyloop", "tokio"), connections, machine, None);
    }
    warn_of_idle_servers(&mut session, &subjects, &question.connections);
    session.print_medians();
    let path = session.report.path().to_owned();
    Ok((session.end()?, path))
}

/// A server that waits for its load finds fewer events per poll, and its requests look dearer than they are.
fn warn_of_idle_servers(
    session: &mut Session<EchoCost>,
    subjects: &[Subject],
    connections: &[usize],
) {
    for &count in connections {
        for subject in subjects {
            let cores = session
                .report
                .values(&subject.name, count, |cell| cell.server_cores);
            if let Some(spread) = Spread::of(&cores)
                && spread.median < BUSY_CORES_MIN
            {
                session.report.warnings.push(format!(
                    "{} at {count} connections was busy only {:.0} % of the time: the load or somebody else set the pace",
                    subject.name,
                    spread.median * 1e2
                ));
            }
        }
    }
}

/// Below this the load, not the server, sets the pace.
const BUSY_CORES_MIN: f64 = 0.85;
