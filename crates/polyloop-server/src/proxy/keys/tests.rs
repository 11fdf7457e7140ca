//! Tests of the tables: nothing twice, nothing that cannot be shown and read again.

use super::super::flags::{FLAGS, Scope};
use super::*;
use std::collections::BTreeSet;

fn names<S>(keys: &'static [Key<S>]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// Every value shown of a default section is read as the same value.
fn assert_shown_is_read<S: Default>(keys: &'static [Key<S>]) {
    for key in keys {
        let mut section = Section::new(S::default(), None);
        if let Some(value) = key.show(&section.draft) {
            key.read(&mut section, &value, Origin::Default)
                .unwrap_or_else(|wrong| panic!("{}: {}", key.name, wrong.why));
            assert_eq!(key.show(&section.draft), Some(value), "{}", key.name);
        } else {
            assert!(!key.unset.is_empty(), "{}", key.name);
        }
    }
}

#[test]
fn each_table_names_a_setting_once() {
    // Goal: no line of a table is dead. Method: names as a set; [server] and [limits] share their flags.
    let process = [names(SERVER), names(LIMITS)].concat();
    for table in [
        process,
        names(LISTENER),
        names(ROUTE),
        names(GROUP),
        names(BACKEND),
    ] {
        let set: BTreeSet<_> = table.iter().collect();
        assert_eq!(set.len(), table.len(), "{table:?}");
        let is_plain = |name: &&str| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        assert!(table.iter().all(is_plain), "{table:?}");
    }
}

#[test]
fn defaults_can_be_written() {
    // Goal: the defaults pass the checks of their own settings. Method: show and read all of them.
    assert_shown_is_read(SERVER);
    assert_shown_is_read(LIMITS);
    assert_shown_is_read(LISTENER);
    assert_shown_is_read(ROUTE);
    assert_shown_is_read(GROUP);
}

#[test]
fn flags_and_settings_have_the_same_names() {
    // Goal: whoever knows the flag knows the key. Method: each flag has its setting; each setting that is about the
    // process, the listener or the group has its flag, but those that only make sense among several.
    let mut args = <crate::args::Cli as clap::CommandFactory>::command();
    let proxy = args.find_subcommand_mut("proxy").unwrap();
    let flags: BTreeSet<_> = proxy
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .collect();
    for flag in FLAGS {
        let found = match flag.scope {
            Scope::Process => {
                names(SERVER).contains(&flag.key) || names(LIMITS).contains(&flag.key)
            }
            Scope::Listener => names(LISTENER).contains(&flag.key),
            Scope::Group => names(GROUP).contains(&flag.key),
            Scope::Backends => flag.key == "to",
        };
        assert!(found, "{}", flag.name);
    }
    let among_several = [
        "name",
        "group",
        "max-connections",
        "rate",
        "source-connections",
        "source-rate",
    ];
    for name in [names(SERVER), names(LIMITS), names(LISTENER), names(GROUP)].concat() {
        assert!(
            flags.contains(name) || among_several.contains(&name),
            "{name}"
        );
    }
}
