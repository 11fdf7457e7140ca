//! An echo that answers late, by a law that is known: the truth against which a load generator is held.
//!
//! Messages are 64 bytes. Each is echoed after a delay of its own, drawn from an exponential distribution with the mean
//! of `--mean-ms`, by an alarm ([`Ctx::set_alarm`]), which is exact where a timer counts milliseconds. The draws of loop
//! n begin at `--seed` + n, so that two runs draw the same.
//!
//! ```text
//! cargo run --release -p polyloop --example delay_echo -- --listen 127.0.0.1:7000 --loops 1 --mean-ms 20
//! ```
//!
//! Answers keep the order of their messages, so the law holds for those who have one message under way on a connection,
//! and is a lower bound for others.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use polyloop::{
    Ctx, Handler, Input, LoopInfo, Server, ServerSettings, StartError, Tuning, Verdict,
};

mod common;

const MESSAGE_BYTES: usize = 64;

/// An echo that answers late.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: common::Args,
    /// Mean of the delays, in milliseconds.
    #[arg(long, default_value_t = 20.0)]
    mean_ms: f64,
    /// Where the draws begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The delays of one loop, one after the other.
struct Delays {
    state: Cell<u64>,
    mean_ns: f64,
}

impl Delays {
    /// SplitMix64 for the bits, the inverse of the distribution function for the law.
    fn next_ns(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.state.set(state);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        // Strictly between 0 and 1.
        let uniform = ((word >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        (-uniform.ln() * self.mean_ns) as u64
    }
}

struct DelayEcho {
    delays: Rc<Delays>,
    /// When which answer is due, in order. Bounded by what the loop gives in alarms.
    waiting: VecDeque<(u64, [u8; MESSAGE_BYTES])>,
    is_finished: bool,
}

impl Handler for DelayEcho {
    type Message = ();

    const NAMES: &'static [&'static str] = &["delay-echo"];

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        while input.len() >= MESSAGE_BYTES {
            let mut message = [0; MESSAGE_BYTES];
            message.copy_from_slice(input.take(MESSAGE_BYTES));
            let latest_ns = self.waiting.back().map_or(0, |(due_ns, _)| *due_ns);
            let due_ns = (cx.now_ns() + self.delays.next_ns()).max(latest_ns);
            if !cx.set_alarm(due_ns) {
                // A peer that has so many messages under way is not one that this is made for.
                return Verdict::Abort;
            }
            self.waiting.push_back((due_ns, message));
        }
        Verdict::Continue
    }

    fn on_alarm(&mut self, cx: &mut Ctx<'_, Self>, at_ns: u64) -> Verdict {
        while let Some((due_ns, message)) = self.waiting.front()
            && *due_ns <= at_ns
        {
            let _ = cx.write(message);
            self.waiting.pop_front();
        }
        self.verdict()
    }

    fn on_finished(&mut self, _: &mut Ctx<'_, Self>) -> Verdict {
        self.is_finished = true;
        self.verdict()
    }
}

impl DelayEcho {
    /// A peer that has finished is still owed what waits.
    fn verdict(&self) -> Verdict {
        if self.is_finished && self.waiting.is_empty() {
            Verdict::Drain
        } else {
            Verdict::Continue
        }
    }
}

fn main() -> Result<(), StartError> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let (seed, mean_ns) = (args.seed, args.mean_ms * 1e6);
    let factory = move |info: LoopInfo| {
        let delays = Rc::new(Delays {
            state: Cell::new(seed.wrapping_add(info.index as u64)),
            mean_ns,
        });
        move |_| DelayEcho {
            delays: Rc::clone(&delays),
            waiting: VecDeque::new(),
            is_finished: false,
        }
    };
    let settings = ServerSettings {
        tuning: Tuning {
            // An answer must not be late by the time that a processor takes to wake up.
            alarm_spin: Duration::from_micros(50),
            ..Tuning::default()
        },
        ..args.common.settings()
    };
    Server::with_factories(factory)
        .listen(&args.common.listen)?
        .settings(settings)
        .on_started(common::print_listeners)
        .run()
        .map(drop)
}
