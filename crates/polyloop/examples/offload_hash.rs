//! CPU-heavy work off the loop: the answer to a question may take long, the other connections do not wait for it.
//!
//! Messages are 64 bytes. One that begins with `H` has a large buffer hashed by the `cpu` pool and is answered when the
//! result has come back, its hash in bytes 8 to 16; `h` hashes on the loop, to show the difference; a pool that is full is
//! answered at once, with `!` as the second byte. Everything else is echoed.

use clap::Parser;
use polyloop::{Ctx, Handler, Input, JobId, PoolId, Server, StartError, Verdict};

mod common;

const MESSAGE_BYTES: usize = 64;

/// About ten milliseconds of work on a core of 2026.
const HASHED_BYTES: usize = 16 << 20;

struct HashServer;

type Message = [u8; MESSAGE_BYTES];

impl Handler for HashServer {
    type Message = Message;

    const NAMES: &'static [&'static str] = &["hash"];

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        while input.len() >= MESSAGE_BYTES {
            let mut message = [0; MESSAGE_BYTES];
            message.copy_from_slice(input.take(MESSAGE_BYTES));
            match message[0] {
                b'H' => {
                    if cx.offload(PoolId::CPU, move || answered(message)).is_err() {
                        message[1] = b'!';
                        let _ = cx.write(&message);
                    }
                }
                b'h' => {
                    let _ = cx.write(&answered(message));
                }
                _ => {
                    let _ = cx.write(&message);
                }
            }
        }
        Verdict::Continue
    }

    fn on_offload(&mut self, cx: &mut Ctx<'_, Self>, _: JobId, result: Option<Message>) -> Verdict {
        // A job that panicked has no answer; its client should not wait for one.
        let Some(answer) = result else {
            return Verdict::Abort;
        };
        let _ = cx.write(&answer);
        Verdict::Continue
    }
}

/// The message with the hash of a large buffer, seeded with the message itself, in bytes 8 to 16.
fn answered(mut message: Message) -> Message {
    let seed = message
        .iter()
        .fold(0_u64, |sum, &byte| sum.rotate_left(8) ^ u64::from(byte));
    let buffer = vec![seed as u8; HASHED_BYTES];
    // FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/
    let hash = buffer
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    message[8..16].copy_from_slice(&hash.to_le_bytes());
    message
}

fn main() -> Result<(), StartError> {
    let args = common::Args::parse();
    let server = Server::new(|_| HashServer).listen(&args.listen)?;
    server
        .settings(args.settings())
        .on_started(common::print_listeners)
        .run()
        .map(drop)
}
