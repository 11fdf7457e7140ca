//! HTTP answers as bytes.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::After;
use super::date::http_date;

/// The head's fields that differ between answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Code and phrase.
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    /// Fields of this answer only, each with its line end.
    pub(super) more: &'static str,
    pub(super) is_head: bool,
    pub(super) after: After,
}

/// Appends one answer to `out`. An answer to HEAD tells the length of the body it leaves out.
pub(super) fn append(out: &mut Vec<u8>, head: &Head, body: &[u8], now: SystemTime) {
    let mut text = String::with_capacity(256);
    let connection = match head.after {
        After::KeepAlive => "keep-alive",
        After::Drain | After::Close => "close",
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "HTTP/1.1 {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n{}Connection: {connection}\r\n\r\n",
        head.status,
        http_date(now),
        head.content_type,
        body.len(),
        head.more,
    );
    out.extend_from_slice(text.as_bytes());
    if !head.is_head {
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_http() {
        // Goal: a client can find the body. Method: parse it with the library that clients use, for GET and HEAD.
        for (is_head, after, connection) in [
            (false, After::KeepAlive, &b"keep-alive"[..]),
            (true, After::Close, &b"close"[..]),
        ] {
            let head = Head {
                status: "405 Method Not Allowed",
                content_type: "text/plain",
                more: "Allow: GET, HEAD\r\n",
                is_head,
                after,
            };
            let mut out = Vec::new();
            append(&mut out, &head, b"body\n", SystemTime::now());
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Response::new(&mut fields);
            let len = parsed.parse(&out).unwrap().unwrap();
            assert_eq!(parsed.code, Some(405));
            assert_eq!(parsed.reason, Some("Method Not Allowed"));
            let value = |name: &str| {
                parsed
                    .headers
                    .iter()
                    .find(|f| f.name == name)
                    .unwrap()
                    .value
            };
            assert_eq!(value("Content-Length"), b"5");
            assert_eq!(value("Allow"), b"GET, HEAD");
            assert_eq!(value("Connection"), connection);
            assert_eq!(&out[len..], if is_head { &b""[..] } else { b"body\n" });
        }
    }
}
