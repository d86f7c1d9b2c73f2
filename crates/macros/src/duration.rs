//! Durations as pipeline files write them.

/// Longest duration: 10,000 days.
const MAX_MILLIS: f64 = 10_000.0 * 86_400e3;

/// Milliseconds of a text such as `500ms`, `30s` or `1h30m`: numbers with units, largest first. The rules are those
/// of `taskiq_flow_core::time::parse_duration`, which compile-time code must not depend on.
pub(crate) fn millis(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 5] = [("d", 86_400e3), ("h", 3_600e3), ("ms", 1.0), ("m", 60e3), ("s", 1e3)];
    let mut rest = text.trim();
    let mut millis = 0.0;
    let mut smaller_than = f64::INFINITY;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, size) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        if size >= smaller_than {
            return None;
        }
        smaller_than = size;
        millis += number * size;
        rest = &rest[unit.len()..];
    }
    // The bound keeps the number within 64 bits.
    (millis <= MAX_MILLIS).then(|| millis.round() as u64)
}
