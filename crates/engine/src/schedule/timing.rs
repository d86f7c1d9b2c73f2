//! When a schedule fires next.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;
use taskiq_flow_core::definition::Timing;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::StoredTiming;

use crate::error::ScheduleError;

/// Shortest interval between two firings.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The first time after `after`; none: never again.
pub(super) fn next_fire(
    timing: &StoredTiming,
    timezone: &str,
    created_at: Timestamp,
    after: Timestamp,
) -> Result<Option<Timestamp>, ScheduleError> {
    match timing {
        StoredTiming::At(at) => Ok((*at > after).then_some(*at)),
        StoredTiming::Interval(interval) if *interval < MIN_INTERVAL => {
            Err(invalid("interval", "must be at least 1s"))
        }
        StoredTiming::Interval(interval) => {
            let interval = interval.as_millis().max(1);
            let passed = after.since(created_at).as_millis() / interval + 1;
            let millis = u64::try_from(passed.saturating_mul(interval)).unwrap_or(u64::MAX);
            Ok(Some(created_at.plus(Duration::from_millis(millis))))
        }
        StoredTiming::Cron(text) => {
            let zone = TimeZone::get(timezone).map_err(|_| {
                invalid("timezone", "is no IANA time zone; write one such as `Europe/Paris` or `UTC`")
            })?;
            let cron = parse_cron(text)?;
            let from = jiff::Timestamp::from_millisecond(after.as_millis()).unwrap_or(jiff::Timestamp::MAX);
            let next = cron.find_next_occurrence(&from.to_zoned(zone), false);
            Ok(next.ok().map(|next| Timestamp::from_millis(next.timestamp().as_millisecond())))
        }
    }
}

fn parse_cron(text: &str) -> Result<Cron, ScheduleError> {
    CronParser::builder().seconds(Seconds::Optional).build().parse(text).map_err(|error| {
        let example =
            "write 5 fields (minute hour day month weekday) or 6 (second first), such as `0 2 * * *`";
        invalid("cron", format!("`{text}`: {error}; {example}"))
    })
}

/// The timing of a definition as it is stored.
pub(super) fn stored(timing: &Timing) -> StoredTiming {
    match timing {
        Timing::Cron(text) => StoredTiming::Cron(text.clone()),
        Timing::Interval(interval) => StoredTiming::Interval(*interval),
        Timing::At(at) => StoredTiming::At(*at),
    }
}

pub(super) fn invalid(field: &'static str, message: impl Into<String>) -> ScheduleError {
    ScheduleError::Invalid { field, message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_str(text).unwrap()
    }

    fn next(timing: &StoredTiming, zone: &str, after: &str) -> Option<String> {
        next_fire(timing, zone, at("2026-01-01T00:00:00Z"), at(after)).unwrap().map(|time| time.to_string())
    }

    #[test]
    fn cron_is_read_in_its_zone_across_both_changes_of_the_clock() {
        let nightly = StoredTiming::Cron("30 2 * * *".to_owned());
        let paris = |after| next(&nightly, "Europe/Paris", after).unwrap();
        assert_eq!(paris("2026-03-27T12:00:00Z"), "2026-03-28T01:30:00.000Z");
        assert_eq!(
            paris("2026-03-28T12:00:00Z"),
            "2026-03-29T01:00:00.000Z",
            "02:30 does not exist: at 03:00"
        );
        assert_eq!(paris("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00.000Z", "the first 02:30 of two");
        assert_eq!(paris("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00.000Z", "and not the second");
    }

    #[test]
    fn cron_has_five_or_six_fields() {
        let seconds = StoredTiming::Cron("*/10 * * * * *".to_owned());
        assert_eq!(next(&seconds, "UTC", "2026-01-01T00:00:01Z").unwrap(), "2026-01-01T00:00:10.000Z");
        for bad in ["* * *", "61 * * * *", "x * * * *", ""] {
            let timing = StoredTiming::Cron(bad.to_owned());
            let error = next_fire(&timing, "UTC", at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
            assert!(error.unwrap_err().to_string().starts_with("cron: "), "{bad}");
        }
    }

    #[test]
    fn intervals_count_from_the_start_and_one_offs_fire_once() {
        let five = StoredTiming::Interval(Duration::from_secs(300));
        assert_eq!(next(&five, "UTC", "2026-01-01T00:07:00Z").unwrap(), "2026-01-01T00:10:00.000Z");
        assert_eq!(next(&five, "UTC", "2026-01-01T00:10:00Z").unwrap(), "2026-01-01T00:15:00.000Z");
        let once = StoredTiming::At(at("2026-02-01T00:00:00Z"));
        assert_eq!(next(&once, "UTC", "2026-01-31T00:00:00Z").unwrap(), "2026-02-01T00:00:00.000Z");
        assert_eq!(next(&once, "UTC", "2026-02-01T00:00:00Z"), None);
    }
}
