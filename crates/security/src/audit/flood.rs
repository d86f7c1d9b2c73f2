//! Denials under a flood: the first of each kind are recorded one by one, the rest are counted.
//!
//! Denials are alike when event, client (IPv6 by /64), principal and endpoint are. Of those that are alike, so many
//! as the limit says are recorded in each window; how many more there were is said by one record when the window is
//! over. Memory is bounded: denials of more than [`MAX_SOURCES`] kinds are counted together, by event.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};

use super::entry::AuditEntry;
use super::event::AuditEvent;
use crate::rate_limit::{Limit, LimitError, subscriber};

/// The longest window.
const MAX_WINDOW: Duration = Duration::from_secs(60 * 60);
/// Kinds that are told apart at once. One takes about a kilobyte.
const MAX_SOURCES: usize = 2_048;
/// How often windows that are over are looked for while there is no room.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// Summaries that are due within so long of each other are written together.
const TOGETHER: Duration = Duration::from_millis(100);

/// How many like denials are recorded one by one, and in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimit {
    /// So many; zero counts as one.
    pub count: u32,
    /// In each window of this length, at least a second.
    pub window: Duration,
}

/// Why a text is no flood limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FloodLimitError {
    /// It is no limit at all.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// It joins several, or its period is longer than an hour.
    #[error(
        "\"{0}\" is no limit for records; expected one \"N/unit\" within an hour, for example \"60/minute\""
    )]
    Shape(String),
}

#[derive(Debug)]
pub(crate) struct Flood {
    limit: FloodLimit,
    hasher: RandomState,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By a keyed hash of what makes denials alike.
    sources: HashMap<u64, Bucket>,
    /// Those that found no room, by event.
    rest: HashMap<AuditEvent, Bucket>,
    /// Summaries of windows that were over before anybody looked.
    ripe: Vec<AuditEntry>,
    tidied: Option<Instant>,
    /// The thread waits without a deadline.
    asleep: bool,
    stopped: bool,
}

#[derive(Debug)]
struct Bucket {
    until: Instant,
    recorded: u32,
    held: Option<Held>,
}

/// What was counted and not recorded.
#[derive(Debug)]
struct Held {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    /// What the summary says beside the count.
    like: AuditEntry,
}

impl Flood {
    pub(crate) fn new(limit: FloodLimit) -> Self {
        let limit =
            FloodLimit { count: limit.count.max(1), window: limit.window.max(Duration::from_secs(1)) };
        Self { limit, hasher: RandomState::new(), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether the entry is to be recorded by itself; if not, it has been counted.
    pub(crate) fn admits(&self, entry: &AuditEntry, now: Instant) -> bool {
        if !is_denial(entry.event) {
            return true;
        }
        let key = self.key(entry);
        let mut state = self.state.lock();
        if state.stopped {
            return true;
        }
        let state = &mut *state;
        let (bucket, apart) = state.bucket(key, entry.event, now, self.limit.window);
        let mut over = None;
        if bucket.until <= now {
            bucket.until = now + self.limit.window;
            bucket.recorded = 0;
            over = bucket.held.take();
        }
        if bucket.recorded < self.limit.count {
            bucket.recorded += 1;
            state.ripe.extend(over.map(|held| held.summary(self.limit)));
            return true;
        }
        let time = Timestamp::now();
        let held = bucket.held.get_or_insert_with(|| Held {
            count: 0,
            first: time,
            last: time,
            like: if apart { like(entry) } else { AuditEntry::new(entry.event, entry.outcome) },
        });
        held.count += 1;
        held.last = time;
        metrics::counter!("taskiq_flow_audit_suppressed_total", "event" => entry.event.as_str()).increment(1);
        if std::mem::take(&mut state.asleep) {
            self.changed.notify_one();
        }
        false
    }

    /// Waits for windows to end, and gives the records that say what was counted in them; `None` once stopped.
    pub(crate) fn wait(&self) -> Option<Vec<AuditEntry>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            let due = state.due(now, self.limit);
            if !due.is_empty() {
                return Some(due);
            }
            match state.next_end() {
                Some(end) => _ = self.changed.wait_until(&mut state, end.max(now + TOGETHER)),
                None => {
                    state.asleep = true;
                    self.changed.wait(&mut state);
                    state.asleep = false;
                }
            }
        }
    }

    /// Takes back records that could not be written, and waits a second: they are due again then.
    pub(crate) fn give_back(&self, entries: Vec<AuditEntry>) {
        let mut state = self.state.lock();
        state.ripe.extend(entries);
        if !state.stopped {
            _ = self.changed.wait_for(&mut state, TIDY_EVERY);
        }
    }

    /// From now on everything is recorded by itself, and [`Flood::wait`] ends.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// The records that say what was counted and not yet said, whether or not the windows are over.
    pub(crate) fn drain(&self) -> Vec<AuditEntry> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let buckets = state.sources.drain().map(|(_, bucket)| bucket);
        let buckets = buckets.chain(state.rest.drain().map(|(_, bucket)| bucket));
        let mut all = std::mem::take(&mut state.ripe);
        all.extend(buckets.filter_map(|bucket| bucket.held).map(|held| held.summary(self.limit)));
        all
    }

    fn key(&self, entry: &AuditEntry) -> u64 {
        let principal = entry.principal.as_ref().map(|principal| principal.names());
        let principal = principal.as_ref().map(|names| (names.kind, names.issuer, &*names.id));
        let endpoint = entry.facts().and_then(|facts| facts.endpoint);
        self.hasher.hash_one((entry.event, entry.client().map(subscriber), principal, endpoint))
    }
}

impl State {
    /// The bucket of an entry, and whether it is one of its own kind alone.
    fn bucket(&mut self, key: u64, event: AuditEvent, now: Instant, window: Duration) -> (&mut Bucket, bool) {
        let fresh = || Bucket { until: now + window, recorded: 0, held: None };
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&key) {
            if self.tidied.is_none_or(|at| now.duration_since(at) >= TIDY_EVERY) {
                self.tidied = Some(now);
                self.sources.retain(|_, bucket| bucket.until > now || bucket.held.is_some());
            }
            if self.sources.len() >= MAX_SOURCES {
                return (self.rest.entry(event).or_insert_with(fresh), false);
            }
        }
        (self.sources.entry(key).or_insert_with(fresh), true)
    }

    fn due(&mut self, now: Instant, limit: FloodLimit) -> Vec<AuditEntry> {
        let mut due = std::mem::take(&mut self.ripe);
        let mut keep = |bucket: &mut Bucket| {
            let over = bucket.until <= now;
            if over {
                due.extend(bucket.held.take().map(|held| held.summary(limit)));
            }
            !over
        };
        self.sources.retain(|_, bucket| keep(bucket));
        self.rest.retain(|_, bucket| keep(bucket));
        due
    }

    /// When the next window ends in which something was counted.
    fn next_end(&self) -> Option<Instant> {
        let buckets = self.sources.values().chain(self.rest.values());
        buckets.filter(|bucket| bucket.held.is_some()).map(|bucket| bucket.until).min()
    }
}

impl Held {
    fn summary(self, limit: FloodLimit) -> AuditEntry {
        let Self { count, first, last, like } = self;
        let whose = if like.ip.is_none() && like.principal.is_none() { " of many sources" } else { "" };
        like.detail(format!(
            "suppressed {count} more like it{whose} between {first:.6} and {last:.6}; recorded one by one: {limit}"
        ))
    }
}

/// `N/unit`, as rate limits are written; the period is at most an hour, after which the count is said at the latest.
impl FromStr for FloodLimit {
    type Err = FloodLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let limit: Limit = text.parse()?;
        let mut quotas = limit.quotas();
        match (quotas.next(), quotas.next()) {
            (Some(one), None) if one.period() <= MAX_WINDOW => {
                Ok(Self { count: u32::try_from(one.burst()).unwrap_or(u32::MAX), window: one.period() })
            }
            _ => Err(FloodLimitError::Shape(text.chars().take(60).collect())),
        }
    }
}

impl fmt::Display for FloodLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} seconds", self.count, self.window.as_secs())
    }
}

/// What summaries keep of an entry: what it was counted by. The rest differs from one denial to the next.
fn like(entry: &AuditEntry) -> AuditEntry {
    let endpoint = entry.facts().and_then(|facts| facts.endpoint);
    let mut like = AuditEntry::new(entry.event, entry.outcome);
    like.principal = entry.principal.clone();
    like.action = entry.action.clone().or(endpoint.map(Into::into));
    like.ip = entry.client();
    like.status = entry.status;
    like
}

fn is_denial(event: AuditEvent) -> bool {
    matches!(
        event,
        AuditEvent::AuthenticationFailure
            | AuditEvent::AuthorizationDenied
            | AuditEvent::RateLimitExceeded
            | AuditEvent::WebsocketDenied
    )
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::event::Outcome;
    use super::super::record::AuditPrincipal;
    use super::*;

    const LIMIT: FloodLimit = FloodLimit { count: 3, window: Duration::from_secs(60) };

    fn denial(ip: [u16; 8]) -> AuditEntry {
        AuditEntry::new(AuditEvent::AuthenticationFailure, Outcome::Failure).ip(IpAddr::from(ip)).status(401)
    }

    fn suppressed(summaries: &[AuditEntry]) -> u64 {
        let count = |entry: &AuditEntry| {
            let detail = entry.detail.as_deref().unwrap();
            detail.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        };
        summaries.iter().map(count).sum()
    }

    #[test]
    fn what_is_alike_is_counted_together_and_nothing_else() {
        let flood = Flood::new(LIMIT);
        let now = Instant::now();
        let admitted = |entry: AuditEntry| flood.admits(&entry, now);
        // One /64 is one client.
        let taken: Vec<bool> = (0..5).map(|n| admitted(denial([1, 2, 3, 4, n, n, n, n]))).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        let principal =
            |id: &str| AuditPrincipal { id: id.into(), kind: "api_key".into(), issuer: None, roles: vec![] };
        assert!(admitted(denial([1, 2, 3, 5, 0, 0, 0, 0])));
        assert!(admitted(denial([1, 2, 3, 4, 0, 0, 0, 0]).principal(principal("a"))));
        assert!(admitted(AuditEntry {
            event: AuditEvent::RateLimitExceeded,
            ..denial([1, 2, 3, 4, 0, 0, 0, 0])
        }));
        // IPv4 that came mapped into IPv6 is as many clients as addresses.
        let mapped = |last: u16| denial([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0200 + last]);
        assert!((0..5).all(|last| admitted(mapped(last))));
        // What is no denial is never held back.
        for _ in 0..10 {
            assert!(admitted(AuditEntry {
                event: AuditEvent::PipelineRead,
                ..denial([1, 2, 3, 4, 0, 0, 0, 0])
            }));
        }
        let summaries = flood.drain();
        let [summary] = summaries.as_slice() else { panic!("{summaries:?}") };
        assert_eq!((summary.event, summary.outcome), (AuditEvent::AuthenticationFailure, Outcome::Failure));
        assert_eq!((suppressed(&summaries), summary.status), (2, Some(401)));
        assert!(summary.client().is_some());
    }

    #[test]
    fn a_new_window_records_again_and_the_old_one_is_summed_up() {
        let flood = Flood::new(LIMIT);
        let now = Instant::now();
        let (mut recorded, mut counted) = (0, 0);
        for second in 0..600 {
            let now = now + Duration::from_secs(second);
            recorded += u64::from(flood.admits(&denial([1; 8]), now));
            counted += suppressed(&flood.state.lock().due(now, LIMIT));
        }
        counted += suppressed(&flood.drain());
        assert_eq!((recorded, recorded + counted), (30, 600));
    }

    #[test]
    fn a_window_that_ends_unnoticed_loses_nothing() {
        let flood = Flood::new(LIMIT);
        let now = Instant::now();
        let recorded =
            (0..600u64).filter(|n| flood.admits(&denial([1; 8]), now + Duration::from_secs(*n))).count();
        assert_eq!(recorded as u64 + suppressed(&flood.drain()), 600);
    }

    #[test]
    fn a_scan_of_many_addresses_is_counted_in_bounded_memory() {
        let flood = Flood::new(LIMIT);
        let now = Instant::now();
        let scan = (0..100_000u32).filter(|n| {
            let [a, b] = [(n >> 16) as u16, (n & 0xffff) as u16];
            flood.admits(&denial([0x2001, 0xdb8, a, b, 0, 0, 0, 0]), now)
        });
        let recorded = scan.count();
        assert_eq!(recorded, MAX_SOURCES + 3);
        assert!(flood.state.lock().sources.len() <= MAX_SOURCES);
        let summaries = flood.drain();
        assert_eq!(summaries.len(), 1);
        assert!(
            summaries[0].client().is_none()
                && summaries[0].detail.as_deref().unwrap().contains("many sources")
        );
        assert_eq!(recorded as u64 + suppressed(&summaries), 100_000);
    }

    #[test]
    fn a_limit_is_one_number_and_a_short_time() {
        let limit = |text: &str| text.parse::<FloodLimit>();
        let minute = FloodLimit { count: 60, window: Duration::from_secs(60) };
        assert_eq!(limit("60/minute").unwrap(), minute);
        assert_eq!(limit("1 per hour").unwrap().window, MAX_WINDOW);
        assert_eq!(minute.to_string(), "60 in 60 seconds");
        for bad in ["", "0/minute", "60", "60/day", "1/2 hours", "60/minute;100/hour"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_window_is_waited_for() {
        let flood = Flood::new(FloodLimit { count: 1, window: Duration::ZERO });
        let begun = Instant::now();
        assert!(flood.admits(&denial([1; 8]), begun));
        assert!(!flood.admits(&denial([1; 8]), begun));
        assert_eq!(suppressed(&flood.wait().unwrap()), 1);
        assert!(begun.elapsed() >= Duration::from_secs(1), "a window is at least a second");
        flood.stop();
        assert!(flood.wait().is_none());
        assert!(flood.admits(&denial([1; 8]), begun), "stopped: everything is recorded by itself");
    }
}
