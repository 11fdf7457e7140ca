//! A load that knows what it sent: ping-pong over many connections, every byte checked.
//!
//! The one idea: a [`Load`] opens its connections once and is then *run* for one window after another. A window begins
//! and ends with no message under way, so the processor time a server used between the two belongs to exactly the
//! requests that were counted.
//!
//! Two paces. [`Pace::Closed`] sends the next message as soon as the answer is there and finds what a server can do;
//! its latencies are those of a client that waits its turn, no more. [`Pace::Rate`] sends by a schedule laid down in
//! advance and counts latency from the planned moment, so a server that stalls pays for every request it kept waiting.
//!
//! Deliberately absent: pipelining, connection churn and a search for the highest rate.

use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use polyloop_sys::descriptors::part_from_shared_table;

use client::Client;

mod client;
mod connect;
mod message;

pub use connect::{Connect, PER_SOURCE_MAX};
pub use message::{PLAIN, fill};

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// One message under way on each connection, always.
    Closed,
    /// This many messages per second over all connections, evenly, whether or not answers come.
    Rate(f64),
}

/// When a window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// After this time; answers still under way are waited for.
    After(Duration),
    /// After at least this many requests: each thread makes its share, and finishes what is under way.
    Requests(u64),
}

/// One window of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// When messages are sent.
    pub pace: Pace,
    /// When it ends.
    pub stop: Stop,
}

impl Window {
    /// A closed loop for this long.
    #[must_use]
    pub fn closed(length: Duration) -> Self {
        Self {
            pace: Pace::Closed,
            stop: Stop::After(length),
        }
    }
}

/// What one window saw.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Messages sent and answered, every byte as it should be.
    pub requests: u64,
    /// From the first send to the last answer, in nanoseconds.
    pub elapsed_ns: u64,
    /// Processor time of the load's own threads, in nanoseconds.
    pub cpu_ns: u64,
    /// From the moment a message was sent, or planned to be sent, to the end of its answer, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// How late messages were sent after their planned moment, in nanoseconds; empty for a closed loop.
    pub lag_ns: Histogram<u64>,
}

impl Sample {
    fn empty() -> Result<Self> {
        Ok(Self {
            requests: 0,
            elapsed_ns: 0,
            cpu_ns: 0,
            latency_ns: histogram()?,
            lag_ns: histogram()?,
        })
    }

    /// Adds what another thread did at the same time.
    fn merge(&mut self, other: &Self) -> Result<()> {
        let elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.append(other)?;
        self.elapsed_ns = elapsed_ns;
        Ok(())
    }

    /// Adds what was done at another time.
    ///
    /// # Errors
    /// Never, as all histograms have the same bounds.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        self.requests += other.requests;
        self.elapsed_ns += other.elapsed_ns;
        self.cpu_ns += other.cpu_ns;
        self.latency_ns.add(&other.latency_ns)?;
        self.lag_ns.add(&other.lag_ns)?;
        Ok(())
    }
}

/// Open connections and the threads that use them. Dropping it closes the connections.
#[derive(Debug)]
pub struct Load {
    workers: Vec<Worker>,
    connections: usize,
}

/// A thread that runs windows as they are sent to it.
#[derive(Debug)]
struct Worker {
    /// Taken away at the end, which ends the thread.
    windows: Option<Sender<Window>>,
    samples: Receiver<Result<Sample>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread on `core`, which makes its client itself.
    fn start(
        core: Option<usize>,
        make: impl FnOnce() -> Result<Client> + Send + 'static,
    ) -> Result<Self> {
        let (windows, windows_in) = mpsc::channel();
        let (samples_out, samples) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || serve(core, make, &windows_in, &samples_out))?;
        Ok(Self {
            windows: Some(windows),
            samples,
            thread: Some(thread),
        })
    }

    fn order(&self, window: Window) {
        if let Some(windows) = &self.windows {
            // A thread that is gone has left a reason, or none: both are told where its sample is asked for.
            let _ = windows.send(window);
        }
    }

    fn sample(&self) -> Result<Sample> {
        let sample = self.samples.recv();
        sample.unwrap_or_else(|_| bail!("a thread of the load has ended"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.windows = None;
        if let Some(thread) = self.thread.take() {
            // Its connections are closed when it has ended. A panic was told as a missing sample.
            let _ = thread.join();
        }
    }
}

/// The life of a worker's thread: an empty sample when its connections are open, then one for each window.
fn serve(
    core: Option<usize>,
    make: impl FnOnce() -> Result<Client>,
    windows: &Receiver<Window>,
    samples: &Sender<Result<Sample>>,
) {
    let mut client = match pin(core).and_then(|()| make()) {
        Ok(client) => client,
        Err(error) => {
            let _ = samples.send(Err(error));
            return;
        }
    };
    if samples.send(Sample::empty()).is_err() {
        return;
    }
    for window in windows {
        if samples.send(client.run(window)).is_err() {
            return;
        }
    }
}

impl Load {
    /// Spreads `streams` over one thread per entry of `cores`; `None` leaves that thread unpinned.
    ///
    /// # Errors
    /// When a poll cannot be made or there is less than one connection per thread.
    pub fn new(
        streams: Vec<TcpStream>,
        message_bytes: usize,
        cores: &[Option<usize>],
    ) -> Result<Self> {
        let connections = streams.len();
        require_shares(connections, message_bytes, cores.len())?;
        let mut shares: Vec<Vec<(u32, TcpStream)>> = cores.iter().map(|_| Vec::new()).collect();
        for (index, stream) in streams.into_iter().enumerate() {
            shares[index % cores.len()].push((u32::try_from(index)?, stream));
        }
        let workers = shares
            .into_iter()
            .zip(cores)
            .map(|(share, &core)| Worker::start(core, move || Client::new(share, message_bytes)));
        Self::ready(workers.collect::<Result<_>>()?, connections)
    }

    /// Opens connections, each thread its share of them, in a descriptor table of its own: the limit of open files holds for each
    /// thread and not for all loads of this process together.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when a connection cannot be opened.
    pub fn open(connect: &Connect, message_bytes: usize, cores: &[Option<usize>]) -> Result<Self> {
        require_shares(connect.count, message_bytes, cores.len())?;
        let workers = cores.iter().enumerate().map(|(nth, &core)| {
            let ids = (nth..connect.count).step_by(cores.len());
            let connect = connect.clone();
            Worker::start(core, move || {
                part_from_shared_table()?;
                let streams = connect.open_each(ids.clone())?;
                let share = ids.zip(streams);
                let share = share.map(|(id, stream)| Ok((u32::try_from(id)?, stream)));
                Client::new(share.collect::<Result<_>>()?, message_bytes)
            })
        });
        Self::ready(workers.collect::<Result<_>>()?, connect.count)
    }

    /// Waits until all threads have their connections.
    fn ready(workers: Vec<Worker>, connections: usize) -> Result<Self> {
        for worker in &workers {
            worker.sample()?;
        }
        Ok(Self {
            workers,
            connections,
        })
    }

    /// How many connections there are.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.connections
    }

    /// Runs one window. Afterwards no message is under way.
    ///
    /// # Errors
    /// When an answer is wrong, missing for 10 s, or a connection ends. The load cannot be used any more then.
    pub fn run(&mut self, window: Window) -> Result<Sample> {
        let window = self.share_of(window)?;
        for worker in &self.workers {
            worker.order(window);
        }
        let samples: Vec<Result<Sample>> = self.workers.iter().map(Worker::sample).collect();
        let mut total = Sample::empty()?;
        for sample in samples {
            total.merge(&sample?)?;
        }
        Ok(total)
    }

    /// The part of a window that falls to each thread.
    fn share_of(&self, window: Window) -> Result<Window> {
        let threads = self.workers.len();
        let pace = match window.pace {
            Pace::Closed => Pace::Closed,
            Pace::Rate(per_second) => {
                ensure!(
                    per_second > 0.0 && per_second.is_finite(),
                    "a rate of {per_second} per second is none"
                );
                ensure!(
                    matches!(window.stop, Stop::After(_)),
                    "a window with a rate is ended by time"
                );
                Pace::Rate(per_second / threads as f64)
            }
        };
        let stop = match window.stop {
            Stop::After(length) => Stop::After(length),
            Stop::Requests(count) => Stop::Requests(count.div_ceil(threads as u64)),
        };
        Ok(Window { pace, stop })
    }
}

fn require_shares(connections: usize, message_bytes: usize, threads: usize) -> Result<()> {
    ensure!(message_bytes > 0, "a message has at least one byte");
    ensure!(
        threads > 0 && connections >= threads,
        "{connections} connections cannot keep {threads} threads busy"
    );
    Ok(())
}

/// Pins the calling thread.
///
/// # Errors
/// When the core does not exist or this process may not use it.
pub fn pin(core: Option<usize>) -> Result<()> {
    let Some(id) = core else { return Ok(()) };
    ensure!(
        core_affinity::set_for_current(core_affinity::CoreId { id }),
        "core {id} does not exist or may not be used by this process"
    );
    Ok(())
}

/// Three significant digits up to a minute: what answers take on a loopback, with room for a stall.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).context("the histogram's bounds are valid")
}

#[cfg(test)]
mod tests;
