//! One round: all servers are up at once, and the load goes from one to the next and round again, a fraction of a second each.
//!
//! ```text
//!   round   start all ── warm up all ── A │ B │ C │ B │ C │ A │ C │ A │ B │ .. ── stop all
//!                                       └ a slice: load, then a short rest
//! ```
//!
//! The one idea: what a virtual machine gets of its host wanders by some percent from second to second, which is more than the
//! differences that are looked for, and slowly: longer windows help little, while many short ones that alternate meet it alike.
//! So the turns are short, and there are many; what each server used in its slices is one cell.
//!
//! Deliberately absent: ratios. They are taken from the sums of a round, since a single slice says little.
//!
//! Invariants: slices of all servers are the same length and the same number, and each place in the order falls to each server as
//! often as to any other, to within one.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::{Load, Sample, Stop, Window};
use crate::measure::{Cell, Meter, Metered, Place, cell};
use crate::subject::Server;

/// A server that takes part in a round, with its load.
#[derive(Debug)]
pub struct Side<'a> {
    /// Its name in tables.
    pub subject: &'a str,
    /// What is billed.
    pub server: &'a Server,
    /// What stands behind it, if anything.
    pub backend: Option<&'a Server>,
    /// Open connections to it.
    pub load: Load,
}

/// How a round goes.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    /// What each server is loaded with, in all.
    pub window: Window,
    /// How long at a time.
    pub slice: Duration,
    /// Which round it is.
    pub round: usize,
}

/// Loads all sides in turn, and answers a cell for each, in their order. A window that is not ended by time is one slice.
///
/// # Errors
/// When a load fails or a server is gone.
pub fn take(turns: Turns, sides: &mut [Side<'_>]) -> Result<Vec<Cell>> {
    let slices = slices(turns);
    let mut sums: Vec<Option<(Sample, Metered)>> = sides.iter().map(|_| None).collect();
    in_turn(sides.len(), &slices, |at, slice| {
        let (sample, metered) = load_one(turns, slice, &mut sides[at])?;
        match &mut sums[at] {
            None => sums[at] = Some((sample, metered)),
            Some((sum, bill)) => {
                sum.append(&sample)?;
                bill.add(metered);
            }
        }
        Ok(())
    })?;
    let places = sides.iter().map(|side| Place {
        subject: side.subject,
        round: turns.round,
        connections: side.load.connections(),
    });
    let measured = places.zip(&sums).filter_map(|(place, sum)| {
        let (sample, metered) = sum.as_ref()?;
        Some(cell(place, sample, *metered))
    });
    Ok(measured.collect())
}

/// Calls `each` with the number of a side and a slice: every slice for every side, in rotating order, after a rest.
///
/// # Errors
/// Those of `each`.
pub fn in_turn<S: Copy>(
    sides: usize,
    slices: &[S],
    mut each: impl FnMut(usize, S) -> Result<()>,
) -> Result<()> {
    for (number, &slice) in slices.iter().enumerate() {
        for step in 0..sides {
            thread::sleep(REST);
            each((number + step) % sides, slice)?;
        }
    }
    Ok(())
}

/// `length` in parts of about `slice`, one at least.
#[must_use]
pub fn parts(length: Duration, slice: Duration) -> Vec<Duration> {
    let count = (length.as_secs_f64() / slice.as_secs_f64().max(1e-3)).round();
    let count = (count as u32).max(1);
    vec![length / count; count as usize]
}

fn load_one(turns: Turns, slice: Stop, side: &mut Side<'_>) -> Result<(Sample, Metered)> {
    let meter = Meter::start(side.server, side.backend)?;
    let window = Window {
        stop: slice,
        ..turns.window
    };
    let sample = side
        .load
        .run(window)
        .with_context(|| format!("{}, round {}", side.subject, turns.round + 1))?;
    Ok((sample, meter.stop()?))
}

/// The slices of one server.
fn slices(turns: Turns) -> Vec<Stop> {
    match turns.window.stop {
        Stop::After(length) => parts(length, turns.slice)
            .into_iter()
            .map(Stop::After)
            .collect(),
        whole @ Stop::Requests(_) => vec![whole],
    }
}

/// How long a server with so many connections is loaded at a time: long enough for some ten laps over all of them, as the first and
/// the last lap have fewer under way.
#[must_use]
pub fn slice_for(connections: usize) -> Duration {
    SLICE_MIN.max(SLICE_PER_CONNECTION * u32::try_from(connections).unwrap_or(u32::MAX))
}

/// Below this, starting and ending a slice would be a part of what is measured.
const SLICE_MIN: Duration = Duration::from_millis(100);

/// A proxied request takes some 15 us of one core.
const SLICE_PER_CONNECTION: Duration = Duration::from_micros(150);

/// Longer than Linux delays an acknowledgement (40 ms, `TCP_DELACK_MIN`), so that those of one server are on no other's bill.
pub const REST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Pace;

    fn turns(stop: Stop, slice: Duration) -> Turns {
        Turns {
            window: Window {
                pace: Pace::Closed,
                stop,
            },
            slice,
            round: 0,
        }
    }

    #[test]
    fn slices_add_up_to_the_window() {
        // Goal: as long as was asked for, in slices about as long as was asked for; by a length that divides, one that does not, one
        // shorter than a slice, and a number of requests.
        let ms = Duration::from_millis;
        for (length, slice, count) in [(2_000, 100, 20), (1_000, 300, 3), (50, 100, 1)] {
            let slices = slices(turns(Stop::After(ms(length)), ms(slice)));
            assert_eq!(slices.len(), count);
            assert_eq!(slices[0], Stop::After(ms(length) / count as u32));
        }
        let whole = slices(turns(Stop::Requests(7), ms(100)));
        assert_eq!(whole, [Stop::Requests(7)]);
    }

    #[test]
    fn each_side_has_each_place_in_turn() {
        // Goal: the order rotates from slice to slice, and nobody is left out; by three sides and three slices.
        let mut order = String::new();
        let note = |at: usize, slice: char| {
            order.push(slice);
            order.push(char::from(b'0' + at as u8));
            Ok(())
        };
        in_turn(3, &['a', 'b', 'c'], note).unwrap();
        assert_eq!(order, "a0a1a2b1b2b0c2c0c1");
    }

    #[test]
    fn more_connections_take_longer_slices() {
        // Goal: the shortest slice for few, and some laps for many.
        assert_eq!(slice_for(64), SLICE_MIN);
        assert_eq!(slice_for(8_000), Duration::from_millis(1_200));
    }
}
