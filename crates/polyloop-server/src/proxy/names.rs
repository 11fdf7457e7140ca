//! Looks the names of backends up: a resident of a loop for each name, once per process, spread over the loops.
//!
//! ```text
//!   on_open, timer --job--> offload pool "blocking": Resolver asks, the site deals the addresses to backends
//!        ^                                                           |
//!        +-- timer: when the answer ends, or after a failure --------+ result: when to look again
//! ```
//!
//! The one idea: a loop only keeps the time. Asking blocks, and dealing may build tables, so both are the job's.
//!
//! Deliberately absent: what an answer means ([`polyloop_proxy::names`]), and how it is had ([`resolver`](super::resolver)).

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polyloop::{Ctx, Handler, PoolId, TimerKey, Verdict};
use polyloop_proxy::names::{Name, News};
use polyloop_proxy::settings::defaults::LOOK_UP_RETRY;
use polyloop_proxy::site::{LoopSite, Site};
use polyloop_sys::clock::monotonic_ns;

use super::resolver::Resolver;

/// Looks one name up for ever.
#[derive(Debug)]
pub(super) struct Namer {
    site: Arc<Site>,
    resolver: Arc<Resolver>,
    nth: usize,
    timer: Option<TimerKey>,
}

/// A look-up has ended; the next is due after this.
#[derive(Debug, Clone, Copy)]
pub(super) struct LookedUp(Duration);

impl Namer {
    /// Those of one loop: every name has one on one loop.
    pub(super) fn all(home: &Rc<LoopSite>, resolver: &Arc<Resolver>) -> Vec<Self> {
        let site = &home.site;
        (0..site.names.len())
            .filter(|nth| nth % site.loops() == home.index)
            .map(|nth| Self {
                site: Arc::clone(site),
                resolver: Arc::clone(resolver),
                nth,
                timer: None,
            })
            .collect()
    }

    /// The loop begins, or the time has come.
    pub(super) fn look_up<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        message: fn(LookedUp) -> H::Message,
    ) -> Verdict {
        let (site, resolver, nth) = (Arc::clone(&self.site), Arc::clone(&self.resolver), self.nth);
        let job = move || message(look_up(&site, &resolver, nth));
        if cx.offload(PoolId::BLOCKING, job).is_err() {
            // A name that is late is no failure of the name.
            tracing::warn!(
                "name {}: its look-up waits, as the pool for jobs that wait is full (--offload-blocking)",
                self.site.names[self.nth].text()
            );
            return self.wait(cx, LOOK_UP_RETRY);
        }
        Verdict::Continue
    }

    pub(super) fn timer<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        timer: TimerKey,
        message: fn(LookedUp) -> H::Message,
    ) -> Verdict {
        if self.timer != Some(timer) {
            return Verdict::Continue;
        }
        self.timer = None;
        self.look_up(cx, message)
    }

    /// A look-up has ended; `None` if it panicked.
    pub(super) fn looked_up<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        result: Option<LookedUp>,
    ) -> Verdict {
        let again_in = match result {
            Some(LookedUp(again_in)) => again_in,
            None => {
                let panicked = Err("the look-up panicked; that is a bug".to_owned());
                take(&self.site, self.nth, panicked)
            }
        };
        self.wait(cx, again_in)
    }

    fn wait<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, wait: Duration) -> Verdict {
        self.timer = cx.set_timer(wait);
        Verdict::Continue
    }
}

/// Waits until every name has been looked up once, well or not; at most [`FIRST_MAX`].
pub(super) fn await_first(site: &Site) {
    let deadline = Instant::now() + FIRST_MAX;
    while !site.names.iter().all(Name::is_settled) {
        if Instant::now() > deadline {
            let late = site.names.iter().filter(|name| !name.is_settled());
            let late: Vec<_> = late.map(Name::text).collect();
            tracing::warn!(
                "serving begins before these names are known, whose look-ups go on: {}",
                late.join(", ")
            );
            return;
        }
        std::thread::park_timeout(FIRST_STEP);
    }
}

/// The job.
fn look_up(site: &Site, resolver: &Resolver, nth: usize) -> LookedUp {
    let answer = resolver.look_up(&site.names[nth].target);
    LookedUp(take(site, nth, answer))
}

fn take(
    site: &Site,
    nth: usize,
    answer: Result<polyloop_proxy::names::Answer, String>,
) -> Duration {
    let name = &site.names[nth];
    let outcome = name.handle_answer(site, answer, monotonic_ns() / 1_000_000);
    let (group, text) = (&site.settings.groups[name.group].name, name.text());
    let again = outcome.again_in.as_secs_f64();
    match outcome.news {
        News::Nothing => {}
        News::Moved { addrs, left_out: 0 } => {
            tracing::info!("name {group}/{text} has {addrs} addresses now");
        }
        News::Moved { addrs, left_out } => tracing::warn!(
            "name {group}/{text} has {addrs} addresses now, and {left_out} more for which there is no slot; give it \
             more (slots=N)"
        ),
        News::Failed { error, is_known } => {
            let until_then = if is_known {
                "its last addresses stay"
            } else {
                "it has no address yet, so nobody can be sent there"
            };
            tracing::warn!(
                "name {group}/{text}: {error}; {until_then}; looked up again in {again:.0} s (--dns, /etc/resolv.conf and \
                 /etc/hosts decide who knows it)"
            );
        }
    }
    outcome.again_in
}

/// How long a start waits for names. A server that does not answer must not keep the others' clients waiting.
const FIRST_MAX: Duration = Duration::from_secs(3);
const FIRST_STEP: Duration = Duration::from_millis(1);
