//! What the audit log costs: handing a record over, writing a million of them, starting again with them, and a flood
//! of denials. Prints one line for each figure. Run: `cargo bench -p taskiq-flow-bench --bench audit`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use taskiq_flow_security::audit::{
    AuditEntry, AuditEvent, AuditLogger, AuditMode, AuditOptions, AuditPrincipal, AuditSink,
    CheckpointOptions, CheckpointTarget, FloodLimit, Outcome, SigningKey, verify,
};

const RECORDS: u64 = 1_000_000;
/// Denials a second, and for how long.
const FLOOD: (u64, u64) = (50_000, 20);
const THREADS: u64 = 2;
/// No record of a read is shorter, in bytes.
const SHORTEST: u64 = 400;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.jsonl");
    hand_over(&log);
    start_again(folder.path(), &log);
    flood(&folder.path().join("flood.jsonl"));
    required(&folder.path().join("required.jsonl"));
}

fn options(log: &Path, mode: AuditMode) -> AuditOptions {
    AuditOptions { sinks: vec![AuditSink::File(log.to_owned())], mode, ..AuditOptions::default() }
}

/// As large as the record of a read is.
fn read() -> AuditEntry {
    let principal = AuditPrincipal {
        id: "viewer".into(),
        kind: "api_key".into(),
        issuer: None,
        roles: vec!["viewer".into()],
    };
    AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success)
        .principal(principal)
        .action("get_dag")
        .pipeline_id("etl")
        .ip([203, 0, 113, 7].into())
        .request("01939f6e-7b1f-7c3e-9d2a-3b5c7d9e1f20", "GET", "/pipelines/etl/dag")
        .status(200)
}

fn hand_over(log: &Path) {
    let logger = AuditLogger::open(options(log, AuditMode::BestEffort)).unwrap();
    let begun = Instant::now();
    for n in 0..RECORDS {
        logger.record(read()).unwrap();
        if n % 4_096 == 0 {
            // Not more than has room: this measures writing, not losing.
            logger.flush();
            while std::fs::metadata(log).unwrap().len() / SHORTEST + 8_192 < n {
                std::thread::yield_now();
            }
        }
    }
    logger.flush();
    logger.close();
    let took = begun.elapsed();
    let size = std::fs::metadata(log).unwrap().len();
    println!(
        "write {RECORDS} records to a file, best effort: {:.2} s, {:.0} records/s, {:.0} bytes each",
        took.as_secs_f64(),
        RECORDS as f64 / took.as_secs_f64(),
        size as f64 / RECORDS as f64
    );
    let begun = Instant::now();
    let report = verify(BufReader::new(File::open(log).unwrap())).unwrap();
    println!("verify them: {:.2} s, gaps {}", begun.elapsed().as_secs_f64(), report.gaps.len());
    assert_eq!(report.records, RECORDS + 2 + report.gaps.len() as u64);
}

fn start_again(folder: &Path, log: &Path) {
    let key = Arc::new(SigningKey::generate().unwrap().0);
    let checkpoints: PathBuf = folder.join("checkpoints.jsonl");
    for what in ["without the tree beside it", "with the tree beside it"] {
        let mut options = options(log, AuditMode::BestEffort);
        options.checkpoints = Some(CheckpointOptions {
            origin: "bench".into(),
            key: Arc::clone(&key),
            previous: None,
            targets: vec![CheckpointTarget::File(checkpoints.clone())],
            every: Duration::from_secs(1),
            records: 10_000,
        });
        let begun = Instant::now();
        let logger = AuditLogger::open(options).unwrap();
        let started = begun.elapsed();
        while logger.checkpoints().is_some_and(|status| status.last.is_none()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!(
            "start with {RECORDS} records, {what}: ready after {:.1} ms, first checkpoint after {:.0} ms",
            started.as_secs_f64() * 1e3,
            begun.elapsed().as_secs_f64() * 1e3
        );
        logger.close();
    }
}

fn flood(log: &Path) {
    let mut options = options(log, AuditMode::BestEffort);
    options.flood = Some(FloodLimit { count: 60, window: Duration::from_secs(10) });
    let logger = AuditLogger::open(options).unwrap();
    let (rate, seconds) = FLOOD;
    // Warm: what grows once is not growth.
    burst(&logger, 0, rate, 2);
    let before = resident();
    let stop = AtomicBool::new(false);
    let mut took = std::thread::scope(|scope| {
        let allowed = scope.spawn(|| {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                logger.record(read()).unwrap();
                took.push(begun.elapsed());
                std::thread::sleep(Duration::from_micros(200));
            }
            took
        });
        let floods: Vec<_> = (0..THREADS)
            .map(|part| {
                scope.spawn({
                    let logger = &logger;
                    move || burst(logger, part, rate / THREADS, seconds)
                })
            })
            .collect();
        floods.into_iter().for_each(|flood| flood.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        allowed.join().unwrap()
    });
    let after = resident();
    logger.close();
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!(
        "{rate} denials/s for {seconds} s from as many networks: resident {:.1} MiB before, {:.1} MiB after; log {:.1} MiB; \
         an allowed record meanwhile: p50 {:.1} µs, p99 {:.1} µs, longest {:.0} µs ({} records)",
        before as f64 / 1048576.0,
        after as f64 / 1048576.0,
        std::fs::metadata(log).unwrap().len() as f64 / 1048576.0,
        at(0.5),
        at(0.99),
        at(1.0),
        took.len()
    );
}

/// Denials at a rate, each from a network of its own.
fn burst(logger: &AuditLogger, part: u64, rate: u64, seconds: u64) {
    let begun = Instant::now();
    for n in 0..rate * seconds {
        let [a, b, c] = [(n >> 32) as u16, (n >> 16) as u16, n as u16];
        let ip = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8 + part as u16, b, c, a, 0, 0, 1));
        let denial = AuditEntry::new(AuditEvent::AuthenticationFailure, Outcome::Failure)
            .ip(ip)
            .request("01939f6e-7b1f-7c3e-9d2a-3b5c7d9e1f20", "GET", "/pipelines")
            .status(403)
            .detail("X-API-Key: unknown key");
        logger.record(denial).unwrap();
        if n % 500 == 0 {
            let due = Duration::from_secs_f64(n as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}

fn required(log: &Path) {
    let logger = AuditLogger::open(options(log, AuditMode::Required)).unwrap();
    for threads in [1u64, 8] {
        let each = 100_000 / threads;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|_| logger.record(read()).unwrap()));
            }
        });
        println!(
            "required, {threads} threads: {:.1} µs a record",
            begun.elapsed().as_secs_f64() * 1e6 / (each * threads) as f64
        );
    }
    logger.close();
}

/// Resident memory of this process, in bytes (Linux).
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
