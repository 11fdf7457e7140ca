//! What somebody may have meant who wrote a name that there is not.

/// `; did you mean "x"?` for the nearest of the names, or nothing where none is near.
pub(crate) fn hint<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, names).map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

/// The nearest of the names, if it is near enough to be meant.
pub(crate) fn nearest<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('_', "-");
    let of = |name: &'a str| (strsim::damerau_levenshtein(&written, name), name);
    // Of names equally near, the first in the order of the documentation.
    let (distance, name) = names
        .into_iter()
        .map(of)
        .min_by_key(|(distance, _)| *distance)?;
    let longer = written.chars().count().max(name.chars().count());
    // A third of the letters: "idle-timout" is meant, "speed" for "spread" too, "max" for "tls" is not.
    (distance * 3 <= longer).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        // Goal: help, not noise. Method: a table.
        let names = ["idle-timeout", "listen", "group", "max-connections", "to"];
        for (written, expected) in [
            ("idle-timout", Some("idle-timeout")),
            ("idle_timeout", Some("idle-timeout")),
            ("Listen", Some("listen")),
            ("lisetn", Some("listen")),
            ("groups", Some("group")),
            ("max-conections", Some("max-connections")),
            ("speed", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), expected, "{written}");
        }
        assert_eq!(hint("grop", names), "; did you mean \"group\"?");
        assert_eq!(hint("zebra", names), "");
        assert_eq!(hint("zebra", []), "");
    }
}
