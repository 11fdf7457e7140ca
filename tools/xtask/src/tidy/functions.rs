//! A function fits one screen. The rule is a ratchet: known offenders stand in a list with their length, the list may
//! only shrink, and a function that is not in it must fit.
//!
//! Lines are counted from the word `fn` to the closing brace, comments and all, because that is what a reader scrolls.
//! Test code is excepted: a long table of cases is not a long thought. Functions that a macro makes are not seen.

use std::collections::BTreeMap;

use syn::visit::Visit;

use super::finding::{Finding, Rule};
use super::source::{RustFile, function_lines, is_for_tests};

/// One screen.
const LINES_MAX: usize = 70;

/// Where the list of known offenders lies.
pub(crate) const RATCHET_PATH: &str = ".config/tidy-long-functions.txt";

/// A function and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    path: String,
    line: usize,
    /// `path::Type::function`, the key of the ratchet.
    name: String,
    lines: usize,
}

/// Measures all functions of a file that are not test code.
pub(crate) fn measure(file: &RustFile) -> Vec<Measured> {
    if file.is_test_file() {
        return Vec::new();
    }
    let mut ruler = Ruler {
        path: &file.path,
        scope: Vec::new(),
        found: Vec::new(),
    };
    ruler.visit_file(&file.tree);
    ruler.found
}

/// Compares what was measured in the whole tree with the list.
pub(crate) fn check(measured: &[Measured], ratchet: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut listed = read_ratchet(ratchet, &mut findings);
    for function in measured
        .iter()
        .filter(|function| function.lines > LINES_MAX)
    {
        let Measured {
            path,
            line,
            name,
            lines,
        } = function;
        let mut told =
            |what: String| findings.push(Finding::new(path, *line, Rule::LongFunction, what));
        match listed.get_mut(name) {
            None => told(format!(
                "`{name}` has {lines} lines, the limit is {LINES_MAX}"
            )),
            Some(entry) => {
                entry.seen = entry.seen.max(*lines);
                if *lines > entry.lines {
                    let before = entry.lines;
                    told(format!("`{name}` grew from {before} to {lines} lines"));
                }
            }
        }
    }
    for (name, entry) in listed.iter().filter(|(_, entry)| entry.seen < entry.lines) {
        let what = if entry.seen == 0 {
            format!("`{name}` is short now, or gone: remove its line")
        } else {
            format!("`{name}` shrank to {} lines: write that number", entry.seen)
        };
        findings.push(Finding::new(RATCHET_PATH, entry.at, Rule::Ratchet, what));
    }
    findings
}

/// A line of the ratchet.
struct Entry {
    at: usize,
    lines: usize,
    /// The longest function of that name above the limit, 0 if there is none.
    seen: usize,
}

/// Lines of the form `path::name = lines`; `#` opens a comment.
fn read_ratchet(ratchet: &str, findings: &mut Vec<Finding>) -> BTreeMap<String, Entry> {
    let mut listed = BTreeMap::new();
    for (index, text) in ratchet.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let entry = text
            .split_once(" = ")
            .and_then(|(name, lines)| Some((name.to_owned(), lines.parse::<usize>().ok()?)))
            .filter(|(_, lines)| *lines > LINES_MAX);
        let at = index + 1;
        match entry {
            Some((name, lines)) => {
                listed.insert(name, Entry { at, lines, seen: 0 });
            }
            None => {
                let what = format!("`{text}` is not `path::name = lines` above {LINES_MAX}");
                findings.push(Finding::new(RATCHET_PATH, at, Rule::Ratchet, what));
            }
        }
    }
    listed
}

/// Walks a file and knows in which module, type and trait it is.
struct Ruler<'file> {
    path: &'file str,
    scope: Vec<String>,
    found: Vec<Measured>,
}

impl Ruler<'_> {
    fn record(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = function_lines(signature, block);
        let mut name = self.path.to_owned();
        for part in self.scope.iter().chain([&signature.ident.to_string()]) {
            name.push_str("::");
            name.push_str(part);
        }
        let path = self.path.to_owned();
        self.found.push(Measured {
            path,
            line: first,
            name,
            lines: last - first + 1,
        });
    }

    fn within(&mut self, scope: String, walk: impl FnOnce(&mut Self)) {
        self.scope.push(scope);
        walk(self);
        self.scope.pop();
    }
}

impl<'ast> Visit<'ast> for Ruler<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            self.within(item.ident.to_string(), |ruler| {
                syn::visit::visit_item_mod(ruler, item)
            });
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            self.within(type_name(&item.self_ty), |ruler| {
                syn::visit::visit_item_impl(ruler, item)
            });
        }
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within(item.ident.to_string(), |ruler| {
            syn::visit::visit_item_trait(ruler, item)
        });
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            self.record(&item.sig, &item.block);
            self.within(item.sig.ident.to_string(), |ruler| {
                syn::visit::visit_item_fn(ruler, item)
            });
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.record(&item.sig, &item.block);
            self.within(item.sig.ident.to_string(), |ruler| {
                syn::visit::visit_impl_item_fn(ruler, item);
            });
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.record(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

/// The last word of a type's path; references and tuples share one word, as their methods are rare and short.
fn type_name(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
    .unwrap_or_else(|| "impl".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/x/src/a.rs";

    /// A function of exactly `lines` lines.
    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    fn judge(path: &str, text: &str, ratchet: &str) -> Vec<String> {
        let measured = measure(&RustFile::parse(path, text).unwrap());
        check(&measured, ratchet)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    /// Goal: the limit is exact. Method: a function that fits and one that is a line too long.
    #[test]
    fn one_line_too_many_is_told() {
        assert_eq!(judge(PATH, &function("a", 70), ""), Vec::<String>::new());
        assert_eq!(judge(PATH, &function("a", 71), "").len(), 1);
    }

    /// Goal: methods and trait defaults are measured and named. Method: one of each, too long.
    #[test]
    fn methods_are_measured_under_their_type() {
        let method = function("m", 80);
        for (text, name) in [
            (format!("impl<T> Wheel<T> {{\n{method}}}"), "Wheel::m"),
            (format!("trait Driver {{\n{method}}}"), "Driver::m"),
            (format!("mod inner {{\n{method}}}"), "inner::m"),
        ] {
            let told = judge(PATH, &text, "");
            assert_eq!(
                told,
                [format!("`{PATH}::{name}` has 80 lines, the limit is 70")]
            );
            assert_eq!(
                judge(PATH, &text, &format!("{PATH}::{name} = 80")),
                Vec::<String>::new()
            );
        }
    }

    /// Goal: the ratchet turns one way. Method: the same function listed with too few lines, too many, and in vain.
    #[test]
    fn the_ratchet_only_shrinks() {
        let text = function("a", 80);
        assert_eq!(
            judge(PATH, &text, "crates/x/src/a.rs::a = 80"),
            Vec::<String>::new()
        );
        for (listed, word) in [(79, "grew"), (81, "shrank")] {
            let told = judge(PATH, &text, &format!("# why\n\n{PATH}::a = {listed}\n"));
            assert!(told.len() == 1 && told[0].contains(word), "{told:?}");
        }
        let told = judge(PATH, &function("a", 10), "crates/x/src/a.rs::a = 80");
        assert!(told.len() == 1 && told[0].contains("remove"), "{told:?}");
        assert_eq!(judge(PATH, "", "nonsense").len(), 1);
    }

    /// Goal: test code is excepted. Method: the same long function as a test, in a test module and in a test file.
    #[test]
    fn test_code_may_be_long() {
        let long = function("a", 200);
        assert_eq!(
            judge(PATH, &format!("#[test]\n{long}"), ""),
            Vec::<String>::new()
        );
        let module = format!("#[cfg(test)]\nmod tests {{\n{long}}}");
        assert_eq!(judge(PATH, &module, ""), Vec::<String>::new());
        assert_eq!(
            judge("crates/x/tests/it/a.rs", &long, ""),
            Vec::<String>::new()
        );
    }
}
