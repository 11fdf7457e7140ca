//! What an idle session costs: bytes of our heap, exact, with everything on and with nothing on.
//!
//! The claim is about the library and the session together, so the driver has no kernel behind it: streams are numbers, and
//! every connect succeeds. The allocator counts; nothing is timed. (One test, since the byte count is the whole process's.)

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report; clippy exempts test functions alone"
)]

use polyloop::bell::Wake;
use polyloop::driver::{Driver, Event, Interest, Ready};
use polyloop::jobs::{Inline, Offload};
use polyloop::{
    Accepted, Capacities, Choice, Dial, Dispatcher, Gate, GateKind, KeepAliveNumbers, PeerAddr,
    Spreading, Token, Tuning, Turn, WhenFull, wire,
};
use polyloop_proxy::session::{Note, Session};
use polyloop_proxy::settings::{
    BackendSettings, CheckKind, GroupSettings, HealthCheck, ListenerSettings, ProxySettings,
    ProxyTlv, Rate, Routing, SendProxy, Target,
};
use polyloop_proxy::site::{LoopSite, Site};
use polyloop_sys::counting::{CountingAllocator, live_bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SESSIONS: usize = 10_000;

const EAGAIN: i32 = 11;

/// A driver whose world is prepared by the test: so many clients wait, every backend answers at once, each client says 64
/// bytes and no more. What it does itself is in memory that was there before.
struct Prepared {
    waiting: usize,
    ready: VecDeque<Token>,
    written: usize,
    has_spoken: Vec<bool>,
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
                ready: Ready::READABLE.with(Ready::WRITABLE),
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
        let nth = u32::try_from(self.waiting).unwrap();
        let number = Self::Stream::new(nth).ok_or_else(|| io::Error::from_raw_os_error(EAGAIN))?;
        self.waiting -= 1;
        // Each from an address of its own, which is the dearest for limits by source.
        let [_, high, middle, low] = nth.to_be_bytes();
        Ok((number, addr([10, high, middle, low])))
    }

    fn connect(&mut self, _: &Dial) -> io::Result<Self::Stream> {
        Ok(Self::Stream::MAX)
    }

    fn has_input(&self, _: &Self::Stream) -> bool {
        false
    }

    fn keep_alive(&mut self, _: &mut Self::Stream, _: Option<KeepAliveNumbers>) -> io::Result<()> {
        Ok(())
    }

    fn local_addr(&mut self, _: &Self::Stream) -> io::Result<PeerAddr> {
        Ok(addr([127, 0, 0, 1]))
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

    fn drain_pipe(&mut self, (): &mut (), _: &mut Self::Stream) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_pipe(&mut self, (): &mut (), _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unacked(&mut self, _: &Self::Stream) -> io::Result<usize> {
        Ok(0)
    }

    fn register(&mut self, _: &mut Self::Stream, token: Token, _: Interest) -> io::Result<()> {
        self.ready.push_back(token);
        Ok(())
    }

    fn set_interest(&mut self, _: &mut Self::Stream, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, stream: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize> {
        match self.has_spoken.get_mut(stream.get() as usize) {
            Some(has_spoken) if !*has_spoken => *has_spoken = true,
            _ => return Err(io::Error::from_raw_os_error(EAGAIN)),
        }
        buffer[..64].fill(7);
        Ok(64)
    }

    fn write(&mut self, _: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len();
        Ok(bytes.len())
    }

    fn write_vectored(
        &mut self,
        _: &mut Self::Stream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.written += bytes;
        Ok(bytes)
    }

    fn shutdown_write(&mut self, _: &mut Self::Stream) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self, _: &mut Self::Stream) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn close_stream(&mut self, _: Self::Stream, _: bool) {}
}

fn addr(ip: [u8; 4]) -> PeerAddr {
    PeerAddr::from(SocketAddr::from((ip, 9)))
}

/// One listener in front of two backends, with only what is on by default.
fn plain() -> ProxySettings {
    let backend = |nth: u8| {
        let to = Target::Addr(SocketAddr::from(([10, 0, 0, nth], 5432)));
        BackendSettings::new(format!("b{nth}"), to)
    };
    ProxySettings {
        listeners: vec![ListenerSettings {
            name: "front".to_owned(),
            routing: Routing {
                otherwise: Some(0),
                ..Routing::default()
            },
            ..ListenerSettings::default()
        }],
        groups: vec![GroupSettings {
            name: "group".to_owned(),
            backends: vec![backend(1), backend(2)],
            ..GroupSettings::default()
        }],
        ..ProxySettings::default()
    }
}

/// Everything that an idle session could have.
fn everything() -> ProxySettings {
    let mut settings = plain();
    let listener = &mut settings.listeners[0];
    listener.timeouts.lifetime = Some(Duration::from_secs(24 * 3600));
    listener.timeouts.first_byte = Some(Duration::from_secs(60));
    listener.source_connections_max = Some(100);
    listener.source_rate = Some(Rate {
        per_second: 100,
        burst: 100,
    });
    listener.connections_max = Some(1_000_000);
    let group = &mut settings.groups[0];
    group.health = Some(HealthCheck::new(CheckKind::Connect));
    group.send_proxy = Some(SendProxy::V2 {
        tlvs: vec![ProxyTlv::UniqueId],
        checksum: true,
    });
    settings
}

/// Heap bytes of an idle session.
fn measure(settings: ProxySettings) -> f64 {
    let driver = Prepared {
        waiting: SESSIONS,
        ready: VecDeque::with_capacity(2 * SESSIONS),
        written: 0,
        has_spoken: vec![false; SESSIONS + 1],
        now_ns: 1_000_000_000,
    };
    let offload: Arc<dyn Offload> = Arc::new(Inline);
    let capacities = Capacities {
        connections_max: SESSIONS as u64,
        ..Capacities::default()
    };
    let tuning = Tuning {
        asks_local_addr: settings.groups[0].send_proxy.is_some(),
        idle_timeout: settings.listeners[0].timeouts.idle,
        ..Tuning::default()
    };
    let (mut seats, console) = wire::<Prepared, Note>(vec![driver.waker()], capacities, &offload);
    let gates = vec![Gate {
        listener: (),
        index: 0,
        kind: GateKind::Service,
    }];
    let spreading = Spreading {
        choice: Choice::Stay,
        when_full: WhenFull::Wait,
    };
    let site = Arc::new(Site::new(settings, 1));
    let records = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&records);
    site.set_records(move |_| _ = counted.fetch_add(1, Relaxed));
    let home = LoopSite::new(&site, 0, 7);
    let factory = move |accepted: Accepted| Session::new(&home, accepted.listener, accepted.local);
    let seat = seats.remove(0);
    let mut dispatcher = Dispatcher::new(driver, factory, tuning, seat, gates, spreading).unwrap();

    let connected = || -> u64 {
        let backends = site.groups[0].backends.iter();
        backends
            .map(|backend| backend.boards[0].connected.value())
            .sum()
    };
    let before = live_bytes();
    while connected() < SESSIONS as u64 {
        assert_eq!(dispatcher.turn().unwrap(), Turn::Next);
    }
    for _ in 0..100 {
        assert_eq!(dispatcher.turn().unwrap(), Turn::Next);
    }
    let each = (live_bytes() - before) as f64 / SESSIONS as f64;
    assert_eq!(dispatcher.live(), SESSIONS);
    assert!(dispatcher.driver_mut().written >= 64 * SESSIONS);
    console.stop();
    while dispatcher.turn().unwrap() == Turn::Next {}
    assert_eq!(records.load(Relaxed), SESSIONS as u64);
    each
}

#[test]
fn an_idle_session_is_small() {
    // Goal: at most 384 bytes of heap for an idle session, with all that there is too. Method: 10,000 sessions through the
    // real handler on a loop without a kernel; with what is on by default, with single features, and with everything; the
    // allocator counts, exactly.
    let mut lifetime = plain();
    lifetime.listeners[0].timeouts.lifetime = everything().listeners[0].timeouts.lifetime;
    let mut header = plain();
    header.groups[0].send_proxy = everything().groups[0].send_proxy.clone();
    let mut by_source = plain();
    by_source.listeners[0].source_connections_max = Some(100);
    for (name, settings) in [
        ("a lifetime", lifetime),
        ("a header to the backend", header),
        ("limits by source", by_source),
    ] {
        let each = measure(settings);
        println!("with {name}: {each:.1} bytes");
        assert!(each <= 384.0, "{each} bytes with {name}");
    }
    let (plain, everything) = (measure(plain()), measure(everything()));
    println!("an idle session costs {plain:.1} bytes of heap, {everything:.1} with everything on");
    assert!(plain <= 384.0, "{plain} bytes");
    // The table of sources is at its dearest, as each session has an address of its own.
    assert!(everything <= 384.0, "{everything} bytes with everything on");
}
