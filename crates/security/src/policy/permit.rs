//! The proof that the policy said yes.

use std::sync::Arc;

use super::Resource;
use crate::permission::Permission;
use crate::principal::Principal;

/// A principal's permission on a resource, granted by the policy. Functions that do what needs a permission take one,
/// so that there is no way to them around [`super::Policy::authorize`]: a permit can be made nowhere else.
///
/// A permit is for the request it was given to. Who keeps one (an open socket) asks again when the policy changes.
#[derive(Debug, Clone)]
#[must_use = "a permit is for the function that needs it"]
pub struct Permit {
    principal: Arc<Principal>,
    permission: Permission,
    resource: Granted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Granted {
    Pipeline(String),
    AnyPipeline,
    SecurityAdmin,
    WholeServer,
    Myself,
}

impl Permit {
    pub(super) fn grant(principal: Arc<Principal>, permission: Permission, resource: Resource<'_>) -> Self {
        let resource = match resource {
            Resource::Pipeline(pipeline) => Granted::Pipeline(pipeline.to_owned()),
            Resource::AnyPipeline => Granted::AnyPipeline,
            Resource::SecurityAdmin => Granted::SecurityAdmin,
            Resource::WholeServer => Granted::WholeServer,
            Resource::Myself => Granted::Myself,
        };
        Permit { principal, permission, resource }
    }

    /// Whom it was granted to.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// What was granted.
    pub fn permission(&self) -> Permission {
        self.permission
    }

    /// On what.
    pub fn resource(&self) -> Resource<'_> {
        match &self.resource {
            Granted::Pipeline(pipeline) => Resource::Pipeline(pipeline),
            Granted::AnyPipeline => Resource::AnyPipeline,
            Granted::SecurityAdmin => Resource::SecurityAdmin,
            Granted::WholeServer => Resource::WholeServer,
            Granted::Myself => Resource::Myself,
        }
    }

    /// The pipeline it is for, if for one.
    pub fn pipeline(&self) -> Option<&str> {
        match &self.resource {
            Granted::Pipeline(pipeline) => Some(pipeline),
            _ => None,
        }
    }
}
