//! `/security/acls`: who may do what with which pipeline.

use std::collections::BTreeMap;
use std::fmt;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_security::Permission;
use taskiq_flow_security::policy::Acl;
use utoipa::{IntoParams, ToSchema};

use super::Administering;
use crate::input::{Body, Params};
use crate::model::{AclDocument, AclList, AclRow};
use crate::problem::{FieldProblem, Problem};
use crate::state::AppState;

/// Roles by permission, as they are sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes what `AclBody` reads")]
pub(crate) struct NewAcl {
    /// Who may see the pipeline, its runs and their results.
    #[schema(value_type = Vec<String>, required = false)]
    read: Option<Vec<String>>,
    /// Who may start and control its runs.
    #[schema(value_type = Vec<String>, required = false)]
    execute: Option<Vec<String>>,
    /// Who may do everything with it.
    #[schema(value_type = Vec<String>, required = false)]
    admin: Option<Vec<String>>,
}

/// `{permission: [roles]}`, each permission once.
#[derive(Debug)]
pub(crate) struct AclBody(BTreeMap<String, Vec<String>>);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AclRemoval {
    /// `configuration`: what the configuration says of this pipeline holds again. Else it has no access list from now
    /// on, whatever the configuration says.
    to: Option<String>,
}

/// All access lists in force.
#[utoipa::path(get, path = "/security/acls", tag = "security", responses((status = 200, body = AclList)))]
pub(crate) async fn list_acls(
    State(state): State<AppState>,
    Administering(by): Administering,
) -> Result<Json<AclList>, Problem> {
    let acls = state.administration().acls(&by).into_iter().map(AclRow::from).collect();
    Ok(Json(AclList { acls }))
}

/// The access list of a pipeline.
#[utoipa::path(
    get, path = "/security/acls/{id}", tag = "security", params(("id" = String, Path, description = "The pipeline")),
    responses((status = 200, body = AclDocument)),
)]
pub(crate) async fn get_acl(
    State(state): State<AppState>,
    Administering(by): Administering,
    Path(id): Path<String>,
) -> Result<Json<AclDocument>, Problem> {
    let view = state.administration().acl(&by, &id)?;
    Ok(Json(view.acl.into()))
}

/// Sets the access list of a pipeline, for each permission the roles that have it.
///
/// It holds from the next request on, closes what it un-authorises, outlives restarts, and wins over the configuration.
/// The pipeline need not exist yet; the answer warns of that.
#[utoipa::path(
    put, path = "/security/acls/{id}", tag = "security", params(("id" = String, Path, description = "The pipeline")),
    request_body = inline(NewAcl), responses((status = 200, body = AclDocument)),
)]
pub(crate) async fn put_acl(
    State(state): State<AppState>,
    Administering(by): Administering,
    Path(id): Path<String>,
    Body(body): Body<AclBody>,
) -> Result<Json<AclDocument>, Problem> {
    let pipeline =
        id.parse::<PipelineId>().map_err(|error| Problem::invalid_field("pipeline_id", error.to_string()))?;
    let view = state.administration().put_acl(&by, pipeline.as_str(), body.read()?).await?;
    let mut document = AclDocument::from(view.acl);
    if state.engine().pipeline(&pipeline).is_none() {
        document
            .warnings
            .push(format!("There is no pipeline `{pipeline}` now; the list waits for one of that name."));
    }
    Ok(Json(document))
}

/// Removes the access list of a pipeline.
///
/// Whoever has the permission on the pipeline by its key or role alone may use it from then on.
#[utoipa::path(
    delete, path = "/security/acls/{id}", tag = "security",
    params(("id" = String, Path, description = "The pipeline"), AclRemoval), responses((status = 204)),
)]
pub(crate) async fn delete_acl(
    State(state): State<AppState>,
    Administering(by): Administering,
    Path(id): Path<String>,
    Params(removal): Params<AclRemoval>,
) -> Result<StatusCode, Problem> {
    match removal.to.as_deref() {
        None => state.administration().remove_acl(&by, &id).await?,
        Some("configuration") => state.administration().reset_acl(&by, &id).await?,
        Some(_) => return Err(Problem::invalid_field("to", "expected configuration, or nothing")),
    }
    Ok(StatusCode::NO_CONTENT)
}

impl AclBody {
    fn read(self) -> Result<Acl, Problem> {
        let mut mistakes = Vec::new();
        let mut lists = Vec::new();
        for (name, roles) in self.0 {
            match name.parse::<Permission>() {
                Ok(permission) => lists.push((permission, roles)),
                Err(error) => mistakes.push(FieldProblem::new(name, error.to_string())),
            }
        }
        if mistakes.is_empty() { Ok(Acl::new(lists)) } else { Err(Problem::invalid(mistakes)) }
    }
}

impl<'de> Deserialize<'de> for AclBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lists;

        impl<'de> Visitor<'de> for Lists {
            type Value = AclBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of permissions, each with a list of roles")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AclBody, A::Error> {
                let mut lists = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if lists.insert(name.clone(), map.next_value()?).is_some() {
                        return Err(serde::de::Error::custom(format_args!("duplicate field `{name}`")));
                    }
                }
                Ok(AclBody(lists))
            }
        }

        deserializer.deserialize_map(Lists)
    }
}
