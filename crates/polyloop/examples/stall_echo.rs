//! An echo whose handlers may block their loop, to show what that costs whom.
//!
//! Messages are 64 bytes. One that begins with `B` makes the handler block its loop for 200 ms, which is exactly what
//! a handler must never do; the answer to one that begins with `L` has the number of the loop in its second byte;
//! everything else is echoed. Run it and watch the report of the watchdog:
//!
//! ```text
//! cargo run --release -p polyloop --example stall_echo -- --listen 127.0.0.1:7000 --loops 2
//! ```

use clap::Parser;
use polyloop::{Ctx, Handler, Input, LoopInfo, Server, StartError, Verdict};
use std::time::Duration;

mod common;

const MESSAGE_BYTES: usize = 64;

struct StallEcho {
    loop_index: usize,
}

impl Handler for StallEcho {
    type Message = ();

    const NAMES: &'static [&'static str] = &["stall-echo"];

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        while input.len() >= MESSAGE_BYTES {
            let message = input.take(MESSAGE_BYTES);
            match message[0] {
                b'L' => {
                    let mut answer = [0; MESSAGE_BYTES];
                    answer.copy_from_slice(message);
                    answer[1] = self.loop_index as u8;
                    let _ = cx.write(&answer);
                    continue;
                }
                b'B' => std::thread::sleep(Duration::from_millis(200)),
                _ => {}
            }
            let _ = cx.write(message);
        }
        Verdict::Continue
    }
}

fn main() -> Result<(), StartError> {
    let args = common::Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let factory = |info: LoopInfo| {
        move |_| StallEcho {
            loop_index: info.index,
        }
    };
    let server = Server::with_factories(factory).listen(&args.listen)?;
    server
        .settings(args.settings())
        .on_started(common::print_listeners)
        .run()
        .map(drop)
}
