//! Tests of names: who sits where from answer to answer, weights and tiers of records, and when to ask again.

use super::*;
use crate::balance::{Algorithm, Tried};
use crate::health::State;
use crate::settings::{BackendSettings, GroupSettings};
use crate::site::LoopSite;
use proptest::prelude::*;
use std::sync::Arc;

fn cards(hosts: &[u8]) -> Vec<Card> {
    let addr = |host: &u8| SocketAddr::from(([10, 0, 0, *host], 1));
    hosts
        .iter()
        .map(|host| Card::of_address(addr(host)))
        .collect()
}

/// The last number of the addresses at each slot.
fn seats(dealer: &Dealer) -> Vec<Vec<u8>> {
    let host = |addr: &SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    };
    let of = |slot: &Vec<Card>| {
        slot.iter()
            .flat_map(|card| card.addrs.iter().map(host))
            .collect()
    };
    dealer.slots().iter().map(of).collect()
}

fn site(to: Target, slots: u16) -> Site {
    let backend = BackendSettings {
        slots: Some(slots),
        ..BackendSettings::new("db".to_owned(), to)
    };
    Site::new(
        ProxySettings {
            groups: vec![GroupSettings {
                backends: backend.expanded(),
                ..GroupSettings::default()
            }],
            ..ProxySettings::default()
        },
        1,
    )
}

fn srv() -> Target {
    let name = "_db._tcp.test".to_owned();
    Target::Srv { name }
}

fn record(host: u8, priority: u16, weight: u16) -> Record {
    Record {
        host: format!("db{host}.test."),
        port: 5000 + u16::from(host),
        priority,
        weight,
        addrs: vec![IpAddr::from([10, 0, 0, host])],
    }
}

fn answer(found: Found) -> Result<Answer, String> {
    let ttl = Duration::from_secs(60);
    Ok(Answer { found, ttl })
}

fn states(site: &Site) -> String {
    let letter = |backend: &crate::site::Backend| match backend.published().state(0) {
        State::Up => 'U',
        State::NoAddress => '-',
        _ => '?',
    };
    site.groups[0].backends.iter().map(letter).collect()
}

#[test]
fn who_stays_keeps_its_slot() {
    // Goal: an answer moves nobody but who came or went. Method: one answer after the other, as a name would give them.
    let mut dealer = Dealer::new(3);
    for (answer, expected) in [
        (&[2, 1][..], [&[1][..], &[2], &[]]),
        (&[3, 2], [&[3], &[2], &[]]),
        (&[3, 2, 4, 5, 6], [&[3, 5], &[2, 6], &[4]]),
        (&[6, 5, 2], [&[5], &[2], &[6]]),
        (&[7], [&[7], &[], &[]]),
    ] {
        assert_eq!(dealer.deal(cards(answer)), 0);
        assert_eq!(seats(&dealer), expected, "{answer:?}");
    }
}

proptest! {
    #[test]
    fn every_address_is_dealt_once_and_no_slot_is_left_free(
        slots in 1..6_usize,
        answers in prop::collection::vec(prop::collection::btree_set(1..20_u8, 1..12), 1..8),
    ) {
        // Goal: the rules for any answers. Method: random ones; each address sits once, one that was alone at its slot before
        // has not moved, and nobody shares while a slot is free.
        let mut dealer = Dealer::new(slots);
        let mut before = seats(&dealer);
        for answer in answers {
            let answer: Vec<u8> = answer.into_iter().collect();
            prop_assert_eq!(dealer.deal(cards(&answer)), 0);
            let now = seats(&dealer);
            let mut all: Vec<u8> = now.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(&all, &answer);
            let has_free = now.iter().any(Vec::is_empty);
            prop_assert!(!has_free || now.iter().all(|slot| slot.len() < 2));
            for (was, is) in before.iter().zip(&now) {
                if let [only] = was.as_slice() && answer.contains(only) {
                    prop_assert!(is.contains(only), "{:?} {:?}", before, now);
                }
            }
            before = now;
        }
    }
}

#[test]
fn a_host_is_one_backend_or_as_many_as_it_has_slots() {
    // Goal: addresses become backends; empty slots cannot be used. Method: two addresses, with one slot and with three; then
    // a failure, an empty answer, and one that is left.
    let target = || Target::Name {
        host: "db.test".to_owned(),
        port: 5432,
    };
    let hosts = |hosts: &[u8]| {
        let ip = |host: &u8| IpAddr::from([10, 0, 0, *host]);
        answer(Found::Addresses(hosts.iter().map(ip).collect()))
    };
    for (slots, two, one) in [(1, "U", "U"), (3, "UU-", "-U-")] {
        let site = site(target(), slots);
        let name = &site.names[0];
        assert!(!name.is_settled());
        assert!(!states(&site).contains('U'));
        let outcome = name.handle_answer(&site, hosts(&[1, 2]), 5);
        let (addrs, left_out) = (2, 0);
        assert_eq!(outcome.news, News::Moved { addrs, left_out });
        assert_eq!(outcome.again_in, Duration::from_secs(60));
        assert_eq!(states(&site), two);
        assert_eq!(
            name.handle_answer(&site, hosts(&[2, 1]), 6).news,
            News::Nothing
        );
        for bad in [Err("SERVFAIL".to_owned()), hosts(&[])] {
            let outcome = name.handle_answer(&site, bad, 7);
            assert!(matches!(outcome.news, News::Failed { is_known: true, .. }));
            assert_eq!(states(&site), two);
        }
        assert_eq!(name.failures.load(Relaxed), 2);
        assert!(name.error().is_some());
        name.handle_answer(&site, hosts(&[2]), 8);
        assert_eq!(states(&site), one);
        assert_eq!(name.answered_ms.load(Relaxed), 8);
        assert_eq!(name.error(), None);
    }
}

#[test]
fn records_bring_ports_weights_and_backups() {
    // Goal: what SRV records say holds, and a change of priorities too. Method: two ordinary ones of which one is heavy, a
    // backup; then the backup becomes ordinary, and a host is not known at the moment.
    let site = site(srv(), 4);
    let name = &site.names[0];
    let records = [
        record(1, 10, 60_000),
        record(2, 10, 15_000),
        record(3, 20, 0),
    ];
    name.handle_answer(&site, answer(Found::Records(records.to_vec())), 5);
    assert_eq!(states(&site), "UUU-");
    let shares = || {
        let shares = site.groups[0].shares();
        let weights = shares.weights.iter();
        weights.map(|w| (w.weight, w.backup)).collect::<Vec<_>>()
    };
    assert_eq!(shares(), [(256, false), (64, false), (1, true), (0, false)]);
    let places = |at: usize| site.groups[0].backends[at].places();
    assert_eq!(places(1), [Remote::Tcp(([10, 0, 0, 2], 5002).into())]);
    let mut unknown = record(2, 10, 3);
    unknown.addrs.clear();
    let records = vec![record(3, 10, 0), unknown];
    name.handle_answer(&site, answer(Found::Records(records)), 6);
    assert_eq!(states(&site), "-UU-");
    assert_eq!(places(1), [Remote::Tcp(([10, 0, 0, 2], 5002).into())]);
    // The one that is gone keeps its share, so that nobody else moves.
    assert_eq!(shares(), [(256, false), (3, false), (1, false), (0, false)]);
}

#[test]
fn with_few_slots_ordinary_records_come_first() {
    // Goal: a backup never sits beside an ordinary one, nor keeps its place. Method: one slot; a backup alone (which is ordinary
    // then), then an ordinary one beside it.
    let site = site(srv(), 1);
    let name = &site.names[0];
    name.handle_answer(&site, answer(Found::Records(vec![record(1, 20, 1)])), 5);
    let both = vec![record(1, 20, 1), record(2, 10, 1)];
    let outcome = name.handle_answer(&site, answer(Found::Records(both)), 6);
    let (addrs, left_out) = (1, 1);
    assert_eq!(outcome.news, News::Moved { addrs, left_out });
    let place = Remote::Tcp(([10, 0, 0, 2], 5002).into());
    assert_eq!(site.groups[0].backends[0].places(), [place]);
    assert!(!site.groups[0].shares().weights[0].backup);
}

#[test]
fn looks_again_neither_too_soon_nor_too_late() {
    // Goal: every TTL and any number of failures give a sensible wait. Method: a table of each.
    let seconds = Duration::from_secs;
    for (ttl, again_in) in [(0, 1), (1, 1), (30, 30), (300, 300), (86_400, 300)] {
        assert_eq!(clamped(seconds(ttl)), seconds(again_in));
    }
    assert_eq!(
        clamped(Duration::from_millis(1_500)),
        Duration::from_millis(1_500)
    );
    for (failures, again_in) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (u32::MAX, 30)] {
        assert_eq!(retry_after(failures), seconds(again_in));
    }
}

#[test]
fn the_clients_of_a_slot_that_is_empty_go_elsewhere_and_come_back() {
    // Goal: with the source hash, who loses its address moves nobody else. Method: 500 clients and four addresses; one leaves
    // and comes back.
    let host = "db.test".to_owned();
    let backend = BackendSettings {
        slots: Some(4),
        ..BackendSettings::new("db".to_owned(), Target::Name { host, port: 1 })
    };
    let group = GroupSettings {
        backends: backend.expanded(),
        balance: Algorithm::SourceHash,
        ..GroupSettings::default()
    };
    let settings = ProxySettings {
        groups: vec![group],
        ..ProxySettings::default()
    };
    let site = Arc::new(Site::new(settings, 1));
    let home = LoopSite::new(&site, 0, 1);
    let seats = |hosts: &[u8]| -> Vec<usize> {
        let addrs = hosts.iter().map(|host| IpAddr::from([10, 0, 0, *host]));
        let found = Found::Addresses(addrs.collect());
        site.names[0].handle_answer(&site, answer(found), 5);
        let client = |nth: u16| {
            let [high, low] = nth.to_be_bytes();
            let source = Some(IpAddr::from([192, 168, high, low]));
            let taken = home.take_place(0, source, &Tried::new(), 6).unwrap();
            home.give_place_back(0, taken.backend);
            taken.backend
        };
        (0..500).map(client).collect()
    };
    let before = seats(&[1, 2, 3, 4]);
    let without = seats(&[1, 2, 4]);
    for (was, is) in before.iter().zip(&without) {
        assert!(*is != 2 && (was == is || *was == 2), "{was} {is}");
    }
    assert!(before.contains(&2));
    assert_eq!(seats(&[4, 3, 2, 1]), before);
}
