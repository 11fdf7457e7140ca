//! What a session calls itself and its client towards others: its own name, and the PROXY header to its backend.

use polyloop::{Ctx, Handler, PeerAddr, Side};

use super::Session;
use crate::proxy_protocol::{self, Checksum, PeerEndpoint, Tlv, V1_BYTES_MAX};
use crate::settings::{ProxyTlv, SendProxy};

/// The name of a session in its record and in the header to its backend: loop, start by the wall clock, and which of its
/// loop's sessions it is, in hexadecimal. Unique over loops and restarts as long as the wall clock does not go back.
const ID_BYTES: usize = 4 + 12 + 8;

impl Session {
    /// See [`ID_BYTES`].
    pub(super) fn id(&self) -> [u8; ID_BYTES] {
        let opened_ms = self.home.site.wall_ms(self.opened_ns / 1_000_000) & 0xffff_ffff_ffff;
        let digits = [
            (self.home.index as u64 & 0xffff, 4),
            (opened_ms, 12),
            (u64::from(self.nth), 8),
        ];
        let mut id = [0; ID_BYTES];
        let mut at = 0;
        for (value, count) in digits {
            for nibble in (0..count).rev() {
                id[at] = b"0123456789abcdef"[(value >> (4 * nibble) & 15) as usize];
                at += 1;
            }
        }
        id
    }

    /// Tells the backend who the client is, where it wants to know. `false` if there is no room for all that was to be told,
    /// which the settings' check excludes: a backend that expects a header must not get payload in its place.
    pub(super) fn write_header<H: Handler>(&self, cx: &mut Ctx<'_, H>) -> bool {
        let Some(send) = &self.group().send_proxy else {
            return true;
        };
        let early = self.early.as_ref();
        let source = self.client(cx.peer());
        let dest = early
            .and_then(|e| e.dest.or(e.local))
            .unwrap_or(PeerAddr::Unix);
        let (source, dest) = (endpoint(source), endpoint(dest));
        match send {
            SendProxy::V1 => {
                let mut line = [0; V1_BYTES_MAX];
                let len = proxy_protocol::write_v1(&mut line, source, dest);
                let _ = cx.write_to(Side::Back, &line[..len]);
                true
            }
            SendProxy::V2 { tlvs, checksum } => {
                let id = self.id();
                let mut block = [0; proxy_protocol::HEADER_BYTES_MAX];
                let values = self.tlv_values(tlvs, &id);
                let checksum = if *checksum {
                    Checksum::Append
                } else {
                    Checksum::Omit
                };
                let written = proxy_protocol::write_v2(&mut block, source, dest, &values, checksum);
                if let Ok(len) = written {
                    let _ = cx.write_to(Side::Back, &block[..len]);
                }
                written.is_ok()
            }
        }
    }

    fn tlv_values<'a>(&'a self, tlvs: &'a [ProxyTlv], id: &'a [u8]) -> Vec<Tlv<'a>> {
        use crate::proxy_protocol::kind;
        let extra = self.extra.as_ref();
        let name = extra.and_then(|e| e.name.as_deref()).map(str::as_bytes);
        let early = self.early.as_ref();
        let protocol = early.and_then(|e| e.protocol.as_deref());
        tlvs.iter()
            .filter_map(|tlv| {
                let (kind, value) = match tlv {
                    ProxyTlv::Authority => (kind::AUTHORITY, name?),
                    ProxyTlv::Alpn => (kind::ALPN, protocol?),
                    ProxyTlv::UniqueId => (kind::UNIQUE_ID, id),
                    ProxyTlv::Custom { kind, value } => (*kind, value.as_slice()),
                };
                Some(Tlv { kind, value })
            })
            .collect()
    }
}

/// The end of a connection as a header names it. A unix socket's end has no name.
fn endpoint(addr: PeerAddr) -> PeerEndpoint<'static> {
    addr.socket_addr()
        .map_or(PeerEndpoint::Unix(b""), PeerEndpoint::Inet)
}
