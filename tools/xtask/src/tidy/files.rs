//! The shape of files and manifests: each Rust file opens with what it is for, long ones say why they are whole, each
//! member inherits the lints, and the visible top level stays as the README draws it.

use super::finding::{Finding, Rule};
use super::layers::Member;

/// More than this needs a reason; style asks for 70 to 350.
const LINES_MAX: usize = 800;

/// What opens the reason, in the `//!` header.
const WHOLE_MARKER: &str = "Whole because";

/// Visible entries of the root directory. Licence files come on top.
const TOP_LEVEL: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "benches",
    "crates",
    "docs",
    "tools",
];

/// Judges the header and the length of a Rust file.
pub(crate) fn check_source(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    if !first.is_some_and(|line| line.starts_with("//!") && line.len() > 3) {
        findings.push(Finding::new(path, 1, Rule::ModuleHeader, "no `//!` header"));
    }
    let length = text.lines().count();
    let says_why = text
        .lines()
        .any(|line| line.trim_start().starts_with("//!") && line.contains(WHOLE_MARKER));
    if length > LINES_MAX && !says_why {
        let what = format!("{length} lines, more than {LINES_MAX}, and no reason given");
        findings.push(Finding::new(path, 1, Rule::LongFile, what));
    }
    findings
}

/// Judges a member's manifest: inheritance of lints is not implicit.
pub(crate) fn check_manifest(member: &Member, text: &str) -> Option<Finding> {
    let mut table = "";
    let inherits = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .any(|line| {
            if line.starts_with('[') {
                table = line;
            }
            let words: String = line.split_whitespace().collect();
            match table {
                "" => words == "lints.workspace=true",
                "[lints]" => words == "workspace=true",
                _ => false,
            }
        });
    let what = format!("`{}` does not inherit the workspace's lints", member.name);
    (!inherits).then(|| Finding::new(&member.manifest, 1, Rule::LintsTable, what))
}

/// Judges the names in the root directory. The build directory is the one exception that Git ignores.
pub(crate) fn check_top_level(names: &[String]) -> Vec<Finding> {
    let is_known = |name: &str| {
        TOP_LEVEL.contains(&name)
            || name == "target"
            || name.starts_with("LICENSE")
            || name.starts_with('.')
    };
    names
        .iter()
        .filter(|name| !is_known(name))
        .map(|name| Finding::new(name, 1, Rule::TopLevel, "a new visible entry at the top"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<Rule> {
        check_source(path, text)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    /// Goal: a header is the first thing in a file. Method: present, missing, empty, and too late.
    #[test]
    fn headers_come_first() {
        assert_eq!(rules("a.rs", "\n//! What it is for.\nfn f() {}\n"), []);
        for text in [
            "",
            "fn f() {}\n",
            "//!\nfn f() {}\n",
            "use a::b;\n//! Late.\n",
        ] {
            assert_eq!(rules("a.rs", text), [Rule::ModuleHeader], "{text}");
        }
    }

    /// Goal: length needs a reason past the limit. Method: at the limit, past it, and past it with the reason.
    #[test]
    fn long_files_say_why() {
        let body = |lines: usize| "// x\n".repeat(lines);
        assert_eq!(rules("a.rs", &format!("//! A.\n{}", body(799))), []);
        assert_eq!(
            rules("a.rs", &format!("//! A.\n{}", body(800))),
            [Rule::LongFile]
        );
        let reason = format!("//! A.\n//! Whole because it is one table.\n{}", body(900));
        assert_eq!(rules("a.rs", &reason), []);
        let elsewhere = format!("//! A.\n// Whole because it is one table.\n{}", body(900));
        assert_eq!(rules("a.rs", &elsewhere), [Rule::LongFile]);
    }

    /// Goal: lints are inherited in either spelling. Method: both, then none, another table, and a comment.
    #[test]
    fn manifests_inherit_lints() {
        let member = Member {
            name: "a".into(),
            manifest: "a/Cargo.toml".into(),
            needs: vec![],
        };
        for good in [
            "[package]\n[lints]\nworkspace = true # all\n",
            "lints.workspace = true\n[package]\n",
        ] {
            assert_eq!(check_manifest(&member, good), None, "{good}");
        }
        for bad in [
            "[package]\nname = \"a\"\n",
            "[lints]\n[package]\nworkspace = true\n",
            "[lints]\n# workspace = true\n",
            "[lints]\nworkspace = false\n",
        ] {
            assert!(check_manifest(&member, bad).is_some(), "{bad}");
        }
    }

    /// Goal: the top level stays fixed. Method: what is allowed, and three intruders.
    #[test]
    fn the_top_level_is_fixed() {
        let names = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let good =
            "Cargo.toml Cargo.lock crates benches tools docs README.md LICENSE-MIT target .ci";
        assert_eq!(check_top_level(&names(good)), []);
        assert_eq!(
            check_top_level(&names("src Makefile notes.md docs")).len(),
            3
        );
    }
}
