//! What does a second loop cost? Processor time per request with one thread against two, under the same load.
//!
//! On a machine with as many cores as loops the load shares the cores with the loops; it does so in both cases, with
//! the same threads on the same cores. Two loops split the connections, so each finds fewer events per poll: that is
//! part of what is measured.

use anyhow::{Result, ensure};

use polyloop_benches::measure::Cell;
use polyloop_benches::subject::Subject;
use polyloop_measure::host;

use crate::args::{Common, Kind, Loops, seconds};
use crate::session::{Session, one_thread, polyloop_echo};

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Loops) -> Result<bool> {
    ensure!(
        question.server_cores.len() == 2,
        "--server-cores names the cores of two loops"
    );
    ensure!(
        !question.load_cores.is_empty(),
        "--load-cores names no core"
    );
    for &core in question.server_cores.iter().chain(&question.load_cores) {
        host::require_core(core)?;
    }
    let mut subjects = Vec::new();
    for &kind in &question.subjects {
        subjects.extend(pair(kind, &common, &question)?);
    }
    let pin = |&core| (!question.load_unpinned).then_some(core);
    let cores: Vec<_> = question.load_cores.iter().map(pin).collect();
    let mut session = Session::begin("loops", common, question.clone())?;
    session.report.subjects.clone_from(&subjects);
    for &connections in &question.connections {
        session.measure_rounds(&subjects, connections, seconds(question.seconds), &cores)?;
    }
    let cpu = |cell: &Cell| cell.server_cpu_ns;
    for &connections in &question.connections {
        let goal = Some(1.05);
        session.compare(
            "server CPU",
            ("polyloop x2", "polyloop x1"),
            connections,
            cpu,
            goal,
        );
        session.compare(
            "server CPU",
            ("tokio x2", "tokio x1"),
            connections,
            cpu,
            None,
        );
        session.compare(
            "server CPU",
            ("polyloop x2", "tokio x2"),
            connections,
            cpu,
            None,
        );
    }
    session.print_medians();
    println!(
        "the load: {} threads, {}, sharing the cores with the servers",
        cores.len(),
        if question.load_unpinned {
            "unpinned"
        } else {
            "pinned"
        }
    );
    session.end()
}

/// One kind on one thread and on two.
fn pair(kind: Kind, common: &Common, question: &Loops) -> Result<[Subject; 2]> {
    let mut one = one_thread(
        kind,
        &common.polyloop,
        question.server_cores.first().copied(),
    )?;
    let two = match kind {
        Kind::BareMio => anyhow::bail!("bare-mio has one thread; leave it out of --subjects"),
        // Its threads steal work from each other wherever they run: pinning them is not how it is used.
        Kind::Tokio => Subject::anchor("tokio x2", "tokio-echo", "--threads 2")?,
        Kind::Polyloop => {
            let cores: Vec<String> = question.server_cores.iter().map(usize::to_string).collect();
            let arguments = format!("--loops 2 --cores {}", cores.join(","));
            polyloop_echo("polyloop x2", &common.polyloop, &arguments)?
        }
    };
    one.name += " x1";
    Ok([one, two])
}
