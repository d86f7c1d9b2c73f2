//! Records as measurements, and as events for the tracing subscriber.

use jiff::Timestamp;

use super::chain::Checkpoint;
use super::entry::AuditEntry;
use super::event::AuditEvent;
use super::record::RecordView;
use super::safe_json::escape_controls;

/// What became part of the chain and is to be told of once the chain is no longer locked.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// How many of each event.
    counts: Vec<(AuditEvent, u64)>,
    /// The records themselves, if somebody listens.
    records: Vec<(AuditEntry, Timestamp, Checkpoint, Checkpoint)>,
}

impl Told {
    pub(crate) fn add(&mut self, entry: &AuditEntry, time: Timestamp, before: Checkpoint, at: Checkpoint) {
        match self.counts.iter_mut().find(|(event, _)| *event == entry.event) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((entry.event, 1)),
        }
        if tracing::enabled!(target: "taskiq_flow.audit", tracing::Level::INFO) {
            self.records.push((entry.clone(), time, before, at));
        }
    }

    /// Counts the records, and gives them to the tracing subscriber.
    pub(crate) fn tell(self) {
        for (event, count) in self.counts {
            metrics::counter!("taskiq_flow_audit_records_total", "event" => event.as_str()).increment(count);
        }
        for (entry, time, before, at) in &self.records {
            let names = entry.principal.as_ref().map(|principal| principal.names());
            let before = before.hex();
            tell(&RecordView::new(entry, names.as_ref(), at.seq, *time, &before), &at.hex());
        }
    }
}

/// Values that a client chose are harmless in a text log.
fn tell(record: &RecordView<'_>, hash: &str) {
    let text = |field: &Option<std::borrow::Cow<'_, str>>| {
        field.as_deref().map(|text| escape_controls(text).into_owned())
    };
    let principal = record.principal.as_ref();
    let roles = principal.map(|p| escape_controls(&p.roles.join(",")).into_owned());
    tracing::info!(
        target: "taskiq_flow.audit",
        seq = record.seq,
        event = record.event.as_str(),
        outcome = record.outcome.as_str(),
        principal.id = principal.map(|p| escape_controls(&p.id).into_owned()),
        principal.r#type = principal.map(|p| escape_controls(&p.kind).into_owned()),
        principal.roles = roles,
        action = text(&record.action),
        pipeline_id = text(&record.pipeline_id),
        run_id = text(&record.run_id),
        ip = record.ip.map(tracing::field::display),
        request_id = text(&record.request_id),
        method = text(&record.method),
        path = text(&record.path),
        status = record.status,
        detail = text(&record.detail),
        hash,
    );
}
