//! Connections that come and go: connect, one message, its answer, close; again and again.
//!
//! The one idea: a session ends when the server's end of stream has arrived, after ours. Then nothing of it is left in a
//! proxy but the closing of two descriptors, so the bill of a window belongs to the sessions counted in it, and a byte
//! too many is noticed.
//!
//! Blocking threads, one session under way on each, all on one core: the threads cost more than a poll would, but not on
//! the account of the server.
//!
//! Deliberately absent: a plan of arrivals. It is a closed loop, and its latencies are those of a client that waits.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::load::{Connect, PLAIN, fill, pin};

/// How connections come and go.
#[derive(Debug, Clone)]
pub struct Churn {
    /// Where to.
    pub target: SocketAddr,
    /// Congestion control of our side; `None` keeps the host's.
    pub congestion: Option<String>,
    /// Size of the message and its answer.
    pub message_bytes: usize,
    /// Sessions under way at once.
    pub at_once: usize,
    /// The core of all threads.
    pub core: Option<usize>,
}

impl Churn {
    /// Goes on for `length`; sessions under way then are finished. Answers how many there were, and how long it took.
    ///
    /// # Errors
    /// When a connection cannot be opened or is cut, an answer differs, or nothing comes for 10 s.
    pub fn run(&self, length: Duration) -> Result<(u64, Duration)> {
        ensure!(self.at_once > 0, "no session at once is no load");
        let start = Instant::now();
        let counts: Vec<Result<u64>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.at_once)
                .map(|thread| {
                    scope.spawn(move || self.run_one(u32::try_from(thread)?, start, length))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| match thread.join() {
                    Ok(count) => count,
                    Err(_) => bail!("a client panicked"),
                })
                .collect()
        });
        let sessions = counts.into_iter().sum::<Result<u64>>()?;
        Ok((sessions, start.elapsed()))
    }

    fn run_one(&self, thread: u32, start: Instant, length: Duration) -> Result<u64> {
        pin(self.core)?;
        let mut sessions = 0;
        let mut message = vec![0; self.message_bytes];
        let mut answer = vec![0; self.message_bytes];
        while start.elapsed() < length {
            fill(&mut message, PLAIN, thread, sessions);
            self.session(&message, &mut answer)
                .with_context(|| format!("client {thread}, session {sessions}"))?;
            sessions += 1;
        }
        Ok(sessions)
    }

    fn session(&self, message: &[u8], answer: &mut [u8]) -> Result<()> {
        let mut stream: TcpStream = Connect {
            target: self.target,
            count: 1,
            congestion: self.congestion.clone(),
            per_second: None,
        }
        .open()?
        .pop()
        .context("one was opened")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(message)?;
        stream.read_exact(answer).context("no answer")?;
        ensure!(*answer == *message, "the answer differs from what was sent");
        stream.shutdown(Shutdown::Write)?;
        let more = stream.read(answer).context("no end of the stream")?;
        ensure!(more == 0, "{more} bytes came after the answer");
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn churn_against(serve: impl Fn(TcpStream) + Send + 'static) -> Result<(u64, Duration)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                serve(stream);
            }
        });
        let churn = Churn {
            target,
            congestion: None,
            message_bytes: 64,
            at_once: 2,
            core: None,
        };
        churn.run(Duration::from_millis(20))
    }

    fn echo(mut stream: TcpStream, extra: &[u8]) {
        let mut message = [0; 64];
        stream.read_exact(&mut message).unwrap();
        stream.write_all(&message).unwrap();
        stream.write_all(extra).unwrap();
        while stream.read(&mut message).is_ok_and(|count| count > 0) {}
    }

    #[test]
    fn honest_sessions_are_counted() {
        // Goal: sessions end and are counted, by a server that echoes.
        let (sessions, _) = churn_against(|stream| echo(stream, b"")).unwrap();
        assert!(sessions > 0);
    }

    #[test]
    fn a_byte_too_many_or_too_few_is_loud() {
        // Goal: neither passes as an answer, by servers that say one more byte and nothing at all.
        churn_against(|stream| echo(stream, b"!")).unwrap_err();
        churn_against(drop).unwrap_err();
    }
}
