//! Core numbers as an operator types them: `--cores 0,2,4-7` and `--on-core 2:spin=100us,events=256`.
//!
//! One idea: the order typed is the order meant (the first loop goes to the first core named), so the list is
//! kept as typed, and a core named twice is a mistake to report, not to repair.
//!
//! Deliberately absent: whether a core exists or may be used, which [`crate::placement`] decides from facts,
//! and what the keys of a per-core override mean, which the settings know.
//!
//! Invariants: a [`CoreList`] is never empty, holds no core twice and none above [`CORE_MAX`]; an [`OnCore`]
//! holds at least one setting and no key twice.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The highest core number accepted. Linux is built for at most 8192 processors.
pub const CORE_MAX: usize = 8191;

/// The largest number of settings in one per-core override.
pub const SETTINGS_MAX: usize = 32;

/// Cores in the order they were named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreList {
    cores: Vec<usize>,
}

/// Settings that hold on one core only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnCore {
    /// The core.
    pub core: usize,
    /// Keys and values as typed, in order. Keys are of lower-case letters, digits and `-`.
    pub settings: Vec<(String, String)>,
}

/// Why a list of cores or a per-core override cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CoresError {
    /// Nothing where a core or a range should be.
    Empty {
        /// The whole text.
        text: String,
    },
    /// Not a core number.
    NotACore {
        /// The whole text.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// Higher than any core can be.
    TooHigh {
        /// The whole text.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// A range that goes down.
    Backwards {
        /// The whole text.
        text: String,
        /// The first core of the range.
        first: usize,
        /// The last core of the range.
        last: usize,
    },
    /// A core named twice.
    CoreTwice {
        /// The whole text.
        text: String,
        /// The core.
        core: usize,
    },
    /// A per-core override without `CORE:`.
    MissingCore {
        /// The whole text.
        text: String,
    },
    /// A setting that is not `key=value`.
    NotASetting {
        /// The whole text.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// A key named twice.
    KeyTwice {
        /// The whole text.
        text: String,
        /// The key.
        key: String,
    },
    /// More than [`SETTINGS_MAX`] settings.
    TooManySettings {
        /// The whole text.
        text: String,
    },
}

impl CoreList {
    /// The cores, in the order they were named. Never empty.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.cores
    }

    /// Whether `core` is in the list.
    #[must_use]
    pub fn contains(&self, core: usize) -> bool {
        self.cores.contains(&core)
    }
}

impl FromStr for CoreList {
    type Err = CoresError;

    fn from_str(text: &str) -> Result<Self, CoresError> {
        let mut cores = Vec::new();
        // A set beside the list: refusing 0-8191,0-8191 must not take a quadratic search.
        let mut seen = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = parse_range(text, part.trim())?;
            for core in first..=last {
                if !seen.insert(core) {
                    return Err(CoresError::CoreTwice {
                        text: text.to_owned(),
                        core,
                    });
                }
                cores.push(core);
            }
        }
        Ok(Self { cores })
    }
}

/// Canonical: runs of neighbours become a range, the order stays.
impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_cores(f, &self.cores)
    }
}

impl FromStr for OnCore {
    type Err = CoresError;

    fn from_str(text: &str) -> Result<Self, CoresError> {
        let Some((core, list)) = text.split_once(':') else {
            return Err(CoresError::MissingCore {
                text: text.to_owned(),
            });
        };
        let core = parse_core(text, core.trim())?;
        let mut settings: Vec<(String, String)> = Vec::new();
        for part in list.split(',').map(str::trim) {
            let wrong = || CoresError::NotASetting {
                text: text.to_owned(),
                part: part.to_owned(),
            };
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let (key, value) = (key.trim(), value.trim());
            let key_is_plain = key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if key.is_empty() || !key_is_plain || value.is_empty() {
                return Err(wrong());
            }
            if settings.iter().any(|(known, _)| known == key) {
                return Err(CoresError::KeyTwice {
                    text: text.to_owned(),
                    key: key.to_owned(),
                });
            }
            if settings.len() == SETTINGS_MAX {
                return Err(CoresError::TooManySettings {
                    text: text.to_owned(),
                });
            }
            settings.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self { core, settings })
    }
}

impl fmt::Display for OnCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.core)?;
        for (index, (key, value)) in self.settings.iter().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

impl fmt::Display for CoresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIST: &str = "write cores and ranges as in 0,2,4-7";
        const SETTING: &str = "write a core and its settings as in 2:spin=100us,events=256";
        match self {
            Self::Empty { text } => write!(f, "cores {text:?}: a core number is missing; {LIST}"),
            Self::NotACore { text, part } => {
                write!(f, "cores {text:?}: {part:?} is not a core number; {LIST}")
            }
            Self::TooHigh { text, part } => write!(
                f,
                "cores {text:?}: {part} is higher than any core; use numbers from 0 to {CORE_MAX}"
            ),
            Self::Backwards { text, first, last } => {
                write!(
                    f,
                    "cores {text:?}: the range {first}-{last} goes down; write {last}-{first}"
                )
            }
            Self::CoreTwice { text, core } => write!(
                f,
                "cores {text:?}: core {core} is named twice; name each core once (more loops than cores \
                 are a matter of the number of loops)"
            ),
            Self::MissingCore { text } => {
                write!(f, "override {text:?}: no core before a colon; {SETTING}")
            }
            Self::NotASetting { text, part } => {
                write!(
                    f,
                    "override {text:?}: {part:?} is not a key with a value; {SETTING}"
                )
            }
            Self::KeyTwice { text, key } => {
                write!(
                    f,
                    "override {text:?}: {key} is set twice; keep the one that is meant"
                )
            }
            Self::TooManySettings { text } => {
                write!(
                    f,
                    "override {text:?}: more than {SETTINGS_MAX} settings; drop some"
                )
            }
        }
    }
}

impl Error for CoresError {}

/// Writes cores with runs of ascending neighbours as ranges. Shared with the messages of `placement`.
pub(crate) fn format_cores(f: &mut fmt::Formatter<'_>, cores: &[usize]) -> fmt::Result {
    for (index, run) in cores.chunk_by(|a, b| a + 1 == *b).enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        match run {
            [only] => write!(f, "{only}")?,
            // `chunk_by` yields no empty run, so there is a first and a last.
            _ => write!(f, "{}-{}", run[0], run[run.len() - 1])?,
        }
    }
    Ok(())
}

fn parse_range(text: &str, part: &str) -> Result<(usize, usize), CoresError> {
    let Some((first, last)) = part.split_once('-') else {
        let core = parse_core(text, part)?;
        return Ok((core, core));
    };
    let (first, last) = (
        parse_core(text, first.trim())?,
        parse_core(text, last.trim())?,
    );
    if first <= last {
        Ok((first, last))
    } else {
        Err(CoresError::Backwards {
            text: text.to_owned(),
            first,
            last,
        })
    }
}

fn parse_core(text: &str, part: &str) -> Result<usize, CoresError> {
    if part.is_empty() {
        return Err(CoresError::Empty {
            text: text.to_owned(),
        });
    }
    if !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CoresError::NotACore {
            text: text.to_owned(),
            part: part.to_owned(),
        });
    }
    match part.parse::<usize>() {
        Ok(core) if core <= CORE_MAX => Ok(core),
        _ => Err(CoresError::TooHigh {
            text: text.to_owned(),
            part: part.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> Result<CoreList, CoresError> {
        text.parse()
    }

    #[test]
    fn lists_read_in_order_and_print_canonically() {
        // Goal: order kept, ranges expanded and folded again. Method: a table.
        for (text, cores, printed) in [
            ("0", &[0][..], "0"),
            ("0,2,4-7", &[0, 2, 4, 5, 6, 7], "0,2,4-7"),
            (" 3 , 1 - 2 ", &[3, 1, 2], "3,1-2"),
            ("0,1,2", &[0, 1, 2], "0-2"),
            ("5,4", &[5, 4], "5,4"),
            ("8191", &[8191], "8191"),
        ] {
            let read = list(text).unwrap();
            assert_eq!(read.as_slice(), cores);
            assert_eq!(read.to_string(), printed);
        }
    }

    #[test]
    fn wrong_lists_say_why() {
        // Goal: each refusal names the part and the way out. Method: a table of message fragments.
        for (text, fragments) in [
            ("", ["a core number is missing", "0,2,4-7"]),
            ("1,,2", ["a core number is missing", "\"1,,2\""]),
            ("1-", ["a core number is missing", "0,2,4-7"]),
            ("a", ["\"a\" is not a core number", "0,2,4-7"]),
            ("1-2-3", ["\"2-3\" is not a core number", "0,2,4-7"]),
            ("+1", ["\"+1\" is not a core number", "0,2,4-7"]),
            ("8192", ["8192 is higher", "8191"]),
            (
                "99999999999999999999999",
                ["is higher than any core", "8191"],
            ),
            ("7-4", ["7-4 goes down", "write 4-7"]),
            ("1,0-2", ["core 1 is named twice", "each core once"]),
        ] {
            let message = list(text).unwrap_err().to_string();
            for fragment in fragments {
                assert!(message.contains(fragment), "{text}: {message}");
            }
        }
    }

    #[test]
    fn overrides_read_and_print() {
        // Goal: core, keys and values as typed. Method: one of each shape.
        let read: OnCore = "2:spin=100us, events = 256".parse().unwrap();
        assert_eq!(read.core, 2);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            read.settings,
            [pair("spin", "100us"), pair("events", "256")]
        );
        assert_eq!(read.to_string(), "2:spin=100us,events=256");
        assert_eq!(
            "0:a=b=c".parse::<OnCore>().unwrap().settings,
            [pair("a", "b=c")]
        );
    }

    #[test]
    fn wrong_overrides_say_why() {
        // Goal: each refusal names the part and the way out. Method: a table of message fragments.
        let many = (0..=SETTINGS_MAX)
            .map(|i| format!("k{i}=1"))
            .collect::<Vec<_>>()
            .join(",");
        let many = format!("0:{many}");
        for (text, fragment) in [
            ("2", "no core before a colon"),
            ("x:a=1", "\"x\" is not a core number"),
            (":a=1", "a core number is missing"),
            ("2:", "\"\" is not a key with a value"),
            ("2:spin", "\"spin\" is not a key with a value"),
            ("2:spin=", "\"spin=\" is not a key with a value"),
            ("2:Spin=1", "\"Spin=1\" is not a key with a value"),
            ("2:=1", "\"=1\" is not a key with a value"),
            ("2:a=1,a=2", "a is set twice"),
            (many.as_str(), "more than 32 settings"),
        ] {
            let message = text.parse::<OnCore>().unwrap_err().to_string();
            assert!(message.contains(fragment), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back(mut cores in proptest::collection::vec(0..=CORE_MAX, 1..40)) {
            // Goal: Display and FromStr are inverse. Method: any list without duplicates.
            let mut seen = Vec::new();
            cores.retain(|core| !seen.contains(core) && { seen.push(*core); true });
            let built = CoreList { cores };
            prop_assert_eq!(list(&built.to_string()).unwrap(), built);
        }

        #[test]
        fn no_text_panics(text in "[-0-9,:=a-z ]{0,24}") {
            // Goal: nothing typed can crash the start. Method: texts of the right alphabet.
            let _ = (text.parse::<CoreList>(), text.parse::<OnCore>());
        }
    }
}
