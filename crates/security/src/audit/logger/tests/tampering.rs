//! Section C.6 of the checklist: every way to change a log, and the record that the verifier names.

use super::super::super::chain::{Line, seal};
use super::super::super::series::{SeriesFault, SignedSeries};
use super::super::super::signed::SignedCheckpoint;
use super::super::super::verify::{Fault, VerifyError};
use super::checkpoints::{Place, key};
use super::*;

/// A sealed log of `count` records, from `before` on.
fn sealed(before: Checkpoint, count: u64, detail: &str) -> Vec<String> {
    let mut at = before;
    let mut lines = Vec::new();
    for _ in 0..count {
        let entry = entry(detail);
        let Line { at: next, bytes } = seal(&entry, jiff::Timestamp::UNIX_EPOCH, at).unwrap();
        lines.push(String::from_utf8(bytes).unwrap());
        at = next;
    }
    lines
}

/// A log with checkpoints after the records 2 to 32, and its lines.
fn signed_log() -> (Place, Vec<String>) {
    let place = Place::new();
    let log = place.open(AuditMode::Required);
    for n in 1..=30u64 {
        log.record(entry(&format!("entry {n}"))).unwrap();
        if n % 10 == 0 {
            eventually(|| place.checkpoints().last().is_some_and(|last| last.head.seq == n + 1));
        }
    }
    log.close();
    let text = fs::read_to_string(place.log()).unwrap();
    let lines = text.split_inclusive('\n').map(str::to_owned).collect();
    (place, lines)
}

fn fault(place: &Place, lines: &[String]) -> (Option<u64>, Fault) {
    fs::write(place.log(), lines.concat()).unwrap();
    match place.verify(&[&place.log()]) {
        Err(VerifyError::Bad { seq, fault, .. }) => (seq, fault),
        other => panic!("{other:?}"),
    }
}

fn at(line: &str) -> Checkpoint {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    format!("{}:{}", value["seq"], value["hash"].as_str().unwrap()).parse().unwrap()
}

#[test]
fn each_tampering_is_named_with_its_first_bad_record() {
    let (place, lines) = signed_log();
    place.verify(&[&place.log()]).unwrap();

    let mut edited = lines.clone();
    edited[7] = edited[7].replace("entry 7", "entry 8");
    assert_eq!(fault(&place, &edited), (Some(8), Fault::Edited { seq: 8 }));

    let mut removed = lines.clone();
    removed.remove(7);
    assert_eq!(fault(&place, &removed), (Some(8), Fault::Removed { first: 8, last: 8 }));

    let mut reordered = lines.clone();
    reordered.swap(7, 8);
    assert_eq!(fault(&place, &reordered), (Some(9), Fault::Reordered { expected: 8, found: 9 }));

    assert_eq!(fault(&place, &lines[..20]), (Some(32), Fault::Truncated { last: 20, checkpoint: 32 }));

    let mut forked = lines.clone();
    forked.extend(sealed(at(&lines[19]), 3, "fork"));
    assert_eq!(fault(&place, &forked), (Some(21), Fault::Reordered { expected: 33, found: 21 }));

    // The end written anew, every hash valid.
    let resealed = [&lines[..20], &sealed(at(&lines[19]), 12, "forged")].concat();
    let (seq, found) = fault(&place, &resealed);
    let Fault::Resealed { from, seq: checkpoint } = found else { panic!("{found:?}") };
    assert_eq!(seq, Some(checkpoint));
    assert!(from <= 21 && checkpoint >= 21, "{from} {checkpoint}");

    // All of it written anew.
    let (_, found) = fault(&place, &sealed(Checkpoint::GENESIS, 40, "forged"));
    assert!(matches!(found, Fault::Resealed { from: 1, .. }), "{found:?}");

    // Cut at the front, with a gap record that pretends to explain it.
    let note = "missed 40 (seq 1 to 40); unreadable lines 0; refused requests 0; sink audit.jsonl";
    let gap = AuditEntry::new(AuditEvent::AuditGap, Outcome::Failure).detail(note);
    let gap = seal(&gap, jiff::Timestamp::UNIX_EPOCH, Checkpoint { seq: 40, hash: [7; 32] }).unwrap();
    let (_, found) = fault(&place, &[String::from_utf8(gap.bytes).unwrap()]);
    assert_eq!(found, Fault::CheckpointAbsent { seq: 32 });
}

/// CVE-2023-31439: everything written and signed anew with a newer key, which was stolen.
#[test]
fn a_newer_key_does_not_make_a_rewrite_good() {
    let (mut place, _) = signed_log();
    let (old, new) = (Arc::clone(&place.key), key());
    place.key = Arc::clone(&new);
    let mut options = place.options(AuditMode::Required);
    options.checkpoints.as_mut().unwrap().previous = Some(Arc::clone(&old));
    AuditLogger::open(options).unwrap().close();
    place.key = Arc::clone(&old);
    place.verify(&[&place.log()]).unwrap();
    let genuine = fs::read_to_string(place.path("checkpoints.jsonl")).unwrap();
    let handover = genuine.lines().position(|line| line.contains("\"successor\"")).unwrap();

    // The attacker has the newer key, rewrites the log and signs it in a log of its own.
    let theirs = Place { folder: tempfile::tempdir().unwrap(), key: new };
    let log = theirs.open(AuditMode::Required);
    (0..60).for_each(|_| log.record(entry("forged")).unwrap());
    log.close();
    fs::copy(theirs.log(), place.log()).unwrap();
    let forged = fs::read_to_string(theirs.path("checkpoints.jsonl")).unwrap();
    let series = |text: &str| SignedSeries::check(text, old.verify_key());

    // Alone, the newer key was never named.
    assert_eq!(series(&forged).unwrap_err().fault, SeriesFault::Signature);
    // Before the handover it was not its turn.
    let first: Vec<&str> = genuine.lines().take(1).chain(forged.lines()).collect();
    assert_eq!(series(&first.join("\n")).unwrap_err().fault, SeriesFault::Signature);
    // After the genuine handover its series is in order, and the rewritten log contradicts the older key's.
    let kept: Vec<&str> = genuine.lines().take(handover + 1).collect();
    let last = forged.lines().last().unwrap();
    let size = SignedCheckpoint::from_json(last).unwrap().size;
    assert!(size > SignedCheckpoint::from_json(kept[handover]).unwrap().size);
    fs::write(place.path("checkpoints.jsonl"), [kept.join("\n").as_str(), last].join("\n")).unwrap();
    assert!(series(&fs::read_to_string(place.path("checkpoints.jsonl")).unwrap()).is_ok());
    match place.verify(&[&place.log()]) {
        Err(VerifyError::Bad { fault: Fault::Resealed { from: 1, .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
}
