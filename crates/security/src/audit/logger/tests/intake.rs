//! What is recorded on many threads at once, and more of it than can be written.

use super::super::super::flood::FloodLimit;
use super::*;

fn denial(client: u8) -> AuditEntry {
    AuditEntry::new(AuditEvent::RateLimitExceeded, Outcome::Throttled)
        .ip([192, 0, 2, client].into())
        .status(429)
}

fn open_with(mode: AuditMode, file: &Path, flood: Option<FloodLimit>) -> AuditLogger {
    let sinks = vec![AuditSink::File(file.to_path_buf())];
    AuditLogger::open(AuditOptions { sinks, mode, flood, ..AuditOptions::default() }).unwrap()
}

#[test]
fn a_best_effort_log_never_waits_and_says_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let log = open(AuditMode::BestEffort, &[&file]);
    {
        // While the chain cannot be written, callers go on, and what finds no room is counted.
        let _busy = log.inner.shared.ledger.lock();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|_| log.record(entry("burst")).unwrap()));
            }
        });
    }
    log.flush();
    log.record(entry("after")).unwrap();
    log.close();
    let report = check(&file);
    let lost: u64 = report.gaps.iter().map(|gap| lost(&gap.detail)).sum();
    assert!(lost > 0 && report.gaps.len() <= 2, "{:?}", report.gaps);
    let own = 2 + report.gaps.len() as u64;
    assert_eq!(report.records - own + lost, 80_001, "{:?}", report.gaps);
    assert_eq!(report.clock_steps_back, 0);
}

#[test]
fn a_required_log_refuses_what_finds_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_with(AuditMode::Required, &folder.path().join("audit.jsonl"), None);
    while let Pushed::Ticket(_) = log.inner.shared.intake.push(entry("waits")) {}
    assert!(matches!(log.record(entry("one too many")), Err(AuditError::Full)));
}

fn lost(detail: &str) -> u64 {
    let lost = detail.split("; ").find_map(|part| part.strip_prefix("lost "));
    lost.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_required_record_is_written_when_its_caller_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let log = open(AuditMode::Required, &[&file]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (log, file) = (&log, &file);
            scope.spawn(move || {
                for n in 0..50 {
                    let mark = format!("{thread}/{n}.");
                    log.record(entry(&mark)).unwrap();
                    assert!(fs::read_to_string(file).unwrap().contains(&format!("\"{mark}\"")));
                }
            });
        }
    });
    log.close();
    let report = check(&file);
    assert_eq!((report.records, report.gaps.len(), report.clock_steps_back), (402, 0, 0));
}

#[test]
fn callers_that_wait_share_one_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let log = open(AuditMode::Required, &[&file]);
    std::thread::scope(|scope| {
        let busy = log.inner.shared.ledger.lock();
        let before = busy.head.seq;
        for n in 0..16 {
            let log = &log;
            scope.spawn(move || log.record(entry(&n.to_string())).unwrap());
        }
        // All sixteen wait under tickets; the first to get the chain writes for all.
        while log.inner.shared.intake.pushed() < 16 {
            std::thread::yield_now();
        }
        drop(busy);
        eventually(|| log.checkpoint().seq > before);
        assert_eq!(log.checkpoint().seq, before + 16);
    });
    log.close();
    assert_eq!(check(&file).records, 18);
}

#[test]
fn a_flood_of_denials_is_counted_and_adds_up() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let flood = FloodLimit { count: 5, window: Duration::from_secs(1) };
        let log = open_with(mode, &file, Some(flood));
        for n in 0..1_000u16 {
            log.record(denial((n % 4) as u8)).unwrap();
            log.record(entry("allowed")).unwrap();
        }
        // The window ends by itself: nobody has to deny anything for the count to be said.
        eventually(|| summed(&file).0 > 0);
        log.record(denial(9)).unwrap();
        log.close();
        let (suppressed, denials, summaries) = summed(&file);
        assert_eq!(suppressed + denials, 1_001, "{mode:?}");
        assert!(denials >= 21 && summaries >= 4, "{mode:?}: {denials} {summaries}");
        let found = lines(&file);
        assert_eq!(found.iter().filter(|record| record["detail"] == "allowed").count(), 1_000);
        let summary = found.iter().find(|record| is_summary(record)).unwrap();
        assert_eq!(
            (&summary["event"], &summary["outcome"]),
            (&"rate_limit.exceeded".into(), &"throttled".into())
        );
        assert!(summary["ip"].as_str().unwrap().starts_with("192.0.2."));
        assert_eq!(summary["status"], 429);
        check(&file);
    }
}

#[test]
fn what_was_counted_is_said_at_the_end() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let flood = FloodLimit { count: 1, window: Duration::from_secs(3600) };
        let log = open_with(mode, &file, Some(flood));
        (0..10).for_each(|_| log.record(denial(1)).unwrap());
        log.close();
        assert!(matches!(log.record(denial(1)), Err(AuditError::Closed)));
        assert_eq!(summed(&file), (9, 1, 1), "{mode:?}");
    }
}

#[test]
fn a_count_that_cannot_be_written_waits_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("audit.jsonl"), folder.path().join("link"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let flood = FloodLimit { count: 1, window: Duration::from_secs(1) };
    let log = open_with(AuditMode::Required, &link, Some(flood));
    (0..10).for_each(|_| log.record(denial(1)).unwrap());
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    // Longer than the window: the summary has been tried.
    std::thread::sleep(Duration::from_millis(1_300));
    assert_eq!(summed(&file).0, 0);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    eventually(|| summed(&file).0 == 9);
    log.close();
    check(&file);
}

fn is_summary(record: &serde_json::Value) -> bool {
    record["detail"].as_str().is_some_and(|detail| detail.starts_with("suppressed "))
}

/// How many denials were counted, how many recorded one by one, and in how many records the counts stand.
fn summed(file: &Path) -> (u64, u64, u64) {
    let found = lines(file);
    let (mut suppressed, mut denials, mut summaries) = (0, 0, 0);
    for record in found.iter().filter(|record| record["event"] == "rate_limit.exceeded") {
        if is_summary(record) {
            let count = record["detail"].as_str().unwrap().split(' ').nth(1).unwrap();
            suppressed += count.parse::<u64>().unwrap();
            summaries += 1;
        } else {
            denials += 1;
        }
    }
    (suppressed, denials, summaries)
}
