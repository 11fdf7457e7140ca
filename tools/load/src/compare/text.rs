//! The comparison as a table.

use polyloop_measure::significance::Difference;

use super::{Metric, Report, Row, Sampling};
use crate::output::table::Table;
use crate::output::units::{duration_us, or_dash, rate};

/// A table for each stage, what the columns mean, and what to mistrust.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for stage in &report.stages {
        let mut table = Table::new(0).left(6);
        table.row([
            &stage.name,
            "A",
            "B",
            "B/A",
            "95 % interval",
            "p",
            "verdict",
        ]);
        for row in &stage.rows {
            table.row(cells(row));
        }
        text += &table.text();
        text.push('\n');
    }
    text += match report.sampling {
        Sampling::Files => {
            "A and B: medians over the files of a side, which are the samples of B/A, its interval and p\n"
        }
        Sampling::Windows => {
            "A and B: the whole stage; B/A, its interval and p: blocks of windows within the run\n"
        }
    };
    text += "~: chance explains the difference (p >= 0.05; one equal pair in twenty falls below)   -: too few samples to say\n";
    for caution in &report.cautions {
        text += &format!("CAUTION: {caution}\n");
    }
    text
}

fn cells(row: &Row) -> [String; 7] {
    let figure = |value| match row.metric {
        Metric::Completed => format!("{}/s", rate(value)),
        _ => duration_us(value),
    };
    // Without a test, the quotient of the figures is all there is.
    let ratio = row
        .compared
        .map_or(row.b / row.a, |compared| compared.ratio);
    [
        row.metric.name().to_owned(),
        figure(row.a),
        figure(row.b),
        or_dash(Some(ratio).filter(|ratio| ratio.is_finite()), |ratio| {
            format!("{ratio:.3}")
        }),
        or_dash(row.compared, |it| {
            format!("{:.3} .. {:.3}", it.low, it.high)
        }),
        or_dash(row.compared, |it| format!("{:.3}", it.p)),
        or_dash(row.difference(), |difference| {
            verdict(row.metric, difference).to_owned()
        }),
    ]
}

fn verdict(metric: Metric, difference: Difference) -> &'static str {
    match (difference, metric.more_is_better()) {
        (Difference::Noise, _) => "~",
        (Difference::Shape, _) => "another shape, the same median",
        (Difference::Higher, true) => "higher: better",
        (Difference::Higher, false) => "higher: worse",
        (Difference::Lower, true) => "lower: worse",
        (Difference::Lower, false) => "lower: better",
    }
}
