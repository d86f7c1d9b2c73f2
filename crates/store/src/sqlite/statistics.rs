//! What runs came to, read off an index: no row of a run is looked at, and of runs that have ended only so many.

use rusqlite::{Connection, params};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::RunStatus;

use super::codec::{integer, natural, status_code};
use super::fault::Fault;
use super::recent;
use crate::records::{RunFilter, RunStatistics};
use crate::rules::{asked_at, id_range};

/// The newest runs in one of the states in which runs have ended.
pub(super) const ENDED: &str = "SELECT id, finished_at - started_at FROM runs INDEXED BY runs_ended
    WHERE status >= 3 AND status = ?1 AND pipeline = ?2 AND id >= ?3 AND id < ?4 ORDER BY id DESC LIMIT ?5";
/// How many are in one of the other states. There are only so many of them at a time.
pub(super) const LIVE: &str = "SELECT count(*) FROM runs INDEXED BY runs_live
    WHERE status < 3 AND status = ?1 AND pipeline = ?2 AND id >= ?3 AND id < ?4";

struct Ended {
    id: [u8; 16],
    status: RunStatus,
    took: Option<i64>,
}

/// What the runs of a pipeline came to; of the filter its times and its limit.
pub(super) fn of_runs(
    connection: &Connection,
    pipeline: &PipelineId,
    filter: &RunFilter,
) -> Result<RunStatistics, Fault> {
    let (first, end) = id_range(filter);
    let mut first = *first.as_bytes();
    // 17 bytes of 255 come after every id.
    let end = end.map_or_else(|| vec![u8::MAX; 17], |id| id.as_bytes().to_vec());
    let most = filter.limit.max(1);
    let mut recent = recent::rows(connection)?;
    recent.retain(|run| run.pipeline == pipeline.as_str() && run.id >= first && run.id[..] < end[..]);
    let ended = recent.iter().filter(|run| run.status.is_terminal());
    let mut all: Vec<Ended> =
        ended.map(|run| Ended { id: run.id, status: run.status, took: run.took }).collect();
    let mut statistics = RunStatistics::default();
    for status in RunStatus::ALL.into_iter().filter(|status| status.is_terminal()) {
        let mut select = connection.prepare_cached(ENDED)?;
        let limit = integer(most as u64).saturating_add(1);
        let mut rows =
            select.query(params![status_code(status), pipeline.as_str(), &first[..], end, limit])?;
        while let Some(row) = rows.next()? {
            all.push(Ended { id: row.get(0)?, status, took: row.get(1)? });
        }
        if all.len() > most {
            // What is older than so many need not be looked at in the other states.
            all.sort_unstable_by_key(|run| std::cmp::Reverse(run.id));
            all.truncate(most);
            first = all.last().map_or(first, |run| run.id);
            statistics.counted_since = Some(asked_at(RunId::from_bytes(first)));
        }
    }
    for status in RunStatus::ALL {
        let count = match status.is_terminal() {
            true => all.iter().filter(|run| run.status == status).count() as u64,
            false => {
                let mut count = connection.prepare_cached(LIVE)?;
                let values = params![status_code(status), pipeline.as_str(), &first[..], end];
                let count: u64 = count.query_row(values, |row| row.get(0).map(natural))?;
                count + recent.iter().filter(|run| run.status == status && run.id >= first).count() as u64
            }
        };
        if count > 0 {
            statistics.counts.push((status, count));
        }
    }
    let completed = all.iter().filter(|run| run.status == RunStatus::Completed);
    statistics.durations = completed.filter_map(|run| run.took.map(|took| natural(took.max(0)))).collect();
    statistics.durations.sort_unstable();
    Ok(statistics)
}
