//! The times of a schedule.
//!
//! ```
//! use taskiq_flow_core::calendar::Calendar;
//! use taskiq_flow_core::definition::{ScheduleRules, Timing};
//!
//! let nightly = Timing::Cron("30 2 * * *".to_owned());
//! let made = "2026-03-01T00:00:00Z".parse().unwrap();
//! let calendar = Calendar::new(&nightly, "Europe/Paris", &ScheduleRules::default(), made).unwrap();
//! // On 29 March 2026 clocks in Paris go from 02:00 to 03:00: that night has no 02:30.
//! let next = calendar.after("2026-03-28T12:00:00Z".parse().unwrap()).unwrap();
//! assert_eq!(next.to_string(), "2026-03-29T01:00:00.000Z");
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;

use crate::definition::{CatchUp, Overlap, ScheduleRules, Timing};
use crate::time::Timestamp;

/// Shortest interval between two times.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// How late a time may be carried out that [`CatchUp::Skip`] would leave out.
pub const LATE: Duration = Duration::from_secs(60);

/// Times that [`CatchUp::All`] makes up for at most: the last ones.
pub const MOST_MISSED: usize = 1000;

/// First stretch of time that is looked through for the last times of a cron expression, for each of them.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(2);

/// The times of one schedule.
#[derive(Debug, Clone)]
pub struct Calendar {
    pattern: Pattern,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    jitter: Duration,
    catch_up: CatchUp,
}

/// A field that says what is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}; {help}")]
pub struct CalendarError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub help: &'static str,
}

/// Times that have come and wait to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The one to carry out now; none: all that have come are left out.
    pub fire: Option<Timestamp>,
    /// The first and the last of those before it that are left out; they may be the same.
    pub left_out: Option<(Timestamp, Timestamp)>,
}

#[derive(Debug, Clone)]
enum Pattern {
    Cron(Box<Cron>, TimeZone),
    /// The first time, and how many milliseconds lie between two.
    Every(Timestamp, i64),
    At(Timestamp),
}

impl Calendar {
    /// The times of a schedule that was made at `created_at`. Only a cron expression has need of the time zone.
    ///
    /// # Errors
    /// The first field that says what is not possible.
    pub fn new(
        timing: &Timing,
        timezone: &str,
        rules: &ScheduleRules,
        created_at: Timestamp,
    ) -> Result<Self, CalendarError> {
        let ScheduleRules { catch_up, overlap, jitter, from, until } = *rules;
        let pattern = match timing {
            Timing::At(at) => Pattern::At(*at),
            Timing::Interval(every) if *every < MIN_INTERVAL => {
                return Err(wrong("interval", "it must be at least 1s", "write `1s` or more"));
            }
            Timing::Interval(every) => {
                let millis = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
                Pattern::Every(from.unwrap_or_else(|| created_at.plus(*every)), millis)
            }
            Timing::Cron(text) => Pattern::Cron(Box::new(cron(text)?), zone(timezone)?),
        };
        if let (Pattern::At(_), true) = (&pattern, from.is_some() || until.is_some()) {
            let field = if from.is_some() { "from" } else { "until" };
            return Err(wrong(field, "a schedule that fires once has only its `at`", "leave it out"));
        }
        if from.zip(until).is_some_and(|(from, until)| from > until) {
            return Err(wrong("until", "it is before `from`", "write a later time"));
        }
        if overlap == Overlap::Queue && catch_up == CatchUp::Skip {
            let message = "`queue` makes times wait that `catch_up: skip` then leaves out";
            return Err(wrong("overlap", message, "use `overlap: skip`, or `catch_up: one` or `all`"));
        }
        Ok(Self { pattern, from, until, jitter: jitter.unwrap_or_default(), catch_up })
    }

    /// The first time after `after`; none: never again.
    pub fn after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = match self.from {
            Some(from) if from > after => just_before(from),
            _ => after,
        };
        self.pattern.after(after).filter(|time| self.until.is_none_or(|until| *time <= until))
    }

    /// The times from `from` to `to`, both included, in order.
    pub fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        let first = self.after_or_at(from);
        std::iter::successors(first, |time| self.after(*time)).take_while(move |time| *time <= to)
    }

    /// When the run of a time starts: at the time, or with jitter up to so long after it. The same schedule (`id`)
    /// starts it at the same moment whenever it is asked.
    pub fn start_of(&self, id: &str, time: Timestamp) -> Timestamp {
        if self.jitter.is_zero() {
            return time;
        }
        // Starts come in the order of their times.
        let gap = self.after(time).map_or(self.jitter, |next| next.since(time));
        let most = self.jitter.min(gap).as_millis();
        let share = (u128::from(spread(id, time)) * most) >> 64;
        time.plus(Duration::from_millis(u64::try_from(share).unwrap_or(0)))
    }

    /// What is to be done at `now` about the times from `first` on, which is the first that is not dealt with yet.
    /// None: it has not come.
    pub fn due(&self, id: &str, first: Timestamp, now: Timestamp) -> Option<Due> {
        self.due_with_rest(id, first, now).map(|(due, _)| due)
    }

    /// As [`Calendar::due`], with all the times that [`CatchUp::All`] makes up for, in order: the one to carry out now and
    /// those that follow it. They need not be looked up again for each of them.
    pub fn due_with_rest(
        &self,
        id: &str,
        first: Timestamp,
        now: Timestamp,
    ) -> Option<(Due, VecDeque<Timestamp>)> {
        if self.start_of(id, first) > now {
            return None;
        }
        let keep = if self.catch_up == CatchUp::All { MOST_MISSED } else { 1 };
        let mut come = self.newest(first, now, keep + 1);
        // The last one may be waiting for its start; the one before it has come.
        if come.back().is_some_and(|last| self.start_of(id, *last) > now) {
            come.pop_back();
        }
        let Some(&last) = come.back() else {
            // It was a time by an earlier reading of the calendar, before the rules of a time zone changed, say.
            return Some((Due { fire: None, left_out: Some((first, first)) }, VecDeque::new()));
        };
        let late = now.since(self.start_of(id, last));
        if self.catch_up == CatchUp::Skip && late > LATE {
            return Some((Due { fire: None, left_out: Some((first, last)) }, VecDeque::new()));
        }
        come.drain(..come.len().saturating_sub(keep));
        let fire = *come.front()?;
        let before = if fire > first { self.newest(first, just_before(fire), 1).pop_back() } else { None };
        if self.catch_up != CatchUp::All {
            // A later one takes its place as long as it waits.
            come.clear();
        }
        Some((Due { fire: Some(fire), left_out: before.map(|before| (first, before)) }, come))
    }

    fn after_or_at(&self, time: Timestamp) -> Option<Timestamp> {
        match time.as_millis() {
            // There is no time before the first.
            0 => self.pattern.is_at(time).then_some(time).or_else(|| self.after(time)),
            _ => self.after(just_before(time)),
        }
    }

    /// The last `most` times from `first`, which is one, to `to`; in order.
    fn newest(&self, first: Timestamp, to: Timestamp, most: usize) -> VecDeque<Timestamp> {
        let mut look_back = FIRST_LOOK_BACK * u32::try_from(most).unwrap_or(u32::MAX);
        loop {
            let back = i64::try_from(look_back.as_millis()).unwrap_or(i64::MAX);
            let start = Timestamp::from_millis(to.as_millis().saturating_sub(back)).max(first);
            let mut newest = VecDeque::new();
            for time in self.between(start, to) {
                if newest.len() == most {
                    newest.pop_front();
                }
                newest.push_back(time);
            }
            if newest.len() == most || start == first {
                return newest;
            }
            look_back = look_back.saturating_mul(8);
        }
    }
}

impl Pattern {
    fn after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(at) => (*at > after).then_some(*at),
            Self::Every(start, _) if after < *start => Some(*start),
            Self::Every(start, every) => {
                let passed = after.as_millis().saturating_sub(start.as_millis()) / every;
                let millis = passed.saturating_add(1).saturating_mul(*every);
                let next = start.plus(Duration::from_millis(u64::try_from(millis).ok()?));
                (next > after).then_some(next)
            }
            Self::Cron(cron, zone) => {
                let after = jiff::Timestamp::from_millisecond(after.as_millis()).ok()?;
                let next = cron.find_next_occurrence(&after.to_zoned(zone.clone()), false).ok()?;
                Some(Timestamp::from_millis(next.timestamp().as_millisecond()))
            }
        }
    }

    fn is_at(&self, time: Timestamp) -> bool {
        match self {
            Self::At(at) => *at == time,
            Self::Every(start, _) => *start == time,
            Self::Cron(cron, zone) => jiff::Timestamp::from_millisecond(time.as_millis())
                .is_ok_and(|time| cron.is_time_matching(&time.to_zoned(zone.clone())).unwrap_or(false)),
        }
    }
}

/// Whether there is a time zone of that name.
///
/// # Errors
/// There is none.
pub fn check_timezone(name: &str) -> Result<(), CalendarError> {
    zone(name).map(drop)
}

fn cron(text: &str) -> Result<Cron, CalendarError> {
    CronParser::builder().seconds(Seconds::Optional).build().parse(text).map_err(|error| {
        let help = "write 5 fields (minute hour day month weekday) or 6 (second first), such as `0 2 * * *`";
        wrong("cron", format!("`{text}`: {error}"), help)
    })
}

fn zone(name: &str) -> Result<TimeZone, CalendarError> {
    TimeZone::get(name).map_err(|_| {
        let help = "use a name of the IANA time zone database, such as `Europe/Paris` or `UTC`";
        wrong("timezone", format!("unknown time zone `{name}`"), help)
    })
}

fn wrong(field: &'static str, message: impl Into<String>, help: &'static str) -> CalendarError {
    CalendarError { field, message: message.into(), help }
}

fn just_before(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis() - 1)
}

/// A number that looks drawn at random and is the same each time (FNV-1a, then mixed).
fn spread(id: &str, time: Timestamp) -> u64 {
    let bytes = id.bytes().chain(time.as_millis().to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    crate::random::spread(hash)
}

#[cfg(test)]
mod tests;
