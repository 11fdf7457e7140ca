//! Tests of what is more than data here: name patterns, and that defaults agree with each other.

use super::*;

#[test]
fn name_patterns_match_as_documented() {
    // Goal: exact names and names below one, whatever the case, and nothing near them. Method: a table.
    let exact = NamePattern::Exact("db.example.org".to_owned());
    let below = NamePattern::Below("example.org".to_owned());
    for (name, is_exact, is_below) in [
        ("db.example.org", true, true),
        ("DB.Example.ORG", true, true),
        ("a.db.example.org", false, true),
        ("example.org", false, false),
        (".example.org", false, false),
        ("badexample.org", false, false),
        ("db.example.org.", false, false),
        ("ü.example.org", false, true),
        ("rg", false, false),
        ("", false, false),
    ] {
        assert_eq!(exact.matches(name), is_exact, "{name}");
        assert_eq!(below.matches(name), is_below, "{name}");
    }
}

#[test]
fn defaults_agree_with_each_other() {
    // Goal: no default contradicts another's documentation. Method: the relations that the comments promise.
    let check = HealthCheck::new(CheckKind::Connect);
    assert!(check.timeout <= check.interval);
    let passive = PassiveEjection::default();
    assert!(passive.base <= passive.max && passive.share_max_percent <= 100);
    let keepalive = Keepalive::default();
    let dead_after = keepalive.idle + keepalive.interval * keepalive.count;
    assert_eq!(dead_after.as_secs(), 120);
    let timeouts = Timeouts::default();
    assert!(timeouts.idle.is_some_and(|idle| idle > timeouts.half_close));
    const { assert!(defaults::WEIGHT <= defaults::WEIGHT_MAX) };
    assert!(GlobalLimits::default().sources_max > 0);
}
