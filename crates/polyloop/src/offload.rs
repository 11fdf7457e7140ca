//! Work that may not run on a loop: bounded pools of threads for what computes long or blocks.
//!
//! The one idea: a submission is answered at once. It is taken, or it comes back because the pool is full, and then the
//! handler decides what that means to its connection. A loop never waits for a pool.
//!
//! ```text
//!   loop --submit--> [ queue, bounded ] --> worker: job() --> (the job pushes its result into the loop's inbox)
//! ```
//!
//! * Threads start with the pools, not with the first job. A failure to start is told to a person before anything is
//!   served. And a thread inherits from its maker: made by a loop it would be pinned to that loop's core, and would share
//!   that loop's descriptor table. Start the pools before the loops are pinned; workers keep the mask of the process and
//!   are not pinned themselves.
//! * A panic in a job costs that job. It is caught and counted, and the worker goes on.
//! * A pool without threads is allowed: it refuses everything, and costs nothing.
//!
//! Deliberately absent: results (a job is a closure and brings its own back), priorities, cancellation of a running job
//! (no thread can be stopped safely from outside; see [`OffloadPools::shutdown`]) and growth under load (the bound is the point).
//!
//! Costs, owned up to: a job is a box, a submission reads the clock once, and waking a parked worker is a system call.
//!
//! Invariant, exact when nothing is in motion: `submitted = done + panicked + dropped + queued + running`.

use crate::guard::guarded;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, TrySendError};
use crossbeam_utils::CachePadded;

use crate::hist::AtomicHistogram;

/// A piece of work. Whatever it has to report, it reports itself; it owns all it needs, descriptors included.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Names a job, for whoever matches results with requests. The pools themselves do not look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Names a pool: its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(usize);

impl PoolId {
    /// The pool for jobs that compute.
    pub const CPU: Self = Self(0);
    /// The pool for jobs that wait.
    pub const BLOCKING: Self = Self(1);
}

/// The size of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// What metrics and thread names call it. The system shows the first 15 bytes of a thread's name.
    pub name: String,
    /// Jobs that run at once; 0 for a pool that refuses everything.
    pub threads: usize,
    /// Jobs that wait for a thread at most; 0 means that a job is taken only when a thread is idle.
    pub queue_len_max: usize,
}

impl PoolConfig {
    /// The configuration of a pool.
    pub fn new(name: impl Into<String>, threads: usize, queue_len_max: usize) -> Self {
        Self {
            name: name.into(),
            threads,
            queue_len_max,
        }
    }
}

/// All pools of the process. Shared by the loops; started and shut down by the control thread.
///
/// Dropped without [`shutdown`](Self::shutdown), it drops the queued jobs and leaves running ones to themselves.
pub struct OffloadPools {
    pools: Vec<Pool>,
    closed: AtomicBool,
    stop: Mutex<Stop>,
}

impl OffloadPools {
    /// Starts the threads of all pools. The first two are [`PoolId::CPU`] and [`PoolId::BLOCKING`] and must be called
    /// `cpu` and `blocking`; more may follow, each with a name of its own.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the names are not as said, or what the system says when it has no thread for us. Threads that
    /// were already started have ended when this returns.
    pub fn start(configs: &[PoolConfig]) -> io::Result<Self> {
        check_names(configs)?;
        let (running, ended) = crossbeam_channel::bounded(0);
        let (stop, stopping) = crossbeam_channel::bounded(0);
        let mut workers = Vec::new();
        let mut pools = Vec::new();
        for config in configs {
            let pool = Pool::new(config);
            for number in 0..config.threads {
                let worker = Worker {
                    jobs: pool.jobs.clone(),
                    stopping: stopping.clone(),
                    counters: Arc::clone(&pool.counters),
                    _running: running.clone(),
                };
                let spawned = thread::Builder::new()
                    .name(format!("off-{}-{number}", config.name))
                    .spawn(move || worker.run());
                match spawned {
                    Ok(handle) => workers.push(handle),
                    Err(error) => {
                        drop(stop);
                        join_all(workers);
                        return Err(error);
                    }
                }
            }
            pools.push(pool);
        }
        let stop = Stop {
            signal: Some(stop),
            ended,
            workers,
        };
        Ok(Self {
            pools,
            closed: AtomicBool::new(false),
            stop: Mutex::new(stop),
        })
    }

    /// Hands `job` to a pool; answers at once. Taken means that it runs, or is dropped and counted by a shutdown.
    ///
    /// # Errors
    ///
    /// The job comes back: [`SubmitError::Full`] when the queue is, [`SubmitError::Closed`] after a shutdown. Both are counted.
    ///
    /// # Panics
    ///
    /// If there is no such pool: constants name pools that every configuration has, and other names come from
    /// [`find`](Self::find).
    pub fn submit(&self, pool: PoolId, job: Job) -> Result<(), SubmitError> {
        let pool = &self.pools[pool.0];
        if self.closed.load(Ordering::Relaxed) {
            pool.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(SubmitError::Closed(job));
        }
        let task = Task {
            job,
            submitted: Instant::now(),
        };
        // Counted before a worker can take it and count it as done.
        pool.counters.submitted.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = pool.queue.try_send(task) {
            pool.counters.submitted.fetch_sub(1, Ordering::Relaxed);
            pool.counters.refused.fetch_add(1, Ordering::Relaxed);
            // Never disconnected: the pool holds both ends.
            let (TrySendError::Full(task) | TrySendError::Disconnected(task)) = error;
            return Err(SubmitError::Full(task.job));
        }
        // Pairs with the fence in `close`: either its emptying of the queue saw our job, or we see that it has closed, and
        // empty the queue in its place. No job stays behind unseen.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Relaxed) {
            pool.discard_queued();
        }
        Ok(())
    }

    /// The pool of that name.
    pub fn find(&self, name: &str) -> Option<PoolId> {
        let index = self.pools.iter().position(|pool| pool.name == name);
        index.map(PoolId)
    }

    /// Every pool with its name, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (PoolId, &str)> {
        let pools = self.pools.iter().enumerate();
        pools.map(|(index, pool)| (PoolId(index), pool.name.as_str()))
    }

    /// The counters of a pool at this moment. Panics when there is no such pool, like [`submit`](Self::submit).
    pub fn stats(&self, pool: PoolId) -> PoolStats {
        let pool = &self.pools[pool.0];
        let counters = &pool.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolStats {
            submitted: read(&counters.submitted),
            refused: read(&counters.refused),
            done: read(&counters.done),
            panicked: read(&counters.panicked),
            dropped: read(&counters.dropped),
            queued: pool.jobs.len() as u64,
            running: read(&counters.running),
        }
    }

    /// How long jobs waited for a thread. Panics when there is no such pool, like [`submit`](Self::submit).
    pub fn queue_wait(&self, pool: PoolId) -> &AtomicHistogram {
        &self.pools[pool.0].counters.queue_wait
    }

    /// How long jobs ran, those that panicked included. Panics when there is no such pool, like [`submit`](Self::submit).
    pub fn run_time(&self, pool: PoolId) -> &AtomicHistogram {
        &self.pools[pool.0].counters.run_time
    }

    /// Takes no more jobs, drops the queued ones, and waits until `deadline` for those that run.
    ///
    /// A job that still runs then is abandoned: its thread cannot be stopped, ends with the process or when the job does,
    /// and is no longer waited for. Calling this again waits for those abandoned before.
    pub fn shutdown(&self, deadline: Instant) -> ShutdownReport {
        let before: u64 = self.dropped();
        let mut stop = self.close();
        let abandoned = match stop.ended.recv_deadline(deadline) {
            // Nothing is ever sent: the channel says that the last worker is gone.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                join_all(std::mem::take(&mut stop.workers));
                0
            }
            Err(RecvTimeoutError::Timeout) => self.pools.iter().map(Pool::unfinished).sum(),
        };
        ShutdownReport {
            dropped: self.dropped() - before,
            abandoned,
        }
    }

    fn dropped(&self) -> u64 {
        let dropped = |pool: &Pool| pool.counters.dropped.load(Ordering::Relaxed);
        self.pools.iter().map(dropped).sum()
    }

    /// Closes the pools, tells the workers, and empties the queues.
    fn close(&self) -> MutexGuard<'_, Stop> {
        // Nothing under this lock panics; if it did, ending would still be right.
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Relaxed);
        drop(stop.signal.take());
        // Pairs with the fence in `submit`.
        fence(Ordering::SeqCst);
        for pool in &self.pools {
            pool.discard_queued();
        }
        stop
    }
}

impl Drop for OffloadPools {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl fmt::Debug for OffloadPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pools = self.iter().map(|(id, name)| (name, self.stats(id)));
        f.debug_map().entries(pools).finish()
    }
}

/// Why a job was not taken, and the job.
#[non_exhaustive]
pub enum SubmitError {
    /// All threads are busy and the queue is full, or the pool has no threads.
    Full(Job),
    /// The pools are shutting down.
    Closed(Job),
}

impl SubmitError {
    /// The job that was not taken.
    pub fn into_job(self) -> Job {
        match self {
            Self::Full(job) | Self::Closed(job) => job,
        }
    }
}

impl fmt::Debug for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the offload pool is full",
            Self::Closed(_) => "the offload pools are shutting down",
        })
    }
}

impl std::error::Error for SubmitError {}

/// One reading of a pool's counters. See the module text for how they add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Jobs taken.
    pub submitted: u64,
    /// Jobs given back.
    pub refused: u64,
    /// Jobs that ran to their end.
    pub done: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs taken and dropped without running, by a shutdown.
    pub dropped: u64,
    /// Jobs waiting for a thread now.
    pub queued: u64,
    /// Jobs running now.
    pub running: u64,
}

/// What a shutdown left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Queued jobs dropped.
    pub dropped: u64,
    /// Jobs that still ran at the deadline.
    pub abandoned: u64,
}

struct Pool {
    name: String,
    queue: Sender<Task>,
    jobs: Receiver<Task>,
    counters: Arc<Counters>,
}

impl Pool {
    fn new(config: &PoolConfig) -> Self {
        // Without threads nobody takes a job out, so none may go in: a channel without room is given only to a waiting
        // receiver.
        let room = if config.threads == 0 {
            0
        } else {
            config.queue_len_max
        };
        let (queue, jobs) = crossbeam_channel::bounded(room);
        Self {
            name: config.name.clone(),
            queue,
            jobs,
            counters: Arc::default(),
        }
    }

    /// Jobs that a worker has taken and not finished. Not the gauge of running jobs, because a worker that has taken a job
    /// may not have got as far as counting it, and not the threads alive, because an idle one may still be about to end.
    fn unfinished(&self) -> u64 {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let submitted = read(&counters.submitted);
        let over = read(&counters.done) + read(&counters.panicked) + read(&counters.dropped);
        submitted.saturating_sub(over + self.jobs.len() as u64)
    }

    fn discard_queued(&self) {
        while let Ok(task) = self.jobs.try_recv() {
            self.counters.discard(task);
        }
    }
}

/// Written by the submitting loops and by the workers, hence apart from each other.
#[derive(Default)]
struct Counters {
    submitted: CachePadded<AtomicU64>,
    refused: AtomicU64,
    dropped: AtomicU64,
    done: CachePadded<AtomicU64>,
    panicked: AtomicU64,
    running: AtomicU64,
    queue_wait: AtomicHistogram,
    run_time: AtomicHistogram,
}

impl Counters {
    fn discard(&self, task: Task) {
        // What a job owns may panic when dropped; here that would cost the loop or the control thread.
        quietly(move || drop(task));
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

struct Task {
    job: Job,
    submitted: Instant,
}

/// How the workers are told to end, and how they are seen to have.
struct Stop {
    /// Dropped to tell all workers at once.
    signal: Option<Sender<()>>,
    /// Disconnected when the last worker has ended.
    ended: Receiver<()>,
    workers: Vec<JoinHandle<()>>,
}

struct Worker {
    jobs: Receiver<Task>,
    stopping: Receiver<()>,
    counters: Arc<Counters>,
    /// Held as long as the worker lives; see [`Stop::ended`].
    _running: Sender<()>,
}

impl Worker {
    fn run(self) {
        let mut select = Select::new();
        let has_job = select.recv(&self.jobs);
        select.recv(&self.stopping);
        loop {
            let chosen = select.select();
            if chosen.index() != has_job {
                // The stop channel carries nothing; it is only ever closed.
                let _closed = chosen.recv(&self.stopping);
                return;
            }
            // Both may be ready at once. Jobs are disconnected only after `stopping`, when the pools themselves are gone.
            let Ok(task) = chosen.recv(&self.jobs) else {
                return;
            };
            self.perform(task);
        }
    }

    fn perform(&self, task: Task) {
        let counters = &self.counters;
        let started = Instant::now();
        counters.running.fetch_add(1, Ordering::Relaxed);
        counters
            .queue_wait
            .record_shared(as_ns(started.saturating_duration_since(task.submitted)));
        let finished = quietly(task.job);
        counters.run_time.record_shared(as_ns(started.elapsed()));
        let outcome = if finished {
            &*counters.done
        } else {
            &counters.panicked
        };
        outcome.fetch_add(1, Ordering::Relaxed);
        counters.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `work`; `false` when it panicked. A job owns what it touches, so nobody sees what a panic left half done.
fn quietly(work: impl FnOnce()) -> bool {
    guarded(work).is_ok()
}

fn join_all(workers: Vec<JoinHandle<()>>) {
    for worker in workers {
        // A worker catches what its jobs throw, and has nothing else to report.
        let _ended = worker.join();
    }
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn check_names(configs: &[PoolConfig]) -> io::Result<()> {
    let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    let names: Vec<_> = configs.iter().map(|config| config.name.as_str()).collect();
    if !names.starts_with(&["cpu", "blocking"]) {
        return invalid(format!(
            "the first two offload pools are \"cpu\" and \"blocking\", not {names:?}"
        ));
    }
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || name.contains('\0') || names[..index].contains(name) {
            return invalid(format!("{name:?} does not name one offload pool"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
