//! One Rust file, read once for all rules: its text, a flat list of its tokens, its syntax tree and which of its
//! lines are test code.
//!
//! Most rules look at tokens instead of text, so that a word in a comment or a string is not mistaken for code, and
//! instead of the tree, so that the body of a macro is not overlooked. Documentation comments are left out of the
//! tokens. Only the length of functions needs the tree.
//!
//! Invariant: token lines and tree lines are both counted from 1, as an editor does.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, LineColumn, TokenStream, TokenTree};
use syn::visit::Visit;

use super::finding::{Finding, Rule};

/// A token with its place. Groups are opened and closed in the same flat list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Ident(String),
    Punct(char),
    Literal(String),
    Open(Delimiter),
    Close(Delimiter),
}

impl Token {
    pub(crate) fn is_ident(&self, name: &str) -> bool {
        matches!(&self.kind, Kind::Ident(ident) if ident == name)
    }

    pub(crate) fn is_punct(&self, sign: char) -> bool {
        self.kind == Kind::Punct(sign)
    }
}

/// A path as written (`std::net::TcpStream`), with `use` groups spelled out one path each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl Path {
    pub(crate) fn starts_with(&self, head: &[&str]) -> bool {
        self.segments.len() >= head.len() && self.segments.iter().zip(head).all(|(a, b)| a == b)
    }

    pub(crate) fn contains(&self, run: &[&str]) -> bool {
        self.segments
            .windows(run.len())
            .any(|window| window.iter().eq(run))
    }
}

/// A parsed file.
pub(crate) struct RustFile {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) tree: syn::File,
    /// Names of modules that exist in tests only and whose text is in another file.
    test_modules: Vec<String>,
    test_ranges: Vec<RangeInclusive<usize>>,
    /// The file as a whole is test code.
    is_test: bool,
}

impl RustFile {
    /// Reads `text`; `path` is relative to the root.
    ///
    /// # Errors
    /// A finding that says where the text stops being Rust.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, Finding> {
        let unparsable = |at: LineColumn, what: String| {
            Finding::new(
                path,
                at.line.max(1),
                Rule::Unparsable,
                format!("not Rust: {what}"),
            )
        };
        let stream: TokenStream = text
            .parse()
            .map_err(|e: proc_macro2::LexError| unparsable(e.span().start(), e.to_string()))?;
        let mut tokens = Vec::new();
        flatten(stream.clone(), &mut tokens);
        let tree: syn::File =
            syn::parse2(stream).map_err(|e| unparsable(e.span().start(), e.to_string()))?;
        let mut finder = TestFinder {
            ranges: Vec::new(),
            modules: Vec::new(),
        };
        finder.visit_file(&tree);
        Ok(Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens,
            tree,
            test_modules: finder.modules,
            test_ranges: finder.ranges,
            is_test: lies_in_tests(path),
        })
    }

    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.is_test || self.test_ranges.iter().any(|range| range.contains(&line))
    }

    pub(crate) const fn is_test_file(&self) -> bool {
        self.is_test
    }

    /// Whether this file is the text (or lies below) a test-only module that `parent` declares.
    fn is_test_module_of(&self, parent: &Self) -> bool {
        let directory = module_directory(&parent.path);
        parent.test_modules.iter().any(|name| {
            let stem = format!("{directory}{name}");
            self.path == format!("{stem}.rs") || self.path.starts_with(&format!("{stem}/"))
        })
    }

    /// All paths of the file, in order.
    pub(crate) fn paths(&self) -> Vec<Path> {
        paths(&self.tokens)
    }
}

/// Marks the files behind `#[cfg(test)] mod name;` as test code.
pub(crate) fn mark_test_modules(files: &mut [RustFile]) {
    let marks: Vec<bool> = files
        .iter()
        .map(|file| files.iter().any(|other| file.is_test_module_of(other)))
        .collect();
    for (file, mark) in files.iter_mut().zip(marks) {
        file.is_test |= mark;
    }
}

/// In a directory `tests`, or the `tests.rs` next door to what it tests.
fn lies_in_tests(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "tests.rs")
}

/// Where the modules of a file lie, with the trailing slash.
fn module_directory(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let slash = if directory.is_empty() { "" } else { "/" };
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => format!("{directory}{slash}"),
        _ => format!("{directory}{slash}{}/", name.trim_end_matches(".rs")),
    }
}

/// The recursion is over source files of this repository, not over anything a peer sent.
fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        let kind = match tree {
            TokenTree::Ident(ident) => Kind::Ident(ident.to_string()),
            TokenTree::Literal(literal) => Kind::Literal(literal.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if let Some(inner) = trees.next_if(|next| is_punct(next, '!')) {
                    if trees.next_if(is_doc_attribute).is_some() {
                        continue;
                    }
                    out.push(Token {
                        kind: Kind::Punct('#'),
                        line,
                    });
                    out.push(Token {
                        kind: Kind::Punct('!'),
                        line: inner.span().start().line,
                    });
                    continue;
                }
                if trees.next_if(is_doc_attribute).is_some() {
                    continue;
                }
                Kind::Punct('#')
            }
            TokenTree::Punct(punct) => Kind::Punct(punct.as_char()),
            TokenTree::Group(group) => {
                let delimiter = group.delimiter();
                out.push(Token {
                    kind: Kind::Open(delimiter),
                    line,
                });
                flatten(group.stream(), out);
                let line = group.span_close().start().line;
                out.push(Token {
                    kind: Kind::Close(delimiter),
                    line,
                });
                continue;
            }
        };
        out.push(Token { kind, line });
    }
}

fn is_punct(tree: &TokenTree, sign: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// The lexer hands documentation comments over as `#[doc = "..."]`.
fn is_doc_attribute(tree: &TokenTree) -> bool {
    let TokenTree::Group(group) = tree else {
        return false;
    };
    group.delimiter() == Delimiter::Bracket
        && matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}

/// Words that may stand before a path but are not part of it.
const NOT_SEGMENTS: [&str; 18] = [
    "as", "dyn", "else", "for", "if", "impl", "in", "let", "match", "move", "mut", "pub", "ref",
    "return", "unsafe", "use", "where", "while",
];

fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if segment(tokens, at).is_some() {
            read_path(tokens, at, &[], &mut found)
        } else {
            at + 1
        };
    }
    found
}

fn segment(tokens: &[Token], at: usize) -> Option<&str> {
    match &tokens.get(at)?.kind {
        Kind::Ident(name) if !NOT_SEGMENTS.contains(&name.as_str()) => Some(name),
        _ => None,
    }
}

fn is_double_colon(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|t| t.is_punct(':'))
        && tokens.get(at + 1).is_some_and(|t| t.is_punct(':'))
}

/// Reads the path whose first segment is at `at`; answers where to go on.
fn read_path(tokens: &[Token], at: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let line = tokens[at].line;
    let mut segments = prefix.to_vec();
    let mut at = at;
    while let Some(name) = segment(tokens, at) {
        segments.push(name.to_owned());
        at += 1;
        if !is_double_colon(tokens, at) {
            break;
        }
        match tokens.get(at + 2).map(|token| &token.kind) {
            Some(Kind::Open(Delimiter::Brace)) => {
                return read_group(tokens, at + 3, &segments, found);
            }
            Some(Kind::Punct('*')) => {
                segments.push("*".to_owned());
                at += 3;
            }
            Some(Kind::Ident(_)) => at += 2,
            _ => break,
        }
    }
    found.push(Path { segments, line });
    at
}

/// Reads what stands between the braces of `prefix::{...}`; `at` is behind the opening one.
fn read_group(tokens: &[Token], at: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let mut at = at;
    while let Some(token) = tokens.get(at) {
        at = match &token.kind {
            Kind::Close(Delimiter::Brace) => return at + 1,
            Kind::Punct('*') => {
                let segments = prefix.iter().cloned().chain(["*".to_owned()]).collect();
                found.push(Path {
                    segments,
                    line: token.line,
                });
                at + 1
            }
            // A new name after `as` is no path below the prefix.
            Kind::Ident(word) if word == "as" => at + 2,
            Kind::Ident(_) if segment(tokens, at).is_some() => read_path(tokens, at, prefix, found),
            _ => at + 1,
        };
    }
    at
}

/// Collects what is compiled for tests only.
struct TestFinder {
    ranges: Vec<RangeInclusive<usize>>,
    modules: Vec<String>,
}

impl<'ast> Visit<'ast> for TestFinder {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_for_tests(&module.attrs) {
            match &module.content {
                Some((brace, _)) => {
                    let first = module.mod_token.span.start().line;
                    self.ranges.push(first..=brace.span.close().end().line);
                }
                None => self.modules.push(module.ident.to_string()),
            }
        }
        syn::visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if is_for_tests(&function.attrs) {
            let (first, last) = function_lines(&function.sig, &function.block);
            self.ranges.push(first..=last);
        }
        syn::visit::visit_item_fn(self, function);
    }
}

/// From the word `fn` to the closing brace.
pub(crate) fn function_lines(signature: &syn::Signature, block: &syn::Block) -> (usize, usize) {
    (
        signature.fn_token.span.start().line,
        block.brace_token.span.close().end().line,
    )
}

/// `#[test]`, `#[some::test]`, or a `#[cfg(...)]` that wants `test`. A `not` anywhere makes it ordinary code.
pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute
            .path()
            .segments
            .last()
            .is_some_and(|last| last.ident == "test")
        {
            return true;
        }
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let mut tokens = Vec::new();
        flatten(list.tokens.clone(), &mut tokens);
        list.path.is_ident("cfg")
            && tokens.iter().any(|token| token.is_ident("test"))
            && !tokens.iter().any(|token| token.is_ident("not"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Vec<String> {
        let file = RustFile::parse("a.rs", text).unwrap();
        file.paths()
            .iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    /// Goal: a path is found however it is imported. Method: the same one in four spellings.
    #[test]
    fn use_groups_are_spelled_out() {
        for text in [
            "use std::thread::sleep;",
            "use ::std::{fmt, thread::{self, sleep as nap}};",
            "use std::{thread::{sleep}};",
            "fn f() { m!(std::thread::sleep(x)); }",
        ] {
            let all = written(text);
            assert!(
                all.contains(&"std::thread::sleep".to_owned()),
                "{text}: {all:?}"
            );
        }
        assert!(written("use std::net::*;").contains(&"std::net::*".to_owned()));
        assert!(written("use std::{net::*};").contains(&"std::net::*".to_owned()));
    }

    /// Goal: documentation is not code. Method: a path that exists in comments and strings only.
    #[test]
    fn comments_and_strings_hold_no_paths() {
        let text =
            "//! std::fs\n/// std::fs\n#[doc = \"std::fs\"]\nfn f() { g(\"std::fs\") } // std::fs";
        assert!(!written(text).iter().any(|path| path.contains("fs")));
    }

    /// Goal: test code is recognised line by line. Method: one function of each sort.
    #[test]
    fn test_lines_are_told_from_the_rest() {
        let text = "fn a() {}\n#[test]\nfn b() {\n}\n#[cfg(test)]\nmod t {\nfn c() {}\n}\n#[cfg(not(test))]\nfn d() {}\n";
        let file = RustFile::parse("crates/x/src/a.rs", text).unwrap();
        let tests: Vec<usize> = (1..=10).filter(|line| file.is_test_line(*line)).collect();
        assert_eq!(tests, [3, 4, 6, 7, 8]);
        assert!(
            RustFile::parse("crates/x/tests/it/a.rs", text)
                .unwrap()
                .is_test_line(1)
        );
    }

    /// Goal: a test module in a file of its own is test code whatever its name. Method: parent and child.
    #[test]
    fn test_modules_next_door_are_marked() {
        let parse = |path: &str, text: &str| RustFile::parse(path, text).unwrap();
        let mut files = [
            parse(
                "crates/x/src/wheel.rs",
                "#[cfg(test)]\nmod model;\nmod parts;\n",
            ),
            parse("crates/x/src/wheel/model.rs", "fn f() {}\n"),
            parse("crates/x/src/wheel/parts.rs", "fn f() {}\n"),
        ];
        mark_test_modules(&mut files);
        assert_eq!(files.map(|file| file.is_test_file()), [false, true, false]);
    }

    /// Goal: a file that is not Rust is told with its place. Method: a brace too few, and a wrong item.
    #[test]
    fn broken_files_are_told() {
        assert!(RustFile::parse("a.rs", "fn f() {").is_err());
        let Err(finding) = RustFile::parse("a.rs", "fn a() {}\nfn fn\n") else {
            panic!("accepted");
        };
        assert_eq!((finding.line, finding.rule), (2, Rule::Unparsable));
    }
}
