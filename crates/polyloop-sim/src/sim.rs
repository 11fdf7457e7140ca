//! Loops that take turns on one thread, and the clock that moves when they all sleep.

use crate::driver::{SimDriver, SimListener};
use crate::world::World;
use polyloop::driver::Driver;
use polyloop::jobs::{Inline, Offload};
use polyloop::{
    Capacities, Choice, Console, Dispatcher, Factory, Gate, GateKind, Handler, LoopEnd, Spreading,
    Tuning, Turn, WhenFull, wire,
};
use std::sync::Arc;
use std::time::Duration;

/// The message type of a factory's handlers.
type MessageOf<F> = <<F as Factory>::Handler as Handler>::Message;

/// Turns without the clock moving after which a simulation is held to spin.
const TURNS_MAX: usize = 1_000_000;

/// How late a loop may come to a deadline when it stalls.
const STALL_NS_MAX: usize = 5_000_000_000;

/// A server in a world. See the crate's documentation.
#[derive(Debug)]
pub struct Sim<F: Factory> {
    world: World,
    /// A loop that has ended is dropped, as its thread would do: what it still held is held no more.
    loops: Vec<Option<Dispatcher<SimDriver, F>>>,
    ends: Vec<Option<LoopEnd>>,
    console: Console<SimDriver, MessageOf<F>>,
    listeners: Vec<u32>,
    /// The world's poll of the first loop; those of the others follow.
    first_poller: usize,
}

impl<F: Factory> Sim<F> {
    /// `loops` loops, each with a listener of its own, whose factories and ways to spread are made by index.
    ///
    /// # Panics
    /// When a loop cannot be made, which no world without loops keeps from happening.
    pub fn new(
        world: &World,
        loops: usize,
        tuning: &Tuning,
        capacities: Capacities,
        when_full: WhenFull,
        factory: impl FnMut(usize) -> F,
        choice: impl FnMut(usize) -> Choice,
    ) -> Self {
        let gates = |_, listener| {
            vec![Gate {
                listener,
                index: 0,
                kind: GateKind::Service,
            }]
        };
        Self::assemble(
            world, loops, tuning, capacities, when_full, factory, choice, gates,
        )
    }

    /// The same with an admin gate on the first loop, as the second listener of the server; also what its visitors connect to.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_admin(
        world: &World,
        loops: usize,
        tuning: &Tuning,
        capacities: Capacities,
        factory: impl FnMut(usize) -> F,
        connections_max: usize,
    ) -> (Self, u32) {
        let admin = world.listen();
        let id = admin.id();
        let mut admin = Some(admin);
        let gates = |_, listener| {
            let service = Gate {
                listener,
                index: 0,
                kind: GateKind::Service,
            };
            let admin = admin.take().map(|listener| Gate {
                listener,
                index: 1,
                kind: GateKind::Admin { connections_max },
            });
            std::iter::once(service).chain(admin).collect()
        };
        let stay = |_| Choice::Stay;
        let wait = WhenFull::Wait;
        let sim = Self::assemble(world, loops, tuning, capacities, wait, factory, stay, gates);
        (sim, id)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a server, named once, behind two shorter ways to put them together"
    )]
    fn assemble(
        world: &World,
        loops: usize,
        tuning: &Tuning,
        capacities: Capacities,
        when_full: WhenFull,
        mut factory: impl FnMut(usize) -> F,
        mut choice: impl FnMut(usize) -> Choice,
        mut gates: impl FnMut(usize, SimListener) -> Vec<Gate<SimListener>>,
    ) -> Self {
        let drivers: Vec<_> = (0..loops).map(|_| world.driver()).collect();
        let first_poller = drivers.first().map_or(0, |driver| driver.poller);
        let wakers = drivers.iter().map(Driver::waker).collect();
        let offload: Arc<dyn Offload> = Arc::new(Inline);
        let (seats, console) = wire::<SimDriver, MessageOf<F>>(wakers, capacities, &offload);
        let mut listeners = Vec::new();
        let crew = drivers.into_iter().zip(seats).enumerate();
        let loops = crew
            .map(|(index, (driver, mut seat))| {
                // Of the service; the admin gate is another.
                seat.set_kept_alive(&[world.lock().listeners_keep_alive].into());
                let listener: SimListener = world.listen();
                listeners.push(listener.id());
                let gates = gates(index, listener);
                let spreading = Spreading {
                    choice: choice(index),
                    when_full,
                };
                Dispatcher::new(
                    driver,
                    factory(index),
                    tuning.clone(),
                    seat,
                    gates,
                    spreading,
                )
                .unwrap_or_else(|error| panic!("loop {index}: {error}"))
            })
            .collect::<Vec<_>>();
        let ends = loops.iter().map(|_| None).collect();
        let loops = loops.into_iter().map(Some).collect();
        Self {
            world: world.clone(),
            loops,
            ends,
            console,
            listeners,
            first_poller,
        }
    }

    /// What clients connect to: one listener for each loop.
    #[must_use]
    pub fn listeners(&self) -> &[u32] {
        &self.listeners
    }

    /// Orders, boards, permits and the mailer.
    #[must_use]
    pub const fn console(&self) -> &Console<SimDriver, MessageOf<F>> {
        &self.console
    }

    /// How each loop ended, if it did.
    #[must_use]
    pub fn ends(&self) -> &[Option<LoopEnd>] {
        &self.ends
    }

    /// The sum of a number over all loops.
    pub fn sum(&self, number: impl Fn(&polyloop::telemetry::Numbers) -> u64) -> u64 {
        self.console
            .boards()
            .iter()
            .map(|board| number(&board.numbers))
            .sum()
    }

    /// Turns every loop that has something to do, until none has, without the clock moving. Returns how many turns that took.
    ///
    /// # Panics
    /// When that never happens: the loops spin.
    pub fn settle(&mut self) -> usize {
        let mut turns = 0;
        loop {
            self.world.lock().lose_somebody();
            let due: Vec<usize> = (0..self.loops.len())
                .filter(|&at| self.is_due(at))
                .collect();
            if due.is_empty() {
                return turns;
            }
            for at in self.in_some_order(due) {
                turns += 1;
                assert!(
                    turns < TURNS_MAX,
                    "{turns} turns at one instant: the loops spin"
                );
                // What another loop did meanwhile may have taken its reason away.
                if self.is_due(at) {
                    self.turn(at);
                }
            }
        }
    }

    /// Lets time pass, stopping wherever a loop wants to wake.
    pub fn advance(&mut self, by: Duration) {
        let by_ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = self.world.now_ns().saturating_add(by_ns);
        loop {
            self.settle();
            let alive = self.loops.iter().flatten();
            let next_ns = alive.filter_map(Dispatcher::next_wake_ns).min();
            match next_ns {
                Some(next_ns) if next_ns <= until_ns => self.sleep_until(next_ns, until_ns),
                _ => break,
            }
        }
        self.world.lock().now_ns = until_ns;
        self.settle();
    }

    /// The loops that are due, beginning with any, without those that come late this time.
    fn in_some_order(&self, mut due: Vec<usize>) -> Vec<usize> {
        let mut state = self.world.lock();
        let first = state.random.below(due.len());
        due.rotate_left(first);
        due.retain(|_| !state.fires(|faults| faults.stalls));
        due
    }

    /// Lets the clock move to the next deadline, or somewhat beyond it.
    fn sleep_until(&self, next_ns: u64, until_ns: u64) {
        let mut state = self.world.lock();
        let is_late = state.fires(|faults| faults.stalls);
        let late_ns = if is_late {
            state.random.below(STALL_NS_MAX) as u64
        } else {
            0
        };
        state.now_ns = state.now_ns.max((next_ns + late_ns).min(until_ns));
    }

    fn turn(&mut self, at: usize) {
        let Some(dispatcher) = &mut self.loops[at] else {
            return;
        };
        match dispatcher.turn() {
            Ok(Turn::Next) => {}
            Ok(Turn::Ended(end)) => {
                self.ends[at] = Some(end);
                self.loops[at] = None;
            }
            Err(error) => panic!("loop {at}: {error}"),
        }
    }

    fn is_due(&self, at: usize) -> bool {
        let Some(dispatcher) = &self.loops[at] else {
            return false;
        };
        let wakes_at_ns = dispatcher.next_wake_ns();
        let state = self.world.lock();
        state.has_news(self.first_poller + at)
            || wakes_at_ns.is_some_and(|wakes_at_ns| wakes_at_ns <= state.now_ns)
    }
}
