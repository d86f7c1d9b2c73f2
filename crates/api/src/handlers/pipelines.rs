//! `/pipelines`: the list, one of them, its status, and starting a run.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value};
use taskiq_flow_core::definition::Priority;
use utoipa::{IntoParams, ToSchema};

use super::{Allowed, Caller, run_location};
use crate::input::{OptionalBody, Params, limit};
use crate::model::{Accepted, Finished, PipelineDocument, PipelineList, RunDocument};
use crate::problem::Problem;
use crate::service::pipelines::{self, Page};
use crate::service::runs::{self, Start};
use crate::state::AppState;

/// The longest a request may wait for its run, in seconds.
const MAX_WAIT: f64 = 300.0;
const DEFAULT_WAIT: f64 = 30.0;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is about a run that an earlier request made.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_IDEMPOTENCY_KEY: usize = 255;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    /// The page.
    pub(crate) fn page(self) -> Result<Page, Problem> {
        Ok(Page { limit: limit(self.limit.as_deref())?, cursor: self.cursor })
    }
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Execution {
    /// The pipeline's inputs.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// How urgent the run is among those that wait for room: 0 to 9, the higher the sooner. Without it the pipeline's;
    /// more than that is for those who may administer the pipeline.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// Whether to answer once the run has ended.
    #[serde(default)]
    wait: bool,
    /// How long to wait at most, in seconds.
    #[schema(minimum = 0, maximum = 300, default = 30)]
    timeout: Option<f64>,
}

/// The pipelines the caller may read.
#[utoipa::path(get, path = "/pipelines", tag = "pipelines", params(PageQuery), responses((status = 200, body = PipelineList)))]
pub(crate) async fn list_pipelines(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Params(query): Params<PageQuery>,
) -> Result<Json<PipelineList>, Problem> {
    Ok(Json(pipelines::list(&state, &permit, query.page()?).await?))
}

/// A pipeline with its definition, and its inputs as JSON Schema.
#[utoipa::path(get, path = "/pipelines/{id}", tag = "pipelines", params(("id" = String, Path, description = "The pipeline")), responses((status = 200, body = PipelineDocument)))]
pub(crate) async fn get_pipeline(
    State(state): State<AppState>,
    Extension(permit): Allowed,
) -> Result<Json<PipelineDocument>, Problem> {
    Ok(Json(PipelineDocument::new(&*pipelines::of_permit(&state, &permit)?)))
}

/// The newest run of a pipeline; its status is `registered` when it was never run.
#[utoipa::path(get, path = "/pipelines/{id}/status", tag = "pipelines", params(("id" = String, Path, description = "The pipeline")), responses((status = 200, body = RunDocument)))]
pub(crate) async fn get_pipeline_status(
    State(state): State<AppState>,
    Extension(permit): Allowed,
) -> Result<Json<RunDocument>, Problem> {
    Ok(Json(runs::newest(&state, &permit).await?))
}

/// Starts a run.
///
/// The answer comes once the run is stored (202), or with `wait` once it has ended (200). The same `Idempotency-Key`
/// on the same pipeline gets the same run.
#[utoipa::path(
    post, path = "/pipelines/{id}/execute", tag = "pipelines",
    params(
        ("id" = String, Path, description = "The pipeline"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
    ),
    request_body = inline(Option<Execution>),
    responses(
        (status = 200, description = "The run has ended", body = Finished),
        (status = 202, description = "The run is stored and will be carried out", body = Accepted, headers(("Location" = String, description = "Where the run is shown"))),
    ),
)]
pub(crate) async fn execute_pipeline(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    uri: Uri,
    headers: HeaderMap,
    OptionalBody(execution): OptionalBody<Execution>,
) -> Result<Response, Problem> {
    let timeout = execution.timeout.unwrap_or(DEFAULT_WAIT);
    if !(0.0..=MAX_WAIT).contains(&timeout) {
        return Err(Problem::invalid_field("timeout", format!("expected seconds from 0 to {MAX_WAIT}")));
    }
    let priority = execution.priority.map(Priority::try_from).transpose();
    let start = Start {
        parameters: execution.parameters,
        idempotency_key: idempotency_key(&headers)?,
        priority: priority.map_err(|error| Problem::invalid_field("priority", error.to_string()))?,
    };
    let (pipeline_id, submitted, ending) = runs::start(&state, &caller, &permit, start).await?;
    let run_id = submitted.run_id;
    let mut status = submitted.status;
    let mut answer = None;
    if execution.wait {
        answer = runs::wait(&state, &permit, ending, Duration::from_secs_f64(timeout)).await?;
        if answer.is_none() {
            status = state.engine().run(run_id).await?.status;
        }
    }
    let location = run_location(&uri, run_id);
    let mut response = match answer {
        Some(finished) => (StatusCode::OK, location, Json(finished)).into_response(),
        None => {
            (StatusCode::ACCEPTED, location, Json(Accepted::new(run_id, pipeline_id, status))).into_response()
        }
    };
    response.extensions_mut().insert(run_id);
    if !submitted.created {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let visible = |key: &&str| {
        (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) && key.bytes().all(|c| c.is_ascii_graphic())
    };
    match (key.to_str().ok().filter(visible), keys.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => {
            let detail =
                format!("Send one Idempotency-Key of 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters.");
            Err(Problem::bad_request(detail))
        }
    }
}
