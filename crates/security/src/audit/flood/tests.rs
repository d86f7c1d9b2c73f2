use std::net::IpAddr;

use super::super::event::Outcome;
use super::super::record::AuditPrincipal;
use super::*;

const LIMIT: FloodLimit = FloodLimit { count: 3, window: Duration::from_secs(60) };

fn denial(ip: [u16; 8]) -> AuditEntry {
    AuditEntry::new(AuditEvent::AuthenticationFailure, Outcome::Failure).ip(IpAddr::from(ip)).status(401)
}

fn suppressed(summaries: &[AuditEntry]) -> u64 {
    let count = |entry: &AuditEntry| {
        let detail = entry.detail.as_deref().unwrap();
        detail.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    summaries.iter().map(count).sum()
}

#[test]
fn what_is_alike_is_counted_together_and_nothing_else() {
    let flood = Flood::new(LIMIT);
    let now = Instant::now();
    let admitted = |entry: AuditEntry| flood.admits(&entry, now);
    // One /64 is one client.
    let taken: Vec<bool> = (0..5).map(|n| admitted(denial([1, 2, 3, 4, n, n, n, n]))).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    let principal =
        |id: &str| AuditPrincipal { id: id.into(), kind: "api_key".into(), issuer: None, roles: vec![] };
    assert!(admitted(denial([1, 2, 3, 5, 0, 0, 0, 0])));
    assert!(admitted(denial([1, 2, 3, 4, 0, 0, 0, 0]).principal(principal("a"))));
    assert!(admitted(AuditEntry {
        event: AuditEvent::RateLimitExceeded,
        ..denial([1, 2, 3, 4, 0, 0, 0, 0])
    }));
    // IPv4 that came mapped into IPv6 is as many clients as addresses.
    let mapped = |last: u16| denial([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0200 + last]);
    assert!((0..5).all(|last| admitted(mapped(last))));
    // What is no denial is never held back.
    for _ in 0..10 {
        assert!(admitted(AuditEntry { event: AuditEvent::PipelineRead, ..denial([1, 2, 3, 4, 0, 0, 0, 0]) }));
    }
    let summaries = flood.drain();
    let [summary] = summaries.as_slice() else { panic!("{summaries:?}") };
    assert_eq!((summary.event, summary.outcome), (AuditEvent::AuthenticationFailure, Outcome::Failure));
    assert_eq!((suppressed(&summaries), summary.status), (2, Some(401)));
    assert!(summary.client().is_some());
}

#[test]
fn a_new_window_records_again_and_the_old_one_is_summed_up() {
    let flood = Flood::new(LIMIT);
    let now = Instant::now();
    let (mut recorded, mut counted) = (0, 0);
    for second in 0..600 {
        let now = now + Duration::from_secs(second);
        recorded += u64::from(flood.admits(&denial([1; 8]), now));
        counted += flood.state.lock().due(now).iter().map(|held| held.count).sum::<u64>();
    }
    counted += suppressed(&flood.drain());
    assert_eq!((recorded, recorded + counted), (30, 600));
}

#[test]
fn a_window_that_ends_unnoticed_loses_nothing() {
    let flood = Flood::new(LIMIT);
    let now = Instant::now();
    let recorded =
        (0..600u64).filter(|n| flood.admits(&denial([1; 8]), now + Duration::from_secs(*n))).count();
    assert_eq!(recorded as u64 + suppressed(&flood.drain()), 600);
}

#[test]
fn a_scan_of_many_addresses_is_counted_in_bounded_memory() {
    let flood = Flood::new(LIMIT);
    let now = Instant::now();
    let scan = (0..100_000u32).filter(|n| {
        let [a, b] = [(n >> 16) as u16, (n & 0xffff) as u16];
        flood.admits(&denial([0x2001, 0xdb8, a, b, 0, 0, 0, 0]), now)
    });
    let recorded = scan.count();
    assert_eq!(recorded, MAX_SOURCES + 3);
    assert!(flood.state.lock().tables.iter().all(|table| table.buckets.len() <= MAX_SOURCES));
    let summaries = flood.drain();
    assert_eq!(summaries.len(), 1);
    assert!(
        summaries[0].client().is_none() && summaries[0].detail.as_deref().unwrap().contains("many sources")
    );
    assert_eq!(recorded as u64 + suppressed(&summaries), 100_000);
}

/// A denial of a caller whose name is known, from an address of its choice.
fn denied(id: &str, network: u16) -> AuditEntry {
    let principal = AuditPrincipal { id: id.into(), kind: "api_key".into(), issuer: None, roles: vec![] };
    let entry = AuditEntry::new(AuditEvent::AuthorizationDenied, Outcome::Denied);
    entry.principal(principal).ip(IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, 1])).status(403)
}

#[test]
fn strangers_with_many_addresses_hide_no_caller_who_is_known() {
    let flood = Flood::new(LIMIT);
    let now = Instant::now();
    for network in 0..10_000 {
        // Plain HTTP: anybody can bring it about.
        let ip = IpAddr::from([0x2001, 0xdb8, 1, network, 0, 0, 0, 1]);
        flood.admits(&AuditEntry::new(AuditEvent::AuthorizationDenied, Outcome::Denied).ip(ip), now);
    }
    assert!(flood.admits(&denied("insider", 0), now));
}

#[test]
fn a_known_caller_with_many_addresses_hides_no_other() {
    let flood = Flood::new(LIMIT);
    let now = Instant::now();
    let recorded = (0..10_000).filter(|network| flood.admits(&denied("loud", *network), now)).count();
    assert!(flood.admits(&denied("quiet", 0), now));
    let summaries = flood.drain();
    assert_eq!(recorded as u64 + suppressed(&summaries), 10_000);
    let named = |entry: &AuditEntry| entry.principal.as_ref().is_some_and(|who| who.names().id == "loud");
    assert!(summaries.iter().all(named), "{summaries:?}");
}

#[test]
fn counts_that_can_never_be_written_stay_few_and_add_up() {
    let flood = Flood::new(LIMIT);
    let begun = Instant::now();
    let mut recorded = 0;
    for window in 0..20 {
        let now = begun + window * LIMIT.window;
        // The log takes nothing: what was due is given back.
        let due = flood.state.lock().due(now);
        due.into_iter().for_each(|held| flood.state.lock().ripen(held));
        for network in 0..500 {
            let denial = denial([1, 2, 3, network, 0, 0, 0, 0]);
            recorded += (0..5).filter(|_| flood.admits(&denial, now)).count();
        }
    }
    assert!(flood.state.lock().ripe.len() <= MAX_RIPE);
    let summaries = flood.drain();
    assert!(summaries.len() <= MAX_RIPE + 1 + 500, "{}", summaries.len());
    assert_eq!(recorded as u64 + suppressed(&summaries), 20 * 500 * 5);
}

#[test]
fn a_limit_is_one_number_and_a_short_time() {
    let limit = |text: &str| text.parse::<FloodLimit>();
    let minute = FloodLimit { count: 60, window: Duration::from_secs(60) };
    assert_eq!(limit("60/minute").unwrap(), minute);
    assert_eq!(limit("1 per hour").unwrap().window, MAX_WINDOW);
    assert_eq!(minute.to_string(), "60 in 60 seconds");
    for bad in ["", "0/minute", "60", "60/day", "1/2 hours", "60/minute;100/hour"] {
        assert!(limit(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_end_of_a_window_is_waited_for() {
    let flood = Flood::new(FloodLimit { count: 1, window: Duration::ZERO });
    let begun = Instant::now();
    assert!(flood.admits(&denial([1; 8]), begun));
    assert!(!flood.admits(&denial([1; 8]), begun));
    assert_eq!(flood.wait().unwrap()[0].count, 1);
    assert!(begun.elapsed() >= Duration::from_secs(1), "a window is at least a second");
    flood.stop();
    assert!(flood.wait().is_none());
    assert!(flood.admits(&denial([1; 8]), begun), "stopped: everything is recorded by itself");
}
