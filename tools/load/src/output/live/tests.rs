//! What the view writes, byte for byte.

use std::sync::{Arc, Mutex};

use super::screen::Size;
use super::*;
use crate::result::tests::{small_head, small_interval, small_stage};

const SIZE: Size = Size {
    columns: 80,
    rows: 24,
};

/// A stream that keeps what was written to it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn shown(live: Live, is_terminal: bool, play: impl FnOnce(&mut View)) -> String {
    let kept = Kept::default();
    let mut view = View::new(live, Box::new(kept.clone()), is_terminal);
    view.stage_begins(&small_head(), Some(10.0));
    play(&mut view);
    drop(view);
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_plain_line_tells_a_second() {
    // Goal: the line of a log is complete and has units. Method: the small interval, whose figures are known.
    let text = shown(Live::Auto, false, |view| view.interval(&small_interval(5)));
    assert_eq!(
        text,
        "measure 1.0 s  planned 20,000/s  sent 20,000/s  completed 19,999/s  p50 100 µs  p99 2.00 ms  max 2.00 ms  \
         connections 100  errors 1\n"
    );
}

#[test]
fn short_intervals_share_a_plain_line() {
    // Goal: a log grows by a line a second, whatever the interval. Method: four quarters of a second.
    let text = shown(Live::Plain, true, |view| {
        for quarter in 0..4 {
            let mut interval = small_interval(0);
            interval.from_ns = quarter * 250_000_000;
            interval.until_ns = interval.from_ns + 250_000_000;
            view.interval(&interval);
        }
        view.stage_ends(&small_stage());
    });
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("sent 80,000/s") && lines[0].ends_with("errors 4"),
        "{text}"
    );
    assert_eq!(
        lines[1],
        "measure done after 2.0 s: completed 19,999/s  p50 100 µs  p99 2.00 ms  max 2.00 ms  connections 100  errors 2"
    );
    assert_eq!(lines.len(), 2, "{text}");
}

#[test]
fn the_picture_of_a_stage() {
    // Goal: everything an operator watches is in it, and it fits. Method: the small stage after two seconds of ten,
    // wide and narrow.
    let mut progress = Progress::of(small_head(), Some(10.0));
    progress.add(&small_interval(5));
    let mut second = small_interval(6);
    second.counts.completed = 5_000;
    progress.add(&second);
    assert_eq!(
        progress.lines(&second, 79).join("\n"),
        "measure  ████░░░░░░░░░░░░░░░░ 2.0 s of 10.0 s, 8.0 s left\n\
         rate     planned 20,000/s  sent 20,000/s  completed 5,000/s\n\
         \u{20}        █▃  completed, up to 19,999/s\n\
         latency  p50 100 µs  p99 2.00 ms  max 2.00 ms\n\
         \u{20}        ██  p99, up to 2.00 ms\n\
         \u{20}        connections 100  errors 2: broken ECONNRESET 2"
    );
    assert!(
        progress
            .lines(&second, 20)
            .iter()
            .all(|line| line.chars().count() <= 20)
    );
}

#[test]
fn a_picture_is_drawn_over_the_one_before() {
    // Goal: nothing is blanked before it is redrawn, and a picture wrapped by a narrower terminal is taken away whole.
    // Method: the sequences of two pictures, of a line put above, and of the end.
    let mut progress = Progress::of(small_head(), Some(10.0));
    let mut screen = Screen::default();
    progress.add(&small_interval(5));
    let first = screen.draw(&progress, &small_interval(5), SIZE);
    assert!(first.starts_with("measure"), "{first:?}");
    assert_eq!(first.matches("\x1b[K\n").count(), 6);
    let second = screen.draw(&progress, &small_interval(6), SIZE);
    assert!(second.starts_with("\r\x1b[6Ameasure"), "{second:?}");
    assert_eq!(screen.draw(&progress, &small_interval(6), SIZE), "");
    let said = screen.insert("told", SIZE);
    assert!(said.starts_with("\r\x1b[6A\x1b[Jtold\nmeasure"), "{said:?}");
    let narrow = Size {
        columns: 40,
        rows: 24,
    };
    // Lines of 51, 58, 37, 45, 29 and 48 characters, in rows of 40.
    assert_eq!(screen.erase(narrow), "\r\x1b[10A\x1b[J");
    assert_eq!(screen.erase(narrow), "");
}

#[test]
fn the_terminal_is_left_as_it_was() {
    // Goal: no picture outlives the view. Method: a view on a terminal that is dropped in the middle of a stage.
    let text = shown(Live::Auto, true, |view| view.interval(&small_interval(5)));
    assert!(text.ends_with("\x1b[6A\x1b[J"), "{text:?}");
    assert_eq!(
        shown(Live::Off, true, |view| view.interval(&small_interval(5))),
        ""
    );
}
