//! Words that go stale: a document that points at a line number, and a path that exists on one machine only.
//!
//! Both go by the look of the text, and so may be waived beside the place.

use super::finding::{Finding, Rule};

/// Directories of somebody's machine, in two pieces each, as this file is itself looked at.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/tmp/", "t-")];

/// Endings of files that have lines worth pointing at.
const SOURCE_ENDINGS: [&str; 5] = [".rs", ".toml", ".sh", ".md", ".py"];

/// Finds machine paths in any text.
pub(crate) fn check_machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in MACHINE_PATHS
            .iter()
            .filter(|word| begins_a_path(line, word))
        {
            let what = format!("a path of one machine (`{word}`)");
            findings.push(Finding::new(path, index + 1, Rule::MachinePath, what));
        }
    }
    findings
}

/// Whether `word` stands in `line` and is not the middle of a longer path.
fn begins_a_path(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}'))
    })
}

/// Finds line numbers in a document: `lib.rs#L10` and `lib.rs:10`.
pub(crate) fn check_line_links(path: &str, text: &str) -> Vec<Finding> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    text.lines()
        .enumerate()
        .filter(|(_, line)| points_at_a_line(line))
        .map(|(index, _)| Finding::new(path, index + 1, Rule::LineLink, "points at a line number"))
        .collect()
}

fn points_at_a_line(line: &str) -> bool {
    let digit_follows = |at: usize| line[at..].starts_with(|c: char| c.is_ascii_digit());
    SOURCE_ENDINGS.iter().any(|ending| {
        line.match_indices(ending).any(|(at, _)| {
            let after = at + ending.len();
            [":", "#L"]
                .iter()
                .any(|sign| line[after..].starts_with(sign) && digit_follows(after + sign.len()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: paths of one machine are found in any file. Method: each, and look-alikes that are none.
    #[test]
    fn machine_paths_are_found() {
        for text in [
            concat!("a\ncd /wo", "rk/main"),
            concat!("a\nDIR=\"/tmp/", "t-x\""),
        ] {
            let found = check_machine_paths("docs/a.md", text);
            assert!(found.len() == 1 && found[0].line == 2, "{text}: {found:?}");
        }
        for text in [
            "/tmp/table",
            concat!("net/wo", "rk/queue"),
            concat!("{dir}/wo", "rk/"),
        ] {
            assert_eq!(check_machine_paths("docs/a.md", text), [], "{text}");
        }
    }

    /// Goal: documents name items instead of lines. Method: both spellings, and innocent colons.
    #[test]
    fn line_numbers_in_documents_are_found() {
        for text in ["see [x](../crates/a.rs#L10)", "see src/lib.rs:10 there"] {
            assert_eq!(check_line_links("docs/a.md", text).len(), 1, "{text}");
            assert_eq!(check_line_links("crates/a.rs", text), []);
        }
        for text in [
            "src/lib.rs: the library",
            "lib.rs#Layers",
            "10:20",
            "port [::1]:7000",
        ] {
            assert_eq!(check_line_links("docs/a.md", text), [], "{text}");
        }
    }
}
