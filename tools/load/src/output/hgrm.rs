//! The percentile spectrum of each measured stage, as HdrHistogram prints it.
//!
//! The one idea: the text that every plotter of the format reads: value, percentile, running total and 1/(1-p), five
//! rows to each halving of what lies beyond. Values are corrected latencies in milliseconds; their six decimals are
//! nanoseconds.
//!
//! One file holds one stage. With a second stage the first one's file is renamed, and from then on each has the name of
//! its stage before the ending: `out.hgrm` becomes `out-verify.hgrm`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use super::rows::RowFile;
use super::{OutputError, lost_file};
use crate::result::{StageResult, Warning};

#[derive(Debug)]
pub(super) struct Spectra {
    /// As asked for.
    path: PathBuf,
    /// The first stage's.
    first: RowFile,
    /// What was written, and the stage's name.
    written: Vec<(PathBuf, String)>,
    /// A device or a pipe cannot be renamed, and takes all spectra one after the other.
    is_device: bool,
    is_whole: bool,
}

impl Spectra {
    pub(super) fn open(path: PathBuf) -> Result<Self, OutputError> {
        let first = RowFile::open("hgrm", path.clone())?;
        Ok(Self {
            is_device: !path.is_file(),
            path,
            first,
            written: Vec::new(),
            is_whole: true,
        })
    }

    /// Writes the spectrum of a measured stage that has any; answers why it could not.
    pub(super) fn add(&mut self, stage: &StageResult) -> Option<Warning> {
        let latency = stage
            .latency
            .decoded()
            .filter(|_| stage.kind.is_measured())?;
        let text = spectrum(&latency);
        let lost = if self.written.is_empty() || self.is_device {
            self.written.push((self.path.clone(), stage.name.clone()));
            self.first.append(text.as_bytes())
        } else {
            self.add_another(&stage.name, &text)
        };
        self.is_whole &= lost.is_none();
        lost
    }

    fn add_another(&mut self, name: &str, text: &str) -> Option<Warning> {
        if let [(path, first)] = &mut self.written[..] {
            let renamed = suffixed(&self.path, first);
            if let Err(error) = fs::rename(&self.path, &renamed) {
                return Some(lost_file("hgrm", &self.path, "cannot be renamed", &error));
            }
            *path = renamed;
        }
        let path = suffixed(&self.path, name);
        match RowFile::open("hgrm", path.clone()) {
            Ok(mut file) => {
                self.written.push((path, name.to_owned()));
                file.append(text.as_bytes())
            }
            Err(OutputError::Open { source, .. }) => {
                Some(lost_file("hgrm", &path, "cannot be opened", &source))
            }
            Err(_) => None, // opening a file fails in no other way
        }
    }

    /// The files there are.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.written.iter().map(|(path, _)| &**path)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// `dir/out.hgrm` and `50 %` make `dir/out-50.hgrm`.
fn suffixed(path: &Path, stage: &str) -> PathBuf {
    let words: Vec<&str> = stage
        .split(|c: char| !c.is_alphanumeric() && c != '.' && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}-{}", words.join("-"));
    if let Some(ending) = path.extension() {
        name = format!("{name}.{}", ending.to_string_lossy());
    }
    path.with_file_name(name)
}

/// The text of one spectrum.
fn spectrum(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    // Writing to a `String` does not fail.
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let value_ms = ms(step.value_iterated_to() as f64);
        let quantile = step.quantile_iterated_to();
        let _ = write!(text, "{value_ms:12.6} {quantile:2.12} {total:10}");
        let _ = if quantile < 1.0 {
            writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text)
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n\
         #[Max     = {:12.6}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]",
        ms(histogram.mean()),
        ms(histogram.stdev()),
        ms(histogram.max() as f64),
        histogram.len(),
        histogram.buckets(),
        // The format means the length of the first bucket, two of whose values are told apart by the last digit.
        2 * 10_u64.pow(histogram.sigfig().into()).next_power_of_two(),
    );
    text
}

fn ms(ns: f64) -> f64 {
    ns / 1e6
}

/// The format's habit.
const TICKS_PER_HALF: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spectrum_has_the_shape_that_plotters_read() {
        // Goal: the text is that of the Java library. Method: two values, whose spectrum is short. They fall into buckets
        // 512 and 1,024 ns wide, whose middles are 1.000192 and 2.000384 ms: that makes the mean.
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        histogram.record_n(1_000_000, 3).unwrap();
        histogram.record(2_000_000).unwrap();
        let text = spectrum(&histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(lines[1], "");
        assert_eq!(
            lines[2],
            "    1.000447 0.000000000000          3           1.00"
        );
        assert_eq!(
            lines[lines.len() - 4],
            "    2.000895 1.000000000000          4"
        );
        assert_eq!(
            lines[lines.len() - 3],
            "#[Mean    =     1.250240, StdDeviation   =     0.433096]"
        );
        assert!(
            lines[lines.len() - 2].ends_with("Total count    =            4]"),
            "{text}"
        );
        assert!(
            lines[lines.len() - 1].ends_with("SubBuckets     =         2048]"),
            "{text}"
        );
    }

    #[test]
    fn each_stage_has_a_file_of_its_own() {
        // Goal: names tell stages apart and stay in their directory. Method: names with blanks, signs and slashes.
        let name = |path: &str, stage: &str| suffixed(Path::new(path), stage);
        assert_eq!(name("a/out.hgrm", "verify"), Path::new("a/out-verify.hgrm"));
        assert_eq!(name("out", "at 50 % of it"), Path::new("out-at-50-of-it"));
        assert_eq!(name("a/out.hgrm", "../b"), Path::new("a/out-..-b.hgrm"));
    }
}
