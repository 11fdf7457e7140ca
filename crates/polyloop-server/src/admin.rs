//! The admin listener: HTTP/1.1 on a loop, for Prometheus, scripts and people.
//!
//! The one idea: a visitor can never cost more than it is worth. Requests are small and complete within a deadline,
//! answers are rendered off the loop (a page for many loops takes milliseconds), a batch of pipelined requests is
//! one job, and there are few visitors at once.
//!
//! ```text
//!   on_data: parse all complete requests --cheap--> answer at once
//!                                        --else---> pause, job renders on the `blocking` pool --> on_answer: write, resume
//! ```
//!
//! Deliberately absent: anything that changes the server, but for the state of a proxy's backends (`POST /backends/..`);
//! request bodies, compression, TLS and passwords. Hence loopback or a unix socket only, unless the operator says
//! otherwise.
//!
//! The state of a visitor is three bytes, since a session is as large as the largest kind of connection; what all
//! visitors of a loop share is the loop's [`Site`], in a variable of its thread.

mod backends_json;
mod date;
mod loops_json;
mod pages;
mod request;
mod response;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use polyloop::{Ctx, Handler, Input, PoolId, Side, Status, Verdict};

use crate::logging::DroppedLines;
use request::{Parsed, Request};

/// What the admin pages are made from.
#[derive(Debug)]
pub(crate) struct Site {
    /// What the server publishes.
    pub(crate) status: Arc<Status>,
    /// What the loops of a proxy share; the echo service has none.
    pub(crate) proxy: Option<Arc<polyloop_proxy::site::Site>>,
    /// Lines of the log that were dropped.
    pub(crate) dropped: DroppedLines,
    /// Which `Host` a request may name.
    pub(crate) host_rule: HostRule,
    /// Whether there are threads that render pages.
    pub(crate) has_renderers: bool,
}

pub(crate) use request::HostRule;

thread_local! {
    static SITE: RefCell<Option<Arc<Site>>> = const { RefCell::new(None) };
}

/// Gives this thread, a loop's, the site that its visitors see.
pub(crate) fn open_site(site: Arc<Site>) {
    SITE.set(Some(site));
}

/// What a job has rendered.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    after: After,
}

/// A server's connections, some of which are visitors: how an answer comes back to one.
pub(crate) trait Visited: Handler {
    /// The message that brings it.
    fn message(answer: Answer) -> Self::Message;
}

/// What happens to the connection once it has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It may ask again.
    KeepAlive,
    /// It gets its answer, and what it still sends is dropped: a reset would destroy the answer on its way.
    Drain,
    /// It gets its answer, and no more attention: for those that would send for ever, or hold their seat.
    Close,
}

/// One visitor.
#[derive(Debug)]
pub(crate) struct Admin {
    stage: Stage,
    /// Ticks since the stage began.
    ticks: u8,
    /// The server drains: close after the answer.
    is_last: bool,
}

/// What a visitor is waiting for, or we for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It owes us the rest of a request, or its first.
    Asking,
    /// It has been answered and may ask again.
    Idle,
    /// A job renders its answer.
    Answering,
}

/// Visitors at once: two scrapers, a dashboard and some people. They live on the reserve of descriptors.
pub(crate) const VISITORS_MAX: usize = 16;

/// A visitor is looked at this often; deadlines are whole ticks.
const TICK: Duration = Duration::from_secs(5);
/// A request is complete within one to two ticks of its first byte, or it is a slow attack on us.
const ASKING_TICKS_MAX: u8 = 2;
/// Between two scrapes at the usual intervals of 15 to 60 seconds a connection is kept.
const IDLE_TICKS_MAX: u8 = 24;
/// A visitor that does not take its answer; above the idle ticks, which end those that took it.
const STUCK_TIMEOUT: Duration = Duration::from_secs(150);
/// Pipelined requests answered together; whoever sends more gets the rest on a new connection.
const BATCH_MAX: usize = 4;

impl Admin {
    pub(crate) const fn new() -> Self {
        Self {
            stage: Stage::Asking,
            ticks: 0,
            is_last: false,
        }
    }

    pub(crate) fn on_open<H: Visited>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        // The service's idle timeout may be off, or shorter than the interval of a scraper.
        cx.set_idle_timeout(Some(STUCK_TIMEOUT));
        self.tick_again(cx)
    }

    pub(crate) fn on_data<H: Visited>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        input: &mut Input<'_>,
    ) -> Verdict {
        let Some(site) = SITE.with_borrow(Clone::clone) else {
            // A loop without a site has no admin listener.
            return Verdict::Abort;
        };
        let batch = take_batch(input, site.host_rule);
        if batch.is_empty() {
            let stage = if input.is_empty() {
                self.stage
            } else {
                Stage::Asking
            };
            self.enter(stage);
            return Verdict::Continue;
        }
        if batch.iter().all(Request::is_cheap) {
            let answer = pages::answer(&batch, &site);
            return self.send(cx, &answer);
        }
        let (job_site, job_batch) = (Arc::clone(&site), batch.clone());
        let job = move || H::message(pages::answer(&job_batch, &job_site));
        if cx.offload(PoolId::BLOCKING, job).is_err() {
            return self.send(cx, &pages::busy(&batch, &site));
        }
        self.enter(Stage::Answering);
        Verdict::Pause
    }

    /// The job is done; `None` if it panicked or the server ends.
    pub(crate) fn on_answer<H: Visited>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        answer: Option<Answer>,
    ) -> Verdict {
        cx.resume(Side::Front);
        let answer = answer.unwrap_or_else(pages::failed);
        self.send(cx, &answer)
    }

    pub(crate) fn on_timer<H: Visited>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        self.ticks = self.ticks.saturating_add(1);
        match self.stage {
            Stage::Asking if self.ticks >= ASKING_TICKS_MAX => self.send(cx, &pages::too_slow()),
            Stage::Idle if self.ticks >= IDLE_TICKS_MAX => Verdict::Close,
            Stage::Asking | Stage::Idle | Stage::Answering => self.tick_again(cx),
        }
    }

    pub(crate) fn on_drain(&mut self) -> Verdict {
        self.is_last = true;
        match self.stage {
            Stage::Answering => Verdict::Continue,
            Stage::Asking | Stage::Idle => Verdict::Drain,
        }
    }

    fn send<H: Visited>(&mut self, cx: &mut Ctx<'_, H>, answer: &Answer) -> Verdict {
        // A full output stops the reading of the next request until the visitor has taken this answer.
        let _ = cx.write_to(Side::Front, &answer.bytes);
        self.enter(Stage::Idle);
        match answer.after {
            After::Close => Verdict::Close,
            After::Drain => Verdict::Drain,
            After::KeepAlive if self.is_last => Verdict::Drain,
            After::KeepAlive => Verdict::Continue,
        }
    }

    fn enter(&mut self, stage: Stage) {
        if self.stage != stage || stage == Stage::Idle {
            self.ticks = 0;
        }
        self.stage = stage;
    }

    fn tick_again<H: Visited>(&self, cx: &mut Ctx<'_, H>) -> Verdict {
        // A visitor has one timer at a time, so there is always room; without one it would have no deadline.
        match cx.set_timer(TICK) {
            Some(_) => Verdict::Continue,
            None => Verdict::Abort,
        }
    }
}

/// Takes the complete requests that have arrived, up to and including the first that ends the connection. What is
/// left in the input is the beginning of a request, or nothing.
fn take_batch(input: &mut Input<'_>, host_rule: HostRule) -> Vec<Request> {
    let mut batch = Vec::new();
    while batch.len() < BATCH_MAX {
        match request::parse(input.bytes(), host_rule) {
            Parsed::Partial => return batch,
            Parsed::Complete { request, len } => {
                let is_last = request.after != After::KeepAlive;
                input.take(len);
                batch.push(request);
                if is_last {
                    input.take_all();
                    return batch;
                }
            }
        }
    }
    if !input.is_empty() {
        input.take_all();
        // There is a request: the bound of a batch is above zero.
        if let Some(last) = batch.last_mut() {
            last.after = After::Drain;
        }
    }
    batch
}
