//! Audit logs: whatever stands in the file.

use std::io::{Cursor, Seek, SeekFrom, Write};

use taskiq_flow_security::audit::{
    AuditFilter, Checkpoint, Leaves, Proof, SignedCheckpoint, VerifyOptions, read_records, verify,
    verify_with,
};

pub fn audit(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(checkpoint) = SignedCheckpoint::from_json(text) {
            assert_eq!(SignedCheckpoint::from_json(&checkpoint.to_json()), Ok(checkpoint));
        }
        if let Ok(proof) = serde_json::from_str::<Proof>(text) {
            let _ = proof.holds();
        }
    }
    if let Ok(leaves) = Leaves::read([Ok(data)], None)
        && leaves.size() > 0
    {
        assert!(leaves.prove_consistency(1, leaves.size()).is_ok_and(|proof| proof.holds()));
    }
    let found = verify(Cursor::new(data));
    if let Ok(report) = &found {
        let last = report.last;
        assert_eq!(report.records == 0, last.is_none());
        if let Some(last) = last {
            let known = VerifyOptions { checkpoint: Some(last), ..VerifyOptions::default() };
            assert!(verify_with(Cursor::new(data), &known).is_ok(), "its own checkpoint does not fit");
            let other = Checkpoint { seq: last.seq + 1, hash: last.hash };
            let cut = VerifyOptions { checkpoint: Some(other), ..VerifyOptions::default() };
            assert!(verify_with(Cursor::new(data), &cut).is_err(), "a cut end is not seen");
            assert_eq!(last.to_string().parse::<Checkpoint>().ok(), Some(last));
        }
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut filter = AuditFilter { limit: 7, ..AuditFilter::default() };
    let (mut records, mut unsound) = (0, 0);
    loop {
        let page = read_records(file.path(), &filter).unwrap();
        records += page.records.len() as u64;
        unsound += page.unsound_lines;
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    if let Ok(report) = found {
        assert_eq!(records, report.records, "verified records that are not read");
        assert!(unsound == 0 || !report.gaps.is_empty(), "{unsound} lines are passed over");
    }
}
