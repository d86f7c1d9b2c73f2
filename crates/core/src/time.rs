//! Points in time and durations as users write and read them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time, UTC, kept to the millisecond. Serialised as RFC 3339 with three decimals.
///
/// ```
/// use taskiq_flow_core::time::Timestamp;
/// let t = Timestamp::from_millis(0).plus(std::time::Duration::from_millis(1500));
/// assert_eq!(t.to_string(), "1970-01-01T00:00:01.500Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The last millisecond that `jiff::Timestamp::from_millisecond` takes: it lies in the year 9999 in every time zone.
const MAX_MILLIS: i64 = 253_402_207_200_000;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration: write a number and a unit out of ms, s, m, h, d, such as 500ms, 30s or 1h30m"
)]
pub struct DurationError(String);

impl Timestamp {
    /// The last time there is: the end of the year 9999.
    pub const MAX: Self = Self(MAX_MILLIS);

    /// The time that is `millis` milliseconds after 1970-01-01T00:00:00Z, held within the years 1970 to 9999.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, MAX_MILLIS))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// What the system's clock says. Only the engine's clock and the edges call this: everything else is given the time.
    pub fn now() -> Self {
        Self::from_millis(jiff::Timestamp::now().as_millisecond())
    }

    /// This time and `duration` later; held at the end of the year 9999.
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(MAX_MILLIS);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This time and `duration` earlier; held at 1970.
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(MAX_MILLIS);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        Ok(Self::from_millis(text.parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Reads a duration as users write it: one or more numbers with a unit (`ms`, `s`, `m`, `h`, `d`), largest
/// first, such as `500ms`, `30s`, `1.5h` or `1h30m`; rounded to whole milliseconds, and at least one unless it is zero.
/// At most 10,000 days.
///
/// # Errors
/// [`DurationError`] when the text has another form or is longer than that.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    const UNITS: [(&str, f64); 5] = [("d", 86_400e3), ("h", 3_600e3), ("ms", 1.0), ("m", 60e3), ("s", 1e3)];
    const MAX: f64 = 10_000.0 * 86_400e3;
    let wrong = || DurationError(text.chars().take(64).collect());
    let mut rest = text.trim();
    let mut millis = 0.0;
    let mut smaller_than = f64::INFINITY;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let (unit, size) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(wrong)?;
        if size >= smaller_than {
            return Err(wrong());
        }
        smaller_than = size;
        millis += number * size;
        rest = &rest[unit.len()..];
    }
    if millis > MAX {
        return Err(wrong());
    }
    // What is not nothing must not become nothing.
    let least = u64::from(millis > 0.0);
    Ok(Duration::from_millis((millis.round() as u64).max(least)))
}

/// Writes a duration so that [`parse_duration`] reads it back: whole milliseconds, in the largest units that fit.
pub fn format_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= size {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    text
}

/// serde for a `Duration` field written as in [`parse_duration`]; use with `#[serde(with = "duration_text")]`.
pub mod duration_text {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, format_duration, parse_duration};

    /// Writes the duration as text.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*duration))
    }

    /// Reads the duration from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        parse_duration(&text).map_err(de::Error::custom)
    }
}

/// serde for an `Option<Duration>` field; use with `#[serde(default, with = "duration_text_opt")]`.
pub mod duration_text_opt {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, format_duration, parse_duration};

    /// Writes the duration as text, or null.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the duration from text, or none from null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<std::borrow::Cow<str>>::deserialize(deserializer)?;
        text.map(|text| parse_duration(&text).map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip_and_refuse_nonsense() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), ("24h", 86_400_000)]
        {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        }
        // As it is written is as it is kept.
        for (text, millis) in [("0.4ms", 1), ("1.184467s", 1_184), ("1.0006s", 1_001), ("0s", 0), ("0.0h", 0)]
        {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        }
        for bad in ["", "5", "s", "-5s", "1m1h", "1s1s", "1e3s", "..s", "5 minutes", "99999999d", "1é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_are_rfc_3339_to_the_millisecond() {
        let time: Timestamp = "2026-03-01T10:00:00.1239+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-03-01T09:00:00.123Z");
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-03-01T09:00:00.123Z\"");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-30T22:00:00.000Z");
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
    }
}
