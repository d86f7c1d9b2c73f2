use std::io::Cursor;

use jiff::Timestamp;

use super::super::chain::seal;
use super::super::entry::AuditEntry;
use super::super::event::Outcome;
use super::*;

/// A log of `count` records, one line each.
fn log(count: u64) -> Vec<String> {
    extend(Vec::new(), Checkpoint::GENESIS, count, "x")
}

fn extend(mut lines: Vec<String>, mut at: Checkpoint, count: u64, detail: &str) -> Vec<String> {
    for _ in 0..count {
        let entry = AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success).detail(detail.to_owned());
        let time = Timestamp::from_second(1_000_000 + at.seq as i64).unwrap();
        let line = seal(&entry, time, at).unwrap();
        lines.push(String::from_utf8(line.bytes).unwrap());
        at = line.at;
    }
    lines
}

fn run(lines: &[String], options: &VerifyOptions) -> Result<VerifyReport, (u64, Option<u64>, Fault)> {
    match verify_with(Cursor::new(lines.concat()), options) {
        Ok(report) => Ok(report),
        Err(VerifyError::Bad { line, seq, fault, .. }) => Err((line, seq, fault)),
        Err(error) => panic!("{error}"),
    }
}

fn bad(lines: &[String]) -> (u64, Option<u64>, Fault) {
    run(lines, &VerifyOptions::default()).unwrap_err()
}

#[test]
fn a_sound_log_passes() {
    let report = run(&log(20), &VerifyOptions::default()).unwrap();
    assert_eq!((report.records, report.first_seq, report.clock_steps_back), (20, Some(1), 0));
    assert_eq!(report.last.map(|l| l.seq), Some(20));
    assert_eq!(run(&[], &VerifyOptions::default()).unwrap().records, 0);
}

#[test]
fn an_edit_is_named() {
    for at in [0, 7, 19] {
        let mut lines = log(20);
        lines[at] = lines[at].replace("\"x\"", "\"y\"");
        let seq = at as u64 + 1;
        assert_eq!(bad(&lines), (seq, Some(seq), Fault::Edited { seq }));
    }
}

#[test]
fn an_edit_with_a_new_hash_breaks_the_next_link() {
    let mut lines = log(20);
    let before = run(&lines[..7], &VerifyOptions::default()).unwrap().last.unwrap();
    lines[7] = extend(Vec::new(), before, 1, "forged").remove(0);
    assert_eq!(bad(&lines), (9, Some(9), Fault::Broken { seq: 9 }));
}

#[test]
fn a_removal_is_named() {
    let mut lines = log(20);
    lines.drain(7..9);
    assert_eq!(bad(&lines), (8, Some(8), Fault::Removed { first: 8, last: 9 }));
    let lines = log(20).split_off(5);
    assert_eq!(bad(&lines), (1, Some(1), Fault::Removed { first: 1, last: 5 }));
}

#[test]
fn a_swap_or_a_copy_is_named() {
    let mut lines = log(20);
    lines.swap(7, 12);
    assert_eq!(bad(&lines), (8, Some(13), Fault::Reordered { expected: 8, found: 13 }));
    let mut lines = log(20);
    lines.insert(9, lines[3].clone());
    assert_eq!(bad(&lines), (10, Some(4), Fault::Reordered { expected: 10, found: 4 }));
}

#[test]
fn a_cut_end_shows_against_a_checkpoint_only() {
    let lines = log(20);
    let last = run(&lines, &VerifyOptions::default()).unwrap().last;
    let options = VerifyOptions { checkpoint: last, ..VerifyOptions::default() };
    assert!(run(&lines, &options).is_ok());
    assert!(run(&lines[..15], &VerifyOptions::default()).is_ok());
    assert_eq!(run(&lines[..15], &options).unwrap_err().2, Fault::Truncated { last: 15, checkpoint: 20 });
    assert_eq!(run(&[], &options).unwrap_err().2, Fault::Truncated { last: 0, checkpoint: 20 });
}

#[test]
fn a_log_written_anew_shows_against_a_checkpoint() {
    let kept = run(&log(15), &VerifyOptions::default()).unwrap().last;
    let forged = extend(Vec::new(), Checkpoint::GENESIS, 20, "forged");
    assert!(run(&forged, &VerifyOptions::default()).is_ok());
    let (line, seq, fault) =
        run(&forged, &VerifyOptions { checkpoint: kept, ..VerifyOptions::default() }).unwrap_err();
    assert_eq!((line, seq, fault), (15, Some(15), Fault::Rewritten { seq: 15 }));
}

#[test]
fn a_fork_does_not_pass() {
    let lines = log(10);
    let fork_at = run(&lines[..5], &VerifyOptions::default()).unwrap().last.unwrap();
    let mut forked = lines.clone();
    forked.extend(extend(Vec::new(), fork_at, 3, "fork"));
    assert_eq!(bad(&forked).2, Fault::Reordered { expected: 11, found: 6 });
}

#[test]
fn a_rotated_file_is_checked_against_the_one_before() {
    let lines = log(20);
    let after = run(&lines[..10], &VerifyOptions::default()).unwrap().last;
    let options = VerifyOptions { after, ..VerifyOptions::default() };
    assert_eq!(run(&lines[10..], &options).unwrap().first_seq, Some(11));
    assert_eq!(run(&lines[11..], &options).unwrap_err().2, Fault::Removed { first: 11, last: 11 });
    let first = run(&lines[..1], &VerifyOptions::default()).unwrap().last;
    let options = VerifyOptions { after, checkpoint: first, ..VerifyOptions::default() };
    assert_eq!(run(&lines[10..], &options).unwrap_err().2, Fault::CheckpointAbsent { seq: 1 });
}

#[test]
fn unreadable_lines_need_their_gap_record() {
    let mut lines = log(20);
    lines[7] = "garbage\n".into();
    assert_eq!(bad(&lines), (8, None, Fault::Unreadable));
    let mut lines = log(20);
    lines.insert(7, "\n".into());
    assert_eq!(bad(&lines), (8, None, Fault::Unreadable));
    let mut lines = log(3);
    let cut = lines[2].len() / 2;
    lines[2].truncate(cut);
    assert_eq!(bad(&lines), (3, None, Fault::Torn));
    lines[2].push('\n');
    assert_eq!(bad(&lines), (3, None, Fault::Unreadable));
    // Garbage before an edit comes first.
    let mut lines = log(5);
    lines[3] = lines[3].replace("\"x\"", "\"y\"");
    lines.insert(3, "garbage\n".into());
    assert_eq!(bad(&lines), (4, None, Fault::Unreadable));
}

/// A log that says of itself, in each record, that something is missing: sound, and made to be large in memory.
#[test]
fn gaps_are_kept_up_to_a_bound_and_counted_beyond() {
    let gaps = |count: u64, detail: &str| {
        let (mut lines, mut at) = (Vec::new(), Checkpoint::GENESIS);
        for _ in 0..count {
            let entry = AuditEntry::new(AuditEvent::AuditGap, Outcome::Failure).detail(detail.to_owned());
            let line = seal(&entry, Timestamp::UNIX_EPOCH, at).unwrap();
            lines.push(String::from_utf8(line.bytes).unwrap());
            at = line.at;
        }
        run(&lines, &VerifyOptions::default()).unwrap()
    };
    let few = gaps(3, "x");
    assert_eq!((few.gaps.len(), few.gap_records, few.gaps[2].seq), (3, 3, 3));
    let many = gaps(2 * GAPS_KEPT as u64, "missed 0; unreadable lines 0; refused requests 9; sink all");
    assert_eq!((many.gaps.len(), many.gap_records, many.records), (GAPS_KEPT, 2_000, 2_000));
    assert_eq!(many.gaps.last().map(|gap| gap.seq), Some(GAPS_KEPT as u64), "the first are kept");
    let long = gaps(200, &"x".repeat(30_000));
    let kept: usize = long.gaps.iter().map(|gap| gap.detail.len()).sum();
    assert!((1..=1 << 20).contains(&kept) && long.gap_records == 200, "{kept} bytes");
}

#[test]
fn a_giant_line_is_passed_in_little_memory() {
    let mut lines = log(3);
    lines.insert(1, format!("{}\n", "z".repeat(5_000_000)));
    assert_eq!(bad(&lines), (2, None, Fault::Unreadable));
    let mut reader = Cursor::new(lines.concat());
    next_line(&mut reader).unwrap();
    assert!(next_line(&mut reader).unwrap().unwrap().len() < 2_000_000);
}

#[test]
fn a_clock_that_steps_back_is_counted_not_blamed() {
    let mut at = Checkpoint::GENESIS;
    let mut lines = Vec::new();
    for second in [10, 20, 5, 30] {
        let entry = AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success);
        let time = Timestamp::from_second(second).unwrap();
        let line = seal(&entry, time, at).unwrap();
        lines.push(String::from_utf8(line.bytes).unwrap());
        at = line.at;
    }
    assert_eq!(run(&lines, &VerifyOptions::default()).unwrap().clock_steps_back, 1);
}
