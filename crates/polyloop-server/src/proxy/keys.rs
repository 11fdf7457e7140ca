//! Every setting there is: its name, what it takes, where it goes.
//!
//! The one idea: one line per setting, used by everything that deals with settings: the file, the flags (`--name`),
//! `--print-config`, suggestions. A setting cannot be forgotten by one of them, nor be named differently.
//!
//! The tables are in the order of the documentation. Ranges and kinds stand here, defaults in
//! [`polyloop_proxy::settings`].

mod group;
mod listener;
mod process;

pub(crate) use group::{BACKEND, GROUP};
pub(crate) use listener::{LISTENER, ROUTE};
pub(crate) use process::{LIMITS, SERVER};

use super::draft::{GroupDraft, ListenerDraft, Process, Section};
use super::origin::Origin;
use super::value::{Value, Wrong};

/// One setting of a section that is kept in an `S`.
pub(crate) struct Key<S: 'static> {
    /// Its name, and, with two dashes before it, its flag's.
    pub(crate) name: &'static str,
    /// What it is if nobody says anything: told where no value can be shown.
    pub(crate) unset: &'static str,
    read: fn(&mut S, &Value) -> Result<(), Wrong>,
    show: fn(&S) -> Option<Value>,
}

impl<S> Key<S> {
    /// Reads a value into a section.
    ///
    /// # Errors
    /// The value cannot be meant; the section has the value it had, and knows that another was given.
    pub(crate) fn read(
        &self,
        section: &mut Section<S>,
        value: &Value,
        origin: Origin,
    ) -> Result<(), Wrong> {
        // Also if it cannot be meant: that it was given is known, and nobody asks for it a second time.
        section.set_origin(self.name, origin);
        (self.read)(&mut section.draft, value)
    }

    /// Shows the value; `None` if there is none.
    pub(crate) fn show(&self, draft: &S) -> Option<Value> {
        (self.show)(draft)
    }
}

impl<S: Default> Key<S> {
    /// Whether a value can be meant at all.
    ///
    /// # Errors
    /// The reason and the way out.
    pub(crate) fn try_read(&self, value: &Value) -> Result<(), Wrong> {
        (self.read)(&mut S::default(), value)
    }
}

/// What knows its own table of settings.
pub(crate) trait Table: Default + Sized + 'static {
    /// The setting of this name.
    fn key(name: &str) -> Option<&'static Key<Self>>;
}

impl Table for Process {
    fn key(name: &str) -> Option<&'static Key<Self>> {
        find(SERVER, name).or_else(|| find(LIMITS, name))
    }
}

impl Table for ListenerDraft {
    fn key(name: &str) -> Option<&'static Key<Self>> {
        find(LISTENER, name)
    }
}

impl Table for GroupDraft {
    fn key(name: &str) -> Option<&'static Key<Self>> {
        find(GROUP, name)
    }
}

/// Whether somebody gave a value that is not the default: whoever writes the default down says nothing by it.
pub(crate) fn departs<S: Table>(section: &Section<S>, name: &str) -> bool {
    let differs = |key: &Key<S>| key.show(&section.draft) != key.show(&S::default());
    section.is_given(name) && S::key(name).is_some_and(differs)
}

/// The setting of this name.
pub(crate) fn find<S>(keys: &'static [Key<S>], name: &str) -> Option<&'static Key<S>> {
    keys.iter().find(|key| key.name == name)
}

/// One line of a table: `key!("name", codec, draft => draft.place)`, or with a text for where there is no value.
macro_rules! key {
    ($name:literal, $codec:expr, $draft:ident => $place:expr) => {
        key!($name, $codec, $draft => $place, "not set")
    };
    ($name:literal, $codec:expr, $draft:ident => $place:expr, $unset:literal) => {
        Key {
            name: $name,
            unset: $unset,
            read: |$draft, value| {
                $place = $codec.read(value)?;
                Ok(())
            },
            show: |$draft| $codec.show(&$place),
        }
    };
}
use key;

#[cfg(test)]
mod tests;
