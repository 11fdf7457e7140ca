//! What the admin listener answers.

use std::time::SystemTime;

use polyloop::{Life, Status};

use super::request::{Asked, Refusal, Request};
use super::response::{Head, append};
use super::{After, Answer, Site, backends_json, loops_json};
use crate::metrics;

/// Answers a batch of requests, in order. Answers that together grow past a bound end the connection early.
pub(super) fn answer(batch: &[Request], site: &Site) -> Answer {
    let mut bytes = Vec::new();
    for request in batch {
        let is_too_much = bytes.len() > ANSWER_BYTES_HIGH;
        let after = if is_too_much {
            After::Drain
        } else {
            request.after
        };
        append_page(&mut bytes, &Request { after, ..*request }, site);
        if after != After::KeepAlive {
            return Answer { bytes, after };
        }
    }
    let after = After::KeepAlive;
    Answer { bytes, after }
}

/// The answer to a batch while no thread is free to render it.
pub(super) fn busy(batch: &[Request], site: &Site) -> Answer {
    let is_head = batch.first().is_some_and(|request| request.is_head);
    let (more, text) = if site.has_renderers {
        (
            "Retry-After: 1\r\n",
            "503: all threads for blocking work are busy; ask again, or start the server with a larger \
             --offload-blocking\n",
        )
    } else {
        (
            "",
            "503: threads for blocking work make this page, and there are none; start the server with \
             --offload-blocking 1 or more\n",
        )
    };
    plain("503 Service Unavailable", more, text, is_head, After::Drain)
}

/// The answer when rendering one has failed.
pub(super) fn failed() -> Answer {
    let text = "500: the page could not be made; the log says more\n";
    plain("500 Internal Server Error", "", text, false, After::Drain)
}

/// The answer to a request that did not come in time.
pub(super) fn too_slow() -> Answer {
    let text = "408: the request was not complete in time\n";
    plain("408 Request Timeout", "", text, false, After::Close)
}

fn append_page(out: &mut Vec<u8>, request: &Request, site: &Site) {
    let (status, content_type, body) = match request.asked {
        Asked::Metrics => {
            let mut text = metrics::render(&site.status, site.dropped.count());
            if let Some(proxy) = &site.proxy {
                text.push_str(&metrics::render_proxy(proxy));
            }
            (OK, metrics::CONTENT_TYPE, text.into_bytes())
        }
        Asked::Loops => (OK, JSON, loops_json::render(&site.status)),
        Asked::Backends => match &site.proxy {
            Some(proxy) => (OK, JSON, backends_json::render(proxy)),
            None => return append_refusal(out, request, Refusal::Path),
        },
        Asked::Order(order) => match site.proxy.as_ref().and_then(|proxy| order.obey(proxy)) {
            Some(state) => {
                let text = format!(
                    "backend {}/{} is {}\n",
                    order.group,
                    order.backend,
                    state.name()
                );
                (OK, TEXT, text.into_bytes())
            }
            None => return append_refusal(out, request, Refusal::Path),
        },
        Asked::Index => (OK, TEXT, index(&site.status).into_bytes()),
        Asked::Health => {
            let (status, text) = health(&site.status);
            (status, TEXT, text.into_bytes())
        }
        Asked::Refused(refusal) => return append_refusal(out, request, refusal),
    };
    let head = Head {
        status,
        content_type,
        more: "",
        is_head: request.is_head,
        after: request.after,
    };
    append(out, &head, &body, SystemTime::now());
}

fn append_refusal(out: &mut Vec<u8>, request: &Request, refusal: Refusal) {
    let (status, more, text) = match refusal {
        Refusal::Malformed => ("400 Bad Request", "", "400: this is no HTTP/1.1 request\n"),
        Refusal::Body => ("400 Bad Request", "", "400: no page here takes a body\n"),
        Refusal::Host => (
            "403 Forbidden",
            "",
            "403: on loopback the Host must be an address or localhost, so that no web page can make a browser ask\n",
        ),
        Refusal::Path => (
            "404 Not Found",
            "",
            "404: there are /metrics, /loops, /healthz and /, and on a proxy /backends, with POST \
             /backends/GROUP/BACKEND/ready, drain or down\n",
        ),
        Refusal::Method => (
            "405 Method Not Allowed",
            "Allow: GET, HEAD\r\n",
            "405: only GET and HEAD; nothing can be changed here but the state of a proxy's backends\n",
        ),
        Refusal::OrderMethod => (
            "405 Method Not Allowed",
            "Allow: POST\r\n",
            "405: what changes something is asked for with POST\n",
        ),
        Refusal::Origin => (
            "403 Forbidden",
            "",
            "403: a web page may not change anything here (the request has an Origin)\n",
        ),
        Refusal::TooLarge => (
            "431 Request Header Fields Too Large",
            "",
            "431: a request may have 8 KiB and 64 fields\n",
        ),
        Refusal::Version => (
            "505 HTTP Version Not Supported",
            "",
            "505: HTTP/1.1 and HTTP/1.0 are spoken here\n",
        ),
    };
    out.extend_from_slice(&plain(status, more, text, request.is_head, request.after).bytes);
}

/// A short text that ends the connection.
fn plain(
    status: &'static str,
    more: &'static str,
    text: &str,
    is_head: bool,
    after: After,
) -> Answer {
    let head = Head {
        status,
        content_type: TEXT,
        more,
        is_head,
        after,
    };
    let mut bytes = Vec::new();
    append(&mut bytes, &head, text.as_bytes(), SystemTime::now());
    Answer { bytes, after }
}

fn index(status: &Status) -> String {
    format!(
        "polyloop {}: {}, {} loops, {} connections\n\n\
         /metrics  every number, for Prometheus\n\
         /loops    every number, as JSON\n\
         /backends listeners and backends of a proxy, as JSON; POST /backends/0/1/drain (ready, down) changes one\n\
         /healthz  200 while it serves and no loop is stuck, else 503\n",
        env!("CARGO_PKG_VERSION"),
        status.life().name(),
        status.boards.len(),
        status.live(),
    )
}

/// A balancer in front takes this server out of its list while it drains or hangs.
fn health(status: &Status) -> (&'static str, String) {
    match (status.life(), status.stuck()) {
        // Full of connections or of memory it answers 200: whoever restarts servers by this page would cut those it has.
        (Life::Serving, 0) if status.overload.level().is_pressed() => (
            OK,
            format!("ok, memory: {}\n", status.overload.level().name()),
        ),
        (Life::Serving, 0) => (OK, "ok\n".to_owned()),
        (Life::Serving, stuck) => {
            let text = format!("{stuck} of {} loops stuck\n", status.boards.len());
            ("503 Service Unavailable", text)
        }
        (life, _) => ("503 Service Unavailable", format!("{}\n", life.name())),
    }
}

const OK: &str = "200 OK";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Pipelined answers beyond this go to nobody: half of what a session may have waiting in its output.
const ANSWER_BYTES_HIGH: usize = 8 << 20;

#[cfg(test)]
mod tests;
