//! Loops that nobody has: a queueing simulation from a seed, for 4 to 128 loops. **Simulated, not measured.**
//!
//! ```text
//!   connections come and go ──> placed by the mode ──> loop: a queue, one request at a time
//!   each sends requests at random times                       shared queue: one queue, any free loop
//! ```
//!
//! The one idea: what a way of spreading does to waiting is arithmetic, and the same on every machine; so it is drawn
//! from the seed on a virtual clock. Placement by `two-choices` and `least` is the product's own code
//! (`polyloop_core::spread`), not a likeness of it.
//!
//! What is left out makes loops look better than they are: no cost of handing over, of caches gone cold, of locks. So a
//! shared queue, which pays these most, is a bound here and not a rival.
//!
//! Invariants: the same plan gives the same result, bit for bit; each request is answered once; time only grows.

use std::collections::{BinaryHeap, VecDeque};

use polyloop_core::spread::{Chooser, Spread};
use polyloop_measure::stats::SplitMix64;
use serde::Serialize;

/// How connections come to loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The kernel hashes: any loop, whatever its load.
    Reuseport,
    /// Two loops are looked at.
    TwoChoices,
    /// All loops are looked at.
    Least,
    /// Requests, not connections, wait in one queue for any loop that is free.
    SharedQueue,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Reuseport,
        Self::TwoChoices,
        Self::Least,
        Self::SharedQueue,
    ];

    /// What tables call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reuseport => "reuseport",
            Self::TwoChoices => "two-choices",
            Self::Least => "least",
            Self::SharedQueue => "shared queue",
        }
    }
}

/// What to simulate. Times are in units of the mean service.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Plan {
    /// How many loops.
    pub loops: usize,
    /// How connections are spread.
    pub mode: Mode,
    /// Connections open at once, for each loop.
    pub connections_per_loop: usize,
    /// The share of their time that loops are busy, if all were loaded alike; below 1.
    pub utilisation: f64,
    /// Requests of a connection, on average, before another takes its place.
    pub requests_per_connection: f64,
    /// One request in ten takes so many times as long as the others; 1 is even work.
    pub unevenness: f64,
    /// Requests to simulate.
    pub requests: usize,
    /// Where everything random begins.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Simulated {
    /// Largest over mean number of connections of a loop, averaged over the requests. A shared queue has none: 1.
    pub imbalance: f64,
    /// Half of the requests took at most this long.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Requests counted.
    pub samples: usize,
}

/// Runs a plan.
///
/// # Panics
/// When there is no loop, no connection, or more work than the loops can do for ever (`utilisation` of 1 or more).
#[must_use]
pub fn simulate(plan: &Plan) -> Simulated {
    assert!(
        plan.loops > 0 && plan.connections_per_loop > 0,
        "nothing to simulate"
    );
    assert!(
        plan.utilisation > 0.0 && plan.utilisation < 1.0,
        "a queue under full load grows for ever"
    );
    let mut world = World::new(plan);
    world.run();
    world.result()
}

/// Something that will happen.
#[derive(Debug, PartialEq)]
struct Event {
    at: f64,
    /// Events of one moment keep the order in which they were planned.
    order: u64,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    /// Some connection sends. All together are a Poisson stream, so one clock serves all.
    Request,
    /// A loop has answered.
    Done { server: usize },
}

impl Eq for Event {}

impl Ord for Event {
    /// The earliest first, as the heap takes its largest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other
            .at
            .total_cmp(&self.at)
            .then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct World<'a> {
    plan: &'a Plan,
    random: SplitMix64,
    chooser: Chooser,
    events: BinaryHeap<Event>,
    order: u64,
    now: f64,
    /// The loop of each connection.
    homes: Vec<usize>,
    /// Connections of each loop.
    live: Vec<u64>,
    /// The largest of these.
    most: u64,
    /// Arrival times that wait, by loop; the shared queue is the first.
    queues: Vec<VecDeque<f64>>,
    /// When the request arrived that a loop works on.
    busy: Vec<Option<f64>>,
    sent: usize,
    latencies: Vec<f64>,
    imbalance_sum: f64,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> Self {
        let spread = match plan.mode {
            Mode::TwoChoices => Spread::TwoChoices,
            _ => Spread::Least,
        };
        let mut world = Self {
            plan,
            random: SplitMix64::new(plan.seed),
            chooser: Chooser::new(spread, 0, plan.loops, plan.seed),
            events: BinaryHeap::new(),
            order: 0,
            now: 0.0,
            homes: Vec::new(),
            live: vec![0; plan.loops],
            most: 0,
            queues: vec![VecDeque::new(); plan.loops],
            busy: vec![None; plan.loops],
            sent: 0,
            latencies: Vec::with_capacity(plan.requests),
            imbalance_sum: 0.0,
        };
        for _ in 0..plan.loops * plan.connections_per_loop {
            let home = world.place();
            world.homes.push(home);
        }
        world.most = world.live.iter().copied().max().unwrap_or(0);
        world
    }

    fn run(&mut self) {
        self.plan_request();
        while let Some(event) = self.events.pop() {
            debug_assert!(event.at >= self.now, "time only grows");
            self.now = event.at;
            match event.what {
                What::Request => {
                    self.request();
                    self.sent += 1;
                    if self.sent < self.plan.requests {
                        self.plan_request();
                    }
                }
                What::Done { server } => self.done(server),
            }
        }
    }

    fn plan_request(&mut self) {
        let rate = self.plan.utilisation * self.plan.loops as f64;
        let at = self.now + exponential(&mut self.random) / rate;
        self.schedule(at, What::Request);
    }

    fn schedule(&mut self, at: f64, what: What) {
        self.order += 1;
        let order = self.order;
        self.events.push(Event { at, order, what });
    }

    fn request(&mut self) {
        let connection = self.random.below(self.homes.len());
        let home = self.homes[connection];
        self.imbalance_sum += self.most as f64 / self.plan.connections_per_loop as f64;
        if self.plan.mode == Mode::SharedQueue {
            match self.busy.iter().position(Option::is_none) {
                Some(free) => self.begin(free, self.now),
                None => self.queues[0].push_back(self.now),
            }
        } else if self.busy[home].is_none() {
            self.begin(home, self.now);
        } else {
            self.queues[home].push_back(self.now);
        }
        // The last request of a connection: another one takes its place.
        if uniform(&mut self.random) * self.plan.requests_per_connection < 1.0 {
            self.live[home] -= 1;
            self.homes[connection] = self.place();
            self.most = self.live.iter().copied().max().unwrap_or(0);
        }
    }

    fn place(&mut self) -> usize {
        let loops = self.plan.loops;
        let home = match self.plan.mode {
            Mode::Reuseport => self.random.below(loops),
            Mode::SharedQueue | Mode::TwoChoices | Mode::Least => {
                let live = &self.live;
                self.chooser
                    .choose(|server| live.get(server).copied(), None)
            }
        };
        self.live[home] += 1;
        home
    }

    fn begin(&mut self, server: usize, arrived: f64) {
        self.busy[server] = Some(arrived);
        let long = self.plan.unevenness;
        // One in ten is long; scaled so that the mean is 1 whatever the unevenness.
        let mean = 0.9 + 0.1 * long;
        let length = if self.random.below(10) == 0 {
            long
        } else {
            1.0
        };
        let service = exponential(&mut self.random) * length / mean;
        self.schedule(self.now + service, What::Done { server });
    }

    fn done(&mut self, server: usize) {
        if let Some(arrived) = self.busy[server].take() {
            self.latencies.push(self.now - arrived);
        }
        let queue = match self.plan.mode {
            Mode::SharedQueue => 0,
            _ => server,
        };
        if let Some(arrived) = self.queues[queue].pop_front() {
            self.begin(server, arrived);
        }
    }

    fn result(mut self) -> Simulated {
        let imbalance = match self.plan.mode {
            Mode::SharedQueue => 1.0,
            _ => self.imbalance_sum / self.plan.requests.max(1) as f64,
        };
        // Answers come in time's order: the first tenth is the time in which queues fill.
        self.latencies.drain(..self.latencies.len() / 10);
        let samples = self.latencies.len();
        let mean = self.latencies.iter().sum::<f64>() / samples.max(1) as f64;
        let squares: f64 = self.latencies.iter().map(|one| (one - mean).powi(2)).sum();
        self.latencies.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let last = samples.saturating_sub(1);
            let latency = self.latencies.get((share * last as f64) as usize);
            latency.copied().unwrap_or(f64::NAN)
        };
        Simulated {
            imbalance,
            p50: at(0.5),
            p99: at(0.99),
            p99_9: at(0.999),
            deviation: (squares / samples.max(1) as f64).sqrt(),
            samples,
        }
    }
}

/// Strictly between 0 and 1.
fn uniform(random: &mut SplitMix64) -> f64 {
    ((random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Mean 1.
fn exponential(random: &mut SplitMix64) -> f64 {
    -uniform(random).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(loops: usize, mode: Mode) -> Plan {
        Plan {
            loops,
            mode,
            connections_per_loop: 16,
            utilisation: 0.6,
            requests_per_connection: 50.0,
            unevenness: 1.0,
            requests: 100_000,
            seed: 1,
        }
    }

    #[test]
    fn one_loop_waits_as_theory_says() {
        // Goal: latencies of a single queue are exponential with mean 1 / (1 - load) (M/M/1); by its percentiles.
        for mode in Mode::ALL {
            let result = simulate(&plan(1, mode));
            let mean = 1.0 / (1.0 - 0.6);
            for (found, share) in [(result.p50, 0.5_f64), (result.p99, 0.99)] {
                let truth = -(1.0 - share).ln() * mean;
                assert!(
                    (found / truth - 1.0).abs() < 0.1,
                    "{mode:?} {found} {truth}"
                );
            }
            assert!((result.deviation / mean - 1.0).abs() < 0.1, "{result:?}");
            assert_eq!(result.imbalance, 1.0);
        }
    }

    #[test]
    fn modes_stand_in_the_order_that_is_known() {
        // Goal: hashing is the most uneven and waits longest, one queue the shortest; at 16 loops.
        let of = |mode| simulate(&plan(16, mode));
        let [hash, two, least, shared] = Mode::ALL.map(of);
        assert!(
            hash.imbalance > 1.3 && two.imbalance < 1.2,
            "{hash:?} {two:?}"
        );
        assert!(least.imbalance <= two.imbalance + 0.02, "{least:?}");
        assert!(hash.p99 > 1.5 * two.p99, "{hash:?} {two:?}");
        assert!(
            shared.p99 < least.p99 && shared.imbalance == 1.0,
            "{shared:?}"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_world() {
        // Goal: a figure can be drawn again, and every request is answered; by running twice, and another seed.
        let first = simulate(&plan(8, Mode::TwoChoices));
        assert_eq!(simulate(&plan(8, Mode::TwoChoices)), first);
        assert_eq!(first.samples, 90_000);
        let other = Plan {
            seed: 2,
            ..plan(8, Mode::TwoChoices)
        };
        assert_ne!(simulate(&other), first);
    }

    #[test]
    fn uneven_work_has_the_same_load_and_a_longer_tail() {
        // Goal: the mean service stays 1, so only the tail grows; by one queue with work 20 times as long.
        let uneven = Plan {
            unevenness: 20.0,
            ..plan(4, Mode::SharedQueue)
        };
        let (even, uneven) = (simulate(&plan(4, Mode::SharedQueue)), simulate(&uneven));
        assert!(uneven.p99 > 2.0 * even.p99, "{even:?} {uneven:?}");
    }
}
