//! Does an echo cost more than it did? A measurement beside the bare loop, or the file of one, held against the committed
//! baseline. What a loss is and when it fails is told in [`polyloop_benches::gate`].

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use polyloop_benches::gate::{self, Baseline, Measured, Verdict};

use crate::args::{Common, EchoCost, Gate, Kind};
use crate::{DOUBTFUL, echo_cost};

/// Answers the exit code.
pub(crate) fn run(common: Common, question: &Gate) -> Result<u8> {
    let is_strict = common.strict;
    let path = match &question.result {
        Some(path) => path.clone(),
        None => echo_cost::measure(common, echo(question))?.1,
    };
    let measured = read(&path)?;
    let file = question.baseline.display();
    if question.update {
        let text = gate::update(&measured)?;
        fs::write(&question.baseline, text).with_context(|| format!("{file} cannot be written"))?;
        println!("baseline: {file}");
        return Ok(DONE);
    }
    let text = fs::read_to_string(&question.baseline)
        .with_context(|| format!("{file} cannot be read; --update writes one"))?;
    let baseline = Baseline::parse(&text).with_context(|| file.to_string())?;
    let rows = gate::judge(&measured, &baseline, question.limit)?;
    for warning in &measured.warnings {
        eprintln!("warning of the result: {warning}");
    }
    print!("{}", gate::text(&rows, question.limit));
    Ok(match gate::verdict(&rows) {
        Verdict::Failed => WORSE,
        Verdict::Undecided if is_strict => DOUBTFUL,
        Verdict::Passed if is_strict && !measured.warnings.is_empty() => DOUBTFUL,
        Verdict::Undecided | Verdict::Passed => DONE,
    })
}

fn echo(question: &Gate) -> EchoCost {
    EchoCost {
        subjects: vec![Kind::BareMio, Kind::Polyloop],
        connections: gate::CONNECTIONS.to_vec(),
        seconds: question.seconds,
        server_core: question.server_core,
        load_core: question.load_core,
    }
}

fn read(path: &Path) -> Result<Measured> {
    let file = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{file} cannot be read"))?;
    Measured::parse(&text).with_context(|| file.to_string())
}

const DONE: u8 = 0;
const WORSE: u8 = 4;
