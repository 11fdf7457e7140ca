//! What does a request cost in a proxy? A ping-pong of small messages through one loop on one core.
//!
//! Goals, processor time of the proxy per request beside the better of HAProxy and nginx: at most 0.95 times at 64
//! sessions, 0.85 times at 1,000 and at 8,000.
//!
//! The clients and the server behind share a core, and have about as much to do as the proxy. A proxy that waits for
//! them finds fewer events per poll; the table shows how busy each was.

use anyhow::Result;

use polyloop_benches::load::Window;
use polyloop_benches::measure::Cell;
use polyloop_benches::proxy::Proxy;
use polyloop_benches::turns::Side;

use super::args::Cost;
use super::{ANCHORS, Asked, Pair, Stage, compare_to_better, echo_behind, readings_of_cells};
use crate::args::{Common, seconds};
use crate::session::Session;

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Cost) -> Result<bool> {
    let backend = echo_behind(&question.seats)?;
    let mut session = Session::begin("proxy-cost", common, question.clone())?;
    let sessions = question.connections.iter().copied().max().unwrap_or(0);
    let stage = Stage::set(
        &mut session,
        &question.subjects,
        backend,
        &question.seats,
        sessions,
    )?;
    for &connections in &question.connections {
        for round in 0..session.common().rounds {
            let cells = stage.with_all(round, |pairs| {
                load_them(&session, pairs, round, connections)
            })?;
            for cell in cells {
                session.add_cell(cell)?;
            }
        }
    }
    for &connections in &question.connections {
        let goal = GOALS.into_iter().find(|&(at, _)| at == connections);
        let asked = |what, goal| Asked {
            what,
            ours: "polyloop",
            anchors: &ANCHORS,
            at: connections,
            goal,
        };
        let server = readings_of_cells(&session, |cell| cell.server_cpu_ns);
        let goal = goal.map(|(_, goal)| goal);
        compare_to_better(&mut session, &server, asked("proxy CPU per request", goal));
        let machine = readings_of_cells(&session, |cell| cell.machine_cpu_ns);
        compare_to_better(&mut session, &machine, asked("machine per request", None));
    }
    session.print_medians();
    session.end()
}

fn load_them(
    session: &Session<Cost>,
    pairs: &[(&Proxy, Pair)],
    round: usize,
    connections: usize,
) -> Result<Vec<Cell>> {
    let question = &session.report.settings.question;
    let cores = [Some(question.seats.load_core)];
    let mut sides = Vec::new();
    for (proxy, pair) in pairs {
        sides.push(Side {
            subject: proxy.kind.name(),
            server: &pair.proxy,
            backend: Some(&pair.backend),
            load: session.open(&pair.proxy, connections, &cores)?,
        });
    }
    let window = Window::closed(seconds(question.seconds));
    let slice = session.common().slice(connections);
    session.take_turns(&mut sides, window, slice, round)
}

/// Sessions, and at most how many times the better anchor.
const GOALS: [(usize, f64); 3] = [(64, 0.95), (1_000, 0.85), (8_000, 0.85)];
