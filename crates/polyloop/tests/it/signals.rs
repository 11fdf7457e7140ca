//! Signals that handlers are told of.

use crate::harness::{ANY_PORT, DEADLINE, ask, connect, read_exactly, settings};
use polyloop::{Accepted, Ctx, EndedBy, Handler, Input, LoopInfo, Server, ServerSettings, Verdict};
use signal_hook::consts::{SIGHUP, SIGTERM, SIGUSR1};
use signal_hook::low_level::raise;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::{env, thread};

/// Tells its loop when it is asked, and the number of each signal when it comes.
struct Herald {
    loop_index: u8,
}

impl Handler for Herald {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        let _ = cx.write(&[self.loop_index]);
        Verdict::Continue
    }

    fn on_signal(&mut self, cx: &mut Ctx<'_, Self>, signal: i32) -> Verdict {
        let _ = cx.write(&[signal as u8]);
        Verdict::Continue
    }
}

/// Set for the process that takes the signals.
const CHILD: &str = "POLYLOOP_TEST_TAKES_SIGNALS";

#[test]
fn every_handler_is_told_of_the_signals_that_are_passed_on() {
    // Goal: `pass_signals` brings each signal to every connection of every loop, SIGUSR1 too, which otherwise dumps;
    // SIGTERM still drains. Method: signals are the process's, so a process that runs nothing but this test raises them.
    if env::var_os(CHILD).is_some() {
        return take_signals();
    }
    let name = "signals::every_handler_is_told_of_the_signals_that_are_passed_on";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn take_signals() {
    let dumps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dumps);
    let (tell, told) = channel();
    let server = Server::with_factories(|info: LoopInfo| {
        let loop_index = info.index as u8;
        move |_: Accepted| Herald { loop_index }
    });
    let server = server
        .listen(ANY_PORT)
        .unwrap()
        .settings(ServerSettings {
            pass_signals: vec![SIGHUP, SIGUSR1],
            ..settings(2)
        })
        .on_dump(move |_| _ = counted.fetch_add(1, Relaxed))
        .on_started(move |status| tell.send(status.listeners[0].addr.clone()).unwrap());
    let ended = thread::spawn(|| server.run().unwrap());
    let addr = told.recv_timeout(DEADLINE).unwrap().parse().unwrap();
    let mut streams = Vec::new();
    let mut by_loop = [0; 2];
    // The kernel spreads: all on one loop of two is a matter of time.
    while streams.len() < 8 || by_loop.contains(&0) {
        let mut stream = connect(addr);
        by_loop[usize::from(ask(&mut stream, b"?")[0])] += 1;
        streams.push(stream);
    }
    for signal in [SIGHUP, SIGUSR1, SIGHUP] {
        raise(signal).unwrap();
        for stream in &mut streams {
            assert_eq!(read_exactly(stream, 1), [signal as u8]);
        }
    }
    assert_eq!(dumps.load(Relaxed), 0, "it was passed on instead");
    drop(streams);
    raise(SIGTERM).unwrap();
    let ended = ended.join().unwrap();
    assert_eq!((ended.by, ended.cut), (EndedBy::Drain, 0));
}
