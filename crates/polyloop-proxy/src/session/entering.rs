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
            Parsed::Bad(reason) => {
                self.extra().detail = Some(reason.words());
                return self.refuse(Cause::HeaderRefused);
            }
            Parsed::Done { len, header } => {
                let told = |end: Option<PeerEndpoint<'_>>| end.map(|end| end.peer_addr());
                (len, told(header.source), told(header.dest))
            }
        };
        input.take(len);
        self.early().dest = dest;
        self.extra().client = client;
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
        let mut reader = self.early().hello;
        let (group, otherwise) = match reader.read(input.bytes(), &mut scratch) {
            HelloRead::NeedMore => {
                self.early().hello = reader;
                return Verdict::Continue;
            }
            HelloRead::Bad(reason) => {
                self.extra().detail = Some(reason.words());
                (None, Cause::HelloRefused)
            }
            HelloRead::NotTls => (home.site.route_of(listener, None), Cause::NotTls),
            HelloRead::Hello(hello) => {
                self.extra().name = hello.sni.map(|name| name.as_str().into());
                self.early().protocol = hello.alpn.clone().next().map(Into::into);
                let group = home.site.route_of(listener, Some(&hello));
                (group, Cause::NoRoute)
            }
        };
        drop(scratch);
        match group {
            Some(group) => {
                self.stop_timer(cx);
                self.route(cx, group)
            }
            None => self.refuse(otherwise),
        }
    }
}
