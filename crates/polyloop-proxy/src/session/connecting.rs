//! The way to a backend that was chosen: its addresses one after the other, and another backend when all have failed.
//!
//! Each attempt has the whole connect timeout. Other addresses of the same backend are no retries: they are bounded by how
//! many there are, and the backend has failed once, however many it has.

use std::io;

use polyloop::{Ctx, Dial, Handler, PeerAddr, Remote, Verdict};
use polyloop_core::errno::{ConnectAction, connect_action};

use super::{Phase, Session, vigilance};
use crate::site::Taken;
use crate::termination::Cause;

impl Session {
    pub(super) fn connect<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, taken: &Taken) -> Verdict {
        self.backend = taken.backend as u16;
        if taken.others > 0 || self.extra.is_some() {
            let extra = self.extra_until_connected();
            (extra.place, extra.places_left) = (taken.turn, taken.others);
        }
        self.connect_to(cx, &taken.place)
    }

    /// Tries another address of the same backend, if there is one that was not tried.
    pub(super) fn try_next_place<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Option<Verdict> {
        let extra = self.extra.as_mut()?;
        extra.places_left = extra.places_left.checked_sub(1)?;
        extra.place = extra.place.wrapping_add(1);
        let (group, backend) = (usize::from(self.group), usize::from(self.backend));
        // Its name may have lost them meanwhile.
        let place = self.home.place(group, backend, extra.place)?;
        Some(self.connect_to(cx, &place))
    }

    fn connect_to<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, place: &Remote) -> Verdict {
        let dial = self.dial(cx.peer(), place);
        self.extra_asked(cx.now_ns());
        let timeout = self.listener().timeouts.connect;
        self.enter(cx, Phase::Connecting, Some(timeout));
        if !cx.connect(dial) {
            debug_assert!(false, "a session connects when it has no back side");
            return self.refuse(Cause::ConnectMisconfigured);
        }
        Verdict::Continue
    }

    /// Remembers when the attempt began, where it is not the first moment of the session.
    fn extra_asked(&mut self, now_ns: u64) {
        if now_ns != self.opened_ns {
            self.extra_until_connected().asked_ns = now_ns;
        }
    }

    fn dial(&self, peer: PeerAddr, place: &Remote) -> Dial {
        let listener = self.listener();
        let group = self.group();
        let mut dial = Dial::to(place.clone());
        let Remote::Tcp(addr) = place else {
            return dial;
        };
        dial.vigilance = vigilance(listener);
        if group.transparent {
            dial.from = self.client(peer).socket_addr();
            dial.is_transparent = dial.from.is_some();
        } else {
            dial.from = self.home.source_for(group, addr);
        }
        dial
    }

    /// The backend could not be had.
    pub fn connect_failed<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        error: &io::Error,
    ) -> Verdict {
        let errno = error.raw_os_error().unwrap_or(0);
        let is_backends_fault =
            matches!(connect_action(errno), ConnectAction::TryAnother) || errno == 0;
        let board = self.backend_board();
        if is_backends_fault {
            board.connect_refused.add(1);
        } else {
            board.connect_local.add(1);
        }
        if let Some(verdict) = self.try_next_place(cx) {
            return verdict;
        }
        if is_backends_fault {
            self.report_failure(cx.now_ns());
        }
        self.try_next(cx, Cause::of_connect_errno(errno))
    }

    /// Gives the place back and tries another backend, if there are tries left.
    pub(super) fn try_next<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, cause: Cause) -> Verdict {
        let (group, failed) = (usize::from(self.group), usize::from(self.backend));
        self.give_place_back();
        self.cause = Some(cause);
        if u32::from(self.tries) >= self.group().retries {
            return self.refuse(cause);
        }
        self.tries += 1;
        self.home.backend_board(group, failed).retried.add(1);
        self.extra_until_connected().tried.insert(failed);
        self.choose(cx)
    }
}
