//! One window: load on a server, and what the window cost.
//!
//! The one idea: the server is billed from outside, by its processor clock, which counts nanoseconds in user and kernel
//! mode over all its threads and leaves stolen time out. No server is asked about itself, so all are measured alike.
//!
//! On a loopback that bill is not the whole story: the kernel runs the receiver's half of a send on the sender's
//! account. The busy time of the whole machine is reported beside it; it is sampled by the kernel's tick, and good to
//! about a percent over two seconds.
//!
//! Invariant: a window that should be doubted says why, and is neither dropped nor corrected.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use polyloop_measure::bill::ProcessBill;
use polyloop_measure::host::MachineTime;
use polyloop_measure::quantile::quantile_ns;
use serde::{Deserialize, Serialize};

use crate::load::{Load, Sample, Window};
use crate::subject::Server;

/// One window on one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// Which server.
    pub subject: String,
    /// Which round of the interleaving, from 0.
    pub round: usize,
    /// Connections under load.
    pub connections: usize,
    /// Requests answered.
    pub requests: u64,
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Answers per second; on a shared machine this says little.
    pub requests_per_second: f64,
    /// Server processor time per request, in nanoseconds.
    pub server_cpu_ns: f64,
    /// The same share of all processor time the machine spent, in nanoseconds.
    pub machine_cpu_ns: f64,
    /// The load's own processor time per request, in nanoseconds.
    pub load_cpu_ns: f64,
    /// Server processor time over elapsed time, in cores.
    pub server_cores: f64,
    /// The load's processor time over elapsed time, in cores.
    pub load_cores: f64,
    /// Processor time of the server behind a proxy over elapsed time, in cores; 0 where the server has none.
    pub backend_cores: f64,
    /// Processor time of everybody else, in cores; the resolution is that of the kernel's tick.
    pub other_cores: f64,
    /// Times the server went to sleep, per request.
    pub sleeps: f64,
    /// Times the server was made to give way, per request.
    pub forced_switches: f64,
    /// Share of the machine's time the hypervisor gave away.
    pub steal_share: f64,
    /// Latency as the load saw it.
    pub latency: Latency,
    /// How late the load sent planned messages; all `None` for a closed loop.
    pub lag: Latency,
    /// Reasons to doubt this window.
    pub doubts: Vec<String>,
}

/// Quantiles in microseconds; `None` where fewer than 100 samples lie beyond.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the samples are at or below.
    pub p50_us: Option<f64>,
    /// 99 % are.
    pub p99_us: Option<f64>,
    /// 99.9 % are.
    pub p999_us: Option<f64>,
    /// All are.
    pub max_us: Option<f64>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let micro = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| quantile_ns(histogram, quantile).map(micro);
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: (!histogram.is_empty()).then(|| micro(histogram.max())),
        }
    }
}

/// Where a window belongs in a run.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Name of the server in tables.
    pub subject: &'a str,
    /// Round of the interleaving.
    pub round: usize,
    /// Connections under load.
    pub connections: usize,
}

/// Runs one window of `load` on `server` and bills it. A server that is a proxy has a `backend`, whose work is neither
/// the proxy's nor that of somebody else.
///
/// # Errors
/// When the load fails or a server is gone.
pub fn window(
    server: &Server,
    backend: Option<&Server>,
    load: &mut Load,
    window: Window,
    place: Place<'_>,
) -> Result<Cell> {
    let meter = Meter::start(server, backend)?;
    let sample = load
        .run(window)
        .with_context(|| format!("{}, round {}", place.subject, place.round + 1))?;
    Ok(cell(place, &sample, meter.stop()?))
}

/// A bill that is running.
#[derive(Debug)]
pub struct Meter<'a> {
    server: &'a Server,
    backend: Option<&'a Server>,
    before: Metered,
}

/// What was used while a [`Meter`] ran.
#[derive(Debug, Clone, Copy)]
pub struct Metered {
    /// The server.
    pub server: ProcessBill,
    /// Processor time of the server behind it, in nanoseconds.
    pub backend_cpu_ns: u64,
    /// All cores together.
    pub machine: MachineTime,
}

impl<'a> Meter<'a> {
    /// Begins a bill for `server`.
    ///
    /// # Errors
    /// When a server is gone.
    pub fn start(server: &'a Server, backend: Option<&'a Server>) -> Result<Self> {
        Ok(Self {
            server,
            backend,
            before: Metered::read(server, backend)?,
        })
    }

    /// Ends the bill.
    ///
    /// # Errors
    /// When a server is gone.
    pub fn stop(self) -> Result<Metered> {
        self.peek()
    }

    /// What is on the bill so far.
    ///
    /// # Errors
    /// When a server is gone.
    pub fn peek(&self) -> Result<Metered> {
        let now = Metered::read(self.server, self.backend)?;
        Ok(Metered {
            server: now.server.since(self.before.server),
            backend_cpu_ns: now
                .backend_cpu_ns
                .saturating_sub(self.before.backend_cpu_ns),
            machine: now.machine.since(self.before.machine),
        })
    }
}

impl Metered {
    fn read(server: &Server, backend: Option<&Server>) -> Result<Self> {
        Ok(Self {
            server: server.bill()?,
            backend_cpu_ns: backend.map_or(Ok(0), |backend| {
                Ok::<_, anyhow::Error>(backend.bill()?.cpu_ns)
            })?,
            machine: MachineTime::read()?,
        })
    }

    /// Adds what was used at another time.
    pub fn add(&mut self, other: Self) {
        self.server.add(other.server);
        self.backend_cpu_ns += other.backend_cpu_ns;
        self.machine.add(other.machine);
    }

    /// Processor time of everybody but the server, its backend and `load_cpu_ns`, over `elapsed_ns`, in cores.
    #[must_use]
    pub fn other_cores(&self, load_cpu_ns: u64, elapsed_ns: u64) -> f64 {
        let known_ns = self.server.cpu_ns + self.backend_cpu_ns + load_cpu_ns;
        self.machine.busy_ns().saturating_sub(known_ns) as f64 / elapsed_ns.max(1) as f64
    }
}

/// What a sample and its bill come to.
#[must_use]
pub fn cell(place: Place<'_>, sample: &Sample, metered: Metered) -> Cell {
    let requests = sample.requests.max(1) as f64;
    let elapsed_ns = sample.elapsed_ns.max(1) as f64;
    let (bill, machine) = (metered.server, metered.machine);
    let other_cores = metered.other_cores(sample.cpu_ns, sample.elapsed_ns);
    let mut cell = Cell {
        subject: place.subject.to_owned(),
        round: place.round,
        connections: place.connections,
        requests: sample.requests,
        seconds: elapsed_ns / 1e9,
        requests_per_second: requests * 1e9 / elapsed_ns,
        server_cpu_ns: bill.cpu_ns as f64 / requests,
        machine_cpu_ns: machine.busy_ns() as f64 / requests,
        load_cpu_ns: sample.cpu_ns as f64 / requests,
        server_cores: bill.cpu_ns as f64 / elapsed_ns,
        load_cores: sample.cpu_ns as f64 / elapsed_ns,
        backend_cores: metered.backend_cpu_ns as f64 / elapsed_ns,
        other_cores,
        sleeps: bill.switches_voluntary as f64 / requests,
        forced_switches: bill.switches_forced as f64 / requests,
        steal_share: machine.steal_share(),
        latency: Latency::of(&sample.latency_ns),
        lag: Latency::of(&sample.lag_ns),
        doubts: doubts(machine.steal_share(), other_cores),
    };
    if let (Some(lag), Some(latency)) = (cell.lag.p99_us, cell.latency.p99_us)
        && lag > latency * LAG_SHARE_MAX
    {
        cell.doubts.push(format!(
            "the load sent late: p99 {lag:.0} us of {latency:.0} us"
        ));
    }
    cell
}

/// Reasons to doubt a window in which the hypervisor took this share of the time and others used these cores.
#[must_use]
pub fn doubts(steal_share: f64, other_cores: f64) -> Vec<String> {
    let mut doubts = Vec::new();
    if steal_share > STEAL_SHARE_MAX {
        doubts.push(format!("{:.1} % of the time was stolen", steal_share * 1e2));
    }
    if other_cores > OTHER_CORES_MAX {
        doubts.push(format!("others used {other_cores:.2} cores"));
    }
    doubts
}

/// Above this the hypervisor decides about the result.
const STEAL_SHARE_MAX: f64 = 0.01;

/// A tenth of a core by others moves the processor time of a request by about as much as the goals allow.
const OTHER_CORES_MAX: f64 = 0.1;

/// A load that sends later than this share of the latency it reports measures itself.
const LAG_SHARE_MAX: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_named() {
        // Goal: stolen time, busy neighbours and a late load are each told, by one cell at fault in all three.
        let sample = Sample {
            requests: 1_000,
            elapsed_ns: 1_000_000_000,
            cpu_ns: 0,
            latency_ns: filled(1_000),
            lag_ns: filled(900),
        };
        let bill = ProcessBill {
            cpu_ns: 500_000,
            switches_voluntary: 10,
            switches_forced: 1,
        };
        let machine = MachineTime {
            busy_ticks: 100,
            steal_ticks: 5,
            total_ticks: 200,
        };
        let place = Place {
            subject: "x",
            round: 0,
            connections: 1,
        };
        let mut sample_late = sample.clone();
        sample_late.latency_ns.saturating_record_n(1_000, 99_000);
        sample_late.lag_ns.saturating_record_n(900, 99_000);
        let metered = Metered {
            server: bill,
            backend_cpu_ns: 0,
            machine,
        };
        let cell = cell(place, &sample_late, metered);
        assert_eq!(cell.server_cpu_ns, 500.0);
        assert_eq!(cell.doubts.len(), 3, "{:?}", cell.doubts);
    }

    fn filled(value: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record_n(value, 1_000).unwrap();
        histogram
    }
}
