//! The figures about waiting, and about how loops share the work.

use super::figures::{Column, Made, along, chart, not_drawn, table};
use super::groups::{Group, SEED, SERIES_MAX, label, lines, varying};
use super::html::{Figure, Table};
use super::plot::{Chart, Look, Mark, Series};
use super::scale::{Scale, short};
use crate::efficiency::evenness;
use crate::points::Measured;
use crate::queue::{Mode, Plan, simulate};

const TAIL: [Column; 3] = [
    ("p50 us", |one| one.latency_at(0.5)),
    ("p99 us", |one| one.latency_at(0.99)),
    ("p99.9 us", |one| one.latency_at(0.999)),
];

/// Latency against how few requests are slower.
pub(super) fn spectrum(groups: &[Group<'_>]) -> Made {
    let varying = varying(groups);
    let mut series = Vec::new();
    for (color, group) in groups.iter().take(SERIES_MAX).enumerate() {
        // Quantiles that every round could tell, each its median over the rounds.
        let known = group.measured().map(|one| one.latency_us.len()).min();
        let quantiles = group.measured().next().map(|one| &one.latency_us);
        let marks: Vec<Mark> = quantiles
            .into_iter()
            .flatten()
            .take(known.unwrap_or(0))
            .filter_map(|(quantile, _)| {
                let value = group.value(|one| one.latency_at(*quantile))?;
                Some(value.at(*quantile))
            })
            .collect();
        if !marks.is_empty() {
            series.push(Series {
                name: label(&group.setup, &varying, &[]),
                color,
                look: Look::Line,
                marks,
            });
        }
    }
    if series.is_empty() {
        return Err("latency spectrum: no point has latencies; measure longer".to_owned());
    }
    let is_closed = groups
        .iter()
        .flat_map(Group::measured)
        .any(|one| one.is_closed);
    let says = if is_closed {
        "Closed loop: these are the latencies of clients that wait their turn, and a server that stops also stops them. \
         They are no answer to what p99 is at some rate; sweep rate for that."
    } else {
        "Latency counts from the planned moment of each request, so a server that stops is billed for the time."
    };
    let mut says = vec![says.to_owned()];
    says.extend(not_drawn(groups.len()));
    Ok(Figure {
        id: "spectrum",
        title: "Latency spectrum".to_owned(),
        says,
        charts: vec![chart(
            "percentile, %",
            Scale::Quantile,
            "latency, us",
            Scale::Log,
            series,
        )],
        table: table(groups, &TAIL),
    })
}

/// Latency against the rate asked for, with the knee.
pub(super) fn hockey_stick(groups: &[Group<'_>]) -> Made {
    let open: Vec<&Group<'_>> = groups
        .iter()
        .filter(|group| group.number("rate").is_some())
        .collect();
    let (mut series, mut markers, mut says) = (Vec::new(), Vec::new(), Vec::new());
    let lines = lines(groups, "rate");
    // Where three lines for each are too many to be told apart, the tail is what takes off.
    let quantiles: &[(f64, &str)] = if lines.len() * 3 <= SERIES_MAX {
        &[(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")]
    } else {
        says.extend(not_drawn(lines.len()));
        &[(0.99, "p99")]
    };
    for (name, line) in lines {
        for &(quantile, word) in quantiles {
            let mark = |group: &&Group<'_>| -> Option<Mark> {
                let value = group.value(|one| one.latency_at(quantile))?;
                Some(value.at(group.number("rate")?))
            };
            let marks: Vec<Mark> = line.iter().filter_map(mark).collect();
            if series.len() < SERIES_MAX && !marks.is_empty() {
                series.push(Series {
                    name: format!("{name} {word}"),
                    color: series.len(),
                    look: Look::Line,
                    marks,
                });
            }
        }
        match knee(&line) {
            Some(rate) => {
                says.push(format!(
                    "{name}: the knee is after {}/s, the last rate that was sent whole with a p99 at most three times \
                     that of the lowest rate.",
                    short(rate)
                ));
                if !markers.iter().any(|(known, _)| *known == rate) {
                    markers.push((rate, "knee".to_owned()));
                }
            }
            None => says.push(format!("{name}: no knee within these rates.")),
        }
    }
    along(&series, "load and latency", "--sweep rate=1k,2k,5k,10k")?;
    let mut chart = chart(
        "requests/s planned",
        Scale::Log,
        "latency, us",
        Scale::Log,
        series,
    );
    chart.markers = markers;
    let open: Vec<Group<'_>> = open
        .into_iter()
        .map(|group| Group {
            setup: group.setup.clone(),
            points: group.points.clone(),
        })
        .collect();
    Ok(Figure {
        id: "hockey-stick",
        title: "Latency against load".to_owned(),
        says,
        charts: vec![chart],
        table: table(&open, &TAIL),
    })
}

/// The last rate before latency takes off; none when it never does.
fn knee(line: &[&Group<'_>]) -> Option<f64> {
    let tail = |group: &Group<'_>| group.value(|one| one.latency_at(0.99));
    let base = tail(line.first()?)?.median;
    let holds = |group: &&&Group<'_>| {
        let sent = group.value(|one| Some(one.rate / one.rate_planned?));
        let is_whole = sent.is_none_or(|sent| sent.median >= 0.99);
        is_whole && tail(group).is_some_and(|p99| p99.median <= KNEE_TIMES * base)
    };
    let held: Vec<&&Group<'_>> = line.iter().take_while(holds).collect();
    (held.len() < line.len()).then(|| held.last()?.number("rate"))?
}

/// Cost by size and connections.
pub(super) fn heat_map(groups: &[Group<'_>]) -> Made {
    let words = |axis: &str| -> Vec<String> {
        let mut values: Vec<(f64, String)> = groups
            .iter()
            .filter_map(|group| Some((group.number(axis)?, group.setup.settings[axis].clone())))
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        values.dedup();
        values.into_iter().map(|(_, word)| word).collect()
    };
    let (sizes, connections) = (words("size"), words("connections"));
    if sizes.len() < 2 || connections.len() < 2 {
        return Err("heat map: sweep both size and connections, as in \
                    --sweep size=64,1KiB,16KiB --sweep connections=16,256,1k"
            .to_owned());
    }
    let mut charts = Vec::new();
    let varying = varying(groups);
    let mut names: Vec<String> = Vec::new();
    for group in groups {
        let name = label(&group.setup, &varying, &["size", "connections"]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names.iter().take(HEAT_MAPS_MAX) {
        let cells: Vec<(f64, f64, f64)> = groups
            .iter()
            .filter(|group| label(&group.setup, &varying, &["size", "connections"]) == *name)
            .filter_map(|group| {
                let place = |all: &[String], axis: &str| {
                    let value = group.setup.settings.get(axis)?;
                    all.iter().position(|word| word == value)
                };
                let (x, y) = (place(&connections, "connections")?, place(&sizes, "size")?);
                Some((x as f64, y as f64, group.value(|one| one.server_us)?.median))
            })
            .collect();
        let most = cells
            .iter()
            .map(|(_, _, us)| *us)
            .fold(f64::MIN_POSITIVE, f64::max);
        let series = cells.iter().map(|(x, y, us)| Mark {
            high: us / most,
            ..Mark::new(*x, *y)
        });
        charts.push(chart(
            "connections",
            Scale::Names(connections.clone()),
            "size, bytes",
            Scale::Names(sizes.clone()),
            vec![Series {
                name: format!("{name}: server us/request, {} at the darkest", short(most)),
                color: 0,
                look: Look::Cell,
                marks: series.collect(),
            }],
        ));
    }
    Ok(Figure {
        id: "heat-map",
        title: "Cost by size and connections".to_owned(),
        charts,
        table: table(groups, &[("server us/request", |one| one.server_us)]),
        ..Figure::default()
    })
}

/// How even the loops were, beside balls in bins.
pub(super) fn imbalance(groups: &[Group<'_>]) -> Made {
    let varying = varying(groups);
    let mut table = Table::new(&[
        "",
        "measured",
        "worst second",
        "hashing, median",
        "hashing, p95",
    ]);
    let (mut names, mut bars, mut theory) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        let measured: Vec<&Measured> = group.measured().collect();
        let Some(even) = evenness(&measured, group.setup.loops(), SEED) else {
            continue;
        };
        let name = label(&group.setup, &varying, &[]);
        let place = names.len() as f64;
        table.rows.push(vec![
            name.clone(),
            short(even.measured),
            short(even.worst),
            short(even.hashed),
            short(even.hashed_high),
        ]);
        if names.len() < BARS_MAX {
            bars.push(Mark {
                low: even.measured,
                high: even.worst,
                ..Mark::new(place, even.measured)
            });
            theory.push(Mark {
                low: even.hashed,
                high: even.hashed_high,
                ..Mark::new(place, even.hashed)
            });
            let short_name = name.split_once(' ').map_or(name.as_str(), |(_, rest)| rest);
            names.push(short_name.replace("mode=", "").replace("connections=", ""));
        }
    }
    if bars.is_empty() {
        return Err(
            "imbalance: no point has several loops whose threads were seen for seconds".to_owned(),
        );
    }
    Ok(bars_beside_theory(names, bars, theory, table))
}

fn bars_beside_theory(
    names: Vec<String>,
    bars: Vec<Mark>,
    theory: Vec<Mark>,
    table: Table,
) -> Figure {
    let one = |name: &str, color, look, marks| Series {
        name: name.to_owned(),
        color,
        look,
        marks,
    };
    Figure {
        id: "imbalance",
        title: "How evenly loops share the work".to_owned(),
        says: vec![
            "The processor time of the busiest loop over the mean of all, second by second: the median, and a stroke to \
             the worst second. Marks: balls thrown into bins, which is what hashing as many connections gives, with a \
             stroke to its 95th percentile. Under full load all loops are busy whatever they hold, so sweep at a rate."
                .to_owned(),
        ],
        charts: vec![chart(
            "setup",
            Scale::Names(names),
            "busiest over mean",
            Scale::Linear,
            vec![
                one("measured", 0, Look::Bar(60), bars),
                one("hashing, by theory", 1, Look::Marks, theory),
            ],
        )],
        table,
    }
}

/// What each loop did, second by second, in one round of a setup.
pub(super) fn shares(groups: &[Group<'_>]) -> Made {
    let varying = varying(groups);
    let mut figure = Figure {
        id: "shares",
        title: "What each loop did, second by second".to_owned(),
        says: vec![
            "The processor time of each loop over the mean of all, a bar for each second of one round: one that is always \
             long has too many connections, one that is long in turn has bursts. Each setup with several loops has a \
             picture."
                .to_owned(),
        ],
        table: Table::new(&["", "second", "busiest loop", "over mean", "idlest loop", "over mean"]),
        ..Figure::default()
    };
    for group in groups {
        let has_shares = |one: &&Measured| !one.loop_shares.is_empty();
        let good = group
            .measured()
            .filter(|one| !one.is_doubtful())
            .find(has_shares);
        let Some(round) = good.or_else(|| group.measured().find(has_shares)) else {
            continue;
        };
        let name = label(&group.setup, &varying, &[]);
        for (second, shares) in (1..).zip(&round.loop_shares) {
            let mut by_share: Vec<(usize, f64)> = (1..).zip(shares.iter().copied()).collect();
            by_share.sort_by(|a, b| a.1.total_cmp(&b.1));
            if let ([idlest, ..], [.., busiest]) = (&by_share[..], &by_share[..]) {
                let mut row = vec![name.clone(), format!("{second}")];
                row.extend(
                    [busiest, idlest]
                        .map(|(of, share)| [of.to_string(), short(*share)])
                        .concat(),
                );
                figure.table.rows.push(row);
            }
        }
        if figure.charts.len() < SHARES_MAX {
            figure.charts.push(bars_of_loops(&name, round));
        }
    }
    if figure.charts.is_empty() {
        return Err(
            "shares of loops: no point has several loops whose threads were seen for seconds"
                .to_owned(),
        );
    }
    Ok(figure)
}

fn bars_of_loops(name: &str, round: &Measured) -> Chart {
    let seconds = round.loop_shares.len().min(SERIES_MAX);
    let loops = round.loop_shares.iter().map(Vec::len).max().unwrap_or(0);
    let width = u8::try_from(80 / seconds.max(1)).unwrap_or(80);
    let bars = round.loop_shares.iter().take(seconds).enumerate();
    let series = bars.map(|(second, shares)| {
        let shift = (second as f64 + 0.5) / seconds as f64 * 0.8 - 0.4;
        let mark = |(place, share): (usize, &f64)| Mark {
            is_hollow: round.is_doubtful(),
            ..Mark::new(place as f64 + shift, *share)
        };
        Series {
            name: format!("second {}", second + 1),
            color: second,
            look: Look::Bar(width),
            marks: shares.iter().enumerate().map(mark).collect(),
        }
    });
    chart(
        &format!("loops of {name}"),
        Scale::Names((1..=loops).map(|number| number.to_string()).collect()),
        "loop over mean",
        Scale::Linear,
        series.collect(),
    )
}

/// Loops that nobody has.
pub(super) fn simulated() -> Figure {
    let (mut imbalance, mut tail) = (Vec::new(), Vec::new());
    let mut table = Table::new(&[
        "SIMULATED",
        "loops",
        "imbalance",
        "p50",
        "p99",
        "p99.9",
        "deviation",
    ]);
    for (color, mode) in Mode::ALL.into_iter().enumerate() {
        let (mut uneven, mut slow) = (Vec::new(), Vec::new());
        for loops in [4, 8, 16, 32, 64, 128] {
            let plan = plan(mode, loops);
            let result = simulate(&plan);
            uneven.push(Mark::new(loops as f64, result.imbalance));
            slow.push(Mark::new(loops as f64, result.p99));
            let figures = [
                result.imbalance,
                result.p50,
                result.p99,
                result.p99_9,
                result.deviation,
            ];
            let mut row = vec![mode.name().to_owned(), loops.to_string()];
            row.extend(figures.map(short));
            table.rows.push(row);
        }
        for (all, marks) in [(&mut imbalance, uneven), (&mut tail, slow)] {
            all.push(Series {
                name: mode.name().to_owned(),
                color,
                look: Look::Line,
                marks,
            });
        }
    }
    let plan = plan(Mode::Reuseport, 4);
    let draw = |label: &str, series| {
        chart(
            "loops (SIMULATED)",
            Scale::Log,
            label,
            Scale::Linear,
            series,
        )
    };
    Figure {
        id: "simulated",
        title: "SIMULATED, not measured: 4 to 128 loops".to_owned(),
        says: vec![format!(
            "A queueing simulation from seed {}: {} connections a loop, {:.0} % utilisation, {:.0} requests a connection, \
             one request in ten {} times as long; times in units of the mean service. No cost of handing over, of caches \
             or of locks is in it, so the shared queue is a bound and not a rival.",
            plan.seed,
            plan.connections_per_loop,
            plan.utilisation * 100.0,
            plan.requests_per_connection,
            plan.unevenness
        )],
        charts: vec![
            draw("connections, largest over mean", imbalance),
            draw("p99, in mean services", tail),
        ],
        table,
    }
}

fn plan(mode: Mode, loops: usize) -> Plan {
    Plan {
        loops,
        mode,
        connections_per_loop: 16,
        utilisation: 0.6,
        requests_per_connection: 50.0,
        unevenness: 10.0,
        requests: 40_000,
        seed: 1,
    }
}

/// A p99 that grew threefold is what a person calls "it takes off".
const KNEE_TIMES: f64 = 3.0;

/// Bars and names that a phone has room for.
const BARS_MAX: usize = 16;

const HEAT_MAPS_MAX: usize = 6;

/// More pictures of this kind nobody looks at; the table has all.
const SHARES_MAX: usize = 6;
