//! `/schedules`.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{StatusCode, Uri};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use taskiq_flow_core::definition::{CatchUp, Overlap, ScheduleRules, Timing};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::time::parse_duration;
use taskiq_flow_engine::{ScheduleChange, ScheduleRequest};
use taskiq_flow_security::audit::AuditEvent;
use taskiq_flow_security::guard::Note;
use taskiq_flow_security::{Permission, Resource};
use utoipa::{IntoParams, ToSchema};

use super::{Allowed, Caller, OnSchedule, location, started};
use crate::input::{Body, Params, field, limit, time};
use crate::model::{Accepted, BackfillDocument, FiringList, ScheduleDocument, ScheduleList};
use crate::problem::Problem;
use crate::service::pipelines::Page;
use crate::service::schedules;
use crate::state::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ScheduleQuery {
    /// Only of this pipeline.
    pipeline_id: Option<String>,
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSchedule {
    /// Made up unless said.
    id: Option<String>,
    pipeline_id: String,
    /// Five fields, or six with the second first. One of `cron`, `interval` and `at`.
    cron: Option<String>,
    /// Such as `5m`, at least a second.
    interval: Option<String>,
    /// Once, at this time.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// IANA name of the zone in which `cron` is read; UTC unless said.
    timezone: Option<String>,
    /// Of the runs it starts.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// True unless said.
    enabled: Option<bool>,
    /// What becomes of times that came while nothing could fire: `skip`, `one` (the last one; the default) or `all`.
    catch_up: Option<String>,
    /// What becomes of a time that finds the schedule's last run unfinished: `allow` (the default), `skip`, `queue` or
    /// `cancel_previous`.
    overlap: Option<String>,
    /// A run starts up to so long after its time. Such as `30s`.
    jitter: Option<String>,
    /// No time of `cron` before this one counts; an `interval` counts from here.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// No time of `cron` or `interval` after this one counts.
    #[schema(format = DateTime)]
    until: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleEdit {
    /// Five fields, or six with the second first. At most one of `cron`, `interval` and `at`.
    cron: Option<String>,
    /// Such as `5m`, at least a second.
    interval: Option<String>,
    /// Once, at this time.
    #[schema(format = DateTime)]
    at: Option<String>,
    timezone: Option<String>,
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    enabled: Option<bool>,
    /// `skip`, `one` or `all`.
    catch_up: Option<String>,
    /// `allow`, `skip`, `queue` or `cancel_previous`.
    overlap: Option<String>,
    /// Such as `30s`; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    jitter: Option<Option<String>>,
    /// Null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Option<String>>,
    /// Null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Option<String>>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FiringQuery {
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackfillRequest {
    /// The first time that counts.
    #[schema(format = DateTime)]
    from: String,
    /// The last time that counts; what lies in the future never does.
    #[schema(format = DateTime)]
    to: String,
    /// Only say which times there are.
    #[serde(default)]
    dry_run: bool,
    /// At most so many times, the first ones; 1000 unless said.
    #[schema(minimum = 1, maximum = 1000)]
    max: Option<u32>,
}

/// A field that is there, though it may be null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Schedules of the pipelines the caller may read.
#[utoipa::path(get, path = "/schedules", tag = "schedules", params(ScheduleQuery), responses((status = 200, body = ScheduleList)))]
pub(crate) async fn list_schedules(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Params(query): Params<ScheduleQuery>,
) -> Result<Json<ScheduleList>, Problem> {
    let page = Page { limit: limit(query.limit.as_deref())?, cursor: query.cursor };
    let pipeline = match &query.pipeline_id {
        Some(id) => {
            let _permit = state.guard().authorize(&caller, Permission::Read, Resource::Pipeline(id))?;
            field("pipeline_id", Some(id), |text| text.parse::<PipelineId>())?
        }
        None => None,
    };
    Ok(Json(schedules::list(&state, &permit, pipeline.as_ref(), &page)))
}

/// Makes a schedule.
#[utoipa::path(
    post, path = "/schedules", tag = "schedules", request_body = inline(NewSchedule),
    responses((status = 201, body = ScheduleDocument, headers(("Location" = String, description = "Where the schedule is shown")))),
)]
pub(crate) async fn create_schedule(
    State(state): State<AppState>,
    Extension(caller): Caller,
    uri: Uri,
    Body(new): Body<NewSchedule>,
) -> Result<Response, Problem> {
    let permit =
        state.guard().authorize(&caller, Permission::Execute, Resource::Pipeline(&new.pipeline_id))?;
    let note =
        Note { action: Some("create_schedule"), pipeline_id: Some(&new.pipeline_id), ..Note::default() };
    state.guard().note(&caller, AuditEvent::ScheduleChange, note)?;
    let timing = timing(new.cron, new.interval.as_deref(), new.at.as_deref())?;
    let request = ScheduleRequest {
        id: new.id,
        pipeline_id: new.pipeline_id.parse().map_err(|_| Problem::not_found("There is no such pipeline."))?,
        timing: timing.ok_or_else(|| Problem::invalid_field("cron", ONE_TIMING))?,
        timezone: new.timezone.unwrap_or_else(|| "UTC".to_owned()),
        parameters: new.parameters,
        enabled: new.enabled.unwrap_or(true),
        rules: ScheduleRules {
            catch_up: word("catch_up", new.catch_up, CatchUp::WORDS)?.unwrap_or_default(),
            overlap: word("overlap", new.overlap, Overlap::WORDS)?.unwrap_or_default(),
            jitter: new.jitter.map(|text| duration("jitter", &text)).transpose()?,
            from: new.from.map(|text| time("from", &text)).transpose()?,
            until: new.until.map(|text| time("until", &text)).transpose()?,
        },
    };
    let schedule = schedules::create(&state, &permit, request).await?;
    let location = location(&uri, &format!("/schedules/{}", schedule.id));
    Ok((StatusCode::CREATED, location, Json(schedule)).into_response())
}

/// A schedule.
#[utoipa::path(get, path = "/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "The schedule")), responses((status = 200, body = ScheduleDocument)))]
pub(crate) async fn get_schedule(Extension(record): OnSchedule) -> Json<ScheduleDocument> {
    Json(record.into())
}

/// Changes a schedule; what is left out stays.
#[utoipa::path(
    patch, path = "/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    request_body = inline(ScheduleEdit), responses((status = 200, body = ScheduleDocument)),
)]
pub(crate) async fn change_schedule(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(record): OnSchedule,
    Body(edit): Body<ScheduleEdit>,
) -> Result<Json<ScheduleDocument>, Problem> {
    let change = ScheduleChange {
        timing: timing(edit.cron, edit.interval.as_deref(), edit.at.as_deref())?,
        timezone: edit.timezone,
        parameters: edit.parameters,
        enabled: edit.enabled,
        catch_up: word("catch_up", edit.catch_up, CatchUp::WORDS)?,
        overlap: word("overlap", edit.overlap, Overlap::WORDS)?,
        jitter: edit
            .jitter
            .map(|jitter| jitter.map(|text| duration("jitter", &text)).transpose())
            .transpose()?,
        from: edit.from.map(|from| from.map(|text| time("from", &text)).transpose()).transpose()?,
        until: edit.until.map(|until| until.map(|text| time("until", &text)).transpose()).transpose()?,
    };
    Ok(Json(schedules::change(&state, &permit, &record, change).await?))
}

/// Removes a schedule.
#[utoipa::path(delete, path = "/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "The schedule")), responses((status = 204)))]
pub(crate) async fn delete_schedule(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(record): OnSchedule,
) -> Result<StatusCode, Problem> {
    schedules::remove(&state, &permit, &record).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps a schedule from firing.
#[utoipa::path(post, path = "/schedules/{id}/pause", tag = "schedules", params(("id" = String, Path, description = "The schedule")), responses((status = 200, body = ScheduleDocument)))]
pub(crate) async fn pause_schedule(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(record): OnSchedule,
) -> Result<Json<ScheduleDocument>, Problem> {
    let change = ScheduleChange { enabled: Some(false), ..ScheduleChange::default() };
    Ok(Json(schedules::change(&state, &permit, &record, change).await?))
}

/// Lets a schedule fire again, from now on.
#[utoipa::path(post, path = "/schedules/{id}/resume", tag = "schedules", params(("id" = String, Path, description = "The schedule")), responses((status = 200, body = ScheduleDocument)))]
pub(crate) async fn resume_schedule(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(record): OnSchedule,
) -> Result<Json<ScheduleDocument>, Problem> {
    let change = ScheduleChange { enabled: Some(true), ..ScheduleChange::default() };
    Ok(Json(schedules::change(&state, &permit, &record, change).await?))
}

/// Starts a run of a schedule now, beside its own times.
#[utoipa::path(
    post, path = "/schedules/{id}/trigger", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    responses((status = 202, body = Accepted, headers(("Location" = String, description = "Where the run is shown")))),
)]
pub(crate) async fn trigger_schedule(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Extension(record): OnSchedule,
    uri: Uri,
) -> Result<Response, Problem> {
    let accepted = schedules::trigger(&state, &caller, &permit, &record).await?;
    Ok(started(&uri, accepted))
}

/// The times of a schedule that were dealt with, and what came of them. The last thousand are kept.
#[utoipa::path(
    get, path = "/schedules/{id}/firings", tag = "schedules",
    params(("id" = String, Path, description = "The schedule"), FiringQuery),
    responses((status = 200, body = FiringList)),
)]
pub(crate) async fn list_firings(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(record): OnSchedule,
    Params(query): Params<FiringQuery>,
) -> Result<Json<FiringList>, Problem> {
    let before = field("cursor", query.cursor.as_deref(), |text| {
        text.parse::<u64>().map_err(|_| "is no cursor of this list")
    })?;
    Ok(Json(schedules::firings(&state, &permit, &record, before, limit(query.limit.as_deref())?).await?))
}

/// Starts runs for times of a schedule that have passed and have had none, each for its time.
#[utoipa::path(
    post, path = "/schedules/{id}/backfill", tag = "schedules",
    params(("id" = String, Path, description = "The schedule")),
    request_body = inline(BackfillRequest), responses((status = 200, body = BackfillDocument)),
)]
pub(crate) async fn backfill_schedule(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Extension(record): OnSchedule,
    Body(request): Body<BackfillRequest>,
) -> Result<Json<BackfillDocument>, Problem> {
    let BackfillRequest { from, to, dry_run, max } = request;
    let (from, to) = (time("from", &from)?, time("to", &to)?);
    if from > to {
        return Err(Problem::invalid_field("to", "it is before `from`"));
    }
    let max = max.unwrap_or(MAX_BACKFILL);
    if !(1..=MAX_BACKFILL).contains(&max) {
        return Err(Problem::invalid_field(
            "max",
            format!("expected a whole number from 1 to {MAX_BACKFILL}"),
        ));
    }
    let span = schedules::Span { from, to, most: max as usize };
    Ok(Json(schedules::backfill(&state, &caller, &permit, &record, span, dry_run).await?))
}

/// Times that one request may start runs for.
const MAX_BACKFILL: u32 = 1000;

const ONE_TIMING: &str = "expected one of cron, interval and at";

fn timing(cron: Option<String>, interval: Option<&str>, at: Option<&str>) -> Result<Option<Timing>, Problem> {
    match (cron, interval, at) {
        (None, None, None) => Ok(None),
        (Some(cron), None, None) => Ok(Some(Timing::Cron(cron))),
        (None, Some(text), None) => Ok(Some(Timing::Interval(duration("interval", text)?))),
        (None, None, Some(text)) => Ok(Some(Timing::At(time("at", text)?))),
        _ => Err(Problem::invalid_field("cron", ONE_TIMING)),
    }
}

fn duration(field: &'static str, text: &str) -> Result<Duration, Problem> {
    parse_duration(text).map_err(|error| Problem::invalid_field(field, error.to_string()))
}

fn word<T: Copy>(
    field: &'static str,
    text: Option<String>,
    words: &[(&'static str, T)],
) -> Result<Option<T>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| Some(*value));
    found.ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        Problem::invalid_field(field, format!("expected one of {}", words.join(", ")))
    })
}
