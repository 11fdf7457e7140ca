//! What a client must say before it is known where it goes: a PROXY header, a TLS hello.

use std::rc::Rc;

use polyloop::{Ctx, Handler, Input, Verdict};

use super::{Phase, Session};
use crate::proxy_protocol::{self, Parsed, PeerEndpoint};
use crate::termination::Cause;
use crate::tls_hello::HelloRead;

impl Session {
    pub(super) fn read_header<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        input: &mut Input<'_>,
    ) -> Verdict {
        let (len, client, dest) = match proxy_protocol::parse(input.bytes()) {
            Parsed::NeedMore => return Verdict::Continue,
            Parsed::Bad(_) => return self.refuse(Cause::HeaderRefused),
            Parsed::Done { len, header } => {
                let told = |end: Option<PeerEndpoint<'_>>| end.map(|end| end.peer_addr());
                (len, told(header.source), told(header.dest))
            }
        };
        input.take(len);
        let extra = self.extra();
        (extra.client, extra.dest) = (client, dest);
        self.stop_timer(cx);
        let verdict = self.admit(cx);
        if self.phase == Phase::Hello && verdict == Verdict::Continue && !input.is_empty() {
            return self.read_hello(cx, input);
        }
        match verdict {
            // What came behind the header waits for a backend.
            Verdict::Continue if !input.is_empty() && self.phase == Phase::FirstByte => {
                self.choose(cx)
            }
            verdict => verdict,
        }
    }

    pub(super) fn read_hello<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        input: &mut Input<'_>,
    ) -> Verdict {
        let listener = usize::from(self.listener);
        let home = Rc::clone(&self.home);
        let mut scratch = home.scratch();
        let mut reader = self.extra().hello;
        let group = match reader.read(input.bytes(), &mut scratch) {
            HelloRead::NeedMore => {
                self.extra().hello = reader;
                return Verdict::Continue;
            }
            HelloRead::Bad(_) => None,
            HelloRead::NotTls => home.site.route_of(listener, None),
            HelloRead::Hello(hello) => {
                let extra = self.extra();
                extra.name = hello.sni.map(|name| name.as_str().into());
                extra.protocol = hello.alpn.clone().next().map(Into::into);
                home.site.route_of(listener, Some(&hello))
            }
        };
        drop(scratch);
        match group {
            Some(group) => {
                self.stop_timer(cx);
                self.route(cx, group)
            }
            None => self.refuse(Cause::HelloRefused),
        }
    }
}
