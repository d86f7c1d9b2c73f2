use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use proptest::prelude::*;

use super::super::record::AuditPrincipal;
use super::super::verify::{Gap, VerifyOptions, VerifyReport, verify, verify_with};
use super::*;

mod checkpoints;
mod intake;
mod tampering;

mod sinks;

const MODES: [AuditMode; 2] = [AuditMode::BestEffort, AuditMode::Required];

fn entry(detail: &str) -> AuditEntry {
    AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success).detail(detail.to_owned())
}

fn open(mode: AuditMode, files: &[&Path]) -> AuditLogger {
    try_open(mode, files).unwrap()
}

fn try_open(mode: AuditMode, files: &[&Path]) -> Result<AuditLogger, AuditError> {
    let sinks = files.iter().map(|f| AuditSink::File(f.to_path_buf())).collect();
    AuditLogger::open(AuditOptions { sinks, mode, ..AuditOptions::default() })
}

fn check(file: &Path) -> VerifyReport {
    let found = verify(BufReader::new(fs::File::open(file).unwrap()));
    found.unwrap_or_else(|e| panic!("{e}\n{}", fs::read_to_string(file).unwrap_or_default()))
}

fn gaps(file: &Path) -> Vec<String> {
    check(file).gaps.into_iter().map(|Gap { detail, .. }| detail).collect()
}

fn lines(file: &Path) -> Vec<serde_json::Value> {
    fs::read_to_string(file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Threads write: give them a moment.
fn eventually(mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "it never came about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn records_all_fields_in_order_and_only_for_the_owner() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let log = open(mode, &[&file]);
        let principal = AuditPrincipal {
            id: "viewer".into(),
            kind: "api_key".into(),
            issuer: None,
            roles: vec!["viewer".into()],
        };
        log.record(
            AuditEntry::new(AuditEvent::AuthorizationDenied, Outcome::Denied)
                .principal(principal)
                .action("execute")
                .pipeline_id("etl")
                .run_id("r1")
                .ip([203, 0, 113, 7].into())
                .request("q1", "POST", "/pipelines/etl/execute")
                .status(403)
                .detail("acl"),
        )
        .unwrap();
        log.flush();
        assert_eq!(log.checkpoint().seq, 2);
        assert_eq!(log.first_file(), Some(file.as_path()));
        assert!(log.healthy() && log.failing_sinks().is_empty());
        log.close();
        assert!(matches!(log.record(entry("late")), Err(AuditError::Closed)));
        log.close();

        let found = lines(&file);
        let events: Vec<_> = found.iter().map(|l| l["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["audit.start", "authorization.denied", "audit.stop"]);
        let record = &found[1];
        assert_eq!(record["logger"], "taskiq_flow.audit");
        let principal = serde_json::json!({"id": "viewer", "type": "api_key", "roles": ["viewer"]});
        assert_eq!(record["principal"], principal);
        assert_eq!((&record["ip"], &record["status"]), (&"203.0.113.7".into(), &403.into()));
        assert_eq!(check(&file).records, 3);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_chain_goes_on_after_a_restart() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        for round in 0..3 {
            let log = open(mode, &[&file]);
            log.record(entry(&format!("round {round}"))).unwrap();
        }
        let report = check(&file);
        assert_eq!((report.records, report.gaps.len()), (9, 0));
    }
}

#[test]
fn a_torn_last_line_is_kept_and_marked() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let log = open(mode, &[&file]);
        log.record(entry("sound")).unwrap();
        log.close();
        let whole = fs::read(&file).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        // Everything from "one byte of the line" to "only its end is missing".
        for cut in (last + 1..whole.len()).step_by(7).chain([whole.len() - 2, whole.len() - 1]) {
            fs::write(&file, &whole[..cut]).unwrap();
            open(mode, &[&file]).record(entry("after")).unwrap();
            let report = check(&file);
            let only_the_end_is_missing = cut == whole.len() - 1;
            assert_eq!(report.gaps.len(), usize::from(!only_the_end_is_missing), "cut at {cut}");
            assert!(fs::read(&file).unwrap().starts_with(&whole[..cut]));
        }
        // A crash while the gap record was written.
        fs::write(&file, [&whole[..last + 9], b"\n{\"logger\":\"taskiq_fl"].concat()).unwrap();
        open(mode, &[&file]).record(entry("after")).unwrap();
        assert_eq!(gaps(&file), ["missed 0; unreadable lines 2; refused requests 0; sink audit.jsonl"]);
        // A crash in the very first write.
        fs::write(&file, &whole[..20]).unwrap();
        drop(open(mode, &[&file]));
        assert_eq!(check(&file).gaps.len(), 1);
    }
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("important.txt");
        fs::write(&file, "not an audit log\n").unwrap();
        assert!(matches!(try_open(mode, &[&file]), Err(AuditError::NotAnAuditLog { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "not an audit log\n");
    }
}

#[test]
fn one_file_has_one_writer() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let log = open(mode, &[&file]);
        assert!(matches!(try_open(mode, &[&file]), Err(AuditError::Locked { .. })));
        log.close();
        open(mode, &[&file]);
        assert!(matches!(try_open(mode, &[&file, &file]), Err(AuditError::Locked { .. })));
    }
}

#[test]
fn an_edited_last_record_is_found_after_the_restart_too() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let log = open(mode, &[&file]);
        log.record(entry("the truth")).unwrap();
        log.close();
        let text = fs::read_to_string(&file).unwrap();
        for (from, to) in [("\"audit.stop\"", "\"audit.gap\""), ("\"seq\":3", "\"seq\":9007199254740993")] {
            fs::write(&file, text.replace(from, to)).unwrap();
            drop(open(mode, &[&file]));
            assert!(verify(BufReader::new(fs::File::open(&file).unwrap())).is_err() || to.contains("seq"));
        }
        let huge = text.replace("\"seq\":3", "\"seq\":9007199254740992");
        fs::write(&file, huge).unwrap();
        drop(open(mode, &[&file]));
        assert!(verify(BufReader::new(fs::File::open(&file).unwrap())).is_err());
    }
}

#[test]
fn many_callers_make_one_chain() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let log = open(mode, &[&file]);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    for n in 0..250 {
                        log.record(entry(&format!("{thread}/{n}"))).unwrap();
                    }
                });
            }
        });
        log.close();
        let report = check(&file);
        assert_eq!((report.records, report.gaps.len()), (1002, 0));
    }
}

#[test]
fn nothing_a_client_sends_forges_a_line_or_a_giant_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let log = open(AuditMode::Required, &[&file]);
    let forged = "x\r\n{\"logger\":\"taskiq_flow.audit\",\"seq\":9}\u{2028}\u{202e}\u{1b}[2J|=\0\u{85}";
    let giant = "\u{1}".repeat(1_000_000);
    for text in [forged, giant.as_str()] {
        let principal = AuditPrincipal {
            id: text.into(),
            kind: text.into(),
            issuer: None,
            roles: vec![text.into(); 100],
        };
        let mut entry = AuditEntry::new(AuditEvent::AuthenticationFailure, Outcome::Failure)
            .principal(principal)
            .action(text.to_owned())
            .pipeline_id(text)
            .run_id(text)
            .request(text, text, text)
            .detail(text.to_owned());
        entry.status = Some(401);
        log.record(entry).unwrap();
    }
    log.close();
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.len() < 100_000);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.chars().all(|c| c == '\n' || c == '…' || (' '..='~').contains(&c)));
    assert_eq!(lines(&file)[1]["detail"], forged);
    assert_eq!(check(&file).records, 4);
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_record_is_a_tracing_event_with_fields() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let principal = AuditPrincipal {
            id: "ci".into(),
            kind: "jwt".into(),
            issuer: None,
            roles: vec!["a".into(), "b".into()],
        };
        let entry = AuditEntry::new(AuditEvent::AuthorizationDenied, Outcome::Denied)
            .principal(principal)
            .pipeline_id("etl\u{1b}[2J")
            .ip([192, 0, 2, 1].into())
            .status(403);
        AuditLogger::new().record(entry).unwrap();
    });
    let text = String::from_utf8(captured.0.lock().clone()).unwrap();
    let event: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(event["target"], "taskiq_flow.audit");
    let fields = &event["fields"];
    assert_eq!((&fields["seq"], &fields["status"]), (&1.into(), &403.into()));
    assert_eq!((&fields["event"], &fields["outcome"]), (&"authorization.denied".into(), &"denied".into()));
    assert_eq!((&fields["principal.id"], &fields["principal.roles"]), (&"ci".into(), &"a,b".into()));
    assert_eq!((&fields["ip"], &fields["pipeline_id"]), (&"192.0.2.1".into(), &"etl\\u001b[2J".into()));
    assert!(fields.get("run_id").is_none());
}

#[test]
fn a_log_without_sinks_still_counts() {
    let log = AuditLogger::new();
    log.record(entry("one")).unwrap();
    log.record(entry("two")).unwrap();
    assert_eq!(log.checkpoint().seq, 2);
    assert!(log.healthy() && log.first_file().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_mix_of_restarts_and_crashes_verifies(
        steps in proptest::collection::vec((0usize..4, 0usize..400, any::<bool>()), 1..8)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        for (records, torn, required) in steps {
            let log = open(if required { AuditMode::Required } else { AuditMode::BestEffort }, &[&file]);
            for n in 0..records {
                log.record(entry(&n.to_string())).unwrap();
            }
            log.close();
            // A crash takes at most the end of the last line.
            let whole = fs::read(&file).unwrap();
            let last = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let cut = whole.len().saturating_sub(torn).max(last + 1);
            fs::write(&file, &whole[..cut]).unwrap();
        }
        drop(open(AuditMode::Required, &[&file]));
        check(&file);
    }
}
