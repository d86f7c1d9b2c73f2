//! Who holds which runs, and until when.

use rusqlite::params;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::batch::Batch;
use super::codec::{integer, natural};
use super::fault::Fault;
use super::lookup;
use crate::records::{Fence, RunRecord};

impl Batch<'_> {
    /// Gives runs that nobody holds to `owner`.
    pub(super) fn claim(
        &mut self,
        owner: Uuid,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, Fault> {
        // The indexes lead to what nobody holds.
        self.move_all()?;
        self.void_expired(owner, now)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO owners (owner, lease_until) VALUES (?1, ?2)")?
            .execute(params![owner.as_bytes(), until.as_millis()])?;
        let mut free = self
            .connection
            .prepare_cached("SELECT id FROM runs WHERE owner IS NULL AND status < 3 ORDER BY id LIMIT ?1")?;
        let ids = free.query_map([integer(limit as u64)], |row| row.get(0))?;
        let ids = ids.collect::<Result<Vec<[u8; 16]>, _>>()?;
        let mut take = self
            .connection
            .prepare_cached("UPDATE runs SET owner = ?2, token = token + 1 WHERE id = ?1 RETURNING token")?;
        let mut claimed = Vec::with_capacity(ids.len());
        for id in ids {
            let token = take.query_row(params![id, owner.as_bytes()], |row| row.get(0))?;
            let id = RunId::from_bytes(id);
            self.forget_head(id);
            let record = lookup::record(self.connection, id)?;
            let record =
                record.ok_or_else(|| Fault::Corrupt(format!("the parameters of run {id} are missing")))?;
            claimed.push((record, Fence { owner, token: natural(token) }));
        }
        Ok(claimed)
    }

    /// Frees what is held by others whose lease has run out, or who have none.
    fn void_expired(&mut self, owner: Uuid, now: Timestamp) -> Result<(), Fault> {
        self.connection
            .prepare_cached("DELETE FROM owners WHERE lease_until <= ?1 AND owner <> ?2")?
            .execute(params![now.as_millis(), owner.as_bytes()])?;
        let mut free = self.connection.prepare_cached(
            "UPDATE runs INDEXED BY runs_live SET owner = NULL
             WHERE status < 3 AND owner <> ?1 AND owner NOT IN (SELECT owner FROM owners)",
        )?;
        if free.execute([owner.as_bytes()])? > 0 {
            // They say under which fences runs were held.
            self.forget_heads();
        }
        Ok(())
    }

    /// Has the lease of an owner last until `until`, if it has one.
    pub(super) fn renew(&self, owner: Uuid, until: Timestamp) -> Result<bool, Fault> {
        let mut renew =
            self.connection.prepare_cached("UPDATE owners SET lease_until = ?2 WHERE owner = ?1")?;
        Ok(renew.execute(params![owner.as_bytes(), until.as_millis()])? > 0)
    }
}
