//! How what attempts printed is stored: in rows of some texts each, so that no row grows with how much one write brings.

use super::codec::to_json;
use super::fault::Fault;
use crate::records::StepLog;

/// Bytes after which a row is full.
const ROW_BYTES: usize = 1 << 20;
/// Longest text that is kept, in bytes. As JSON it has at most six times as many, which a row can hold.
const LONGEST: usize = 32 << 20;
/// What stands in place of the part that a longer text lacks.
const NOTE: &str =
    "[the beginning was left out: the store keeps the last 32 MiB of what an attempt printed]\n";

/// The rows for what attempts printed: JSON arrays. A run is never refused for what it printed.
pub(super) fn rows(logs: Vec<StepLog>) -> Result<Vec<Vec<u8>>, Fault> {
    let mut rows: Vec<Vec<u8>> = Vec::new();
    for mut log in logs {
        cut(&mut log.text);
        let json = to_json(&log)?;
        match rows.last_mut().filter(|row| row.len() < ROW_BYTES) {
            Some(row) => row.push(b','),
            None => rows.push(vec![b'[']),
        }
        rows.last_mut().into_iter().for_each(|row| row.extend_from_slice(&json));
    }
    rows.iter_mut().for_each(|row| row.push(b']'));
    Ok(rows)
}

fn cut(text: &mut String) {
    let over = text.len().saturating_sub(LONGEST);
    if over > 0 {
        let end = text.ceil_char_boundary(over);
        text.replace_range(..end, NOTE);
    }
}
