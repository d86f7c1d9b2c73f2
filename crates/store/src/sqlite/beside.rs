//! What is kept beside runs: firings, dead letters, deliveries; cached values have a file of their own.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::batch::Batch;
use super::codec::{self, from_json, integer, natural, to_json};
use super::fault::Fault;
use crate::error::WriteError;
use crate::records::{
    Beside, CacheEntry, DeadLetter, DeadLetterFilter, Delivery, DeliveryFilter, DeliveryStats, Firing,
    FiringFilter,
};
use crate::rules::{KEPT_DEAD, KEPT_DEAD_BYTES, KEPT_FIRINGS};

/// A [`Beside`] with everything that is slow already done.
#[derive(Default)]
pub(super) struct PreparedBeside {
    dead_letters: Vec<(u32, Vec<u8>)>,
    cache: Vec<(CacheEntry, Vec<u8>)>,
    deliveries: Vec<PreparedDelivery>,
}

/// A firing, ready to be written.
pub(super) struct PreparedFiring {
    pub(super) schedule: String,
    pub(super) due: Timestamp,
    pub(super) document: Vec<u8>,
}

/// A delivery, ready to be written.
pub(super) struct PreparedDelivery {
    pub(super) delivery: Delivery,
    pub(super) document: Vec<u8>,
}

impl PreparedBeside {
    pub(super) fn new(run_id: RunId, beside: Beside) -> Result<Result<Self, WriteError>, Fault> {
        let Beside { dead_letters, cache, deliveries } = beside;
        let mut prepared = Self::default();
        let sized = |json: Vec<u8>| codec::check_size(run_id, &json).map(|()| json);
        for letter in dead_letters {
            match sized(to_json(&letter)?) {
                Ok(document) => prepared.dead_letters.push((letter.step_run, document)),
                Err(error) => return Ok(Err(error)),
            }
        }
        for entry in cache {
            match sized(to_json(&entry.value)?) {
                Ok(value) => prepared.cache.push((entry, value)),
                Err(error) => return Ok(Err(error)),
            }
        }
        for delivery in deliveries {
            match sized(to_json(&delivery)?) {
                Ok(document) => prepared.deliveries.push(PreparedDelivery { delivery, document }),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(prepared))
    }
}

/// What became of an earlier firing for the same time.
pub(super) enum Earlier {
    /// There is none, or one that started no run.
    None,
    /// It started that run.
    Ran(RunId),
}

impl Batch<'_> {
    /// Writes what comes with the events of a run.
    pub(super) fn keep_beside(
        &self,
        run_id: RunId,
        pipeline: &PipelineId,
        beside: &PreparedBeside,
    ) -> Result<(), Fault> {
        let PreparedBeside { dead_letters, cache, deliveries } = beside;
        for (step_run, document) in dead_letters {
            let mut put = self.connection.prepare_cached(
                "INSERT OR REPLACE INTO dead_letters (run, step_run, pipeline, document) VALUES (?1, ?2, ?3, ?4)",
            )?;
            put.execute(params![run_id.as_bytes(), step_run, pipeline.as_str(), document])?;
        }
        for (entry, value) in cache {
            self.put_cached(entry, value)?;
        }
        for delivery in deliveries {
            self.put_delivery(delivery)?;
        }
        Ok(())
    }

    /// What the firing of that schedule and time has come to so far.
    pub(super) fn earlier_firing(&self, schedule: &str, due: Timestamp) -> Result<Earlier, Fault> {
        let mut find =
            self.connection.prepare_cached("SELECT run FROM firings WHERE schedule = ?1 AND due = ?2")?;
        let run: Option<Option<[u8; 16]>> =
            find.query_row(params![schedule, due.as_millis()], |row| row.get(0)).optional()?;
        Ok(run.flatten().map_or(Earlier::None, |run| Earlier::Ran(RunId::from_bytes(run))))
    }

    /// Notes a firing in place of that of the same schedule and time.
    pub(super) fn note_firing(&self, firing: &PreparedFiring, run: Option<RunId>) -> Result<(), Fault> {
        let mut put = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO firings (schedule, due, run, document) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let run = run.as_ref().map(RunId::as_bytes);
        put.execute(params![firing.schedule, firing.due.as_millis(), run, firing.document])?;
        let mut trim = self.connection.prepare_cached(
            "DELETE FROM firings WHERE place IN
             (SELECT place FROM firings INDEXED BY firings_by_schedule
              WHERE schedule = ?1 ORDER BY place DESC LIMIT -1 OFFSET ?2)",
        )?;
        trim.execute(params![firing.schedule, integer(KEPT_FIRINGS as u64)])?;
        Ok(())
    }

    pub(super) fn forget_firings(&self, schedule: &str) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM firings WHERE schedule = ?1")?.execute([schedule])?;
        Ok(())
    }

    /// By which run a dead letter was replayed; the outer none: there is no such letter.
    pub(super) fn replayed_by(&self, run: RunId, step_run: u32) -> Result<Option<Option<RunId>>, Fault> {
        let mut find = self
            .connection
            .prepare_cached("SELECT replayed_by FROM dead_letters WHERE run = ?1 AND step_run = ?2")?;
        let by: Option<Option<[u8; 16]>> =
            find.query_row(params![run.as_bytes(), step_run], |row| row.get(0)).optional()?;
        Ok(by.map(|by| by.map(RunId::from_bytes)))
    }

    pub(super) fn mark_replayed(&self, run: RunId, step_run: u32, by: RunId) -> Result<(), Fault> {
        let mut mark = self
            .connection
            .prepare_cached("UPDATE dead_letters SET replayed_by = ?3 WHERE run = ?1 AND step_run = ?2")?;
        mark.execute(params![run.as_bytes(), step_run, by.as_bytes()])?;
        Ok(())
    }

    pub(super) fn drop_dead_letter(&self, run: RunId, step_run: u32) -> Result<bool, Fault> {
        let mut delete =
            self.connection.prepare_cached("DELETE FROM dead_letters WHERE run = ?1 AND step_run = ?2")?;
        Ok(delete.execute(params![run.as_bytes(), step_run])? > 0)
    }

    pub(super) fn put_delivery(&self, put: &PreparedDelivery) -> Result<(), Fault> {
        let PreparedDelivery { delivery, document } = put;
        let mut insert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO deliveries (id, hook, next_at, dead, document, pipeline, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        insert.execute(params![
            delivery.id.as_bytes(),
            delivery.hook,
            delivery.next_at.as_millis(),
            delivery.dead,
            document,
            delivery.pipeline(),
            integer(delivery.bytes()),
        ])?;
        if delivery.dead {
            self.trim_dead(&delivery.hook)?;
        }
        Ok(())
    }

    /// Deletes what is too much of what was given up for a hook, each time the oldest of the pipeline that has most of it.
    fn trim_dead(&self, hook: &str) -> Result<(), Fault> {
        loop {
            let mut count = self.connection.prepare_cached(DEAD)?;
            let (count, bytes): (i64, i64) = count.query_row([hook], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let most = if natural(count) > KEPT_DEAD as u64 {
                MOST_DEAD
            } else if natural(bytes) > KEPT_DEAD_BYTES {
                MOST_DEAD_BYTES
            } else {
                return Ok(());
            };
            let mut most = self.connection.prepare_cached(most)?;
            let pipeline: String = most.query_row([hook], |row| row.get(0))?;
            let mut trim = self.connection.prepare_cached(OLDEST_DEAD)?;
            trim.execute(params![hook, pipeline])?;
        }
    }

    pub(super) fn end_delivery(&self, id: Uuid) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?.execute([id.as_bytes()])?;
        Ok(())
    }
}

/// The condition of a query, put together from what a filter asks for.
#[derive(Default)]
struct Conditions<'a> {
    text: String,
    values: Vec<Box<dyn ToSql + 'a>>,
}

impl<'a> Conditions<'a> {
    /// Adds a condition, in which `?` stands for the value; none: everything passes.
    fn and<T: ToSql + 'a>(mut self, condition: &str, value: Option<T>) -> Self {
        if let Some(value) = value {
            let joint = if self.text.is_empty() { "WHERE" } else { "AND" };
            self.text.push_str(&format!(" {joint} {condition}"));
            self.values.push(Box::new(value));
        }
        self
    }

    /// As `and`, of a condition in which `?` stands for one value and then for the other.
    fn and_both<T: ToSql + 'a, U: ToSql + 'a>(mut self, condition: &str, values: Option<(T, U)>) -> Self {
        let Some((first, second)) = values else { return self };
        self = self.and(condition, Some(first));
        self.values.push(Box::new(second));
        self
    }

    fn read<T>(
        self,
        connection: &Connection,
        select: &str,
        order: &str,
        limit: usize,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let Self { text, mut values } = self;
        values.push(Box::new(integer(limit as u64)));
        let mut select = connection.prepare_cached(&format!("{select}{text} ORDER BY {order} LIMIT ?"))?;
        let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
        let mut rows = select.query(&values[..])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }
}

/// Firings that pass the filter, the last noted first.
pub(super) fn firings(connection: &Connection, filter: &FiringFilter) -> Result<Vec<Firing>, Fault> {
    let conditions = Conditions::default()
        .and("schedule = ?", filter.schedule.as_deref())
        .and("place < ?", filter.before.map(integer))
        .and("due >= ?", filter.since.map(Timestamp::as_millis))
        .and("due < ?", filter.until.map(Timestamp::as_millis));
    let select = match filter.schedule {
        Some(_) => "SELECT place, run, document FROM firings INDEXED BY firings_by_schedule",
        None => "SELECT place, run, document FROM firings",
    };
    conditions.read(connection, select, "place DESC", filter.limit, |row| {
        let place = natural(row.get(0)?);
        let run_id = row.get::<_, Option<[u8; 16]>>(1)?.map(RunId::from_bytes);
        let firing: Firing = from_json(codec::blob(row, 2)?, &|| format!("the firing {place}"))?;
        Ok(Firing { place, run_id, ..firing })
    })
}

const DEAD_LETTER: &str = "SELECT place, replayed_by, document FROM dead_letters";

fn read_dead_letter(row: &Row<'_>) -> Result<DeadLetter, Fault> {
    let place = natural(row.get(0)?);
    let replayed_by = row.get::<_, Option<[u8; 16]>>(1)?.map(RunId::from_bytes);
    let letter: DeadLetter = from_json(codec::blob(row, 2)?, &|| format!("the dead letter {place}"))?;
    Ok(DeadLetter { place, replayed_by, ..letter })
}

/// Dead letters that pass the filter, newest first.
pub(super) fn dead_letters(
    connection: &Connection,
    filter: &DeadLetterFilter,
) -> Result<Vec<DeadLetter>, Fault> {
    let conditions = |pipeline: Option<&PipelineId>| {
        Conditions::default()
            .and("pipeline = ?", pipeline.map(|pipeline| pipeline.as_str().to_owned()))
            .and("(replayed_by IS NOT NULL) = ?", filter.replayed)
            .and("place < ?", filter.before.map(integer))
    };
    let Some(pipelines) = &filter.pipelines else {
        return conditions(None).read(connection, DEAD_LETTER, "place DESC", filter.limit, read_dead_letter);
    };
    let chosen: std::collections::BTreeSet<_> = pipelines.iter().collect();
    // The newest of each alone first: letters hold the inputs of their steps.
    let mut places = Vec::new();
    for pipeline in chosen {
        let select = "SELECT place FROM dead_letters";
        let of_it = conditions(Some(pipeline));
        places.extend(
            of_it.read(connection, select, "place DESC", filter.limit, |row| Ok(row.get::<_, i64>(0)?))?,
        );
    }
    places.sort_unstable_by_key(|place| std::cmp::Reverse(*place));
    places.truncate(filter.limit);
    let mut select = connection.prepare_cached(&format!("{DEAD_LETTER} WHERE place = ?1"))?;
    let mut letters = Vec::with_capacity(places.len());
    for place in places {
        let mut rows = select.query([place])?;
        letters.extend(rows.next()?.map(read_dead_letter).transpose()?);
    }
    Ok(letters)
}

/// The dead letter of that step run.
pub(super) fn dead_letter(
    connection: &Connection,
    run: RunId,
    step_run: u32,
) -> Result<Option<DeadLetter>, Fault> {
    let mut select = connection.prepare_cached(&format!("{DEAD_LETTER} WHERE run = ?1 AND step_run = ?2"))?;
    let mut rows = select.query(params![run.as_bytes(), step_run])?;
    rows.next()?.map(read_dead_letter).transpose()
}

/// Deliveries that pass the filter.
pub(super) fn deliveries(connection: &Connection, filter: &DeliveryFilter) -> Result<Vec<Delivery>, Fault> {
    let select = match filter.dead {
        false => "SELECT document FROM deliveries WHERE dead = 0",
        true => "SELECT document FROM deliveries WHERE dead = 1",
    };
    let order = if filter.dead { "id DESC" } else { "next_at, id" };
    let before = filter.before.filter(|_| filter.dead).map(Uuid::into_bytes);
    let after = filter.after.filter(|_| !filter.dead);
    let conditions = Conditions { text: " AND TRUE".to_owned(), values: Vec::new() }
        .and("hook = ?", filter.hook.as_deref())
        .and("id < ?", before)
        .and_both(
            "(next_at, id) > (?, ?)",
            after.map(|(next_at, id)| (next_at.as_millis(), id.into_bytes())),
        );
    conditions.read(connection, select, order, filter.limit, |row| {
        from_json(codec::blob(row, 0)?, &|| "a delivery".to_owned())
    })
}

/// How many deliveries there are of each hook and pipeline.
pub(super) fn delivery_stats(connection: &Connection) -> Result<Vec<DeliveryStats>, Fault> {
    let mut select = connection.prepare_cached(DELIVERY_COUNTS)?;
    let mut rows = select.query([])?;
    let mut stats = BTreeMap::<(String, String), DeliveryStats>::new();
    while let Some(row) = rows.next()? {
        let (hook, pipeline): (String, String) = (row.get(0)?, row.get(2)?);
        let of = stats.entry((hook.clone(), pipeline.clone())).or_insert(DeliveryStats {
            hook,
            pipeline,
            waiting: 0,
            waiting_bytes: 0,
            dead: 0,
        });
        if row.get(1)? {
            of.dead = natural(row.get(3)?);
        } else {
            (of.waiting, of.waiting_bytes) = (natural(row.get(3)?), natural(row.get(4)?));
        }
    }
    Ok(stats.into_values().collect())
}

/// Of those that wait and of those that were given up: a walk through an index, like the others below.
const DELIVERY_COUNTS: &str = "SELECT hook, dead, pipeline, count(*), sum(bytes)
     FROM deliveries INDEXED BY deliveries_by_pipeline GROUP BY hook, dead, pipeline";
const DEAD: &str = "SELECT count(*), coalesce(sum(bytes), 0)
     FROM deliveries INDEXED BY deliveries_by_pipeline WHERE hook = ?1 AND dead = 1";
const MOST_DEAD: &str = "SELECT pipeline FROM deliveries INDEXED BY deliveries_by_pipeline
     WHERE hook = ?1 AND dead = 1 GROUP BY pipeline ORDER BY count(*) DESC, pipeline LIMIT 1";
const MOST_DEAD_BYTES: &str = "SELECT pipeline FROM deliveries INDEXED BY deliveries_by_pipeline
     WHERE hook = ?1 AND dead = 1 GROUP BY pipeline ORDER BY sum(bytes) DESC, pipeline LIMIT 1";
const OLDEST_DEAD: &str = "DELETE FROM deliveries WHERE id = (SELECT min(id)
     FROM deliveries INDEXED BY deliveries_by_pipeline WHERE hook = ?1 AND dead = 1 AND pipeline = ?2)";
