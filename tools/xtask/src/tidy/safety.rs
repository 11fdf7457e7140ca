//! `unsafe` lives in one crate, and each block and impl there says which fact it relies on.
//!
//! Tokens are looked at rather than the tree, so that a macro cannot hide the word. That a block holds one operation
//! only is checked by Clippy (`multiple_unsafe_ops_per_block`), which knows what an operation is.

use proc_macro2::Delimiter;

use super::finding::{Finding, Rule};
use super::source::{Kind, RustFile, Token};

const UNSAFE_DIRECTORY: &str = "crates/polyloop-sys/";

/// Finds `unsafe` out of place, and in its place but without a reason.
pub(crate) fn check(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.path.starts_with(UNSAFE_DIRECTORY) {
        for token in file.tokens.iter().filter(|token| token.is_ident("unsafe")) {
            let what = "`unsafe` outside crates/polyloop-sys";
            findings.push(Finding::new(
                &file.path,
                token.line,
                Rule::UnsafePlace,
                what,
            ));
        }
        return findings;
    }
    let lines: Vec<&str> = file.text.lines().collect();
    for place in promises(&file.tokens) {
        if !is_explained(&lines, place.line) && !is_explained(&lines, place.statement_line) {
            let what = format!("an `unsafe` {} without a reason", place.sort);
            findings.push(Finding::new(
                &file.path,
                place.line,
                Rule::SafetyComment,
                what,
            ));
        }
    }
    findings
}

/// A place where the writer promises something to the compiler.
struct Promise {
    line: usize,
    /// The first line of the statement around it, as a long one is broken before `unsafe`.
    statement_line: usize,
    sort: &'static str,
}

fn promises(tokens: &[Token]) -> Vec<Promise> {
    let mut found = Vec::new();
    // For each open brace: the line where the current statement began. Parentheses belong to their statement.
    let mut frames: Vec<Option<usize>> = vec![None];
    let mut parentheses = 0_usize;
    let mut outer_parentheses = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Close(Delimiter::Brace) => {
                frames.pop();
                parentheses = outer_parentheses.pop().unwrap_or(0);
                if parentheses == 0
                    && let Some(frame) = frames.last_mut()
                {
                    *frame = None;
                }
                continue;
            }
            Kind::Punct(';' | ',') if parentheses == 0 => {
                if let Some(frame) = frames.last_mut() {
                    *frame = None;
                }
                continue;
            }
            _ => {}
        }
        let statement_line = match frames.last_mut() {
            Some(frame) => *frame.get_or_insert(token.line),
            None => token.line,
        };
        match token.kind {
            Kind::Open(Delimiter::Brace) => {
                frames.push(None);
                outer_parentheses.push(parentheses);
                parentheses = 0;
            }
            Kind::Open(Delimiter::Parenthesis | Delimiter::Bracket) => parentheses += 1,
            Kind::Close(Delimiter::Parenthesis | Delimiter::Bracket) => {
                parentheses = parentheses.saturating_sub(1);
            }
            _ => {}
        }
        if token.is_ident("unsafe")
            && let Some(sort) = tokens.get(at + 1).and_then(sort_of_promise)
        {
            found.push(Promise {
                line: token.line,
                statement_line,
                sort,
            });
        }
    }
    found
}

/// `unsafe fn` and `unsafe extern` ask for a promise instead of giving one; their documentation is Clippy's business.
fn sort_of_promise(after: &Token) -> Option<&'static str> {
    if after.kind == Kind::Open(Delimiter::Brace) {
        Some("block")
    } else if after.is_ident("impl") {
        Some("impl")
    } else {
        None
    }
}

/// Whether the comment that ends right above `line` has a line that begins with the word. Attributes may lie between.
fn is_explained(lines: &[&str], line: usize) -> bool {
    lines[..line - 1]
        .iter()
        .rev()
        .map(|above| above.trim_start())
        .take_while(|above| above.starts_with("//") || above.starts_with("#["))
        .any(|above| above.starts_with("// SAFETY: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(path: &str, text: &str) -> Vec<(usize, Rule)> {
        let file = RustFile::parse(path, text).unwrap();
        check(&file)
            .into_iter()
            .map(|finding| (finding.line, finding.rule))
            .collect()
    }

    const SYS: &str = "crates/polyloop-sys/src/a.rs";

    /// Goal: no `unsafe` elsewhere, explained or not. Method: a block, an impl, and one inside a macro.
    #[test]
    fn unsafe_elsewhere_is_refused() {
        for text in [
            "fn f() {\n    // SAFETY: fine.\n    unsafe { g() }\n}",
            "\n\nunsafe impl Send for A {}",
            "fn f() { m!(\n\nunsafe { g() }) }",
        ] {
            assert_eq!(
                judge("crates/polyloop/src/a.rs", text),
                [(3, Rule::UnsafePlace)],
                "{text}"
            );
        }
        let words =
            "//! No unsafe.\n#![forbid(unsafe_code)]\nfn f() -> &'static str { \"unsafe\" }";
        assert_eq!(judge("crates/polyloop/src/a.rs", words), []);
    }

    /// Goal: each promise has its reason right above. Method: the same block without one, or with one too far off.
    #[test]
    fn a_promise_without_a_reason_is_refused() {
        for text in [
            "fn f() {\n\n    unsafe { g() }\n}",
            "// SAFETY: fine.\n\nunsafe impl Send for A {}",
            "fn f() {\n    // Fine, as `SAFETY: ` shows.\n    unsafe { g() }\n}",
            "// SAFETY: of the function\nfn f() {\n    unsafe { g() }\n}",
            "fn f() { // SAFETY: fine.\n    a();\n    unsafe { g() }\n}",
        ] {
            assert_eq!(judge(SYS, text), [(3, Rule::SafetyComment)], "{text}");
        }
    }

    /// Goal: the ways rustfmt breaks lines are all accepted. Method: reasons above the block, statement and argument.
    #[test]
    fn reasons_right_above_pass() {
        for text in [
            "fn f() {\n    // SAFETY: fine,\n    // and more.\n    unsafe { g() }\n}",
            "fn f() {\n    // SAFETY: fine.\n    let long =\n        unsafe { g() };\n}",
            "fn f() {\n    // SAFETY: fine.\n    let a = check(\n        1,\n        unsafe { g() },\n    )?;\n}",
            "fn f() {\n    check(\n        // SAFETY: fine.\n        unsafe { g() },\n    );\n}",
            "// SAFETY: fine.\n#[cfg(unix)]\nunsafe impl Send for A {}",
            "/// Doc.\npub unsafe fn f() {}",
        ] {
            assert_eq!(judge(SYS, text), [], "{text}");
        }
    }
}
