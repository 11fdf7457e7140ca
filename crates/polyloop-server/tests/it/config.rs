//! Settings of the proxy from flags and a file: `polyloop check`, and `polyloop proxy --print-config`.

use crate::harness::{BINARY, alone, finish_command, run_to_end};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A file of settings in a directory of its own, gone with the value.
struct Config {
    path: PathBuf,
}

impl Config {
    fn new(name: &str, text: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("polyloop-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("proxy.toml");
        fs::write(&path, text).unwrap();
        Self { path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // What is left behind in the directory for temporary files harms nobody.
        let _ = self.path.parent().map(fs::remove_dir_all);
    }
}

const FINE: &str = "\
[[listener]]
name = \"pg\"
listen = \":5432\"
group = \"db\"

[[listener]]
name = \"redis\"
listen = \":6379\"
group = \"cache\"

[[group]]
name = \"db\"
to = [\"db1:5432\", \"db2:5432\", \"db3:5432,backup\"]

[[group]]
name = \"cache\"
to = [\"10.0.0.1:6379\", \"10.0.0.2:6379\"]
check = \"connect\"
";

#[test]
fn a_fine_file_is_counted() {
    // Goal: whoever wrote it sees that all of it was understood. Method: one that is fine, one with a warning.
    let _alone = alone();
    let file = Config::new("fine", FINE);
    let path = file.path();
    let expected = format!("{path}: fine: 2 listeners, 2 groups, 5 backends\n");
    assert_eq!(run_to_end(["check", path]), (0, expected, String::new()));

    let moot = Config::new("moot", &FINE.replace("check = \"connect\"", "rise = 5"));
    let path = moot.path();
    let (code, stdout, stderr) = run_to_end(["check", path]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stdout,
        format!("{path}: fine: 2 listeners, 2 groups, 5 backends, 1 warning\n")
    );
    assert!(
        stderr.starts_with(&format!("{path}:18:1: warning: rise has no effect")),
        "{stderr}"
    );
}

#[test]
fn a_wrong_file_is_told_like_by_a_compiler() {
    // Goal: every mistake in one run, at its place, with its line. Method: three mistakes; check and proxy say the same.
    let _alone = alone();
    let text = FINE
        .replace("listen = \":6379\"", "lisetn = \":6379\"")
        .replace("group = \"cache\"", "group = \"cach\"")
        .replace("10.0.0.2:6379", "10.0.0.2");
    let file = Config::new("wrong", &text);
    let path = file.path();
    let report = format!(
        "{path}:6:1: error: a listener needs listen = \":5432\", or any other address of this host\n   \
         6 | [[listener]]\n     | ^^^^^^^^^^^^\n\
         {path}:8:1: error: \"lisetn\" is no setting of a listener; did you mean \"listen\"?\n   \
         8 | lisetn = \":6379\"\n     | ^^^^^^\n\
         {path}:9:9: error: group: there is no group \"cach\"; did you mean \"cache\"?\n   \
         9 | group = \"cach\"\n     |         ^^^^^^\n\
         {path}:17:24: error: to: \"10.0.0.2\" has no port; write 10.0.0.2:5432\n  \
         17 | to = [\"10.0.0.1:6379\", \"10.0.0.2\"]\n     |                        ^^^^^^^^^^\n"
    );
    let (code, stdout, stderr) = run_to_end(["check", path]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(stderr, format!("{report}{path}: 4 errors\n"));
    let (code, stdout, stderr) = run_to_end(["proxy", "--config", path]);
    assert_eq!((code, stdout.as_str(), stderr), (2, "", report));
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    // Goal: path and reason, whoever asks. Method: a file that is not there, bytes that are no text.
    let _alone = alone();
    for args in [
        &["check", "/nowhere/x.toml"][..],
        &["proxy", "-c", "/nowhere/x.toml"],
    ] {
        let (code, stdout, stderr) = run_to_end(args);
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains("/nowhere/x.toml: "), "{stderr}");
    }
    let file = Config::new("bytes", "");
    fs::write(&file.path, b"[server]\nlog = \"\xff\"").unwrap();
    let (code, _, stderr) = run_to_end(["check", file.path()]);
    assert_eq!(code, 2);
    assert!(stderr.contains("proxy.toml:2: not UTF-8"), "{stderr}");
    let (code, _, stderr) = run_to_end(["check"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("<FILE>"), "{stderr}");
}

#[test]
fn what_is_printed_is_fed_back() {
    // Goal: --print-config is a file with the same settings. Method: flags over a file, printed, checked, printed again
    // from there: the values are the same, and each now comes from its line.
    let _alone = alone();
    let file = Config::new("printed", FINE);
    let flags = [
        "proxy",
        "-c",
        file.path(),
        "--loops",
        "2",
        "--rate",
        "1k/s",
        "--print-config",
    ];
    let (code, printed, stderr) = run_to_end(flags);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for (setting, origin) in [
        ("loops = 2", "--loops"),
        ("rate = \"1000/s\"", "--rate"),
        ("idle-timeout = \"1h\"", "default"),
        ("check = \"connect\"", &format!("{}:18", file.path())),
    ] {
        let line = format!("{setting:<40} # {origin}");
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
    let again = Config::new("again", &printed);
    let (code, stdout, stderr) = run_to_end(["check", again.path()]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.ends_with("fine: 2 listeners, 2 groups, 5 backends\n"),
        "{stdout}"
    );
    let (_, second, _) = run_to_end(["proxy", "-c", again.path(), "--print-config"]);
    let values = |text: &str| -> Vec<String> {
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        settings
            .map(|line| line.split(" # ").next().unwrap().trim().to_owned())
            .collect()
    };
    assert_eq!(values(&printed), values(&second));
    assert!(second.contains(&format!("# {}:", again.path())), "{second}");
}

#[test]
fn a_flag_that_is_ambiguous_names_the_places() {
    // Goal: the way out is a line number. Method: a listener's flag over two listeners.
    let _alone = alone();
    let file = Config::new("ambiguous", FINE);
    let (code, _, stderr) = run_to_end(["proxy", "-c", file.path(), "--idle-timeout", "5m"]);
    assert_eq!(code, 2);
    let expected = "--idle-timeout is about one listener, and ";
    assert!(
        stderr.contains(expected) && stderr.contains("pg (line 1), redis (line 6)"),
        "{stderr}"
    );
}

#[test]
fn nobody_to_print_to_is_told() {
    // Goal: a full device is no success. Method: standard output on /dev/full.
    let _alone = alone();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" proxy --print-config > /dev/full", BINARY]);
    let (code, _, stderr) = finish_command(command);
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("standard output cannot be written to"),
        "{stderr}"
    );
}
