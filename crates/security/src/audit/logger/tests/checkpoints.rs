//! Signed checkpoints of a log that is written, rotated, restarted and given another key.

use std::io;
use std::path::PathBuf;

use super::super::super::deliver::CheckpointTarget;
use super::super::super::series::SignedSeries;
use super::super::super::signed::{SignedCheckpoint, SigningKey};
use super::super::super::verify::{Fault, VerifyError, verify_all};
use super::*;

/// A folder with a log and its checkpoints.
pub(super) struct Place {
    pub(super) folder: tempfile::TempDir,
    pub(super) key: Arc<SigningKey>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), key: key() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("audit.jsonl")
    }

    pub(super) fn options(&self, mode: AuditMode) -> AuditOptions {
        AuditOptions {
            sinks: vec![AuditSink::File(self.log())],
            mode,
            flood: None,
            checkpoints: Some(CheckpointOptions {
                origin: "example.com/audit".into(),
                key: Arc::clone(&self.key),
                previous: None,
                targets: vec![CheckpointTarget::File(self.path("checkpoints.jsonl"))],
                every: Duration::from_millis(50),
                records: 100,
            }),
        }
    }

    pub(super) fn open(&self, mode: AuditMode) -> AuditLogger {
        AuditLogger::open(self.options(mode)).unwrap()
    }

    pub(super) fn checkpoints(&self) -> Vec<SignedCheckpoint> {
        let text = fs::read_to_string(self.path("checkpoints.jsonl")).unwrap_or_default();
        text.lines().map(|line| SignedCheckpoint::from_json(line).unwrap()).collect()
    }

    pub(super) fn series(&self) -> SignedSeries {
        let text = fs::read_to_string(self.path("checkpoints.jsonl")).unwrap();
        SignedSeries::check(&text, self.key.verify_key()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Checks files of the log, oldest first, against the checkpoints.
    pub(super) fn verify(&self, files: &[&Path]) -> Result<VerifyReport, VerifyError> {
        let options = VerifyOptions { signed: Some(self.series()), ..VerifyOptions::default() };
        verify_all(files.iter().map(|file| io::Result::Ok(BufReader::new(fs::File::open(file)?))), &options)
    }
}

pub(super) fn key() -> Arc<SigningKey> {
    Arc::new(SigningKey::generate().unwrap().0)
}

#[test]
fn a_log_is_signed_while_it_is_written_and_at_its_end() {
    for mode in MODES {
        let place = Place::new();
        let log = place.open(mode);
        for n in 0..500 {
            log.record(entry(&n.to_string())).unwrap();
        }
        eventually(|| log.checkpoints().unwrap().last.is_some_and(|last| last.head.seq == 501));
        let status = log.checkpoints().unwrap();
        assert_eq!((status.error, status.key), (None, place.key.verify_key()));
        log.close();
        let report = place.verify(&[&place.log()]).unwrap();
        let signed = report.signed.unwrap();
        assert!(signed.checked >= 2 && signed.roots == signed.checked && signed.before == 0, "{signed:?}");
        let last = place.checkpoints().pop().unwrap();
        assert_eq!((last.size, Some(last.head)), (502, report.last));
        assert_eq!(last.first, 1);
        for name in ["checkpoints.jsonl", "audit.jsonl.tree"] {
            assert_eq!(fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[test]
fn a_log_at_rest_is_signed_once() {
    let place = Place::new();
    let log = place.open(AuditMode::BestEffort);
    eventually(|| place.checkpoints().len() == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(place.checkpoints().len(), 1);
    log.close();
    assert_eq!(place.checkpoints().len(), 2);
}

#[test]
fn the_tree_goes_on_over_restarts_and_rotations() {
    for mode in MODES {
        let place = Place::new();
        let (log, old, older) = (place.log(), place.path("audit.jsonl.1"), place.path("audit.jsonl.2"));
        for round in 0..6 {
            let logger = place.open(mode);
            for n in 0..50 {
                logger.record(entry(&format!("{round}/{n}"))).unwrap();
            }
            if round == 1 {
                // While the server runs.
                eventually(|| check(&log).records >= 103);
                fs::rename(&log, &older).unwrap();
                eventually(|| {
                    logger.record(entry("more")).unwrap();
                    fs::metadata(&log).is_ok_and(|meta| meta.len() > 0)
                });
            }
            logger.close();
            assert_eq!(logger.checkpoints().unwrap().error, None);
            if round == 3 {
                // While it does not.
                fs::rename(&log, &old).unwrap();
            }
            if round == 4 {
                // Not needed, only faster: without it the file is read again.
                let tree = fs::read_to_string(place.path("audit.jsonl.tree")).unwrap();
                let offset = tree.split("\"offset\":").nth(1).unwrap().split(',').next().unwrap();
                let moved = tree.replace(&format!("\"offset\":{offset}"), "\"offset\":7");
                fs::write(place.path("audit.jsonl.tree"), moved).unwrap();
            }
        }
        let report = place.verify(&[&older, &old, &log]).unwrap();
        let signed = report.signed.unwrap();
        assert_eq!((signed.roots, signed.before), (signed.checked, 0));
        assert_eq!(place.checkpoints().last().unwrap().size, report.records, "{mode:?}");
        // The newest file alone: its checkpoints' hashes are looked at, the tree cannot be computed.
        let alone = place.verify(&[&log]).unwrap().signed.unwrap();
        assert!(alone.checked > 0 && alone.roots == 0 && alone.before > 0, "{alone:?}");
    }
}

#[test]
fn an_end_that_was_cut_while_nobody_wrote_is_a_gap_and_a_fault() {
    for mode in MODES {
        let place = Place::new();
        let log = place.open(mode);
        (0..20).for_each(|n| log.record(entry(&n.to_string())).unwrap());
        log.close();
        let text = fs::read_to_string(place.log()).unwrap();
        let kept: Vec<&str> = text.split_inclusive('\n').take(9).collect();
        fs::write(place.log(), kept.concat()).unwrap();
        let log = place.open(mode);
        log.record(entry("after")).unwrap();
        log.close();
        let noted = gaps(&place.log());
        assert_eq!(
            noted,
            ["missed 13 (seq 10 to 22); unreadable lines 0; refused requests 0; sink audit.jsonl"]
        );
        let Err(VerifyError::Bad { fault, .. }) = place.verify(&[&place.log()]) else { panic!("{mode:?}") };
        assert!(matches!(fault, Fault::CheckpointAbsent { .. }), "{fault:?}");
    }
}

#[test]
fn checkpoints_may_begin_later_than_the_log() {
    let place = Place::new();
    let plain = open(AuditMode::Required, &[&place.log()]);
    (0..20).for_each(|n| plain.record(entry(&n.to_string())).unwrap());
    plain.close();
    let log = place.open(AuditMode::Required);
    log.close();
    assert_eq!(place.checkpoints().last().unwrap().size, 24);
    place.verify(&[&place.log()]).unwrap();
}

#[test]
fn a_new_key_follows_on_the_old_one_only_by_its_word() {
    let mut place = Place::new();
    place.open(AuditMode::BestEffort).close();
    let (old, new) = (Arc::clone(&place.key), key());

    let with = |place: &Place, previous: Option<&Arc<SigningKey>>| {
        let mut options = place.options(AuditMode::BestEffort);
        options.checkpoints.as_mut().unwrap().previous = previous.map(Arc::clone);
        AuditLogger::open(options)
    };
    place.key = Arc::clone(&new);
    for previous in [None, Some(&key()), Some(&new)] {
        assert!(matches!(with(&place, previous), Err(AuditError::Checkpoints { .. })));
    }
    let records = check(&place.log()).records;
    assert_eq!(records, 2, "a start that is refused writes nothing");
    with(&place, Some(&old)).unwrap().close();
    // The old key is no longer needed, and does no harm.
    with(&place, None).unwrap().close();
    with(&place, Some(&old)).unwrap().close();

    place.key = old;
    let series = place.series();
    let keys: Vec<_> = series.keys().iter().map(|range| range.key).collect();
    assert_eq!(keys, [place.key.verify_key(), new.verify_key()]);
    assert!(series.keys()[0].to <= series.keys()[1].from);
    place.verify(&[&place.log()]).unwrap();
    let told = lines(&place.log());
    let changes: Vec<_> = told.iter().filter(|record| record["event"] == "security.config_change").collect();
    assert_eq!((changes.len(), &changes[0]["action"]), (1, &"audit_signing_key".into()));
}

#[test]
fn another_name_needs_another_log() {
    let place = Place::new();
    place.open(AuditMode::BestEffort).close();
    let mut options = place.options(AuditMode::BestEffort);
    options.checkpoints.as_mut().unwrap().origin = "other".into();
    assert!(matches!(AuditLogger::open(options), Err(AuditError::Checkpoints { .. })));
    let mut options = place.options(AuditMode::BestEffort);
    options.sinks = vec![AuditSink::Stdout];
    assert!(matches!(AuditLogger::open(options), Err(AuditError::Checkpoints { .. })));
}

#[test]
fn nothing_is_signed_that_is_not_what_was_written() {
    for mode in MODES {
        for (from, to) in [("\"truth\"", "\"wrong\""), ("\"sound\"", "\"other\"")] {
            let place = Place::new();
            let mut options = place.options(mode);
            // Nothing is signed between the edit and the end.
            options.checkpoints.as_mut().unwrap().every = Duration::from_secs(600);
            let log = AuditLogger::open(options).unwrap();
            eventually(|| place.checkpoints().len() == 1);
            log.record(entry("truth")).unwrap();
            log.record(entry("sound")).unwrap();
            eventually(|| check(&place.log()).records == 3);
            // In place, with the same length, with a hash that fits or not.
            let text = fs::read_to_string(place.log()).unwrap().replace(from, to);
            let mut file = fs::OpenOptions::new().write(true).open(place.log()).unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            log.close();
            assert_eq!(place.checkpoints().len(), 1, "{mode:?}");
            let error = log.checkpoints().unwrap().error.unwrap();
            assert!(error.contains("not as it was written"), "{error}");
        }
    }
}

#[test]
fn a_rewrite_while_nobody_looks_is_not_signed_after_the_restart() {
    let place = Place::new();
    let log = place.open(AuditMode::Required);
    log.record(entry("truth")).unwrap();
    log.close();
    fs::remove_file(place.log()).unwrap();
    let forged = open(AuditMode::Required, &[&place.log()]);
    forged.record(entry("forged")).unwrap();
    forged.close();
    let log = place.open(AuditMode::Required);
    log.record(entry("more")).unwrap();
    eventually(|| log.checkpoints().unwrap().error.is_some());
    log.close();
    assert_eq!(place.checkpoints().last().unwrap().head.seq, 3);
}
