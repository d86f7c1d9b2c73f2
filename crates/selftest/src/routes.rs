//! What each route needs, as the contract's table has it, and how it is asked without doing anything.
//!
//! Bodies are made so that a caller who may is answered with a mistake of the body: rights are looked at first, and
//! nothing happens. A route that is not in the table fails the matrix.

use Needs::{Body, Handshake, Listing, Nothing, OfRun, OfSchedule, On, SecurityAdmin, Valid, Whole};

use crate::model::Permission::{self, Admin, Execute, Read};

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A good credential.
    Valid,
    /// The permission on the pipeline `{id}` of the path.
    On(Permission),
    /// The permission on the pipeline of the run `{id}` of the path.
    OfRun(Permission),
    /// The permission on the pipeline of the schedule `{id}` of the path.
    OfSchedule(Permission),
    /// The permission on the pipeline that the body names.
    Body(Permission),
    /// The permission on any pipeline; what is shown is filtered.
    Listing(Permission),
    /// The permission on everything.
    Whole(Permission),
    /// `admin` on everything.
    SecurityAdmin,
    /// For the handshake nothing or a good credential; the topics are looked at one by one.
    Handshake,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its method.
    pub method: &'static str,
    /// Its path, as the OpenAPI document writes it.
    pub path: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// The body it is asked with; `{pipeline}` stands for the pipeline's id.
    pub body: Option<&'static str>,
    /// The answers of who may, where what the path names is there.
    pub answers: &'static [u16],
    /// The same, where it is not there.
    pub missing: &'static [u16],
    /// It takes away what it names: who may is let try it only on what is not there.
    pub destroys: bool,
}

const fn get(path: &'static str, needs: Needs) -> Row {
    Row { method: "GET", path, needs, body: None, answers: &[200], missing: &[404], destroys: false }
}

const fn post(path: &'static str, needs: Needs, body: Option<&'static str>, answers: &'static [u16]) -> Row {
    Row { method: "POST", path, needs, body, answers, missing: &[404], destroys: false }
}

const fn delete(path: &'static str, needs: Needs) -> Row {
    Row { method: "DELETE", path, needs, body: None, answers: &[404], missing: &[404], destroys: true }
}

/// A field that no body has: whoever may ask is told so (400).
const UNKNOWN: Option<&str> = Some(r#"{"selftest": 1}"#);

/// Every route.
pub static ROWS: &[Row] = &[
    get("/health", Nothing),
    Row { answers: &[200, 503], ..get("/ready", Nothing) },
    get("/pipelines", Listing(Read)),
    get("/pipelines/{id}", On(Read)),
    Row { missing: &[422], ..post("/pipelines/{id}", On(Admin), Some("{}"), &[409, 422]) },
    Row { method: "PUT", missing: &[422], ..post("/pipelines/{id}", On(Admin), Some("{}"), &[409, 422]) },
    delete("/pipelines/{id}", On(Admin)),
    get("/pipelines/{id}/dag", On(Read)),
    get("/dag/{id}", On(Read)),
    get("/pipelines/{id}/dag/dot", On(Read)),
    get("/dag/{id}/dot", On(Read)),
    get("/pipelines/{id}/critical-path", On(Read)),
    get("/dag/{id}/critical-path", On(Read)),
    get("/pipelines/{id}/parallel-groups", On(Read)),
    get("/dag/{id}/parallel-groups", On(Read)),
    get("/pipelines/{id}/what-if", On(Read)),
    post("/pipelines/{id}/execute", On(Execute), Some(r#"{"parameters": {"selftest": 1}}"#), &[422]),
    get("/pipelines/{id}/cache", On(Read)),
    delete("/pipelines/{id}/cache", On(Execute)),
    get("/pipelines/{id}/status", On(Read)),
    get("/pipelines/{id}/statistics", On(Read)),
    get("/runs", Listing(Read)),
    get("/runs/{id}", OfRun(Read)),
    // The run of the test has no such step.
    Row { answers: &[200, 404], ..get("/runs/{id}/steps/{step}/items", OfRun(Read)) },
    get("/runs/{id}/estimate", OfRun(Read)),
    // The run has ended: there is nothing to control any more.
    post("/runs/{id}/cancel", OfRun(Execute), None, &[409]),
    post("/runs/{id}/pause", OfRun(Execute), None, &[409]),
    post("/runs/{id}/resume", OfRun(Execute), None, &[409]),
    post("/runs/{id}/retry", OfRun(Execute), None, &[409]),
    post("/runs/{id}/fork", OfRun(Execute), UNKNOWN, &[400]),
    post("/runs/{id}/signals/{name}", OfRun(Execute), Some("1"), &[404, 409]),
    get("/runs/{id}/events", OfRun(Read)),
    get("/runs/{id}/logs", OfRun(Read)),
    get("/dead-letters", Listing(Read)),
    // The run has no such letter.
    post("/dead-letters/{id}/{step_run}/replay", OfRun(Execute), None, &[404, 422]),
    delete("/dead-letters/{id}/{step_run}", OfRun(Execute)),
    get("/schedules", Listing(Read)),
    Row {
        missing: &[404, 422],
        ..post(
            "/schedules",
            Body(Execute),
            Some(r#"{"pipeline_id": "{pipeline}", "interval": "never"}"#),
            &[422],
        )
    },
    get("/schedules/{id}", OfSchedule(Read)),
    Row { method: "PATCH", ..post("/schedules/{id}", OfSchedule(Execute), UNKNOWN, &[400]) },
    delete("/schedules/{id}", OfSchedule(Execute)),
    // The schedule is far in the future, so that both change nothing that matters.
    post("/schedules/{id}/pause", OfSchedule(Execute), None, &[200]),
    post("/schedules/{id}/resume", OfSchedule(Execute), None, &[200]),
    get("/schedules/{id}/firings", OfSchedule(Read)),
    post("/schedules/{id}/backfill", OfSchedule(Execute), UNKNOWN, &[400]),
    post("/schedules/{id}/trigger", OfSchedule(Execute), None, &[202]),
    get("/webhooks", SecurityAdmin),
    post("/webhooks/{id}/test", SecurityAdmin, None, &[404]),
    Row { answers: &[404], ..get("/webhooks/{id}/deliveries", SecurityAdmin) },
    post("/webhooks/{id}/deliveries/{delivery}/replay", SecurityAdmin, None, &[404]),
    get("/security/config", SecurityAdmin),
    post("/security/explain", SecurityAdmin, UNKNOWN, &[400]),
    get("/security/keys", SecurityAdmin),
    post("/security/keys", SecurityAdmin, UNKNOWN, &[400]),
    post("/security/keys/{id}/rotate", SecurityAdmin, UNKNOWN, &[400]),
    delete("/security/keys/{id}", SecurityAdmin),
    get("/security/acls", SecurityAdmin),
    // No such pipeline has an access list.
    Row { answers: &[404], ..get("/security/acls/{id}", SecurityAdmin) },
    Row { method: "PUT", ..post("/security/acls/{id}", SecurityAdmin, UNKNOWN, &[422]) },
    delete("/security/acls/{id}", SecurityAdmin),
    get("/security/revocations", SecurityAdmin),
    post("/security/revocations", SecurityAdmin, UNKNOWN, &[400]),
    delete("/security/revocations/{id}", SecurityAdmin),
    post("/security/reload", SecurityAdmin, UNKNOWN, &[400]),
    Row { answers: &[200, 409], ..get("/security/audit", SecurityAdmin) },
    Row { answers: &[200, 409], ..get("/security/audit/verify", SecurityAdmin) },
    post("/store/backup", SecurityAdmin, UNKNOWN, &[400]),
    get("/me", Valid),
    get(METRICS, Whole(Read)),
    get("/openapi.json", Valid),
    get("/docs", Valid),
    get("/docs/errors/{id}", Nothing),
    // No handshake: it is asked for one.
    Row { answers: &[426], ..get("/ws", Handshake) },
    Row { answers: &[426], missing: &[426], ..get("/ws/{id}", Handshake) },
    get("/", Nothing),
    Row { answers: &[303], ..get("/ui", Nothing) },
    get("/ui/", Nothing),
    get("/ui/{file}", Nothing),
];

/// The path of the measurements where it is not configured otherwise.
pub const METRICS: &str = "/metrics";

/// The routes that are in the table and not served, or served and not in the table, as `GET /path`.
pub fn differences<'a>(served: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let name = |method: &str, path: &str| format!("{} {path}", method.to_uppercase());
    let served: Vec<String> = served.into_iter().map(|(method, path)| name(method, path)).collect();
    let known: Vec<String> = ROWS.iter().map(|row| name(row.method, row.path)).collect();
    let unknown = served
        .iter()
        .filter(|route| !known.contains(route))
        .map(|route| format!("{route} is served, and no rule says who may have it"));
    let gone =
        known.iter().filter(|route| !served.contains(route)).map(|route| format!("{route} is not served"));
    unknown.chain(gone).collect()
}
