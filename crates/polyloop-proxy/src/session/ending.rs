//! The end of a session: what is counted, the termination state, the record.

use std::rc::Rc;

use polyloop::{CloseReason, End, Side};

use super::{NEVER, NO_BACKEND, Phase, Session};
use crate::record::Record;
use crate::site::{RecordContext, SESSION_TICK_NS};
use crate::termination::{Cause, Leg, Phase as EndPhase, Termination};

impl Session {
    /// The session has ended.
    pub fn ended(&mut self, end: &End) {
        self.count_end(end);
        let termination = self.termination(end);
        self.leave_queue();
        let client = self.client(end.peer).ip();
        let home = Rc::clone(&self.home);
        home.site
            .doors
            .release(usize::from(self.listener), client, &mut self.passes);
        self.home.record(
            |line, context| self.write_record(line, &context, end, termination),
            &termination,
        );
        self.give_place_back();
    }

    /// Once for each session, so that what passes costs nothing here.
    fn count_end(&self, end: &End) {
        let length_ns = end.now_ns.saturating_sub(self.opened_ns);
        let (up, down) = (self.relay.bytes(Side::Front), self.relay.bytes(Side::Back));
        self.board().ended_spread.record(length_ns, up, down);
        if self.backend == NO_BACKEND {
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
        let leg = match end.side {
            Some(Side::Back) => Leg::Server,
            _ => Leg::Client,
        };
        let has_finished = Side::ALL.map(|side| self.relay.has_finished(side));
        let phase = match self.phase {
            Phase::Header | Phase::Hello | Phase::FirstByte => EndPhase::Request,
            Phase::Queue => EndPhase::Queue,
            Phase::Connecting => EndPhase::Connect,
            Phase::Relay | Phase::Ending if has_finished.contains(&true) => EndPhase::LastData,
            Phase::Relay => EndPhase::Data,
            Phase::Ending if self.connected_ms != NEVER => EndPhase::Data,
            Phase::Ending if self.backend != NO_BACKEND || self.tries > 0 => EndPhase::Connect,
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
        Termination::new(end.reason, leg, cause, phase)
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
        let has_chosen = backend.is_some() || self.tries > 0;
        let opened_ms = self.opened_ns / 1_000_000;
        let record = Record {
            start_unix_ms: context.wall_offset_ms + opened_ms,
            duration_ms: (end.now_ns / 1_000_000).saturating_sub(opened_ms),
            listener: &self.listener().name,
            client: end.peer,
            source: extra.and_then(|extra| extra.client),
            group: has_chosen.then_some(group.name.as_str()),
            backend: backend.map(|backend| backend.name.as_str()),
            backend_address: None,
            termination,
            detail: None,
            queue_ms: None,
            connect_ms: (self.connected_ms != NEVER).then_some(u64::from(self.connected_ms)),
            first_byte_ms: None,
            bytes_up: self.relay.bytes(Side::Front),
            bytes_down: self.relay.bytes(Side::Back),
            retries: u32::from(self.tries),
            loop_index: self.home.index as u32,
            sni: extra
                .and_then(|extra| extra.name.as_deref())
                .map(str::as_bytes),
            weight: context.weight,
        };
        record.write(settings.access_log.format, line);
    }
}
