//! A server whose requests take processor time, one much more than another: what ways of spreading connections are held against.
//!
//! The one idea: everything but the spreading is the same. Each request of 64 bytes is echoed after work whose amount is
//! drawn from an exponential law and counted in steps, not in time, so that a thread that loses its core does not work less.
//!
//! `shared-queue` is the textbook's other end, one queue for all: threads without a loop that take a connection each from
//! one listener, and the next one when it is answered. It serves one request for each connection and nothing else; a bound,
//! not a rival. All other ways are servers on the library. `pool` leaves the work to as many threads as there are loops.
//!
//! After <https://blog.cloudflare.com/the-sad-state-of-linux-socket-balancing/>, which compared the first two of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use std::{hint, thread};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use polyloop::offload::PoolConfig;
use polyloop::{
    AcceptMode, Ctx, Handler, Input, JobId, LoopInfo, PoolId, Server, ServerSettings, Spread,
    Verdict,
};
use polyloop_core::cores::CoreList;
use polyloop_core::placement::Wish;
use polyloop_measure::stats::SplitMix64;
use socket2::{Domain, Socket, Type};

/// Echo behind uneven work.
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Loops, or threads.
    #[arg(long, default_value_t = 2)]
    loops: usize,
    /// Cores to pin them to, as in 0,2,4-7.
    #[arg(long)]
    cores: Option<CoreList>,
    /// How connections come to the loops.
    #[arg(long, value_enum, default_value = "reuseport")]
    mode: Mode,
    /// Mean of the work of a request, in steps of about a nanosecond.
    #[arg(long, default_value_t = 500_000)]
    steps: u64,
    /// Every request takes the mean.
    #[arg(long)]
    even: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Threads that take from one listener.
    SharedQueue,
    /// The kernel hashes.
    Reuseport,
    /// It does, and loops with over 10 % more than the mean hand on.
    Corrected,
    /// An acceptor that gives to each in turn.
    RoundRobin,
    /// An acceptor that gives to the least of two.
    TwoChoices,
    /// An acceptor that gives to the least of all.
    Least,
    /// The kernel hashes, and the work is done by a pool.
    Pool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.mode {
        Mode::SharedQueue => shared_queue(&args),
        _ => loops(&args),
    }
}

/// How much work there is in a request, one after the other.
#[derive(Debug)]
struct Amounts {
    random: SplitMix64,
    mean: u64,
    is_even: bool,
}

impl Amounts {
    fn new(mean: u64, is_even: bool, worker: usize) -> Self {
        Self {
            random: SplitMix64::new(worker as u64),
            mean,
            is_even,
        }
    }

    fn next_steps(&mut self) -> u64 {
        if self.is_even {
            return self.mean;
        }
        // Strictly between 0 and 1.
        let uniform = ((self.random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        (-uniform.ln() * self.mean as f64) as u64
    }
}

/// Each step needs the one before, so that no processor does two at once.
fn work(steps: u64) {
    let mut state = steps | 1;
    for _ in 0..steps {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).rotate_left(17);
    }
    hint::black_box(state);
}

const MESSAGE_BYTES: usize = 64;

type Message = [u8; MESSAGE_BYTES];

fn shared_queue(args: &Args) -> Result<()> {
    let listener =
        listen(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on {}", listener.local_addr()?);
    let cores: Vec<usize> = args
        .cores
        .as_ref()
        .map_or_else(Vec::new, |list| list.as_slice().to_vec());
    thread::scope(|scope| -> Result<()> {
        let mut workers = Vec::new();
        for worker in 0..args.loops {
            let core = cores.get(worker % cores.len().max(1)).copied();
            let (listener, amounts) = (&listener, Amounts::new(args.steps, args.even, worker));
            workers.push(scope.spawn(move || take_turns(listener, core, amounts)));
        }
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}

/// With room for all clients at once, as the loops have: the standard library's 128 would have some come again after a second.
fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes a connection, answers it, takes the next.
fn take_turns(listener: &TcpListener, core: Option<usize>, mut amounts: Amounts) -> Result<()> {
    polyloop_benches::load::pin(core)?;
    // Those who were answered and have not closed yet: a worker does not wait for them.
    let mut answered: VecDeque<TcpStream> = VecDeque::new();
    loop {
        let (mut stream, _) = listener.accept().context("accept")?;
        while answered.front().is_some_and(has_closed) {
            answered.pop_front();
        }
        stream.set_nodelay(true)?;
        let mut message: Message = [0; MESSAGE_BYTES];
        if stream.read_exact(&mut message).is_err() {
            continue;
        }
        work(amounts.next_steps());
        if stream.write_all(&message).is_ok() && stream.set_nonblocking(true).is_ok() {
            answered.push_back(stream);
        }
    }
}

fn has_closed(mut stream: &TcpStream) -> bool {
    let is_open =
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    !is_open
}

fn loops(args: &Args) -> Result<()> {
    let accept = match args.mode {
        Mode::SharedQueue | Mode::Reuseport | Mode::Pool => AcceptMode::default(),
        Mode::Corrected => AcceptMode::Reuseport {
            correct_above_percent: Some(10),
        },
        Mode::RoundRobin => AcceptMode::Acceptor(Spread::RoundRobin),
        Mode::TwoChoices => AcceptMode::Acceptor(Spread::TwoChoices),
        Mode::Least => AcceptMode::Acceptor(Spread::Least),
    };
    let settings = ServerSettings {
        wish: Wish {
            loops: Some(args.loops),
            cores: args.cores.clone(),
            ..Wish::default()
        },
        accept,
        pools: vec![
            PoolConfig::new("cpu", args.loops, POOL_QUEUE_MAX),
            PoolConfig::new("blocking", 1, 1),
        ],
        // Slow handlers are what this is about.
        stall_threshold: None,
        drain: Duration::from_secs(1),
        ..ServerSettings::default()
    };
    let is_pool = args.mode == Mode::Pool;
    let (steps, is_even) = (args.steps, args.even);
    let factory = move |info: LoopInfo| {
        let amounts = Rc::new(RefCell::new(Amounts::new(steps, is_even, info.index)));
        move |_| Worker {
            amounts: Rc::clone(&amounts),
            is_pool,
        }
    };
    Server::with_factories(factory)
        .listen(&args.listen.to_string())?
        .settings(settings)
        .on_started(|status| {
            for listener in &status.listeners {
                println!("listening on {}", listener.addr);
            }
        })
        .run()?;
    Ok(())
}

struct Worker {
    /// Those of the loop.
    amounts: Rc<RefCell<Amounts>>,
    is_pool: bool,
}

impl Handler for Worker {
    type Message = Message;

    const NAMES: &'static [&'static str] = &["uneven-work"];

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        while input.len() >= MESSAGE_BYTES {
            let mut message: Message = [0; MESSAGE_BYTES];
            message.copy_from_slice(input.take(MESSAGE_BYTES));
            let steps = self.amounts.borrow_mut().next_steps();
            if self.is_pool {
                let job = move || {
                    work(steps);
                    message
                };
                if cx.offload(PoolId::CPU, job).is_err() {
                    return Verdict::Abort;
                }
            } else {
                work(steps);
                let _ = cx.write(&message);
            }
        }
        Verdict::Continue
    }

    fn on_offload(&mut self, cx: &mut Ctx<'_, Self>, _: JobId, result: Option<Message>) -> Verdict {
        let Some(message) = result else {
            return Verdict::Abort;
        };
        let _ = cx.write(&message);
        Verdict::Continue
    }
}

/// The default of the library's listeners.
const BACKLOG: i32 = 4096;

/// More than clients wait at once.
const POOL_QUEUE_MAX: usize = 4096;
