//! `cargo xtask tidy`: the rules of this repository that a machine can check.
//!
//! Each rule is a pure function from the contents of a file (or of the whole tree) to findings, with tests of its own
//! that show it fail and pass; only `Tree::read` touches the disk. Findings name the file, the line and the way out.
//!
//! The tree is read as it lies on the disk rather than as Git has it, so that a new file is judged before it is added
//! and the check also works on an unpacked archive.

mod files;
mod finding;
mod functions;
mod layers;
mod purity;
mod safety;
mod source;
#[cfg(test)]
mod tests;
mod waiting;
mod waivers;
mod words;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use finding::Finding;
use layers::Member;
use source::RustFile;

/// Prints what is wrong with the tree at `root`; answers whether nothing is.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let tree = Tree::read(root)?;
    let findings = check(&tree);
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to say", tree.files.len()),
        count => println!("tidy: {} files, {count} findings", tree.files.len()),
    }
    Ok(findings.is_empty())
}

/// Everything the rules look at.
struct Tree {
    /// Names in the root directory.
    top_level: Vec<String>,
    /// Text files, by path.
    files: Vec<TextFile>,
    members: Vec<Member>,
}

struct TextFile {
    /// Relative to the root, with forward slashes.
    path: String,
    text: String,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self {
            top_level: Vec::new(),
            files: Vec::new(),
            members: Vec::new(),
        };
        // Directories still to be read, as prefixes.
        let mut open = vec![String::new()];
        while let Some(prefix) = open.pop() {
            let directory = root.join(&prefix);
            let entries = fs::read_dir(&directory)
                .with_context(|| format!("cannot list {}", directory.display()))?;
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = format!("{prefix}{name}");
                if prefix.is_empty() {
                    tree.top_level.push(name);
                }
                if path == "target" || path == ".git" {
                    continue; // In a linked work tree `.git` is a file, with a path of this machine.
                }
                let sort = entry.file_type()?;
                if sort.is_dir() {
                    open.push(format!("{path}/"));
                } else if sort.is_file()
                    && let Some(text) = read_text(&entry.path())?
                {
                    tree.files.push(TextFile { path, text });
                }
            }
        }
        tree.top_level.sort();
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.members = read_members(root)?;
        Ok(tree)
    }

    fn text(&self, path: &str) -> &str {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map_or("", |file| &file.text)
    }
}

/// `None` if it is not text, or went away while the tree was being read (an editor at work).
fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read_members(root: &Path) -> Result<Vec<Member>> {
    let output = Command::new(crate::ci::cargo())
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", output.status);
    }
    let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata: not JSON")?;
    layers::members(&metadata).context("cargo metadata printed something unexpected")
}

/// All rules over the whole tree, ordered by place.
fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = files::check_top_level(&tree.top_level);
    findings.extend(layers::check(&tree.members));
    for member in &tree.members {
        findings.extend(files::check_manifest(member, tree.text(&member.manifest)));
    }
    let mut sources = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".rs")) {
        match RustFile::parse(&file.path, &file.text) {
            Ok(source) => sources.push(source),
            Err(finding) => findings.push(finding),
        }
    }
    source::mark_test_modules(&mut sources);
    let measured: Vec<_> = sources.iter().flat_map(functions::measure).collect();
    findings.extend(functions::check(
        &measured,
        tree.text(functions::RATCHET_PATH),
    ));
    for file in &tree.files {
        let source = sources.iter().find(|source| source.path == file.path);
        findings.extend(waivers::apply(
            &file.path,
            &file.text,
            check_file(file, source),
        ));
    }
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}

/// The rules that need one file only.
fn check_file(file: &TextFile, source: Option<&RustFile>) -> Vec<Finding> {
    let mut findings = words::check_machine_paths(&file.path, &file.text);
    findings.extend(words::check_line_links(&file.path, &file.text));
    if file.path.ends_with(".rs") {
        findings.extend(files::check_source(&file.path, &file.text));
    }
    if let Some(source) = source {
        findings.extend(purity::check(source));
        findings.extend(safety::check(source));
        findings.extend(waiting::check_sleeps(source));
        findings.extend(waiting::check_ports(source));
    }
    findings
}
