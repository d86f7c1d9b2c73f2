//! Every error as RFC 9457 `application/problem+json`: what the client may know, and the one place that decides it.
//!
//! A handler returns a [`Problem`]; [`crate::frame`] writes it down, because only there the request's id is known.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use taskiq_flow_core::diagnostic::Diagnostics;
use taskiq_flow_engine::{ControlError, RegisterError, ScheduleError, SubmitError};
use taskiq_flow_security::administration::AdministrationError;
use taskiq_flow_security::refusal::Refusal;
use taskiq_flow_store::{BackupError, StoreError};
use utoipa::ToSchema;

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldProblem>,
    violated_policies: Vec<String>,
    headers: HeaderMap,
}

/// One field that is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The field, the parameter or the place in a definition, such as `top` or `tasks.0.when`.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A problem as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument<'a> {
    /// Names the kind of problem: a reference relative to the server.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem for people.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and the fix.
    detail: &'a str,
    /// The id under which the server's logs know the request.
    request_id: &'a str,
    /// The fields at fault.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldProblem],
    /// The quotas that the request went beyond, by their names in `RateLimit-Policy`.
    #[serde(rename = "violated-policies", skip_serializing_if = "<[_]>::is_empty")]
    violated_policies: &'a [String],
}

/// The media type of problems.
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Problem {
    /// A problem; `code` is the stable name at the end of its `type`.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (detail, headers) = (detail.into(), HeaderMap::new());
        let (errors, violated_policies) = (Vec::new(), Vec::new());
        Self(Box::new(Parts { status, code, title, detail, errors, violated_policies, headers }))
    }

    /// 404 for something a request names.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 400: the request cannot be read.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// 409: not in the state that things are in.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 422: well-formed, but fields have values that are not possible.
    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.field, one.message),
            many => format!("{} fields are not valid; see `errors`.", many.len()),
        };
        let title = "Invalid request";
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail);
        problem.0.errors = errors;
        problem
    }

    /// 422 for one field.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldProblem::new(field, message)])
    }

    /// 500. What went wrong goes to the log only.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        let detail = "Something went wrong on the server. The request id leads to it in the server's log.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// 503: for now. What went wrong goes to the log only.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable", detail);
        problem.header(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// The answer has this header too.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The problem for an answer with a bare status that a library made.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (code, title, detail) = match status {
            StatusCode::BAD_REQUEST => ("bad-request", "Bad request", "The request cannot be read."),
            StatusCode::NOT_FOUND => ("not-found", "Not found", "There is nothing at this path."),
            StatusCode::METHOD_NOT_ALLOWED => (
                "method-not-allowed",
                "Method not allowed",
                "See the Allow header for the methods of this path.",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "Content too large", "The body is too large."),
            StatusCode::REQUEST_TIMEOUT => ("timeout", "Request timeout", "The body did not arrive in time."),
            StatusCode::UPGRADE_REQUIRED => (
                "upgrade-required",
                "Upgrade required",
                "This is a WebSocket endpoint: upgrade the connection.",
            ),
            status if status.is_server_error() => {
                let mut problem = Self::internal(format_args!("bare status {status}"));
                problem.0.status = status;
                return problem;
            }
            _ => ("refused", "Request refused", "The request was refused."),
        };
        Self::new(status, code, title, detail)
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable name of the kind, also the `code` of WebSocket errors.
    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    /// What happened, for the client.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The body, with the id of the request.
    pub(crate) fn body(&self, request_id: &str) -> Vec<u8> {
        let Parts { status, code, title, detail, errors, violated_policies, .. } = &*self.0;
        let kind = format!("/docs/errors/{code}");
        let document = ProblemDocument {
            kind,
            title,
            status: status.as_u16(),
            detail,
            request_id,
            errors,
            violated_policies,
        };
        // Strings and a number always serialise.
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl FieldProblem {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), help: None }
    }
}

/// Without its body, which [`crate::frame`] writes.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, self.0.headers.clone()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem =
            Self::new(refusal.status(), refusal.kind().code(), refusal.title(), refusal.detail());
        refusal.write_headers(&mut problem.0.headers);
        problem.0.violated_policies = refusal.violated_policies().to_vec();
        problem
    }
}

impl From<AdministrationError> for Problem {
    fn from(error: AdministrationError) -> Self {
        match error {
            AdministrationError::Unknown(what) => Self::not_found(format!("There is no such {what}.")),
            AdministrationError::Conflict(detail) => Self::conflict(detail),
            AdministrationError::Invalid { field, message } => Self::invalid_field(field, message),
            AdministrationError::Refused(refusal) => refusal.into(),
            AdministrationError::Settings(error) => Self::conflict(error.to_string()),
            AdministrationError::State(error) => {
                tracing::error!(%error, "the store failed");
                Self::unavailable("The server cannot reach its store now; nothing was changed. Try again.")
            }
            other => Self::internal(other),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        Self::unavailable("The server cannot reach its store now; try again.")
    }
}

/// Says nothing of where the files are: the log does.
impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let text = error.to_string();
        match error {
            BackupError::Unsupported | BackupError::Busy => Self::conflict(text),
            BackupError::Exists { .. } => Self::conflict(
                "There is a file of that name already; choose another, or ask for it to be replaced.",
            ),
            BackupError::Refused { why, .. } => {
                Self::conflict(format!("The file of that name is not replaced: {why}. Choose another name."))
            }
            BackupError::Store(StoreError::Closed) => Self::unavailable("The server is stopping."),
            BackupError::Store(_) => {
                tracing::error!(error = %text, "the store could not be copied");
                Self::unavailable(
                    "The copy could not be made, and nothing is left of it; the log of the server says why.",
                )
            }
            _ => Self::internal(text),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::UnknownPipeline(_) => Self::not_found(text),
            SubmitError::Parameters(errors) => Self::invalid(
                errors.into_iter().map(|error| FieldProblem::new(error.field, error.message)).collect(),
            ),
            SubmitError::NotRunnable(_) => {
                Self::new(StatusCode::CONFLICT, "not-runnable", "Not runnable here", text)
            }
            SubmitError::TooManyOpen { .. } => {
                let problem =
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", "Quota exceeded", text);
                problem.header(RETRY_AFTER, HeaderValue::from_static("1"))
            }
            SubmitError::Busy | SubmitError::ShuttingDown => Self::unavailable(text),
            SubmitError::Store(error) => error.into(),
            _ => Self::internal(text),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::UnknownRun(_)
            | ControlError::UnknownSignal(_)
            | ControlError::UnknownStep(_)
            | ControlError::UnknownDeadLetter(..)
            | ControlError::UnknownWebhook(_)
            | ControlError::UnknownDelivery(_) => Self::not_found(text),
            ControlError::Illegal { .. } | ControlError::TooManySignals => Self::conflict(text),
            ControlError::Submit(error) => error.into(),
            ControlError::ShuttingDown => Self::unavailable(text),
            ControlError::Store(error) => error.into(),
            _ => Self::internal(text),
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        let text = error.to_string();
        match error {
            RegisterError::Exists(_) | RegisterError::ReadOnly(_) => Self::conflict(text),
            RegisterError::Unknown(_) => Self::not_found(text),
            RegisterError::Wiring(errors) => Self::invalid(
                errors
                    .into_iter()
                    .map(|error| FieldProblem {
                        field: error
                            .task
                            .map_or(error.field.to_owned(), |task| format!("tasks.{task}.{}", error.field)),
                        message: error.message,
                        help: Some(error.help),
                    })
                    .collect(),
            ),
            RegisterError::Webhook(message) => Self::invalid_field("on_event", message),
            RegisterError::Schedule(error) => error.into(),
            RegisterError::Store(error) => error.into(),
            _ => Self::internal(text),
        }
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        let text = error.to_string();
        match error {
            ScheduleError::Unknown(_) => Self::not_found(text),
            ScheduleError::Exists(_) | ScheduleError::TooMany { .. } => Self::conflict(text),
            ScheduleError::Invalid { field, message } => Self::invalid_field(field, message),
            ScheduleError::Submit(error) => error.into(),
            ScheduleError::Store(error) => error.into(),
            _ => Self::internal(text),
        }
    }
}

/// The mistakes in a definition.
impl From<Diagnostics> for Problem {
    fn from(diagnostics: Diagnostics) -> Self {
        let errors = diagnostics.iter().map(|diagnostic| FieldProblem {
            field: diagnostic.field().trim_start_matches('/').replace('/', "."),
            message: diagnostic.message().to_owned(),
            help: diagnostic.help_text().map(str::to_owned),
        });
        Self::invalid(errors.collect())
    }
}
