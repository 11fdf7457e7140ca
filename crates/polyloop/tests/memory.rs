//! Exact claims about memory: what an idle connection costs, and that serving allocates nothing.
//!
//! The claims are about the library, so the driver here has no kernel behind it: its streams are numbers, and what it
//! does itself is preallocated. The allocator counts; nothing is timed. (One test, since the byte count is the whole
//! process's.)

use polyloop::bell::Wake;
use polyloop::driver::{Driver, Event, Interest, Ready};
use polyloop::jobs::{Inline, Offload};
use polyloop::{
    Accepted, Capacities, Choice, Ctx, Dial, Dispatcher, Gate, GateKind, Handler, Input,
    KeepAliveNumbers, PeerAddr, Spreading, Token, Tuning, Turn, Verdict, WhenFull, wire,
};
use polyloop_sys::counting::{CountingAllocator, allocations_of_thread, live_bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const CONNECTIONS: usize = 10_000;

struct Echo;

impl Handler for Echo {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

/// A driver whose world is prepared by the test: so many connections wait, these tokens are ready, each read gives 64
/// bytes. It keeps every token it was given, in memory that was there before.
struct Prepared {
    waiting: usize,
    tokens: Vec<Token>,
    ready: VecDeque<Token>,
    writes: usize,
    now_ns: u64,
}

struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Driver for Prepared {
    type Stream = std::num::NonZeroU32; // four bytes, as a descriptor
    type Listener = ();
    type Pipe = ();

    fn now(&mut self) -> u64 {
        self.now_ns += 1_000;
        self.now_ns
    }

    fn wake_at(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn poll(&mut self, _: Option<Duration>, max: usize, events: &mut Vec<Event>) -> io::Result<()> {
        if self.waiting > 0 {
            events.push(Event {
                token: Token::listener(0),
                ready: Ready::READABLE,
            });
        }
        while events.len() < max
            && let Some(token) = self.ready.pop_front()
        {
            events.push(Event {
                token,
                ready: Ready::READABLE,
            });
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NoWaker)
    }

    fn resume_listener(&mut self, _: &mut (), _: Token) -> io::Result<()> {
        Ok(())
    }

    fn pause_listener(&mut self, _: &mut ()) -> io::Result<()> {
        Ok(())
    }

    fn close_listener(&mut self, _: ()) {}

    fn accept(&mut self, _: &mut ()) -> io::Result<(Self::Stream, PeerAddr)> {
        let number = u32::try_from(self.waiting).ok().and_then(Self::Stream::new);
        let number = number.ok_or_else(|| io::Error::from_raw_os_error(11))?;
        self.waiting -= 1;
        Ok((
            number,
            PeerAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9))),
        ))
    }

    fn connect(&mut self, _: &Dial) -> io::Result<Self::Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn has_input(&self, _: &Self::Stream) -> bool {
        false
    }

    fn keep_alive(&mut self, _: &mut Self::Stream, _: Option<KeepAliveNumbers>) -> io::Result<()> {
        Ok(())
    }

    fn local_addr(&mut self, _: &Self::Stream) -> io::Result<PeerAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open_pipe(&mut self, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pipe_len((): &()) -> usize {
        0
    }

    fn fill_pipe(&mut self, (): &mut (), _: &mut Self::Stream, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_pipe(&mut self, (): &mut (), _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unacked(&mut self, _: &Self::Stream) -> io::Result<usize> {
        Ok(0)
    }

    fn drain_pipe(&mut self, (): &mut (), _: &mut Self::Stream) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn register(&mut self, _: &mut Self::Stream, token: Token, _: Interest) -> io::Result<()> {
        self.tokens.push(token);
        Ok(())
    }

    fn set_interest(&mut self, _: &mut Self::Stream, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, _: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize> {
        buffer[..64].fill(7);
        Ok(64)
    }

    fn write(&mut self, _: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        Ok(bytes.len())
    }

    fn write_vectored(
        &mut self,
        _: &mut Self::Stream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.writes += 1;
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown_write(&mut self, _: &mut Self::Stream) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self, _: &mut Self::Stream) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn close_stream(&mut self, _: Self::Stream, _: bool) {}
}

#[test]
fn an_idle_connection_is_small_and_serving_allocates_nothing() {
    // Goal: at most 128 bytes of heap for an idle connection, timers and counters included, and not one allocation
    // for an echo. Method: 10,000 connections with default settings; the allocator counts, exactly.
    let driver = Prepared {
        waiting: CONNECTIONS,
        tokens: Vec::with_capacity(CONNECTIONS),
        ready: VecDeque::with_capacity(CONNECTIONS),
        writes: 0,
        now_ns: 1_000_000_000,
    };
    let offload: Arc<dyn Offload> = Arc::new(Inline);
    let capacities = Capacities {
        connections_max: CONNECTIONS as u64,
        ..Capacities::default()
    };
    let (mut seats, console) = wire::<Prepared, ()>(vec![driver.waker()], capacities, &offload);
    let gates = vec![Gate {
        listener: (),
        index: 0,
        kind: GateKind::Service,
    }];
    let spreading = Spreading {
        choice: Choice::Stay,
        when_full: WhenFull::Wait,
    };
    let factory = |_: Accepted| Echo;
    let mut dispatcher = Dispatcher::new(
        driver,
        factory,
        Tuning::default(),
        seats.remove(0),
        gates,
        spreading,
    )
    .unwrap();

    let before = live_bytes();
    while dispatcher.live() < CONNECTIONS {
        assert_eq!(dispatcher.turn().unwrap(), Turn::Next);
    }
    let idle_bytes = live_bytes() - before;
    let each = idle_bytes as f64 / CONNECTIONS as f64;
    println!("an idle echo connection costs {each:.1} bytes of heap");
    assert!(each <= 128.0, "{each} bytes for an idle connection");
    assert_eq!(
        console.boards()[0].numbers.timers.value(),
        CONNECTIONS as u64,
        "idle deadlines are counted in"
    );

    // Warm up: the run queue's ring grows to what one turn brings.
    let echo_all = |dispatcher: &mut Dispatcher<Prepared, _>| {
        let driver = dispatcher.driver_mut();
        driver.ready.extend(driver.tokens.iter());
        let writes = driver.writes + CONNECTIONS;
        while dispatcher.driver_mut().writes < writes {
            assert_eq!(dispatcher.turn().unwrap(), Turn::Next);
        }
    };
    echo_all(&mut dispatcher);
    let allocations = allocations_of_thread();
    for _ in 0..10 {
        echo_all(&mut dispatcher);
    }
    assert_eq!(
        allocations_of_thread() - allocations,
        0,
        "allocations in 100,000 echoes"
    );
    assert_eq!(
        dispatcher.board().numbers.reads.value(),
        11 * CONNECTIONS as u64,
        "one read an echo"
    );
    assert_eq!(
        dispatcher.board().numbers.writes.value(),
        11 * CONNECTIONS as u64,
        "one write an echo"
    );

    console.stop();
    while dispatcher.turn().unwrap() == Turn::Next {}
    assert_eq!(dispatcher.live(), 0);
    assert_eq!(console.permits().in_use(), 0);
}
