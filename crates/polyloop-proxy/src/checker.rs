//! Active checks: a resident of a loop for each backend, once per process, spread over the loops.
//!
//! ```text
//!   wait --due--> connect --made--> say, listen --as expected--> passed --+
//!    ^               |  refused, late     |  otherwise, late              |
//!    |               v                    v                               |
//!    +---------------+------ failed ------+-------------------------------+
//! ```
//!
//! The one idea: a check is an ordinary connection of the loop that happens to have no client, so it costs no thread and
//! takes part in simulations like any session. What a result means is [`health`](crate::health)'s decision.
//!
//! A backend with several addresses is well if one of them is; which one answered is asked first the next time.
//!
//! Deliberately absent: TLS. The check sends a fixed hello and reads whether a server hello begins.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use polyloop::{Ctx, Dial, Handler, Input, Remote, Side, TimerKey, Verdict};
use polyloop_core::errno::{ConnectAction, connect_action};

use crate::health::{Outcome, Schedule};
use crate::proxy_protocol;
use crate::settings::{CheckKind, HealthCheck, SendProxy};
use crate::site::LoopSite;

/// Checks one backend for ever. See the module's documentation.
#[derive(Debug)]
pub struct Checker {
    home: Rc<LoopSite>,
    group: usize,
    backend: usize,
    timer: Option<TimerKey>,
    /// When the check under way was planned, in milliseconds of loop time.
    planned_ms: u64,
    is_under_way: bool,
    /// Which of its addresses is asked first, as it answered last; and how many are left in this check.
    place: usize,
    places_left: usize,
    /// How much of the answer has been seen to be as expected.
    seen: usize,
}

impl Checker {
    /// The checkers of one loop: every backend that is to be checked has one on one loop.
    #[must_use]
    pub fn all(home: &Rc<LoopSite>) -> Vec<Self> {
        let groups = home.site.settings.groups.iter().enumerate();
        let checked = groups
            .filter(|(_, settings)| settings.health.is_some())
            .flat_map(|(group, settings)| (0..settings.backends.len()).map(move |at| (group, at)));
        checked
            .enumerate()
            .filter(|(nth, _)| nth % home.site.loops() == home.index)
            .map(|(_, (group, backend))| Self {
                home: Rc::clone(home),
                group,
                backend,
                timer: None,
                planned_ms: 0,
                is_under_way: false,
                place: 0,
                places_left: 0,
                seen: 0,
            })
            .collect()
    }

    fn check(&self) -> &HealthCheck {
        // Only groups with a check have checkers.
        self.home.site.settings.groups[self.group]
            .health
            .as_ref()
            .unwrap_or_else(|| unreachable!("a checker of a group without checks"))
    }

    fn schedule(&self) -> (Schedule, u64) {
        let check = self.check();
        let schedule = Schedule {
            interval_ms: u64::try_from(check.interval.as_millis()).unwrap_or(u64::MAX),
            jitter_percent: check.jitter_percent,
        };
        (schedule, (self.group as u64) << 32 | self.backend as u64)
    }

    /// The loop begins.
    pub fn opened<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let now_ms = cx.now_ns() / 1_000_000;
        let (schedule, seed) = self.schedule();
        // The first one soon, as until then nothing is known; spread over a tenth of an interval.
        let soon = Schedule {
            interval_ms: schedule.interval_ms / 10,
            ..schedule
        };
        self.plan(cx, soon.first_check_at(now_ms, seed))
    }

    fn plan<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, at_ms: u64) -> Verdict {
        let now_ms = cx.now_ns() / 1_000_000;
        self.planned_ms = at_ms.max(now_ms);
        self.is_under_way = false;
        let wait = Duration::from_millis(self.planned_ms - now_ms);
        self.timer = cx.set_timer(wait);
        Verdict::Continue
    }

    /// A timer is due: a check is, or it is over its time.
    pub fn timer<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, timer: TimerKey) -> Verdict {
        if self.timer != Some(timer) {
            return Verdict::Continue;
        }
        self.timer = None;
        if self.is_under_way {
            return self.place_failed(cx);
        }
        let places = self.places();
        if places.is_empty() {
            // Its name has no address for it: there is nobody to be well or not.
            let (schedule, seed) = self.schedule();
            let next_ms = schedule.next_check_at(self.planned_ms, seed);
            return self.plan(cx, next_ms);
        }
        self.is_under_way = true;
        self.places_left = places.len();
        self.try_place(cx, &places)
    }

    fn places(&self) -> Vec<Remote> {
        self.home.site.groups[self.group].backends[self.backend].places()
    }

    /// Asks one of its addresses. The time for the whole check is shared out among those that are asked.
    fn try_place<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, places: &[Remote]) -> Verdict {
        self.seen = 0;
        self.places_left = self.places_left.saturating_sub(1);
        let mut dial = Dial::to(places[self.place % places.len()].clone());
        // No keep-alive: a check has a deadline of its own.
        dial.vigilance.user_timeout = self.home.site.settings.listeners[0].user_timeout;
        let share = u32::try_from(places.len()).unwrap_or(u32::MAX);
        self.timer = cx.set_timer(self.check().timeout / share);
        if !cx.connect(dial) {
            return self.finish(cx, Outcome::Failed);
        }
        Verdict::Continue
    }

    /// One of its addresses is not well; the backend is not if none is.
    fn place_failed<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        self.place = self.place.wrapping_add(1);
        let places = self.places();
        if self.places_left == 0 || places.is_empty() {
            return self.finish(cx, Outcome::Failed);
        }
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
        cx.disconnect();
        self.try_place(cx, &places)
    }

    /// The backend has answered.
    pub fn connected<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let group = &self.home.site.settings.groups[self.group];
        if group.send_proxy.is_some() {
            self.write_header(cx);
        }
        match &self.check().kind {
            CheckKind::Connect => self.finish(cx, Outcome::Passed),
            CheckKind::SendExpect { send, .. } => {
                let _ = cx.write_to(Side::Back, send);
                Verdict::Continue
            }
            CheckKind::TlsHello { sni } => {
                let hello = client_hello(sni.as_deref());
                let _ = cx.write_to(Side::Back, &hello);
                Verdict::Continue
            }
        }
    }

    /// A backend that expects a header gets one that says that nobody is behind the connection.
    fn write_header<H: Handler>(&self, cx: &mut Ctx<'_, H>) {
        match self.home.site.settings.groups[self.group].send_proxy {
            Some(SendProxy::V1) => {
                let _ = cx.write_to(Side::Back, b"PROXY UNKNOWN\r\n");
            }
            Some(SendProxy::V2 { .. }) => {
                let mut block = [0; 16];
                let len = proxy_protocol::write_v2_local(&mut block);
                let _ = cx.write_to(Side::Back, &block[..len]);
            }
            None => {}
        }
    }

    /// Something came.
    pub fn data<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, input: &mut Input<'_>) -> Verdict {
        let bytes = input.take_all();
        if !self.is_under_way {
            return Verdict::Continue;
        }
        let home = Rc::clone(&self.home);
        let Some(check) = &home.site.settings.groups[self.group].health else {
            return Verdict::Continue;
        };
        // A server hello is a record of kind 22 and a version that begins with 3.
        let expected: &[u8] = match &check.kind {
            CheckKind::Connect => b"",
            CheckKind::SendExpect { expect, .. } => expect,
            CheckKind::TlsHello { .. } => &[22, 3],
        };
        let wanted = &expected[self.seen.min(expected.len())..];
        let compared = bytes.len().min(wanted.len());
        if bytes[..compared] != wanted[..compared] {
            return self.place_failed(cx);
        }
        self.seen += compared;
        if self.seen == expected.len() {
            return self.finish(cx, Outcome::Passed);
        }
        Verdict::Continue
    }

    /// The backend could not be had. Where that is for want of something on this host, it says nothing about the backend: the
    /// next check is as good.
    pub fn connect_failed<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        error: &io::Error,
    ) -> Verdict {
        let errno = error.raw_os_error().unwrap_or(0);
        let is_backends_fault = errno == 0 || connect_action(errno) == ConnectAction::TryAnother;
        if is_backends_fault || !self.is_under_way {
            return self.failed(cx);
        }
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
        let (schedule, seed) = self.schedule();
        let next_ms = schedule.next_check_at(self.planned_ms, seed);
        self.plan(cx, next_ms)
    }

    /// The backend finished, or broke off.
    pub fn failed<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        if self.is_under_way {
            self.place_failed(cx)
        } else {
            cx.disconnect();
            Verdict::Continue
        }
    }

    fn finish<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, outcome: Outcome) -> Verdict {
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
        cx.disconnect();
        let now_ms = cx.now_ns() / 1_000_000;
        let site = &self.home.site;
        let subject = &site.groups[self.group].backends[self.backend];
        subject.note_check(now_ms, outcome);
        let change = subject.judge(now_ms, |health| health.handle_check(now_ms, outcome));
        site.tell(self.group, self.backend, change);
        let (schedule, seed) = self.schedule();
        let next_ms = schedule.next_check_at(self.planned_ms, seed);
        self.plan(cx, next_ms)
    }
}

/// A hello that every TLS 1.2 and 1.3 server answers with a server hello or an alert; an alert is no pass.
fn client_hello(sni: Option<&str>) -> Vec<u8> {
    let sized = |len: usize, bytes: &[u8]| {
        let size = (bytes.len() as u32).to_be_bytes();
        [&size[4 - len..], bytes].concat()
    };
    let mut extensions = Vec::new();
    let mut extend = |kind: u16, value: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(sized(2, value));
    };
    if let Some(name) = sni {
        let entry = [&[0][..], &sized(2, name.as_bytes())].concat();
        extend(0, &sized(2, &entry));
    }
    // Groups x25519 and secp256r1, uncompressed points, the usual signatures: RFC 8422 and RFC 8446.
    extend(10, &sized(2, &[0, 29, 0, 23]));
    extend(11, &sized(1, &[0]));
    extend(
        13,
        &sized(2, &[4, 3, 5, 3, 6, 3, 8, 4, 8, 5, 8, 6, 4, 1, 5, 1, 6, 1]),
    );
    // TLS 1.2 alone: for 1.3 there would have to be a key.
    extend(43, &sized(1, &[3, 3]));
    let ciphers = [
        0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0xcc, 0xa9, 0xcc, 0xa8, 0, 0x9c,
    ];
    let mut body = vec![3, 3];
    body.extend([0x70; 32]);
    body.extend(sized(1, &[]));
    body.extend(sized(2, &ciphers));
    body.extend(sized(1, &[0]));
    body.extend(sized(2, &extensions));
    let message = [&[1][..], &sized(3, &body)].concat();
    [&[22, 3, 1][..], &sized(2, &message)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_hello::{HelloRead, HelloReader};

    #[test]
    fn the_hello_is_one() {
        // Goal: what the check sends is what a server expects. Method: our own reader of hellos.
        let mut scratch = Vec::new();
        for sni in [None, Some("db.example.org")] {
            let hello = client_hello(sni);
            match HelloReader::new().read(&hello, &mut scratch) {
                HelloRead::Hello(read) => assert_eq!(read.sni.map(|name| name.as_str()), sni),
                other => panic!("{other:?}"),
            }
        }
    }
}
