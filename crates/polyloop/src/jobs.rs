//! The way of a job off the loop and of its result back.
//!
//! A job is a boxed closure on a pool's queue. Once it has begun, exactly one end comes back, whether it ends
//! or panics, so that the loop's count of pending jobs returns to zero. A job that a full pool refuses was never
//! taken, and nothing comes back; jobs that are still queued when the pools shut down have no loop left to tell,
//! since pools are shut down after the loops.

use crate::inbox::{SendError, Sender};
use crate::offload::{JobId, OffloadPools, PoolId};
use polyloop_core::slots::Key;

/// The end of a job, on its way to the session that gave it away.
#[derive(Debug)]
pub(crate) struct Finished<M> {
    pub(crate) to: Key,
    pub(crate) job: JobId,
    /// `None`: it panicked or was dropped.
    pub(crate) result: Option<M>,
}

/// Whatever runs jobs: [`OffloadPools`], or, in the simulator, [`Inline`].
pub trait Offload: Send + Sync + 'static {
    /// Takes a job or refuses it, at once.
    ///
    /// # Errors
    /// The queue is full, or there is no such pool; the job has been dropped without running.
    fn submit(&self, pool: PoolId, job: Box<dyn FnOnce() + Send>) -> Result<(), crate::PoolFull>;
}

impl Offload for OffloadPools {
    fn submit(&self, pool: PoolId, job: Box<dyn FnOnce() + Send>) -> Result<(), crate::PoolFull> {
        Self::submit(self, pool, job).map_err(|_| crate::PoolFull)
    }
}

/// Runs each job at once on the caller's thread. For tests on virtual time, where nothing may run beside the loop;
/// the result still arrives as an event of a later turn.
#[derive(Debug, Default)]
pub struct Inline;

impl Offload for Inline {
    fn submit(&self, _pool: PoolId, job: Box<dyn FnOnce() + Send>) -> Result<(), crate::PoolFull> {
        // A job that panics must not take the loop with it; its return tells the session when it is dropped.
        let _ = crate::guard::guarded(job);
        Ok(())
    }
}

/// Sends a job's end when it has run, or when it is dropped without having run to its end.
#[derive(Debug)]
pub(crate) struct JobReturn<M: Send> {
    sender: Sender<Finished<M>>,
    to: Key,
    job: JobId,
    state: ReturnState,
}

#[derive(Debug, PartialEq, Eq)]
enum ReturnState {
    /// Not begun: a drop now is either a refusal (nothing to tell) or the end of the pool.
    Waiting,
    Running,
    Sent,
}

impl<M: Send> JobReturn<M> {
    pub(crate) const fn new(sender: Sender<Finished<M>>, to: Key, job: JobId) -> Self {
        Self {
            sender,
            to,
            job,
            state: ReturnState::Waiting,
        }
    }

    pub(crate) fn run(&mut self, job: impl FnOnce() -> M) {
        self.state = ReturnState::Running;
        let result = job();
        self.send(Some(result));
    }

    fn send(&mut self, result: Option<M>) {
        self.state = ReturnState::Sent;
        let sent = self.sender.send(Finished {
            to: self.to,
            job: self.job,
            result,
        });
        // A loop has no more jobs on their way than its inbox has room for results; one that has ended needs none.
        debug_assert!(
            !matches!(sent, Err(SendError::Full(_))),
            "a result found no room"
        );
    }
}

impl<M: Send> Drop for JobReturn<M> {
    fn drop(&mut self) {
        // A refused job is dropped while the loop is inside `submit`, before it was counted; only a job that began
        // and did not end owes an answer. Jobs dropped with their queue at shutdown have no loop left to tell.
        if self.state == ReturnState::Running {
            self.send(None);
        }
    }
}
