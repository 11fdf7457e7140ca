//! The dispatcher and real handlers in a simulated world.
//!
//! | module | what belongs there |
//! |---|---|
//! | `admin` | admin gates beside those of the service |
//! | `alarms` | exact deadlines |
//! | `chaos` | a handler that does everything, and watches how it is treated |
//! | `connects` | what the system is asked for when a handler connects |
//! | `echo` | bytes: whole, halves, resets, slow readers, budgets |
//! | `ends` | FIN or reset, and panics wherever the code of a user runs |
//! | `flow` | who is read when: pauses, full outputs, input that is left, classes |
//! | `life` | deadlines, timers, drain, stop, panics, the cap |
//! | `many` | several loops: hand-overs, drain and stop of all of them |
//! | `overload` | levels of memory: who waits, and who is read less |
//! | `proxy` | sessions with two sockets: halves, back-pressure across, connections never made |
//! | `residents` | sessions that a loop makes for itself, and connections that a handler gives up |
//! | `tails` | slow readers: who still takes something is not cut off by a deadline |
//! | `talk` | messages, offloaded jobs, connections that a handler makes |
//! | `sweep` | seeds with faults, and what must hold at the end of each |

mod admin;
mod alarms;
mod chaos;
mod connects;
mod echo;
mod ends;
mod flow;
mod life;
mod many;
mod overload;
mod proxy;
mod residents;
mod sweep;
mod tails;
mod talk;

use polyloop::{
    Accepted, Capacities, Choice, Ctx, Factory, Handler, Input, Tuning, Verdict, WhenFull,
};
use polyloop_sim::{Sim, World};

/// The echo handler of the documentation.
pub(crate) struct Echo;

impl Handler for Echo {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

/// A server with default settings whose loops stay with what they accept.
pub(crate) fn server<F: Factory>(
    world: &World,
    loops: usize,
    tuning: &Tuning,
    factory: impl FnMut(usize) -> F,
) -> Sim<F> {
    let stay = |_| Choice::Stay;
    Sim::new(
        world,
        loops,
        tuning,
        Capacities::default(),
        WhenFull::Wait,
        factory,
        stay,
    )
}

/// An echo server of one loop.
pub(crate) fn echo_server(
    world: &World,
    tuning: &Tuning,
) -> Sim<impl Factory<Handler = Echo> + use<>> {
    server(world, 1, tuning, |_| |_: Accepted| Echo)
}

/// What every simulation must come to once its clients are gone: nothing held, nothing counted wrong.
pub(crate) fn assert_at_rest<F: Factory>(sim: &mut Sim<F>, world: &World) {
    sim.settle();
    assert_eq!(world.owned(), 0, "sockets open at our end");
    assert_eq!(
        sim.sum(|numbers| numbers.live.value()),
        0,
        "live connections"
    );
    assert_eq!(sim.sum(|numbers| numbers.timers.value()), 0, "timers");
    assert_eq!(
        sim.sum(|numbers| numbers.kept_bytes.value()),
        0,
        "kept bytes"
    );
    assert_eq!(
        sim.sum(|numbers| numbers.kept_blocks.value()),
        0,
        "kept blocks"
    );
    assert_eq!(
        sim.sum(|numbers| numbers.offload_pending.value()),
        0,
        "pending jobs"
    );
    assert_eq!(sim.console().permits().in_use(), 0, "permits");
    for board in &**sim.console().boards() {
        assert_eq!(board.load(), 0, "load of a loop");
    }
    let boards = sim.console().boards().iter();
    let closed: u64 = boards
        .flat_map(|board| board.closes.iter())
        .map(|count| count.value())
        .sum();
    assert_eq!(
        sim.sum(|numbers| numbers.opened.value()),
        closed,
        "every session that opened has closed"
    );
    assert_eq!(
        sim.sum(|numbers| numbers.turns_idle.value()),
        0,
        "turns for nothing"
    );
}

/// Reads everything that comes until nothing comes any more, letting the server turn in between.
pub(crate) fn drain_client<F: Factory>(sim: &mut Sim<F>, client: &polyloop_sim::Client) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        sim.settle();
        let bytes = client.receive(usize::MAX);
        if bytes.is_empty() {
            return all;
        }
        all.extend(bytes);
    }
}

/// Bytes that are not all alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}
