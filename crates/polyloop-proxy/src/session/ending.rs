//! The end of a session: what is counted, the termination state, the record.

use polyloop::{CloseReason, End, Remote, Side};

use super::{NEVER, NO_BACKEND, Phase, Session};
use crate::proxy_protocol::PeerEndpoint;
use crate::record::Record;
use crate::site::{RecordContext, SESSION_TICK_NS};
use crate::termination::{Cause, Leg, Phase as EndPhase, Termination};

impl Session {
    /// The session has ended.
    pub fn ended(&mut self, end: &End) {
        self.count_end(end);
        let termination = self.termination(end);
        self.stop_waiting(end.now_ns);
        self.home.record(
            |line, context| self.write_record(line, &context, end, termination),
            &termination,
        );
        self.let_go();
    }

    /// Once for each session, so that what passes costs nothing here.
    fn count_end(&self, end: &End) {
        let length_ns = end.now_ns.saturating_sub(self.opened_ns);
        let (up, down) = (self.relay.bytes(Side::Front), self.relay.bytes(Side::Back));
        self.board().ended_spread.record(length_ns, up, down);
        if !self.has_place {
            return;
        }
        let board = self.backend_board();
        let was_reset = end.side == Some(Side::Back) && end.reason == CloseReason::PeerReset;
        board.resets.add(u64::from(was_reset));
        if was_reset && down == 0 {
            self.report_failure(end.now_ns);
        }
        if self.connected_ms == NEVER {
            return;
        }
        board.ended.add(1);
        board.ended_spread.record(length_ns, up, down);
        let backend =
            &self.home.site.groups[usize::from(self.group)].backends[usize::from(self.backend)];
        backend
            .session_time
            .record_shared(length_ns / SESSION_TICK_NS);
    }

    /// How it ended, as operators know it.
    fn termination(&self, end: &End) -> Termination {
        let leg = self.leg_of(end);
        let has_finished = Side::ALL.map(|side| self.relay.has_finished(side));
        let phase = match self.phase {
            Phase::Header | Phase::Hello | Phase::FirstByte => EndPhase::Request,
            Phase::Queue => EndPhase::Queue,
            Phase::Connecting => EndPhase::Connect,
            Phase::Relay | Phase::Ending if has_finished.contains(&true) => EndPhase::LastData,
            Phase::Relay => EndPhase::Data,
            Phase::Ending if self.connected_ms != NEVER => EndPhase::Data,
            Phase::Ending if self.backend != NO_BACKEND => EndPhase::Connect,
            Phase::Ending => EndPhase::Request,
        };
        // What was finished and could not be delivered in the end was not finished.
        let is_whole = matches!(
            end.reason,
            CloseReason::PeerFinished | CloseReason::HandlerClosed
        );
        let cause = self
            .cause
            .filter(|cause| *cause != Cause::Finished || is_whole);
        let was_half_closed = phase == EndPhase::LastData && has_finished != [true; 2];
        let cause = match (cause, end.reason) {
            // The library has one clock for both; the timeout that was in force is the one to name.
            (None, CloseReason::IdleTimeout) if was_half_closed => {
                Some(Cause::HalfCloseTimeout(leg))
            }
            (cause, _) => cause,
        };
        Termination::new(end.reason, leg, cause, phase)
    }

    /// Whose connection is to be named: the one that broke; where none did, the one that owed something.
    fn leg_of(&self, end: &End) -> Leg {
        let [front_finished, back_finished] = Side::ALL.map(|side| self.relay.has_finished(side));
        let owes = match end.reason {
            // What could not be delivered in the end was not taken.
            CloseReason::LingerTimeout if end.unsent_bytes[Side::Back.index()] > 0 => Side::Back,
            CloseReason::IdleTimeout if self.phase == Phase::Connecting => Side::Back,
            CloseReason::IdleTimeout if front_finished != back_finished => {
                if front_finished {
                    Side::Back
                } else {
                    Side::Front
                }
            }
            // Who spoke last has been waiting for the other since.
            CloseReason::IdleTimeout => self.last_from.map_or(Side::Front, Side::other),
            _ => end.side.unwrap_or(Side::Front),
        };
        owes.into()
    }

    fn write_record(
        &self,
        line: &mut String,
        context: &RecordContext<'_>,
        end: &End,
        termination: Termination,
    ) {
        let settings = &context.site.settings;
        let extra = self.extra.as_ref();
        let group = &settings.groups[usize::from(self.group)];
        let backend = group.backends.get(usize::from(self.backend));
        let has_group =
            backend.is_some() || self.phase == Phase::Queue || self.cause == Some(Cause::NoBackend);
        let place = self.place();
        let known = |ms: u32| (ms != NEVER).then_some(u64::from(ms));
        let asked_ms = extra.map_or(0, |extra| extra.asked_ms);
        let opened_ms = self.opened_ns / 1_000_000;
        let record = Record {
            start_unix_ms: context.site.wall_ms(opened_ms),
            id: &self.id(),
            duration_ms: (end.now_ns / 1_000_000).saturating_sub(opened_ms),
            listener: &self.listener().name,
            client: end.peer,
            source: extra.and_then(|extra| extra.client),
            group: has_group.then_some(group.name.as_str()),
            backend: backend.map(|backend| backend.name.as_str()),
            backend_address: place.as_ref().map(endpoint),
            termination,
            detail: extra.and_then(|extra| extra.detail),
            queue_ms: extra.and_then(|extra| extra.queue_ms).map(u64::from),
            connect_ms: known(self.connected_ms).map(|ms| ms.saturating_sub(asked_ms.into())),
            first_byte_ms: known(self.first_byte_ms),
            bytes_up: self.relay.bytes(Side::Front),
            bytes_down: self.relay.bytes(Side::Back),
            retries: u32::from(self.retries),
            loop_index: self.home.index as u32,
            sni: extra
                .and_then(|extra| extra.name.as_deref())
                .map(str::as_bytes),
            weight: context.weight,
        };
        record.write(settings.access_log.format, line);
    }

    /// Where it was connected to, or tried last. A backend without a name has had one place all the time.
    fn place(&self) -> Option<Remote> {
        let kept = self.extra.as_ref().and_then(|extra| extra.place.clone());
        kept.or_else(|| {
            let group = &self.home.site.groups[usize::from(self.group)];
            let backend = group.backends.get(usize::from(self.backend))?;
            backend.places().into_iter().next()
        })
    }
}

fn endpoint(place: &Remote) -> PeerEndpoint<'_> {
    match place {
        Remote::Tcp(addr) => PeerEndpoint::Inet(*addr),
        Remote::Unix(path) => PeerEndpoint::Unix(path.as_os_str().as_encoded_bytes()),
    }
}
