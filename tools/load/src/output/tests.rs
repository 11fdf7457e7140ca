//! A run through all outputs: what lies in the files at its end, in its middle, and when they cannot be written.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::result::tests::{SMALL_BESIDE, small_head, small_interval, small_run, small_stage};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory that is gone at the end of its test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("polyloop-load-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(settings: OutputSettings) -> (Result<Output, OutputError>, Kept, Kept) {
    let (out, err) = (Kept::default(), Kept::default());
    let streams = Streams {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        is_terminal: false,
    };
    let mut head = small_run();
    head.stages.clear();
    (Output::open_with(settings, &head, streams), out, err)
}

fn all_files(place: &Place) -> OutputSettings {
    OutputSettings {
        json: Some(place.file("a.json")),
        csv: Some(place.file("a.csv")),
        hlog: Some(place.file("a.hlog")),
        hgrm: Some(place.file("a.hgrm")),
        live: Live::Off,
        format: Format::Text,
    }
}

fn play(output: &mut Output, stage: &StageResult) {
    output.stage_begins(&small_head(), Some(2.0));
    output.interval(&small_interval(5), &SMALL_BESIDE);
    output.interval(&small_interval(6), &SMALL_BESIDE);
    output.stage_ends(stage);
}

fn read(path: &Path) -> RunResult {
    RunResult::read(path).unwrap()
}

#[test]
fn a_run_leaves_whole_files() {
    // Goal: each file holds the whole run, and nothing else is left behind. Method: the small run through all of them.
    let place = Place::new("whole");
    let (output, out, err) = open(all_files(&place));
    let mut output = output.unwrap();
    play(&mut output, &small_stage());
    let mut run = small_run();
    assert!(output.finish(&mut run).is_whole);
    assert_eq!(read(&place.file("a.json")), small_run());
    let csv = fs::read_to_string(place.file("a.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let hlog = fs::read_to_string(place.file("a.hlog")).unwrap();
    assert_eq!(hlog.matches("Tag=latency,").count(), 2);
    let hgrm = fs::read_to_string(place.file("a.hgrm")).unwrap();
    assert!(hgrm.contains("Total count    =        39998]"), "{hgrm}");
    assert_eq!(place.names(), ["a.csv", "a.hgrm", "a.hlog", "a.json"]);
    assert!(out.text().contains("a.csv"), "{}", out.text());
    assert_eq!(err.text(), "");
}

#[test]
fn a_run_cut_short_leaves_valid_files() {
    // Goal: whatever happened until then can be read, and says that it is not all. Method: no stage, one stage, and an
    // end without `finish`.
    let place = Place::new("cut");
    let (output, ..) = open(all_files(&place));
    let mut output = output.unwrap();
    let path = place.file("a.json");
    let before = read(&path);
    assert!(!before.is_complete && before.stages.is_empty());
    play(&mut output, &small_stage());
    output.interval(&small_interval(7), &SMALL_BESIDE);
    drop(output);
    let after = read(&path);
    assert!(!after.is_complete && after.stages == [small_stage()]);
    let csv = fs::read_to_string(place.file("a.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");
}

#[test]
fn each_measured_stage_has_its_spectrum() {
    // Goal: no spectrum overwrites another. Method: three measured stages and a ramp.
    let place = Place::new("spectra");
    let (output, ..) = open(OutputSettings {
        hgrm: Some(place.file("a.hgrm")),
        live: Live::Off,
        ..OutputSettings::default()
    });
    let mut output = output.unwrap();
    for (name, kind) in [
        ("ramp", crate::result::StageKind::Ramp),
        ("verify", crate::result::StageKind::Verify),
        ("50 %", crate::result::StageKind::Spectrum),
        ("90 %", crate::result::StageKind::Spectrum),
    ] {
        let mut stage = small_stage();
        stage.name = name.to_owned();
        stage.kind = kind;
        output.stage_ends(&stage);
    }
    assert!(output.finish(&mut small_run()).is_whole);
    assert_eq!(place.names(), ["a-50.hgrm", "a-90.hgrm", "a-verify.hgrm"]);
}

#[test]
fn a_path_that_cannot_be_is_told_before_the_run() {
    // Goal: the message names flag, path and reason, and no file is half opened. Method: a directory that is not there,
    // a directory in place of a file, and one file for two outputs.
    let place = Place::new("paths");
    let json = |path| OutputSettings {
        json: Some(path),
        ..OutputSettings::default()
    };
    let told = |settings| open(settings).0.err().unwrap().to_string();
    let text = told(json(place.file("no/a.json")));
    assert!(
        text.starts_with("--json ") && text.contains("no/a.json: cannot be opened"),
        "{text}"
    );
    assert!(text.contains("No such file or directory"), "{text}");
    let text = told(json(place.0.clone()));
    assert!(text.contains("Is a directory"), "{text}");
    let text = told(OutputSettings {
        csv: Some(place.file("a")),
        hlog: Some(place.file("a")),
        ..OutputSettings::default()
    });
    assert!(text.starts_with("--csv and --hlog both name"), "{text}");
}

#[test]
fn a_full_disk_is_told_once_and_ends_no_run() {
    // Goal: the operator learns of it at once, the result says so, the exit code can. Method: the device that is always
    // full, for the rows and for the result.
    let place = Place::new("full");
    let (output, _, err) = open(OutputSettings {
        json: Some(place.file("a.json")),
        csv: Some("/dev/full".into()),
        live: Live::Off,
        ..OutputSettings::default()
    });
    let mut output = output.unwrap();
    assert_eq!(err.text().matches("No space left on device").count(), 1);
    play(&mut output, &small_stage());
    let mut run = small_run();
    assert!(!output.finish(&mut run).is_whole);
    assert_eq!(err.text().matches("ERROR").count(), 1, "{}", err.text());
    assert_eq!(run.warnings[0].code, "output-lost");
    assert!(
        run.warnings[0].text.starts_with("--csv /dev/full: "),
        "{:?}",
        run.warnings
    );
    assert_eq!(read(&place.file("a.json")).warnings, run.warnings);

    let (output, _, err) = open(OutputSettings {
        json: Some("/dev/full".into()),
        live: Live::Off,
        ..OutputSettings::default()
    });
    let mut output = output.unwrap();
    play(&mut output, &small_stage());
    assert!(!output.finish(&mut small_run()).is_whole);
    assert!(
        err.text()
            .contains("--json /dev/full: the result could not be written")
    );
}

#[test]
fn a_result_that_could_not_be_written_is_tried_again() {
    // Goal: a disk that was full for a while costs nothing but a warning. Method: the directory is taken away for the
    // length of a stage.
    let place = Place::new("again");
    let directory = place.file("d");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("a.json");
    let (output, _, err) = open(OutputSettings {
        json: Some(path.clone()),
        live: Live::Off,
        ..OutputSettings::default()
    });
    let mut output = output.unwrap();
    fs::remove_dir_all(&directory).unwrap();
    output.stage_ends(&small_stage());
    output.stage_ends(&small_stage());
    assert_eq!(err.text().matches("ERROR").count(), 1, "{}", err.text());
    fs::create_dir(&directory).unwrap();
    let mut run = small_run();
    assert!(output.finish(&mut run).is_whole);
    assert_eq!(read(&path), run);
    assert_eq!(run.warnings.len(), 1);
}

#[test]
fn json_on_stdout_is_the_file() {
    // Goal: a script may take either. Method: the format for scripts, read back.
    let (output, out, _) = open(OutputSettings {
        live: Live::Off,
        format: Format::Json,
        ..OutputSettings::default()
    });
    let mut run = small_run();
    assert!(output.unwrap().finish(&mut run).is_whole);
    assert_eq!(RunResult::parse(&out.text(), Path::new("-")).unwrap(), run);
}
