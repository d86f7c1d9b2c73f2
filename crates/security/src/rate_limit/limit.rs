//! The text of a limit (`60/minute`) and what it means.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most limits one text may join.
pub(super) const MAX_PARTS: usize = 8;
/// Longest period: 366 days.
const MAX_PERIOD_SECONDS: u64 = 366 * 24 * 60 * 60;
/// Fastest refill: one request a microsecond, the resolution of a shared storage's clock.
const MAX_PER_SECOND: u64 = 1_000_000;

/// How many requests a bucket allows: one or several quotas that must all agree.
///
/// Written `N/unit`, `N per unit` or `N/M unit`, the unit being second, minute, hour or day (a plural is
/// fine), several joined by `;`:
///
/// ```
/// use taskiq_flow_security::rate_limit::Limit;
///
/// let limit: Limit = "10 per second; 100/5 minutes".parse()?;
/// assert_eq!(limit.to_string(), "10/second;100/5 minute");
/// assert!("ten a minute".parse::<Limit>().is_err());
/// # Ok::<(), taskiq_flow_security::rate_limit::LimitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Limit {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    count: u64,
    units: u64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// One quota in the terms of the algorithm: a burst, and the time one request takes to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    burst: u64,
    period: Duration,
}

/// Why a text is no limit. Each message says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// There is nothing in the text, or between two `;`.
    #[error("a limit is empty; expected \"N/unit\", for example \"100/minute\"")]
    Empty,
    /// The shape is not `N/unit`, `N per unit` or `N/M unit`.
    #[error(
        "\"{0}\" is no limit; expected \"N/unit\", \"N per unit\" or \"N/M unit\", for example \"100/minute\" or \"20/5 minutes\""
    )]
    Shape(String),
    /// A number does not fit or is zero.
    #[error("\"{0}\" in a limit is no whole number of at least 1")]
    Number(String),
    /// The unit is none of the four.
    #[error("\"{0}\" is no unit of a limit; expected second, minute, hour or day")]
    Unit(String),
    /// The period is longer than 366 days.
    #[error("\"{0}\" has a period of more than 366 days; expected a shorter one")]
    Period(String),
    /// The rate is above a million a second.
    #[error("\"{0}\" is more than 1000000 requests a second; expected fewer")]
    Rate(String),
    /// Two parts speak about the same period.
    #[error("two limits of \"{0}\" have the same period; keep the smaller one")]
    SamePeriod(String),
    /// Too many parts.
    #[error("a limit joins more than 8 parts; expected at most 8")]
    TooMany,
}

impl Limit {
    /// The quotas, in the order they were written. Never empty.
    pub fn quotas(&self) -> impl ExactSizeIterator<Item = Quota> + '_ {
        self.parts.iter().map(Part::quota)
    }

    /// `count` requests a minute; a zero counts as one.
    pub(crate) fn per_minute(count: u64) -> Self {
        let part = Part { count: count.max(1), units: 1, unit: Unit::Minute };
        Self { parts: vec![part] }
    }
}

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts: Vec<Part> = Vec::new();
        for piece in text.split(';') {
            if parts.len() == MAX_PARTS {
                return Err(LimitError::TooMany);
            }
            let part = Part::parse(piece)?;
            if parts.iter().any(|p| p.seconds() == part.seconds()) {
                return Err(LimitError::SamePeriod(shown(text)));
            }
            parts.push(part);
        }
        Ok(Self { parts })
    }
}

impl TryFrom<String> for Limit {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        limit.to_string()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                f.write_str(";")?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

impl Part {
    fn parse(piece: &str) -> Result<Self, LimitError> {
        let piece = piece.trim();
        if piece.is_empty() {
            return Err(LimitError::Empty);
        }
        let lower = piece.to_ascii_lowercase();
        let (count, period) = match lower.split_once('/') {
            Some(halves) => halves,
            None => lower.split_once(" per ").ok_or_else(|| LimitError::Shape(shown(piece)))?,
        };
        let count = number(count.trim())?;
        let period = period.trim();
        let digits = period.find(|c: char| !c.is_ascii_digit()).unwrap_or(period.len());
        let (units, unit) = period.split_at(digits);
        let units = if units.is_empty() { 1 } else { number(units)? };
        let part = Self { count, units, unit: unit.trim().parse()? };
        match units.checked_mul(part.unit.seconds()) {
            Some(seconds) if seconds <= MAX_PERIOD_SECONDS => {
                if count.div_ceil(seconds) > MAX_PER_SECOND {
                    return Err(LimitError::Rate(shown(piece)));
                }
                Ok(part)
            }
            _ => Err(LimitError::Period(shown(piece))),
        }
    }

    fn seconds(&self) -> u64 {
        self.units.saturating_mul(self.unit.seconds())
    }

    fn quota(&self) -> Quota {
        Quota { burst: self.count, period: Duration::from_secs(self.seconds()) }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.units {
            1 => write!(f, "{}/{}", self.count, self.unit.name()),
            units => write!(f, "{}/{} {}", self.count, units, self.unit.name()),
        }
    }
}

impl Unit {
    fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl FromStr for Unit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('s').unwrap_or(text) {
            "second" => Ok(Self::Second),
            "minute" => Ok(Self::Minute),
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err(LimitError::Unit(shown(text))),
        }
    }
}

impl Quota {
    /// `burst` requests at once, all of them back after `period`. `None` when either is zero, when a request
    /// would come back in less than a nanosecond, or when the period is longer than 366 days.
    pub fn new(burst: u64, period: Duration) -> Option<Self> {
        let fits = burst > 0
            && u128::from(burst) <= period.as_nanos()
            && period <= Duration::from_secs(MAX_PERIOD_SECONDS);
        fits.then_some(Self { burst, period })
    }

    /// Requests a full bucket allows at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Time in which an empty bucket is full again.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Nanoseconds one request takes to come back, rounded up: never more than `burst` in a period.
    pub(crate) fn emission_ns(&self) -> u64 {
        // A period is at most 366 days, 3.2e16 ns, so it fits.
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX).div_ceil(self.burst)
    }

    /// Nanoseconds of arrivals a full bucket holds: `burst` whole emissions, so that rounding costs nobody a
    /// request.
    pub(crate) fn tolerance_ns(&self) -> u64 {
        self.emission_ns().saturating_mul(self.burst)
    }
}

fn number(text: &str) -> Result<u64, LimitError> {
    match text.parse() {
        // `parse` would take a leading plus sign.
        Ok(n) if n > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => Err(LimitError::Number(shown(text))),
    }
}

/// At most 60 characters of what was written, harmless in a message.
fn shown(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quotas(text: &str) -> Vec<(u64, u64)> {
        text.parse::<Limit>().unwrap().quotas().map(|q| (q.burst(), q.period().as_secs())).collect()
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(quotas("100/minute"), [(100, 60)]);
        assert_eq!(quotas("100 per minute"), [(100, 60)]);
        assert_eq!(quotas("5 PER 2 Hours"), [(5, 7200)]);
        assert_eq!(quotas(" 20 / 5 minutes "), [(20, 300)]);
        assert_eq!(quotas("20/5minute"), [(20, 300)]);
        assert_eq!(quotas("1/day"), [(1, 86400)]);
        assert_eq!(quotas("10/second; 100/minute ;1000 per hour"), [(10, 1), (100, 60), (1000, 3600)]);
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = |text: &str| text.parse::<Limit>().unwrap_err();
        assert_eq!(wrong(""), LimitError::Empty);
        assert_eq!(wrong("1/second;"), LimitError::Empty);
        assert_eq!(wrong("100"), LimitError::Shape("100".into()));
        assert_eq!(wrong("0/minute"), LimitError::Number("0".into()));
        assert_eq!(wrong("+5/minute"), LimitError::Number("+5".into()));
        assert_eq!(wrong("-5/minute"), LimitError::Number("-5".into()));
        assert_eq!(wrong("5/0 minute"), LimitError::Number("0".into()));
        assert_eq!(wrong("99999999999999999999/day"), LimitError::Number("99999999999999999999".into()));
        assert_eq!(wrong("5/month"), LimitError::Unit("month".into()));
        assert_eq!(wrong("5/"), LimitError::Unit(String::new()));
        assert_eq!(wrong("5/minutess"), LimitError::Unit("minutess".into()));
        assert_eq!(wrong("5/367 days"), LimitError::Period("5/367 days".into()));
        assert_eq!(
            wrong("5/18446744073709551615 days"),
            LimitError::Period("5/18446744073709551615 days".into())
        );
        assert_eq!(wrong("1000001/second"), LimitError::Rate("1000001/second".into()));
        assert!(matches!(wrong("10/minute;20/60 seconds"), LimitError::SamePeriod(_)));
        let many = (1..=9).map(|n| format!("1/{n} hour")).collect::<Vec<_>>().join(";");
        assert_eq!(wrong(&many), LimitError::TooMany);
        assert!(wrong("5/month").to_string().contains("second, minute, hour or day"));
    }

    #[test]
    fn is_text_in_a_file() {
        let limit: Limit = serde_json::from_str("\"7/second\"").unwrap();
        assert_eq!(serde_json::to_string(&limit).unwrap(), "\"7/second\"");
        assert!(serde_json::from_str::<Limit>("\"7/lightyear\"").is_err());
    }

    #[test]
    fn a_quota_is_never_impossible() {
        assert!(Quota::new(0, Duration::from_secs(1)).is_none());
        assert!(Quota::new(1, Duration::ZERO).is_none());
        assert!(Quota::new(11, Duration::from_nanos(10)).is_none());
        let seven = Quota::new(7, Duration::from_secs(1)).unwrap();
        assert_eq!(seven.emission_ns(), 142_857_143);
        assert_eq!(seven.tolerance_ns(), 7 * 142_857_143);
    }

    proptest! {
        #[test]
        fn display_reads_back(count in 1u64..1_000_000, units in 1u64..366, unit in "(second|minute|hour|day)s?") {
            let limit: Limit = format!("{count}/{units} {unit}").parse().unwrap();
            prop_assert_eq!(limit.to_string().parse::<Limit>().unwrap(), limit);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Limit>();
        }
    }
}
