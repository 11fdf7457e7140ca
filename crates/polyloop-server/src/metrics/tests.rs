//! Tests of the metrics text: it is read back.

use std::collections::{BTreeMap, BTreeSet};

use polyloop::{Server, ServerSettings, StartError};
use polyloop_core::placement::Wish;

use super::*;
use crate::echo::Conns;

/// A page parsed back: families with their types, and samples.
struct Parsed {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

/// Reads the format strictly: help, then type, then all samples of the family, each once.
fn parse(page: &str) -> Parsed {
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut family = String::new();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            assert!(helped.insert(name.to_owned()), "twice: {line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "a type follows its help");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            types.insert(name.to_owned(), kind.to_owned());
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let stem = match types[&family].as_str() {
                "summary" => name.trim_end_matches("_sum").trim_end_matches("_count"),
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap_or_else(|| panic!("{line}")),
                _ => name,
            };
            assert_eq!(stem, family, "a sample outside of its family: {line}");
            assert!(
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                "{line}"
            );
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(
                samples.insert(key.to_owned(), value).is_none(),
                "twice: {line}"
            );
        }
    }
    Parsed { types, samples }
}

fn page_of_a_server() -> Result<String, StartError> {
    let settings = ServerSettings {
        wish: Wish {
            loops: Some(2),
            ..Wish::default()
        },
        ..ServerSettings::default()
    };
    let running = Server::with_factories(|_| Conns {
        admin_listener: None,
    })
    .listen("127.0.0.1:0")?
    .settings(settings)
    .start()?;
    running.status().boards[1].turn_time.record(2_000_000_000);
    let page = render(running.status(), 7);
    running.stop();
    let _ = running.join();
    Ok(page)
}

#[test]
fn the_page_reads_back() {
    // Goal: Prometheus can read it, each family has help and type, nothing is told twice. Method: a strict reader over
    // the page of a real server with two loops.
    let page = parse(&page_of_a_server().unwrap());
    let type_of = |name: &str| page.types.get(name).map(String::as_str);
    assert_eq!(type_of("polyloop_accepted_total"), Some("counter"));
    assert_eq!(type_of("polyloop_live"), Some("gauge"));
    assert_eq!(type_of("polyloop_turn_seconds"), Some("summary"));
    assert_eq!(type_of("process_cpu_seconds_total"), Some("counter"));
    for key in [
        "polyloop_turns_total{loop=\"0\"}",
        "polyloop_stuck{loop=\"1\"}",
        "polyloop_load{loop=\"1\"}",
        "polyloop_rings_total{loop=\"0\"}",
        "polyloop_closed_total{loop=\"1\",reason=\"peer_reset\",initiator=\"peer\"}",
        "polyloop_handler_seconds{loop=\"0\",quantile=\"0.99\"}",
        "polyloop_poll_events_count{loop=\"0\"}",
        "polyloop_pool_refused_total{pool=\"blocking\"}",
        "polyloop_pool_wait_seconds{pool=\"cpu\",quantile=\"0.5\"}",
        "polyloop_permits_in_use",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(page.samples.contains_key(key), "{key}");
    }
    assert_eq!(page.samples["polyloop_loops"], 2.0);
    assert_eq!(page.samples["polyloop_log_lines_dropped_total"], 7.0);
    assert_eq!(page.samples["polyloop_life{state=\"serving\"}"], 1.0);
    let slowest = page.samples["polyloop_turn_seconds{loop=\"1\",quantile=\"1\"}"];
    assert!((1.99..2.07).contains(&slowest), "{slowest}");
    assert!(page.samples["polyloop_pool_run_seconds{pool=\"cpu\",quantile=\"0.5\"}"].is_nan());
}

#[test]
fn every_number_of_a_loop_is_told() {
    // Goal: a number that is added to the library appears here by itself. Method: compare with the library's own list.
    let page = parse(&page_of_a_server().unwrap());
    polyloop::telemetry::Numbers::default().each(|name, kind, _, _| {
        let suffix = if kind == Kind::Counter { "_total" } else { "" };
        for index in 0..2 {
            let key = format!("polyloop_{name}{suffix}{{loop=\"{index}\"}}");
            assert!(page.samples.contains_key(&key), "{key}");
        }
    });
}

#[test]
fn labels_are_escaped() {
    // Goal: a path cannot break the format. Method: the three characters that could.
    let mut page = Page::default();
    page.family("x", Type::Gauge, "Help.")
        .sample(&[("path", &"a\"b\\c\nd")], 1);
    assert_eq!(
        page.text.lines().last(),
        Some(r#"polyloop_x{path="a\"b\\c\nd"} 1"#)
    );
}

/// A site with one listener and one backend, whose names try to break out.
fn site_of_two_loops() -> Site {
    use polyloop_proxy::settings::{
        BackendSettings, GroupSettings, ListenerSettings, ProxySettings, Target,
    };
    let to = Target::Addr(([127, 0, 0, 1], 9).into());
    let settings = ProxySettings {
        listeners: vec![ListenerSettings {
            name: "fr\"ont".to_owned(),
            ..ListenerSettings::default()
        }],
        groups: vec![GroupSettings {
            name: "d\\b".to_owned(),
            backends: vec![BackendSettings::new("one\n".to_owned(), to)],
            ..GroupSettings::default()
        }],
        ..ProxySettings::default()
    };
    Site::new(settings, 2)
}

#[test]
fn histograms_of_a_proxy_read_back_as_prometheus_wants_them() {
    // Goal: buckets grow and end with the count, sums are exact, labels are apart and escaped, refusals have their reasons.
    // Method: two loops' boards are written, and the page is read back strictly.
    let site = site_of_two_loops();
    let backend = &site.groups[0].backends[0];
    for (loop_index, ns) in [(0, 90_000), (1, 1_000_000), (1, 60_000_000_000)] {
        backend.boards[loop_index].connect_spread.record(ns);
        let ended = &site.listeners[0].boards[loop_index].ended_spread;
        ended.bytes_up.record(64);
    }
    let no_route = Cause::NoRoute.refusal().unwrap();
    site.listeners[0].boards[1].refused[no_route].add(3);
    let text = render_proxy(&site);
    let page = parse(&text);
    let types = |name: &str| page.types.get(name).map(String::as_str);
    for name in [
        "backend_connect_seconds",
        "backend_session_seconds",
        "backend_session_bytes_up",
        "backend_session_bytes_down",
        "proxy_session_seconds",
        "proxy_session_bytes_up",
        "proxy_session_bytes_down",
    ] {
        assert_eq!(
            types(&format!("polyloop_{name}")),
            Some("histogram"),
            "{name}"
        );
    }
    let of = |suffix: &str, le: &str| {
        let le = if le.is_empty() {
            String::new()
        } else {
            format!(",le=\"{le}\"")
        };
        let labels = r#"group="d\\b",backend="one\n""#;
        page.samples[&format!("polyloop_backend_connect_seconds_{suffix}{{{labels}{le}}}")]
    };
    for (le, count) in [
        ("0.0001", 1.0),
        ("0.0005", 1.0),
        ("0.001", 2.0),
        ("10", 2.0),
        ("+Inf", 3.0),
    ] {
        assert_eq!(of("bucket", le), count, "{le}");
    }
    assert_eq!((of("count", ""), of("sum", "")), (3.0, 60.001_09));
    let front = r#"listener="fr\"ont""#;
    let bytes = format!("polyloop_proxy_session_bytes_up_bucket{{{front},le=\"64\"}}");
    assert_eq!(page.samples[&bytes], 3.0);
    let refused = format!("polyloop_proxy_refused_total{{{front},reason=\"no_route\"}}");
    assert_eq!(page.samples[&refused], 3.0);
    let reasons = text.matches("polyloop_proxy_refused_total{").count();
    assert_eq!(reasons, Cause::REFUSALS.len());
}
