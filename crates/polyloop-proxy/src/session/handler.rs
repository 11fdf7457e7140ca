//! A session as a handler of its own, for servers that have no other kind of connection.

use std::io;

use polyloop::{Ctx, End, Handler, Input, TimerKey, Verdict};

use super::{Note, Session};

impl Handler for Session {
    type Message = Note;

    const NAMES: &'static [&'static str] = &["proxy"];

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.opened(cx)
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        self.data(cx, input)
    }

    fn on_spliced(&mut self, cx: &mut Ctx<'_, Self>, bytes: usize) -> Verdict {
        self.spliced(cx, bytes)
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.finished(cx)
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        self.timer(cx, timer)
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, note: Note) -> Verdict {
        self.note(cx, note)
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.connected(cx)
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, error: io::Error) -> Verdict {
        self.connect_failed(cx, &error)
    }

    fn on_drain(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.drain(cx)
    }

    fn on_end(&mut self, end: &End) {
        self.ended(end);
    }
}
