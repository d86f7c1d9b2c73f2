//! Denials under a flood: the first of each kind are recorded one by one, the rest are counted.
//!
//! Denials are alike when event, client (IPv6 by /64), principal and endpoint are. Of those that are alike, so many
//! as the limit says are recorded in each window; how many more there were is said by one record when the window is
//! over.
//!
//! Memory is bounded, and whoever has very many addresses must not use that to hide somebody else: strangers have a
//! table of their own, and what finds no room in it is counted together by event. A caller whose name is known finds
//! room by its name alone when there is none by name, address and endpoint.

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
/// Kinds that each table tells apart at once. One takes about a kilobyte.
const MAX_SOURCES: usize = 1_024;
/// Counts that wait to be written by themselves while nothing can be written; further ones are added up by event.
const MAX_RIPE: usize = MAX_SOURCES;
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
    tables: [Table; 3],
    /// Those that found no room, by event and whether the caller is known.
    rest: HashMap<(AuditEvent, bool), Bucket>,
    /// What was counted in windows that are over.
    ripe: Vec<Held>,
    /// The same by event, of those that found no room there.
    overripe: HashMap<AuditEvent, Held>,
    /// The thread waits without a deadline.
    asleep: bool,
    stopped: bool,
}

/// Places in [`State::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stranger = 0,
    /// By name, address and endpoint.
    Caller = 1,
    /// By name alone.
    Name = 2,
}

#[derive(Debug, Default)]
struct Table {
    buckets: HashMap<u64, Bucket>,
    tidied: Option<Instant>,
}

#[derive(Debug)]
struct Bucket {
    until: Instant,
    recorded: u32,
    held: Option<Held>,
}

/// What was counted and not recorded.
#[derive(Debug)]
pub(crate) struct Held {
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
        let keys = self.keys(entry);
        let mut state = self.state.lock();
        if state.stopped {
            return true;
        }
        let state = &mut *state;
        let (bucket, kind) = state.bucket(&keys, entry, now, self.limit.window);
        let mut over = None;
        if bucket.until <= now {
            bucket.until = now + self.limit.window;
            bucket.recorded = 0;
            over = bucket.held.take();
        }
        if bucket.recorded < self.limit.count {
            bucket.recorded += 1;
            over.into_iter().for_each(|held| state.ripen(held));
            return true;
        }
        let time = Timestamp::now();
        let held = bucket.held.get_or_insert_with(|| Held {
            count: 0,
            first: time,
            last: time,
            like: like(entry, kind),
        });
        held.count += 1;
        held.last = time;
        metrics::counter!("taskiq_flow_audit_suppressed_total", "event" => entry.event.as_str()).increment(1);
        if std::mem::take(&mut state.asleep) {
            self.changed.notify_one();
        }
        false
    }

    /// Waits for windows to end, and gives what was counted in them; `None` once stopped.
    pub(crate) fn wait(&self) -> Option<Vec<Held>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            let due = state.due(now);
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

    /// The record that says what was counted.
    pub(crate) fn summary(&self, held: &Held) -> AuditEntry {
        held.summary(self.limit)
    }

    /// Takes back what could not be written, and waits a second: it is due again then.
    pub(crate) fn give_back(&self, held: Vec<Held>) {
        let mut state = self.state.lock();
        held.into_iter().for_each(|held| state.ripen(held));
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
        let buckets =
            state.tables.iter_mut().flat_map(|table| table.buckets.drain().map(|(_, bucket)| bucket));
        let buckets = buckets.chain(state.rest.drain().map(|(_, bucket)| bucket));
        let mut all = std::mem::take(&mut state.ripe);
        all.extend(state.overripe.drain().map(|(_, held)| held));
        all.extend(buckets.filter_map(|bucket| bucket.held));
        all.iter().map(|held| held.summary(self.limit)).collect()
    }

    /// Where an entry may be counted, the best place first.
    fn keys(&self, entry: &AuditEntry) -> Vec<(Kind, u64)> {
        let principal = entry.principal.as_ref().map(|principal| principal.names());
        let principal = principal.as_ref().map(|names| (names.kind, names.issuer, &*names.id));
        let endpoint = entry.facts().and_then(|facts| facts.endpoint);
        let alike = self.hasher.hash_one((entry.event, entry.client().map(subscriber), principal, endpoint));
        match principal {
            None => vec![(Kind::Stranger, alike)],
            Some(name) => {
                vec![(Kind::Caller, alike), (Kind::Name, self.hasher.hash_one((entry.event, name)))]
            }
        }
    }
}

impl State {
    /// The bucket of an entry, and where it was found; nowhere: among the rest.
    fn bucket(
        &mut self,
        keys: &[(Kind, u64)],
        entry: &AuditEntry,
        now: Instant,
        window: Duration,
    ) -> (&mut Bucket, Option<Kind>) {
        let fresh = || Bucket { until: now + window, recorded: 0, held: None };
        let room = keys.iter().find(|(kind, key)| self.tables[*kind as usize].has_room(*key, now));
        match room {
            Some((kind, key)) => {
                (self.tables[*kind as usize].buckets.entry(*key).or_insert_with(fresh), Some(*kind))
            }
            None => {
                let rest = (entry.event, entry.principal.is_some());
                (self.rest.entry(rest).or_insert_with(fresh), None)
            }
        }
    }

    /// Keeps a count until it is written.
    fn ripen(&mut self, held: Held) {
        if self.ripe.len() < MAX_RIPE {
            return self.ripe.push(held);
        }
        let Held { count, first, last, like } = held;
        let whole = self.overripe.entry(like.event).or_insert_with(|| Held {
            count: 0,
            first,
            last,
            like: AuditEntry::new(like.event, like.outcome),
        });
        whole.count += count;
        (whole.first, whole.last) = (whole.first.min(first), whole.last.max(last));
    }

    fn due(&mut self, now: Instant) -> Vec<Held> {
        let mut due = std::mem::take(&mut self.ripe);
        due.extend(self.overripe.drain().map(|(_, held)| held));
        let mut keep = |bucket: &mut Bucket| {
            let over = bucket.until <= now;
            if over {
                due.extend(bucket.held.take());
            }
            !over
        };
        for table in &mut self.tables {
            table.buckets.retain(|_, bucket| keep(bucket));
        }
        self.rest.retain(|_, bucket| keep(bucket));
        due
    }

    /// When the next window ends in which something was counted.
    fn next_end(&self) -> Option<Instant> {
        let buckets = self.tables.iter().flat_map(|table| table.buckets.values()).chain(self.rest.values());
        buckets.filter(|bucket| bucket.held.is_some()).map(|bucket| bucket.until).min()
    }
}

impl Table {
    /// Whether this kind is there or could be. Windows that are over make room.
    fn has_room(&mut self, key: u64, now: Instant) -> bool {
        if self.buckets.len() < MAX_SOURCES || self.buckets.contains_key(&key) {
            return true;
        }
        if self.tidied.is_none_or(|at| now.duration_since(at) >= TIDY_EVERY) {
            self.tidied = Some(now);
            self.buckets.retain(|_, bucket| bucket.until > now || bucket.held.is_some());
        }
        self.buckets.len() < MAX_SOURCES
    }
}

impl Held {
    fn summary(&self, limit: FloodLimit) -> AuditEntry {
        let Self { count, first, last, like } = self;
        let whose = match (&like.ip, &like.principal) {
            (None, None) => " of many sources",
            (None, Some(_)) => " from many addresses",
            (Some(_), _) => "",
        };
        like.clone().detail(format!(
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
fn like(entry: &AuditEntry, kind: Option<Kind>) -> AuditEntry {
    let endpoint = entry.facts().and_then(|facts| facts.endpoint);
    let mut like = AuditEntry::new(entry.event, entry.outcome);
    if kind.is_none() {
        return like;
    }
    like.principal = entry.principal.clone();
    if kind == Some(Kind::Name) {
        return like;
    }
    like.action = entry.action.clone().or(endpoint.map(Into::into));
    like.ip = entry.client();
    like.status = entry.status;
    like
}

pub(crate) fn is_denial(event: AuditEvent) -> bool {
    matches!(
        event,
        AuditEvent::AuthenticationFailure
            | AuditEvent::AuthorizationDenied
            | AuditEvent::RateLimitExceeded
            | AuditEvent::WebsocketDenied
    )
}

#[cfg(test)]
mod tests;
