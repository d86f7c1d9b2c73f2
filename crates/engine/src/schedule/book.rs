//! The schedules that an engine knows, and which of them starts a run next.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_core::calendar::{Calendar, CalendarError, Due};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::ScheduleRecord;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// The schedules of an engine.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    pub(super) book: Mutex<Book>,
    /// Held by whoever reads schedules to change them, so that no change undoes another.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Wakes who sleeps until the next start.
    pub(super) changed: Arc<Notify>,
    /// Tells firings that wait that somebody changed a schedule.
    pub(super) edited: watch::Sender<()>,
    pub(super) stopped: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<String, Entry>,
    /// When those that are not firing start their next run.
    starts: BTreeSet<(Timestamp, String)>,
    /// Those that are firing.
    firing: HashSet<String>,
}

/// The run that a schedule started last, and for which time; none: it has started none.
pub(super) type LastRun = Option<(Timestamp, RunId)>;

#[derive(Debug)]
struct Entry {
    record: ScheduleRecord,
    calendar: Arc<Calendar>,
    /// The run that it started last; none: nobody has looked yet.
    last_run: Option<LastRun>,
    /// Where it stands in `starts` unless it is firing.
    start: Option<Timestamp>,
    /// Times that have come and are each made up for, in order.
    come: VecDeque<Timestamp>,
}

impl Scheduler {
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Wakes whoever has to look at the schedules anew.
    pub(super) fn tell_edited(&self) {
        self.changed.notify_one();
        self.edited.send_modify(|()| ());
    }
}

impl Book {
    pub(super) fn get(&self, id: &str) -> Option<&ScheduleRecord> {
        self.entries.get(id).map(|entry| &entry.record)
    }

    /// All, by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &ScheduleRecord> {
        self.entries.values().map(|entry| &entry.record)
    }

    pub(super) fn calendar(&self, id: &str) -> Option<Arc<Calendar>> {
        self.entries.get(id).map(|entry| Arc::clone(&entry.calendar))
    }

    /// The run that a schedule started last; the outer none: nobody has looked yet.
    pub(super) fn last_run(&self, id: &str) -> Option<LastRun> {
        self.entries.get(id)?.last_run
    }

    pub(super) fn set_last_run(&mut self, id: &str, last: LastRun) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.last_run = Some(last);
        }
    }

    /// Keeps a schedule in place of that of the same id.
    pub(super) fn put(&mut self, record: ScheduleRecord) -> Result<(), CalendarError> {
        let before = self.entries.get_mut(&record.id);
        let last_run = before.as_ref().and_then(|before| before.last_run);
        let (calendar, come) = match before.filter(|before| same_calendar(&before.record, &record)) {
            Some(before) => (Arc::clone(&before.calendar), std::mem::take(&mut before.come)),
            None => (Arc::new(calendar_of(&record)?), VecDeque::new()),
        };
        self.remove(&record.id);
        let start = record.next_fire_at.map(|time| calendar.start_of(&record.id, time));
        if let Some(start) = start.filter(|_| !self.firing.contains(&record.id)) {
            self.starts.insert((start, record.id.clone()));
        }
        self.entries.insert(record.id.clone(), Entry { record, calendar, last_run, start, come });
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(start) = self.entries.remove(id).and_then(|entry| entry.start) {
            self.starts.remove(&(start, id.to_owned()));
        }
    }

    /// The next start of those that are not firing.
    pub(super) fn next_start(&self) -> Option<Timestamp> {
        self.starts.first().map(|(start, _)| *start)
    }

    /// Those whose start has come; from now on they are firing.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<String> {
        let mut due = Vec::new();
        while self.next_start().is_some_and(|start| start <= now)
            && let Some((_, id)) = self.starts.pop_first()
        {
            self.firing.insert(id.clone());
            due.push(id);
        }
        due
    }

    /// It is not firing any more.
    pub(super) fn release(&mut self, id: &str) {
        self.firing.remove(id);
        if let Some(start) = self.entries.get(id).and_then(|entry| entry.start) {
            self.starts.insert((start, id.to_owned()));
        }
    }

    /// What is to be done about a schedule now; none: nothing.
    pub(super) fn due(&mut self, id: &str, now: Timestamp) -> Option<(ScheduleRecord, Due)> {
        let Entry { record, calendar, come, .. } = self.entries.get_mut(id)?;
        let first = record.next_fire_at?;
        while come.front().is_some_and(|time| *time < first) {
            come.pop_front();
        }
        if come.front() == Some(&first) {
            return Some((record.clone(), Due { fire: Some(first), left_out: None }));
        }
        let due;
        (due, *come) = calendar.due_with_rest(id, first, now)?;
        Some((record.clone(), due))
    }
}

/// The times of a stored schedule.
pub(super) fn calendar_of(record: &ScheduleRecord) -> Result<Calendar, CalendarError> {
    Calendar::new(&record.timing, &record.timezone, &record.rules, record.created_at)
}

/// Whether two versions of a schedule have the same times, so that what waits of the one waits of the other.
pub(super) fn same_times(a: &ScheduleRecord, b: &ScheduleRecord) -> bool {
    let bounds = |record: &ScheduleRecord| (record.rules.from, record.rules.until, record.created_at);
    a.timing == b.timing && a.timezone == b.timezone && bounds(a) == bounds(b)
}

/// Whether they make the same of these times, too.
fn same_calendar(a: &ScheduleRecord, b: &ScheduleRecord) -> bool {
    let rules = |record: &ScheduleRecord| (record.rules.catch_up, record.rules.jitter);
    same_times(a, b) && rules(a) == rules(b)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskiq_flow_core::calendar::MOST_MISSED;
    use taskiq_flow_core::definition::{CatchUp, ScheduleRules, Timing};

    use super::*;

    #[test]
    fn the_last_thousand_that_were_missed_are_made_up_for_in_order() {
        let minute = Duration::from_secs(60);
        let start = Timestamp::from_millis(0);
        let rules = ScheduleRules { catch_up: CatchUp::All, ..ScheduleRules::default() };
        let mut record = ScheduleRecord {
            id: "s".into(),
            pipeline_id: "p".parse().unwrap(),
            timing: Timing::Interval(minute),
            timezone: "UTC".into(),
            parameters: serde_json::Map::new(),
            enabled: true,
            rules,
            created_at: start,
            next_fire_at: Some(start.plus(minute)),
            last_fire_at: None,
        };
        let mut book = Book::default();
        book.put(record.clone()).unwrap();
        let (mut now, mut fired, mut left_out) = (start.plus(1500 * minute), Vec::new(), Vec::new());
        while let Some((_, due)) = book.due("s", now) {
            let upto = match due {
                Due { left_out: Some((_, last)), .. } => {
                    left_out.push(last);
                    last
                }
                Due { fire, .. } => fire.unwrap(),
            };
            fired.extend(due.fire.filter(|_| due.left_out.is_none()));
            record.next_fire_at = book.calendar("s").unwrap().after(upto);
            book.put(record.clone()).unwrap();
            if fired.len() == 10 {
                // One more comes meanwhile.
                now = start.plus(1501 * minute);
            }
        }
        assert_eq!(left_out, [start.plus(500 * minute)]);
        let expected = (501..=1501).map(|count| start.plus(count * minute));
        assert_eq!(fired, expected.collect::<Vec<_>>());
        assert_eq!(fired.len(), MOST_MISSED + 1);
    }
}
