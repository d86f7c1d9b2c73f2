//! The graph of a pipeline and what follows from it.

use std::num::NonZeroU32;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY};
use serde::Deserialize;
use serde_json::json;
use taskiq_flow_core::dag::{DagFormat, Rendered};
use taskiq_flow_core::id::RunId;
use utoipa::IntoParams;
use utoipa::openapi::Schema;

use super::{Allowed, OnRun};
use crate::accept::preferred;
use crate::input::{Params, field, one_of};
use crate::model::{CriticalPathDocument, EstimateDocument, ParallelGroups, WhatIfDocument};
use crate::problem::Problem;
use crate::service::{forecasts, pipelines};
use crate::state::AppState;

const JSON: &str = "application/json";
/// The most workers that are asked about; more than there can be steps and items changes nothing.
const MAX_WORKERS: u32 = 100_000;
/// A drawing brings its own styles and nothing else.
const DRAWING_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DagQuery {
    /// `json`, `cytoscape`, `dot`, `mermaid`, `ascii` or `svg`; without it the `Accept` header decides.
    #[param(schema_with = formats)]
    format: Option<String>,
    /// The run whose states are shown; the newest unless said.
    #[param(value_type = Option<String>, format = Uuid)]
    run_id: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WeightQuery {
    /// `edges` counts edges; `duration` adds up the medians of measured durations.
    #[param(schema_with = weights)]
    weight: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WorkersQuery {
    /// Attempts under way at once; unless said, as many as a run of the pipeline may have.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100000)]
    workers: Option<String>,
}

/// The graph of a pipeline.
///
/// As JSON `{nodes, edges, levels}`, or in another format. `dot`, `mermaid` and `ascii` come as text when `Accept`
/// prefers it, else as the one field of a JSON object; `svg` comes as a picture unless `Accept` prefers JSON.
#[utoipa::path(
    get, path = "/pipelines/{id}/dag", tag = "graphs", params(("id" = String, Path, description = "The pipeline"), DagQuery),
    responses((status = 200, content(
        (Object = "application/json"), (String = "image/svg+xml"), (String = "text/vnd.graphviz"), (String = "application/vnd.mermaid"), (String = "text/plain"),
    ))),
)]
pub(crate) async fn get_dag(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    headers: HeaderMap,
    Params(query): Params<DagQuery>,
) -> Result<Response, Problem> {
    let expected = "expected json, cytoscape, dot, mermaid, ascii or svg";
    let format = field("format", query.format.as_deref(), |text| text.parse().map_err(|_| expected))?;
    let (format, as_text) = chosen(format, &headers);
    let run_id = run_id(query.run_id.as_deref())?;
    let drawn = pipelines::draw(&state, &permit, run_id, format).await?;
    Ok(answer(drawn, format, as_text))
}

/// The graph of a pipeline in the language of Graphviz.
#[utoipa::path(
    get, path = "/pipelines/{id}/dag/dot", tag = "graphs", params(("id" = String, Path, description = "The pipeline")),
    responses((status = 200, content((Object = "application/json"), (String = "text/vnd.graphviz")))),
)]
pub(crate) async fn get_dag_dot(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (format, as_text) = chosen(Some(DagFormat::Dot), &headers);
    let drawn = pipelines::draw(&state, &permit, None, format).await?;
    Ok(answer(drawn, format, as_text))
}

/// The longest path through the graph, and how much later everything else could start.
#[utoipa::path(
    get, path = "/pipelines/{id}/critical-path", tag = "graphs", params(("id" = String, Path, description = "The pipeline"), WeightQuery),
    responses((status = 200, body = CriticalPathDocument)),
)]
pub(crate) async fn get_critical_path(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Params(query): Params<WeightQuery>,
) -> Result<Json<CriticalPathDocument>, Problem> {
    let by_duration = field("weight", query.weight.as_deref(), |text| match text {
        "edges" => Ok(false),
        "duration" => Ok(true),
        _ => Err("expected edges or duration"),
    })?;
    Ok(Json(pipelines::critical_path(&state, &permit, by_duration.unwrap_or(false)).await?))
}

/// What a run takes with a number of workers.
///
/// By what its steps and their items took in the last hundred runs, started in the order in which the engine starts them.
/// Nothing else is taken to use the workers; skipped steps and retries are not foreseen.
#[utoipa::path(
    get, path = "/pipelines/{id}/what-if", tag = "graphs", params(("id" = String, Path, description = "The pipeline"), WorkersQuery),
    responses((status = 200, body = WhatIfDocument)),
)]
pub(crate) async fn get_what_if(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Params(query): Params<WorkersQuery>,
) -> Result<Json<WhatIfDocument>, Problem> {
    let workers = field("workers", query.workers.as_deref(), |text| match text.parse() {
        Ok(workers @ 1..=MAX_WORKERS) => Ok(workers),
        _ => Err(format!("expected a whole number from 1 to {MAX_WORKERS}")),
    })?;
    Ok(Json(forecasts::what_if(&state, &permit, workers.and_then(NonZeroU32::new)).await?))
}

/// When a run will have ended.
///
/// By what its steps and their items took in the last hundred runs of the pipeline, and how far the run has got.
#[utoipa::path(
    get, path = "/runs/{id}/estimate", tag = "runs", params(("id" = String, Path, description = "The run")),
    responses((status = 200, body = EstimateDocument)),
)]
pub(crate) async fn get_run_estimate(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
) -> Result<Json<EstimateDocument>, Problem> {
    Ok(Json(forecasts::estimate(&state, &permit, &run).await?))
}

/// The tasks that can run at once, level by level.
#[utoipa::path(
    get, path = "/pipelines/{id}/parallel-groups", tag = "graphs", params(("id" = String, Path, description = "The pipeline")),
    responses((status = 200, body = ParallelGroups)),
)]
pub(crate) async fn get_parallel_groups(
    State(state): State<AppState>,
    Extension(permit): Allowed,
) -> Result<Json<ParallelGroups>, Problem> {
    Ok(Json(pipelines::parallel_groups(&state, &permit)?))
}

fn formats() -> Schema {
    one_of("Without it the `Accept` header decides.", DagFormat::ALL.map(DagFormat::as_str))
}

fn weights() -> Schema {
    one_of(
        "`edges` counts edges; `duration` adds up the medians of measured durations. `edges` unless said.",
        ["edges", "duration"],
    )
}

pub(super) fn run_id(text: Option<&str>) -> Result<Option<RunId>, Problem> {
    field("run_id", text, |text| text.parse::<RunId>())
}

/// The format, and whether it is sent as it is instead of within JSON.
fn chosen(format: Option<DagFormat>, headers: &HeaderMap) -> (DagFormat, bool) {
    use DagFormat::{Ascii, Cytoscape, Dot, Json, Mermaid, Svg};
    match format {
        Some(format @ (Json | Cytoscape)) => (format, false),
        Some(Svg) => (Svg, preferred(headers, &[Svg.media_type(), JSON]) == 0),
        // Everything that is text may be asked for as plain text.
        Some(format) => (format, preferred(headers, &[JSON, format.media_type(), "text/plain"]) > 0),
        None => {
            let formats = [Json, Svg, Dot, Mermaid, Ascii];
            let offers = formats.map(DagFormat::media_type);
            let place = preferred(headers, &offers);
            (formats.get(place).copied().unwrap_or(Json), place > 0)
        }
    }
}

fn answer(drawn: Rendered, format: DagFormat, as_text: bool) -> Response {
    let mut response = match drawn {
        Rendered::Json(json) => ([(CONTENT_TYPE, HeaderValue::from_static(JSON))], json).into_response(),
        Rendered::Text(text) if as_text => {
            let media_type = match format {
                DagFormat::Svg => HeaderValue::from_static("image/svg+xml; charset=utf-8"),
                DagFormat::Dot => HeaderValue::from_static("text/vnd.graphviz; charset=utf-8"),
                DagFormat::Mermaid => HeaderValue::from_static("application/vnd.mermaid; charset=utf-8"),
                _ => HeaderValue::from_static("text/plain; charset=utf-8"),
            };
            let mut response = ([(CONTENT_TYPE, media_type)], text).into_response();
            if format == DagFormat::Svg {
                response.headers_mut().insert(CONTENT_SECURITY_POLICY, DRAWING_POLICY);
            }
            response
        }
        Rendered::Text(text) => axum::Json(json!({ format.as_str(): text })).into_response(),
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    response
}
