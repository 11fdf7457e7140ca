//! The rules together: over a small tree with one fault of each sort, and over this repository.

use super::finding::Rule;
use super::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    let files = files
        .iter()
        .map(|(path, text)| TextFile {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    Tree {
        top_level: vec!["crates".to_owned()],
        files,
        members: Vec::new(),
    }
}

/// Goal: the rules are wired up, and told in order of place. Method: a tree with a fault in each file.
#[test]
fn each_rule_is_asked() {
    let tree = tree(&[
        (
            ".config/tidy-long-functions.txt",
            "crates/x/src/gone.rs::f = 99\n",
        ),
        ("crates/polyloop-core/src/a.rs", "//! A.\nuse std::fs;\n"),
        (
            "crates/polyloop-sys/src/a.rs",
            "//! A.\nfn f() { unsafe { g() } }\n",
        ),
        ("crates/x/src/broken.rs", "//! A.\nfn f( {\n"),
        ("crates/x/src/lib.rs", "fn f() { unsafe { g() } }\n"),
        (
            "crates/x/tests/it/main.rs",
            "//! A.\nfn f() { std::thread::sleep(d) }\n",
        ),
        ("docs/a.md", "see lib.rs#L1\n"),
    ]);
    let rules: Vec<Rule> = check(&tree)
        .into_iter()
        .map(|finding| finding.rule)
        .collect();
    assert_eq!(
        rules,
        [
            Rule::Ratchet,
            Rule::CorePurity,
            Rule::SafetyComment,
            Rule::Unparsable,
            Rule::ModuleHeader,
            Rule::UnsafePlace,
            Rule::TestSleep,
            Rule::LineLink,
        ]
    );
}

/// Goal: names are unique and lead back to their rule. Method: all pairs.
#[test]
fn rule_names_are_unique() {
    for (index, rule) in Rule::ALL.iter().enumerate() {
        let first = Rule::ALL
            .iter()
            .position(|other| other.name() == rule.name());
        assert_eq!(first, Some(index), "{}", rule.name());
    }
}

/// Goal: this repository keeps its own rules, the arrows between crates above all. Method: read the tree and ask.
#[test]
fn this_repository_is_tidy() {
    let root = crate::repository_root().unwrap();
    let findings = check(&Tree::read(&root).unwrap());
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
}
