//! Schedules.

use serde::Serialize;
use serde_json::{Map, Value};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::time::{Timestamp, format_duration};
use taskiq_flow_store::{ScheduleRecord, StoredTiming};
use utoipa::ToSchema;

/// A page of schedules.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleList {
    /// By id.
    pub(crate) schedules: Vec<ScheduleDocument>,
    /// What to ask for the next page with; null: this was the last.
    pub(crate) next_cursor: Option<String>,
}

/// A schedule. It has one of `cron`, `interval` and `at`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleDocument {
    pub(crate) id: String,
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// Five fields, or six with the second first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cron: Option<String>,
    /// Such as `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<String>,
    /// Once, at this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Timestamp>,
    /// IANA name of the zone in which `cron` is read.
    pub(crate) timezone: String,
    /// Of the runs it starts.
    #[schema(value_type = Object)]
    pub(crate) parameters: Map<String, Value>,
    pub(crate) enabled: bool,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// Null: never again, or not enabled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_fire_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_fire_at: Option<Timestamp>,
}

impl From<ScheduleRecord> for ScheduleDocument {
    fn from(record: ScheduleRecord) -> Self {
        let (mut cron, mut interval, mut at) = (None, None, None);
        match record.timing {
            StoredTiming::Cron(text) => cron = Some(text),
            StoredTiming::Interval(every) => interval = Some(format_duration(every)),
            StoredTiming::At(time) => at = Some(time),
        }
        Self {
            id: record.id,
            pipeline_id: record.pipeline_id,
            cron,
            interval,
            at,
            timezone: record.timezone,
            parameters: record.parameters,
            enabled: record.enabled,
            created_at: record.created_at,
            next_fire_at: record.next_fire_at,
            last_fire_at: record.last_fire_at,
        }
    }
}
