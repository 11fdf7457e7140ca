//! The figures about loops and cost. Each is made from the groups, or is left out with the reason.
//!
//! A figure that cannot be drawn says why: a reader must not take what is missing for what was not there.

use super::groups::{Group, SEED, SERIES_MAX, Value, label, lines, series, varying};
use super::html::{Figure, Table};
use super::plot::{Chart, Look, Mark, Series};
use super::scale::{Axis, Scale, short};
use crate::efficiency::{Step, steps};
use crate::fit::{Estimate, Model, fit};
use crate::points::Measured;
use crate::sweep::LOOPS;

/// A figure, or why there is none.
pub type Made = Result<Figure, String>;

/// Throughput against loops, with the ideal line and the models.
pub fn throughput(groups: &[Group<'_>]) -> Made {
    let mut series = series(groups, LOOPS, |one| Some(one.rate));
    along(&series, "throughput against loops", "--sweep loops=1,2,4")?;
    let ends = places(&series);
    let ideal = |of: &Series| -> Option<Series> {
        let first = of.marks.iter().min_by(|a, b| a.x.total_cmp(&b.x))?;
        let one = first.y / first.x;
        Some(Series {
            name: "ideal".to_owned(),
            color: 6,
            look: Look::Dashed,
            marks: [ends.0, ends.1].map(|x| Mark::new(x, one * x)).to_vec(),
        })
    };
    let ideal = series.first().and_then(ideal);
    let mut says = vec![
        "The dashed line is what so many times the first point of the first curve would be."
            .to_owned(),
    ];
    let lines = lines(groups, LOOPS);
    says.extend(not_drawn(lines.len()));
    for (index, (name, line)) in lines.into_iter().take(SERIES_MAX).enumerate() {
        let (words, curve) = models(&name, &line, index, ends);
        says.extend(words);
        series.extend(curve);
    }
    series.extend(ideal);
    Ok(Figure {
        id: "throughput",
        title: "Throughput against loops".to_owned(),
        says,
        charts: vec![chart(
            "loops",
            Scale::Log,
            "requests/s",
            Scale::Linear,
            series,
        )],
        table: table(
            groups,
            &[
                ("requests/s", |one| Some(one.rate)),
                ("server us/request", |one| one.server_us),
            ],
        ),
    })
}

/// Fits both models to a line: sentences, and the curve of the richest that held.
fn models(
    name: &str,
    line: &[&Group<'_>],
    color: usize,
    ends: (f64, f64),
) -> (Vec<String>, Option<Series>) {
    let mut points = Vec::new();
    for group in line {
        let loops = group.number(LOOPS).unwrap_or(f64::NAN);
        // A doubted point describes a machine in trouble, and is not what the law is about.
        let good = group.measured().filter(|one| !one.is_doubtful());
        points.extend(good.map(|one| (loops, one.rate)));
    }
    let (mut says, mut curve) = (Vec::new(), None);
    if line
        .iter()
        .flat_map(|group| group.measured())
        .any(Measured::shares_cores)
    {
        let reason = "the generator shares the server's cores, so these rates are of both together";
        return (vec![format!("{name}: no fit: {reason}.")], None);
    }
    for model in [Model::Amdahl, Model::Universal] {
        match fit(model, &points, SEED) {
            Ok(fit) => {
                let peak = fit.peak().map_or(String::new(), |peak| {
                    format!(", highest at {} loops", short(peak))
                });
                says.push(format!(
                    "{name}: {} with lambda {}, sigma {}, kappa {} (95 % intervals), {:.1} % beside the points{peak}.",
                    model.name(),
                    estimate(fit.lambda),
                    estimate(fit.sigma),
                    estimate(fit.kappa),
                    fit.rms * 100.0,
                ));
                let step = (ends.1 - ends.0) / 40.0;
                let at = |index: u32| ends.0 + f64::from(index) * step;
                curve = Some(Series {
                    name: String::new(),
                    color,
                    look: Look::Dashed,
                    marks: (0..=40).map(|i| Mark::new(at(i), fit.at(at(i)))).collect(),
                });
            }
            Err(reason) => says.push(format!("{name}: no fit of {}: {reason}.", model.name())),
        }
    }
    (says, curve)
}

/// Efficiency of each step from one loop.
pub fn efficiency(groups: &[Group<'_>]) -> Made {
    let mut figure = Figure {
        id: "efficiency",
        title: "Efficiency of each step".to_owned(),
        says: vec![
            "By cost: processor time per request of one loop over that of N; right whoever shares the cores. By rate: \
             throughput of N over N times that of one; right only where the generator has cores of its own. Ratios \
             within a round, their median, and a 95 % interval."
                .to_owned(),
        ],
        table: Table::new(&["", "loops", "by cost", "interval", "by rate", "interval", "rounds"]),
        ..Figure::default()
    };
    let mut drawn = Vec::new();
    let lines = lines(groups, LOOPS);
    figure.says.extend(not_drawn(lines.len()));
    for (color, (name, line)) in lines.into_iter().enumerate() {
        let points: Vec<_> = line.iter().flat_map(|group| group.points.clone()).collect();
        let steps = steps(&points, SEED);
        let mut marks = vec![Mark::new(1.0, 1.0)];
        for step in &steps {
            figure.table.rows.push(step_row(&name, step));
            marks.extend(step.by_cost.map(|ratio| Mark {
                x: step.loops as f64,
                y: ratio.median,
                low: ratio.low,
                high: ratio.high,
                is_hollow: false,
            }));
        }
        if marks.len() > 1 && color < SERIES_MAX {
            drawn.push(Series {
                name,
                color,
                look: Look::Line,
                marks,
            });
        }
    }
    if drawn.is_empty() {
        return Err(
            "efficiency: there is no undoubted round with one loop and with more; \
                    sweep loops=1,2 or more, on as many cores"
                .to_owned(),
        );
    }
    let ends = places(&drawn);
    drawn.push(Series {
        name: "ideal".to_owned(),
        color: 6,
        look: Look::Dashed,
        marks: vec![Mark::new(ends.0, 1.0), Mark::new(ends.1, 1.0)],
    });
    figure.charts = vec![chart(
        "loops",
        Scale::Log,
        "efficiency by cost (1 is ideal)",
        Scale::Linear,
        drawn,
    )];
    Ok(figure)
}

fn step_row(name: &str, step: &Step) -> Vec<String> {
    let pair = |ratio: Option<polyloop_measure::stats::Ratio>| {
        ratio.map_or_else(
            || ["-".to_owned(), "-".to_owned()],
            |ratio| {
                [
                    format!("{:.3}", ratio.median),
                    format!("{:.3} to {:.3}", ratio.low, ratio.high),
                ]
            },
        )
    };
    let pairs = step.by_rate.map_or(0, |ratio| ratio.pairs);
    let mut row = vec![name.to_owned(), step.loops.to_string()];
    row.extend(pair(step.by_cost));
    row.extend(pair(step.by_rate));
    row.push(pairs.to_string());
    row
}

/// Cost of a request against connections, or what else was swept.
pub fn cost(groups: &[Group<'_>]) -> Made {
    let server = |axis: &str| series(groups, axis, |one| one.server_us);
    let what = "cost against connections, size or loops";
    let advice = "--sweep connections=64..16k";
    let is_swept = |axis: &&str| along(&server(axis), what, advice).is_ok();
    let axis = COST_AXES
        .into_iter()
        .find(is_swept)
        .unwrap_or("connections");
    along(&server(axis), what, advice)?;
    let machine = series(groups, axis, |one| one.machine_us);
    let x = if axis == "size" { "size, bytes" } else { axis };
    let chart = |label: &str, series| chart(x, Scale::Log, label, Scale::Linear, series);
    Ok(Figure {
        id: "cost",
        title: format!("Processor time of a request against {axis}"),
        says: vec![
            "Above: the server's own time, exact. Below: all time in which any core was busy, generator included, at the \
             resolution of the kernel's tick. On loopback the sender's system call does some of the receiver's work, so \
             read both."
                .to_owned(),
            SYSCALLS.to_owned(),
        ]
        .into_iter()
        .chain(not_drawn(lines(groups, axis).len()))
        .collect(),
        charts: vec![
            chart("server, us/request", server(axis)),
            chart("whole machine, us/request", machine),
        ],
        table: table(groups, &COST),
    })
}

/// What a cost may be drawn against, the first that was swept.
const COST_AXES: [&str; 4] = ["connections", "size", "pipeline", "loops"];

/// What a request costs, and a connection.
const COST: [Column; 5] = [
    ("server us/request", |one| one.server_us),
    ("machine us/request", |one| one.machine_us),
    ("generator us/request", |one| one.load_us),
    ("system calls/request", Measured::syscalls_per_request),
    ("bytes/connection", Measured::memory_per_connection),
];

const SYSCALLS: &str = "System calls were counted in loads of their own, once a setup: by perf, or by strace, which slows \
    a server until it is at saturation. Bytes are resident memory that the load added.";

/// Subjects side by side, where all else is the same.
pub fn peers(groups: &[Group<'_>]) -> Made {
    let mut subjects: Vec<&str> = groups
        .iter()
        .map(|group| group.setup.subject.as_str())
        .collect();
    subjects.dedup();
    if subjects.len() < 2 {
        return Err("side by side: there is one subject; name several with --subject".to_owned());
    }
    let varying = varying(groups);
    let mut columns: Vec<(String, Vec<(usize, &Group<'_>)>)> = Vec::new();
    for group in groups {
        let whole = label(&group.setup, &varying, &[]);
        let setting = whole[group.setup.subject.len()..].trim().to_owned();
        let place = subjects
            .iter()
            .position(|name| *name == group.setup.subject);
        let entry = (place.unwrap_or(0), group);
        match columns.iter_mut().find(|(known, _)| *known == setting) {
            Some((_, entries)) => entries.push(entry),
            None => columns.push((setting, vec![entry])),
        }
    }
    let names: Vec<String> = subjects.iter().map(|&name| name.to_owned()).collect();
    let width = u8::try_from(80 / columns.len().min(SERIES_MAX)).unwrap_or(10);
    let mut series = Vec::new();
    for (color, (setting, entries)) in columns.iter().take(SERIES_MAX).enumerate() {
        let shift = (color as f64 + 0.5) / columns.len().min(SERIES_MAX) as f64 * 0.8 - 0.4;
        let bar = |(place, group): &(usize, &Group<'_>)| -> Option<Mark> {
            Some(group.value(|one| one.server_us)?.at(*place as f64 + shift))
        };
        series.push(Series {
            name: setting.clone(),
            color,
            look: Look::Bar(width),
            marks: entries.iter().filter_map(bar).collect(),
        });
    }
    Ok(Figure {
        id: "peers",
        title: "Side by side: processor time of a request".to_owned(),
        says: vec![
            "Lower is better. Bars of one colour had the same load; the stroke is the 95 % interval of the median."
                .to_owned(),
            SYSCALLS.to_owned(),
        ]
        .into_iter()
        .chain(not_drawn(columns.len()))
        .collect(),
        charts: vec![chart("subject", Scale::Names(names), "server, us/request", Scale::Linear, series)],
        table: table(
            groups,
            &[
                ("server us/request", |one| one.server_us),
                ("machine us/request", |one| one.machine_us),
                ("requests/s", |one| Some(one.rate)),
                ("p50 us", |one| one.latency_at(0.5)),
                ("p99 us", |one| one.latency_at(0.99)),
                ("system calls/request", Measured::syscalls_per_request),
                ("bytes/connection", Measured::memory_per_connection),
            ],
        ),
    })
}

/// A column of a table: its name, and which figure.
pub type Column = (&'static str, fn(&Measured) -> Option<f64>);

/// A row for each group: its setup, each figure with its interval, and how many rounds are doubted.
pub fn table(groups: &[Group<'_>], columns: &[Column]) -> Table {
    let mut head = vec!["", "rounds", "doubted"];
    for (name, _) in columns {
        head.extend([*name, "interval"]);
    }
    let mut table = Table::new(&head);
    let varying = varying(groups);
    for group in groups {
        let mut row = vec![
            label(&group.setup, &varying, &[]),
            group.points.len().to_string(),
            group.doubted(),
        ];
        for (_, figure) in columns {
            row.extend(cells(group.value(figure)));
        }
        table.rows.push(row);
    }
    table
}

fn cells(value: Option<Value>) -> [String; 2] {
    value.map_or_else(
        || ["-".to_owned(), "-".to_owned()],
        |value| {
            [
                short(value.median),
                format!("{} to {}", short(value.low), short(value.high)),
            ]
        },
    )
}

fn estimate(of: Estimate) -> String {
    let digits = |value: f64| {
        if value.abs() < 1.0 {
            format!("{value:.4}")
        } else {
            short(value)
        }
    };
    format!(
        "{} ({} to {})",
        digits(of.value),
        digits(of.low),
        digits(of.high)
    )
}

/// A chart whose axes have room for everything in it.
pub fn chart(x: &str, x_scale: Scale, y: &str, y_scale: Scale, series: Vec<Series>) -> Chart {
    let marks = || series.iter().flat_map(|series| &series.marks);
    let x = Axis::new(x, x_scale, marks().map(|mark| mark.x));
    let y = Axis::new(y, y_scale, marks().flat_map(|mark| [mark.y, mark.high]));
    Chart {
        x,
        y,
        series,
        markers: Vec::new(),
    }
}

/// Refuses a figure along an axis where no line has two points.
pub fn along(series: &[Series], what: &str, advice: &str) -> Result<(), String> {
    if series.iter().any(|series| series.marks.len() > 1) {
        Ok(())
    } else {
        Err(format!(
            "{what}: no two points differ in it; sweep it: {advice}"
        ))
    }
}

/// What to say where not all lines are drawn.
pub fn not_drawn(lines: usize) -> Option<String> {
    (lines > SERIES_MAX)
        .then(|| format!("{SERIES_MAX} of {lines} lines are drawn; the table has all."))
}

/// The first and the last place of all series.
fn places(series: &[Series]) -> (f64, f64) {
    let places = series
        .iter()
        .flat_map(|series| &series.marks)
        .map(|mark| mark.x);
    places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
        (low.min(x), high.max(x))
    })
}
