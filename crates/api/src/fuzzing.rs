//! The parsers of requests, for fuzz targets. No part of the API: it changes at will.

use http::{HeaderMap, Uri};
use serde::de::DeserializeOwned;
use serde_json::Value;
use taskiq_flow_security::layer::is_websocket_upgrade;

use crate::accept::{names, preferred};
use crate::frame::request_id;
use crate::handlers::analysis::{DagQuery, WeightQuery};
use crate::handlers::audit::AuditQuery;
use crate::handlers::events::EventQuery;
use crate::handlers::pipelines::{Execution, PageQuery, idempotency_key};
use crate::handlers::runs::{Cancellation, RunQuery};
use crate::handlers::schedules::{NewSchedule, ScheduleEdit, ScheduleQuery};
use crate::input::{announces_too_much, check_media_type, limit, parse, parse_object, query, seq};
use crate::problem::Problem;
use crate::ws::message::ClientMessage;

/// What a client of a WebSocket says; else what it is told.
///
/// # Errors
/// The message is none.
pub fn client_message(text: &str) -> Result<(), String> {
    ClientMessage::read(text).map(drop)
}

/// The body as each of those that requests have.
pub fn bodies(bytes: &[u8]) -> Vec<Problem> {
    fn of<T: DeserializeOwned>(bytes: &[u8]) -> Option<Problem> {
        parse_object::<T>(bytes).err()
    }
    let typed = [of::<Execution>, of::<Cancellation>, of::<NewSchedule>, of::<ScheduleEdit>, of::<Value>];
    typed.iter().filter_map(|of| of(bytes)).chain(parse::<Value>(bytes).err()).collect()
}

/// The query as each of those that requests have, and its text as each kind of value.
pub fn queries(text: &str) -> Vec<Problem> {
    fn of<T: DeserializeOwned>(uri: &Uri) -> Option<Problem> {
        query::<T>(uri).err()
    }
    let mut problems = Vec::new();
    problems.extend(limit(Some(text)).err());
    problems.extend(seq("after_seq", Some(text)).err());
    if let Ok(uri) = format!("/x?{text}").parse::<Uri>() {
        let typed = [
            of::<PageQuery>,
            of::<RunQuery>,
            of::<ScheduleQuery>,
            of::<EventQuery>,
            of::<DagQuery>,
            of::<WeightQuery>,
            of::<AuditQuery>,
        ];
        problems.extend(typed.iter().filter_map(|of| of(&uri)));
    }
    problems
}

/// Reads every header that is read by hand; gives the id of the request.
pub fn headers(headers: &HeaderMap) -> String {
    let offers = ["application/json", "image/svg+xml", "text/vnd.graphviz", "text/plain"];
    assert!(preferred(headers, &offers) < offers.len());
    let _named = offers.map(|offer| names(headers, offer));
    let _read = (idempotency_key(headers), is_websocket_upgrade(headers), check_media_type(headers));
    let _announced = announces_too_much(headers, 1 << 20);
    request_id(headers).to_string()
}
