//! One line per session: who, where to, how long, how much, how it ended.
//!
//! The one idea: a record is a plain struct of borrowed facts, and a line is written straight from it into a buffer
//! that the loop keeps. Both formats are written by the same walk over the fields, so they never differ in content.
//!
//! ```text
//! time=2026-02-03T04:05:06.789Z id=0003019c2188ea850000002a listener=db client=192.0.2.7:50432 group=main backend=db1 backend_address=10.0.0.1:5432
//!   state=-- reason="both sides finished" duration_ms=1042 connect_ms=1 bytes_up=512 bytes_down=20480 retries=0 loop=3
//! ```
//!
//! (on one line). A field that does not apply is left out: `source` without a PROXY header, `backend` when none was
//! chosen, `connect_ms` when no connection was made. Its absence is the fact; -1 and null have to be explained.
//!
//! Text comes from configuration and from peers, and no character of it can start a line, a field or an escape sequence
//! of a terminal, or turn the direction of what follows: quotes, backslashes and everything invisible are escaped as in
//! JSON, in both formats. Invalid UTF-8 becomes U+FFFD.
//!
//! Deliberately absent: writing to files, and clocks. Who writes the line decides what happens when nobody takes it.
//!
//! Bounds: a text of more than [`TEXT_BYTES_MAX`] bytes is cut and ends in `…`; no line is longer than
//! [`LINE_BYTES_MAX`], so a buffer with that capacity is never grown.

use polyloop::PeerAddr;

use crate::proxy_protocol::PeerEndpoint;
use crate::settings::AccessLogFormat;
use crate::termination::Termination;

mod line;
mod sampler;
mod time;

#[cfg(test)]
mod tests;

pub use sampler::Sampler;

use line::Line;

/// The longest text in a record, in bytes as given. Longer than any host name or unix path.
pub const TEXT_BYTES_MAX: usize = 256;

/// The longest line, its end included: six texts whose every byte takes six as an escape, and the rest.
pub const LINE_BYTES_MAX: usize = 10 * 1024;

/// What is known of a session when it has ended.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the client was accepted, by the wall clock: milliseconds since 1970-01-01T00:00:00Z.
    pub start_unix_ms: u64,
    /// The name of the session, the same as its backend is told by a PROXY header with `unique-id`. Visible ASCII.
    pub id: &'a [u8],
    /// From then until both connections were closed, by the loop's clock.
    pub duration_ms: u64,
    /// The listener's name.
    pub listener: &'a str,
    /// The real peer of the accepted connection, whatever a header says.
    pub client: PeerAddr,
    /// The client that the PROXY header names.
    pub source: Option<PeerAddr>,
    /// The group whose backends served, once it was chosen.
    pub group: Option<&'a str>,
    /// The backend's name, once one was chosen.
    pub backend: Option<&'a str>,
    /// The address it was connected to, or tried last.
    pub backend_address: Option<PeerEndpoint<'a>>,
    /// How it ended.
    pub termination: Termination,
    /// What more is known of the reason: the parser's words for a refused header, an error of the system.
    pub detail: Option<&'a str>,
    /// How long it waited for a free slot, if it did.
    pub queue_ms: Option<u64>,
    /// How long the backend took to accept, from the beginning of the try that succeeded.
    pub connect_ms: Option<u64>,
    /// From then until the backend's first byte, if there was one.
    pub first_byte_ms: Option<u64>,
    /// Bytes passed from the client to the backend.
    pub bytes_up: u64,
    /// Bytes passed from the backend to the client.
    pub bytes_down: u64,
    /// Backends that were tried after the first.
    pub retries: u32,
    /// The loop it ended on.
    pub loop_index: u32,
    /// The name asked for by TLS, or told by the PROXY header.
    pub sni: Option<&'a [u8]>,
    /// How many sessions like this the record stands for, as [`Sampler::keep`] said; written when more than one.
    pub weight: u32,
}

impl Record<'_> {
    /// Appends the record as one line with its line end. Nothing is allocated but by `out`, and not by it either when
    /// it has room for [`LINE_BYTES_MAX`] more.
    pub fn write(&self, format: AccessLogFormat, out: &mut String) {
        let mut line = Line::begin(format, out);
        line.time("time", self.start_unix_ms);
        line.text("id", self.id);
        line.text("listener", self.listener.as_bytes());
        line.address("client", self.client);
        if let Some(source) = self.source {
            line.address("source", source);
        }
        if let Some(group) = self.group {
            line.text("group", group.as_bytes());
        }
        if let Some(backend) = self.backend {
            line.text("backend", backend.as_bytes());
        }
        match self.backend_address {
            Some(PeerEndpoint::Inet(addr)) => line.address("backend_address", addr.into()),
            Some(PeerEndpoint::Unix(name)) => line.unix("backend_address", name),
            None => {}
        }
        line.text("state", &self.termination.code);
        line.text("reason", self.termination.words.as_bytes());
        if let Some(detail) = self.detail {
            line.text("detail", detail.as_bytes());
        }
        self.write_numbers(&mut line);
        if let Some(sni) = self.sni {
            line.text("sni", sni);
        }
        if self.weight > 1 {
            line.number("weight", self.weight.into());
        }
        line.end();
    }

    fn write_numbers(&self, line: &mut Line<'_>) {
        line.number("duration_ms", self.duration_ms);
        let times = [
            ("queue_ms", self.queue_ms),
            ("connect_ms", self.connect_ms),
            ("first_byte_ms", self.first_byte_ms),
        ];
        for (key, time) in times {
            if let Some(time_ms) = time {
                line.number(key, time_ms);
            }
        }
        line.number("bytes_up", self.bytes_up);
        line.number("bytes_down", self.bytes_down);
        line.number("retries", self.retries.into());
        line.number("loop", self.loop_index.into());
    }
}
