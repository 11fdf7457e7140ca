//! Texts with places to fill in.
//!
//! A place is a word of small letters in braces with no blank, as in `{port}`; other braces stand for themselves, since
//! configuration files are full of them.

use std::net::SocketAddr;
use std::path::Path;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
}

/// What goes into the places.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// `{port}`: where to listen, on 127.0.0.1.
    pub port: u16,
    /// `{upstream}`: the address of the server behind.
    pub upstream: Option<SocketAddr>,
    /// `{loops}`: how many loops, threads or workers.
    pub loops: usize,
    /// `{cores}`: the cores for them, with commas between.
    pub cores: &'a [usize],
    /// `{dir}`: the directory of its files.
    pub dir: &'a Path,
    /// `{options}`: what the axes of its own add.
    pub options: &'a [String],
}

impl Template {
    /// Checks the places of a text.
    ///
    /// # Errors
    /// The offset of the first unknown place, and its name.
    pub(crate) fn new(text: &str) -> Result<Self, (usize, String)> {
        for (at, name) in places(text) {
            if !PLACES.contains(&name) {
                return Err((at, name.to_owned()));
            }
        }
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// Whether there is a place of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        places(&self.text).any(|(_, place)| place == name)
    }

    /// The first word as it stands: the program of a command.
    #[must_use]
    pub fn first_word(&self) -> &str {
        self.text.split_whitespace().next().unwrap_or_default()
    }

    /// The text with its places filled in.
    #[must_use]
    pub fn filled(&self, post: Post<'_>) -> String {
        let cores: Vec<String> = post.cores.iter().map(usize::to_string).collect();
        let upstream = post.upstream.map(|addr| addr.to_string());
        self.text
            .replace("{port}", &post.port.to_string())
            .replace("{upstream}", upstream.as_deref().unwrap_or_default())
            .replace("{loops}", &post.loops.to_string())
            .replace("{cores}", &cores.join(","))
            .replace("{dir}", &post.dir.display().to_string())
            .replace("{options}", &post.options.join(" "))
    }

    /// The filled text, split at blanks.
    #[must_use]
    pub fn words(&self, post: Post<'_>) -> Vec<String> {
        // Word by word, so that a directory with a blank in its name stays one word.
        self.text
            .split_whitespace()
            .flat_map(|word| match word {
                "{options}" => post.options.to_vec(),
                _ => vec![
                    Self {
                        text: word.to_owned(),
                    }
                    .filled(post),
                ],
            })
            .collect()
    }
}

/// Offsets and names of what looks like a place.
fn places(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(move |(at, _)| {
        let rest = &text[at + 1..];
        let name = &rest[..rest.find('}')?];
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
        is_word.then_some((at, name))
    })
}

/// What may stand in braces.
pub(crate) const PLACES: [&str; 6] = ["port", "upstream", "loops", "cores", "dir", "options"];
