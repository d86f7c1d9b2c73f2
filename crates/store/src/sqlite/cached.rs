//! Cached values. However many there are, they are removed a few at a time, so that others write in between.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::time::Timestamp;

use super::batch::Batch;
use super::codec::{self, from_json, integer, natural};
use super::fault::Fault;
use crate::records::{CacheEntry, CacheRoom, CacheStats};

/// Most values that one transaction removes, and the bytes after which it removes no more: some milliseconds.
const TOGETHER: (u64, u64) = (256, 4 << 20);

/// Which values go.
#[derive(Clone)]
pub(super) enum Goes {
    /// Those that have expired at that time.
    Expired(Timestamp),
    /// Those at this place and before.
    UpTo(i64),
    /// Those of a pipeline, or of one of its tasks, at this place and before.
    Of(PipelineId, Option<String>, i64),
}

impl Batch<'_> {
    pub(super) fn put_cached(&self, entry: &CacheEntry, value: &[u8]) -> Result<(), Fault> {
        let mut put = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO cache (key, pipeline, task, created_at, expires_at, value)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        put.execute(params![
            entry.key,
            entry.pipeline_id.as_str(),
            entry.task,
            entry.created_at.as_millis(),
            entry.expires_at.map(Timestamp::as_millis),
            value
        ])?;
        Ok(())
    }

    /// Removes some of the values that go. How many, and whether there may be more.
    pub(super) fn drop_some_cached(&self, goes: &Goes) -> Result<(u64, bool), Fault> {
        let most = integer(TOGETHER.0);
        let mut find = self.connection.prepare_cached(match goes {
            Goes::Expired(_) => "SELECT place, length(value) FROM cache WHERE expires_at <= ?1 LIMIT ?2",
            Goes::UpTo(_) => "SELECT place, length(value) FROM cache WHERE place <= ?1 ORDER BY place LIMIT ?2",
            Goes::Of(_, None, _) => {
                "SELECT place, length(value) FROM cache WHERE pipeline = ?1 AND place <= ?2 LIMIT ?3"
            }
            Goes::Of(_, Some(_), _) => {
                "SELECT place, length(value) FROM cache WHERE pipeline = ?1 AND place <= ?2 AND task = ?4 LIMIT ?3"
            }
        })?;
        let mut rows = match goes {
            Goes::Expired(now) => find.query(params![now.as_millis(), most])?,
            Goes::UpTo(place) => find.query(params![place, most])?,
            Goes::Of(pipeline, None, place) => find.query(params![pipeline.as_str(), place, most])?,
            Goes::Of(pipeline, Some(task), place) => {
                find.query(params![pipeline.as_str(), place, most, task])?
            }
        };
        let (mut places, mut bytes) = (Vec::<i64>::new(), 0);
        while bytes < TOGETHER.1
            && let Some(row) = rows.next()?
        {
            places.push(row.get(0)?);
            bytes += natural(row.get(1)?);
        }
        let mut delete = self.connection.prepare_cached("DELETE FROM cache WHERE place = ?1")?;
        for place in &places {
            delete.execute([place])?;
        }
        let gone = places.len() as u64;
        Ok((gone, gone == TOGETHER.0 || bytes >= TOGETHER.1))
    }

    /// Removes all values of a pipeline, of which there are few left.
    pub(super) fn drop_last_cached(&self, pipeline: &PipelineId) -> Result<(), Fault> {
        self.connection
            .prepare_cached("DELETE FROM cache WHERE pipeline = ?1")?
            .execute([pipeline.as_str()])?;
        Ok(())
    }
}

/// The place of the newest value; 0: there is none.
pub(super) fn newest_place(connection: &Connection) -> Result<i64, Fault> {
    let mut find = connection.prepare_cached("SELECT place FROM cache ORDER BY place DESC LIMIT 1")?;
    Ok(find.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// The place of the newest value for which there is no room; none: there is for all.
pub(super) fn beyond(connection: &Connection, keep: CacheRoom) -> Result<Option<i64>, Fault> {
    let mut select =
        connection.prepare_cached("SELECT place, length(value) FROM cache ORDER BY place DESC")?;
    let mut rows = select.query([])?;
    let (mut values, mut bytes) = (0_usize, 0_u64);
    while let Some(row) = rows.next()? {
        values += 1;
        bytes = bytes.saturating_add(natural(row.get(1)?));
        if values > keep.values || bytes > keep.bytes {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

/// The value under that key, unless it has expired.
pub(super) fn cached(
    connection: &Connection,
    key: Vec<u8>,
    now: Timestamp,
) -> Result<Option<CacheEntry>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT pipeline, task, created_at, expires_at, value FROM cache
         WHERE key = ?1 AND (expires_at IS NULL OR expires_at > ?2)",
    )?;
    let mut rows = select.query(params![key, now.as_millis()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let task: Arc<str> = row.get(1)?;
    let value = codec::blob(row, 4)?;
    Ok(Some(CacheEntry {
        pipeline_id: codec::pipeline_id(row, 0)?,
        created_at: Timestamp::from_millis(row.get(2)?),
        expires_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_millis),
        bytes: value.len() as u64,
        value: from_json(value, &|| format!("a cached value of `{task}`"))?,
        task,
        key,
    }))
}

/// How much is cached of each task of a pipeline.
pub(super) fn stats(connection: &Connection, pipeline: &PipelineId) -> Result<Vec<CacheStats>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT task, count(*), sum(length(value)) FROM cache WHERE pipeline = ?1 GROUP BY task ORDER BY task",
    )?;
    let stats = select.query_map([pipeline.as_str()], |row| {
        Ok(CacheStats { task: row.get(0)?, entries: natural(row.get(1)?), bytes: natural(row.get(2)?) })
    })?;
    Ok(stats.collect::<Result<_, _>>()?)
}
