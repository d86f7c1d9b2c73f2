//! Schedules.

use serde::Serialize;
use serde_json::{Map, Value};
use taskiq_flow_core::definition::{CatchUp, Overlap, Timing};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::time::{Timestamp, format_duration};
use taskiq_flow_store::{Firing, FiringOutcome, ScheduleRecord};
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
    /// What becomes of times that came while nothing could fire: all are left out, the last one or each is made up for.
    #[schema(value_type = String, pattern = "^(skip|one|all)$")]
    pub(crate) catch_up: CatchUp,
    /// What becomes of a time that finds the schedule's last run unfinished: its run starts beside it, is left out, waits
    /// for it, or has it cancelled first.
    #[schema(value_type = String, pattern = "^(allow|skip|queue|cancel_previous)$")]
    pub(crate) overlap: Overlap,
    /// A run starts up to so long after its time. Such as `30s`; null: at its time.
    pub(crate) jitter: Option<String>,
    /// No time before this one counts.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) from: Option<Timestamp>,
    /// No time after this one counts.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// The first of its times that is not dealt with; null: there is none any more, or it is not enabled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_fire_at: Option<Timestamp>,
    /// The last of its times for which a run was started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_fire_at: Option<Timestamp>,
}

impl From<ScheduleRecord> for ScheduleDocument {
    fn from(record: ScheduleRecord) -> Self {
        let (mut cron, mut interval, mut at) = (None, None, None);
        match record.timing {
            Timing::Cron(text) => cron = Some(text),
            Timing::Interval(every) => interval = Some(format_duration(every)),
            Timing::At(time) => at = Some(time),
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
            catch_up: record.rules.catch_up,
            overlap: record.rules.overlap,
            jitter: record.rules.jitter.map(format_duration),
            from: record.rules.from,
            until: record.rules.until,
            created_at: record.created_at,
            next_fire_at: record.next_fire_at,
            last_fire_at: record.last_fire_at,
        }
    }
}

/// A page of the times of a schedule and what came of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FiringList {
    /// The last that was dealt with first.
    pub(crate) firings: Vec<FiringDocument>,
    /// What to ask for the next page with; null: this was the last.
    pub(crate) next_cursor: Option<String>,
}

/// A time of a schedule, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Firing)]
pub(crate) struct FiringDocument {
    /// The time.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) fire_at: Timestamp,
    /// When it was dealt with.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// `skipped`: by a rule or a quota. `missed`: it had passed. `failed`: the run was refused.
    #[schema(value_type = String, pattern = "^(started|skipped|missed|failed)$")]
    pub(crate) outcome: FiringOutcome,
    #[schema(value_type = Option<String>)]
    pub(crate) run_id: Option<RunId>,
    /// Why it started no run.
    pub(crate) reason: Option<String>,
    /// Whether it was asked for afterwards.
    pub(crate) backfill: bool,
}

/// The times of a schedule within a stretch of time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backfill)]
pub(crate) struct BackfillDocument {
    /// In order.
    pub(crate) times: Vec<BackfillTimeDocument>,
    /// How many runs were started.
    pub(crate) started: usize,
    /// The first time that is left out, as one more than `max`, or because `stopped` says so; null: none is.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_from: Option<Timestamp>,
    /// Why no further runs were started, such as a quota; null: all were.
    pub(crate) stopped: Option<String>,
}

/// A time of a schedule, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackfillTime)]
pub(crate) struct BackfillTimeDocument {
    /// The time.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) fire_at: Timestamp,
    /// `planned`: it would get a run. `started`: it got one now. `had`: it had one before.
    #[schema(pattern = "^(planned|started|had)$")]
    pub(crate) outcome: &'static str,
    /// Its run; null: planned, or not kept any more.
    #[schema(value_type = Option<String>)]
    pub(crate) run_id: Option<RunId>,
}

impl From<Firing> for FiringDocument {
    fn from(firing: Firing) -> Self {
        let Firing { due, at, outcome, run_id, reason, backfill, .. } = firing;
        Self { fire_at: due, at, outcome, run_id, reason, backfill }
    }
}
