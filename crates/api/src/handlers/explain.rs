//! `/security/explain`: why somebody may do something or not, and what would turn that.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_security::permission::{Permission, PermissionSet};
use taskiq_flow_security::policy::{Explanation, Finding, Policy, Resource, Rule};
use taskiq_flow_security::settings::{Settings, Subject, SubjectError};
use utoipa::ToSchema;

use super::Allowed;
use crate::input::Body;
use crate::problem::Problem;
use crate::state::AppState;

/// Who asks for what. The fields of `principal` may stand beside the others as well.
// They are written twice: serde's `flatten` would let unknown fields through.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainRequest {
    /// Whose decision: the id of a key or a certificate's entry, or what a key or token says.
    principal: Option<SubjectOrId>,
    /// The id of a key.
    key_id: Option<String>,
    /// The id of an entry of `client_certificates`, or its name, such as `CN=robot`.
    certificate: Option<String>,
    /// `api_key`, `certificate`, `jwt` or `anonymous`; `jwt` where there are only `roles`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Of a token, or of a key that might be made.
    roles: Option<Vec<String>>,
    /// One role.
    role: Option<String>,
    /// Of a key that might be made; absent or `*`: all.
    pipelines: Option<Vec<String>>,
    /// Of a key that might be made.
    permissions: Option<Vec<String>>,
    /// `read`, `execute` or `admin`.
    permission: String,
    /// On which pipeline.
    pipeline_id: Option<String>,
    /// On what, where it is not one pipeline: `any_pipeline` (lists; the default), `whole_server` (metrics),
    /// `security_admin` or `myself`.
    resource: Option<String>,
}

/// A principal, or the id of a key or a certificate's entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum SubjectOrId {
    Id(String),
    Described(SubjectDocument),
}

/// A key, a certificate or a token.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SubjectDocument {
    /// The id of a key.
    key_id: Option<String>,
    /// The id of an entry of `client_certificates`, or its name.
    certificate: Option<String>,
    /// `api_key`, `certificate`, `jwt` or `anonymous`.
    #[serde(rename = "type")]
    kind: Option<String>,
    roles: Option<Vec<String>>,
    role: Option<String>,
    pipelines: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
}

/// A decision with its reasons.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Explanation)]
pub(crate) struct ExplanationDocument {
    /// The answer such a request would get.
    allowed: bool,
    /// The rule that decided.
    #[schema(value_type = String)]
    rule: Rule,
    /// The same for people.
    reason: String,
    /// Whose decision it is.
    principal: PrincipalDocument,
    /// What was asked for.
    #[schema(value_type = String)]
    permission: Permission,
    /// On which pipeline; null: not on one.
    pipeline_id: Option<String>,
    /// On what.
    resource: &'static str,
    /// Whether the pipeline is there; null where none was named. The answer does not depend on it.
    pipeline_exists: Option<bool>,
    /// The rules that were looked at, in order. The last one decided.
    chain: Vec<LookDocument>,
    /// What would turn the answer: any one of these. Empty where no change would.
    changes: Vec<ChangeDocument>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PrincipalDocument {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    roles: Vec<String>,
    pipelines: Vec<String>,
    /// Where no ACL speaks.
    #[schema(value_type = Vec<String>)]
    permissions: PermissionSet,
}

/// A rule that was looked at.
#[derive(Debug, Serialize, ToSchema)]
struct LookDocument {
    #[schema(value_type = String)]
    rule: Rule,
    /// `goes_on`, `allows` or `denies`.
    #[schema(value_type = String)]
    verdict: Finding,
    /// For people.
    why: String,
}

/// Edits that together turn the answer.
#[derive(Debug, Serialize, ToSchema)]
struct ChangeDocument {
    /// For people.
    text: String,
    edits: Vec<EditDocument>,
}

#[derive(Debug, Serialize, ToSchema)]
struct EditDocument {
    /// The field, such as `pipeline_acls.etl.read`.
    field: String,
    /// `add`, `remove` or `set`.
    action: &'static str,
    value: String,
}

/// Why somebody may do something or not, and what would turn that. Nothing is done, and no secret is shown.
#[utoipa::path(
    post, path = "/security/explain", tag = "security", request_body = inline(ExplainRequest),
    responses((status = 200, body = ExplanationDocument)),
)]
pub(crate) async fn explain(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
    Body(request): Body<ExplainRequest>,
) -> Result<Json<ExplanationDocument>, Problem> {
    let exists = |id: &PipelineId| state.engine().pipeline(id).is_some();
    Ok(Json(answer(&state.guard().settings(), request, exists)?))
}

/// The answer of `POST /security/explain` to this question, by these settings and without a server. It does not know
/// which pipelines there are.
///
/// # Errors
/// What is wrong with the question, and what was expected.
pub fn explain_by(settings: &Settings, question: Value) -> Result<Value, String> {
    let request = serde_json::from_value(question).map_err(|error| error.to_string())?;
    let mut answer = answer(settings, request, |_| false).map_err(|problem| problem.detail().to_owned())?;
    answer.pipeline_exists = None;
    serde_json::to_value(answer).map_err(|error| error.to_string())
}

fn answer(
    settings: &Settings,
    request: ExplainRequest,
    exists: impl FnOnce(&PipelineId) -> bool,
) -> Result<ExplanationDocument, Problem> {
    let permission = permission("permission", &request.permission)?;
    let pipeline = request.pipeline_id.clone();
    let resource = resource(request.resource.as_deref(), pipeline.as_deref())?;
    let parsed = pipeline.as_deref().map(str::parse::<PipelineId>).transpose();
    let parsed = parsed.map_err(|error| Problem::invalid_field("pipeline_id", error.to_string()))?;
    let pipeline_exists = parsed.as_ref().map(exists);
    let subject = request.subject()?;
    let why = settings.explain(&subject, permission, resource).map_err(|error| match error {
        SubjectError::UnknownKey(_) => Problem::invalid_field("key_id", error.to_string()),
        SubjectError::UnknownCertificate(_) => Problem::invalid_field("certificate", error.to_string()),
        SubjectError::Ambiguous(_) => Problem::invalid_field("principal", error.to_string()),
        error => Problem::invalid_field("pipelines", error.to_string()),
    })?;
    let described = Described { policy: settings.policy(), permission, resource, pipeline_exists };
    Ok(described.document(&why))
}

/// What an explanation is about.
struct Described<'a> {
    policy: &'a Policy,
    permission: Permission,
    resource: Resource<'a>,
    pipeline_exists: Option<bool>,
}

impl Described<'_> {
    fn document(&self, why: &Explanation) -> ExplanationDocument {
        let principal = &why.principal;
        let look = |look: &taskiq_flow_security::policy::Look| LookDocument {
            rule: look.rule,
            verdict: look.finding,
            why: look.describe(self.policy, principal, self.resource),
        };
        let change = |change: &taskiq_flow_security::policy::Change| {
            let edits: Vec<_> = change.edits.iter().map(|edit| edit.describe(principal)).collect();
            let text = edits.iter().map(|edit| edit.text.as_str()).collect::<Vec<_>>().join(", and ");
            let edits = edits.into_iter().map(|edit| EditDocument {
                field: edit.field,
                action: edit.action,
                value: edit.value,
            });
            ChangeDocument { text, edits: edits.collect() }
        };
        let chain: Vec<LookDocument> = why.chain.iter().map(look).collect();
        ExplanationDocument {
            allowed: why.allowed,
            rule: why.rule,
            reason: chain.last().map_or_else(String::new, |last| last.why.clone()),
            principal: PrincipalDocument {
                id: principal.id().to_owned(),
                kind: principal.kind().as_str(),
                roles: principal.roles().to_vec(),
                pipelines: principal.whitelist().to_list(),
                permissions: self.policy.permissions_of(principal),
            },
            permission: self.permission,
            pipeline_id: match self.resource {
                Resource::Pipeline(id) => Some(id.to_owned()),
                _ => None,
            },
            resource: name_of(self.resource),
            pipeline_exists: self.pipeline_exists,
            chain,
            changes: why.changes.iter().map(change).collect(),
        }
    }
}

impl ExplainRequest {
    fn subject(self) -> Result<Subject, Problem> {
        let beside = SubjectDocument {
            key_id: self.key_id,
            certificate: self.certificate,
            kind: self.kind,
            roles: self.roles,
            role: self.role,
            pipelines: self.pipelines,
            permissions: self.permissions,
        };
        match self.principal {
            None => beside.subject(),
            Some(_) if !beside.is_empty() => {
                let message = "is described beside `principal` too; say it in one place";
                Err(Problem::invalid_field("principal", message))
            }
            Some(SubjectOrId::Id(id)) => Ok(Subject::Id(id)),
            Some(SubjectOrId::Described(described)) => described.subject(),
        }
    }
}

impl SubjectDocument {
    fn is_empty(&self) -> bool {
        self.key_id.is_none()
            && self.certificate.is_none()
            && self.kind.is_none()
            && self.roles.is_none()
            && self.role.is_none()
            && self.pipelines.is_none()
            && self.permissions.is_none()
    }

    fn subject(self) -> Result<Subject, Problem> {
        let wrong = |message: &str| Err(Problem::invalid_field("principal", message));
        let described = self.roles.is_some() || self.role.is_some();
        let as_key = self.pipelines.is_some() || self.permissions.is_some();
        let roles: Vec<String> = self.role.into_iter().chain(self.roles.unwrap_or_default()).collect();
        let there = match (self.key_id, self.certificate) {
            (Some(_), Some(_)) => return wrong("name a `key_id` or a `certificate`, not both"),
            (Some(id), None) => Some(("api_key", Subject::Key(id))),
            (None, Some(name)) => Some(("certificate", Subject::Certificate(name))),
            (None, None) => None,
        };
        if let Some((kind, subject)) = there {
            return match self.kind.as_deref().is_none_or(|said| said == kind) && !described && !as_key {
                true => Ok(subject),
                false => wrong("it names what is there already: leave out what that says itself"),
            };
        }
        let kind = match self.kind.as_deref() {
            Some(kind) => kind,
            None if as_key => "api_key",
            None if described => "jwt",
            None => return wrong("name a `key_id` or a `certificate`, or say `type` and `roles`"),
        };
        match kind {
            "api_key" => {
                let permissions = self.permissions.unwrap_or_default();
                let permissions = permissions.iter().map(|text| self::permission("permissions", text));
                Ok(Subject::NewKey {
                    roles,
                    pipelines: self.pipelines.unwrap_or_default(),
                    permissions: permissions.collect::<Result<PermissionSet, _>>()?,
                })
            }
            "certificate" => {
                let message = "name the entry as `certificate`; one that might be made decides as a key that might be made";
                Err(Problem::invalid_field("certificate", message))
            }
            "jwt" if as_key => wrong("a token has `roles` only: what they permit is configured"),
            "jwt" => Ok(Subject::Token { roles }),
            "anonymous" if described || as_key => wrong("an anonymous caller has nothing but its name"),
            "anonymous" => Ok(Subject::Anonymous),
            _ => Err(Problem::invalid_field("type", "expected api_key, certificate, jwt or anonymous")),
        }
    }
}

fn permission(field: &'static str, text: &str) -> Result<Permission, Problem> {
    text.parse().map_err(|error: taskiq_flow_security::permission::UnknownPermission| {
        Problem::invalid_field(field, error.to_string())
    })
}

fn resource<'a>(name: Option<&str>, pipeline: Option<&'a str>) -> Result<Resource<'a>, Problem> {
    match (name, pipeline) {
        (None | Some("pipeline"), Some(id)) => Ok(Resource::Pipeline(id)),
        (Some("pipeline"), None) => Err(Problem::invalid_field("pipeline_id", "is missing")),
        (None | Some("any_pipeline"), None) => Ok(Resource::AnyPipeline),
        (Some("whole_server"), None) => Ok(Resource::WholeServer),
        (Some("security_admin"), None) => Ok(Resource::SecurityAdmin),
        (Some("myself"), None) => Ok(Resource::Myself),
        (Some("any_pipeline" | "whole_server" | "security_admin" | "myself"), Some(_)) => {
            Err(Problem::invalid_field("resource", "is not one pipeline; leave out `pipeline_id`"))
        }
        (Some(_), _) => {
            let expected = "expected pipeline, any_pipeline, whole_server, security_admin or myself";
            Err(Problem::invalid_field("resource", expected))
        }
    }
}

fn name_of(resource: Resource<'_>) -> &'static str {
    match resource {
        Resource::Pipeline(_) => "pipeline",
        Resource::AnyPipeline => "any_pipeline",
        Resource::WholeServer => "whole_server",
        Resource::SecurityAdmin => "security_admin",
        Resource::Myself => "myself",
    }
}
