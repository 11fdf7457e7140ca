//! The echo service, and the administrators' visitors beside it.
//!
//! The one idea: a server with two kinds of connection is one enum, so that nothing on the hot path is looked up. Its
//! four bytes fit into what a session's layout leaves unused anyway: an idle echo connection pays nothing for the
//! admin pages. What those need beyond that lives once per loop (see [`admin`](crate::admin)).

use polyloop::{Accepted, Class, Ctx, Factory, Handler, Input, JobId, TimerKey, Verdict};

use crate::admin::{Admin, Answer, Visited};

/// One connection.
#[derive(Debug)]
pub(crate) enum Conn {
    /// Sends back what it gets.
    Echo,
    /// Asks for the state of the server.
    Admin(Admin),
}

/// Makes the connections of one loop.
#[derive(Debug)]
pub(crate) struct Conns {
    /// The admin listener's place among the listeners, if there is one.
    pub(crate) admin_listener: Option<usize>,
}

impl Factory for Conns {
    type Handler = Conn;

    fn make(&mut self, accepted: Accepted) -> Conn {
        if self.admin_listener == Some(accepted.listener) {
            Conn::Admin(Admin::new())
        } else {
            Conn::Echo
        }
    }
}

impl Handler for Conn {
    type Message = Answer;

    const NAMES: &'static [&'static str] = &["echo", "admin"];

    fn name_index(&self) -> usize {
        match self {
            Self::Echo => 0,
            Self::Admin(_) => 1,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Echo => Class::Normal,
            // A person looking for the reason why everything is slow must not wait behind everything.
            Self::Admin(_) => Class::Urgent,
        }
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Echo => Verdict::Continue,
            Self::Admin(admin) => admin.on_open(cx),
        }
    }

    #[inline]
    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        match self {
            Self::Echo => {
                // A full output stops the reading of this connection by itself: there is nothing to do about it here.
                let _ = cx.write(input.take_all());
                Verdict::Continue
            }
            Self::Admin(admin) => admin.on_data(cx, input),
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _timer: TimerKey) -> Verdict {
        match self {
            Self::Echo => Verdict::Continue,
            Self::Admin(admin) => admin.on_timer(cx),
        }
    }

    fn on_offload(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        _job: JobId,
        answer: Option<Answer>,
    ) -> Verdict {
        match self {
            Self::Echo => Verdict::Continue,
            Self::Admin(admin) => admin.on_answer(cx, answer),
        }
    }

    fn on_drain(&mut self, _cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            // An echo never knows whether its peer is done; the peer decides, or the deadline.
            Self::Echo => Verdict::Continue,
            Self::Admin(admin) => admin.on_drain(),
        }
    }
}

impl Visited for Conn {
    fn message(answer: Answer) -> Answer {
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyloop::PeerAddr;

    #[test]
    fn a_connection_is_free_of_charge() {
        // Goal: the two kinds cost an echo connection no memory. Method: the size that a session has left over.
        assert!(size_of::<Conn>() <= 4, "{} bytes", size_of::<Conn>());
        assert_eq!(align_of::<Conn>(), 1);
    }

    #[test]
    fn the_listener_decides_the_kind() {
        // Goal: nobody gets admin pages from a service port. Method: both listeners, and a server without admin.
        let accepted = |listener| Accepted {
            peer: PeerAddr::Unix,
            local: None,
            listener,
            loop_index: 0,
        };
        let kind = |admin_listener, listener| {
            let conn = Conns { admin_listener }.make(accepted(listener));
            Conn::NAMES[conn.name_index()]
        };
        assert_eq!(kind(Some(2), 2), "admin");
        assert_eq!(kind(Some(2), 0), "echo");
        assert_eq!(kind(None, 0), "echo");
    }
}
