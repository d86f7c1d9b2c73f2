//! What the matrix is asked about: the callers, and the pipelines with a run and a schedule each.

use crate::model::{Acl, Pipeline, Rights};

/// A credential as it is presented.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// None.
    None,
    /// In `X-API-Key`.
    Key(String),
    /// In `Authorization`.
    Token(String),
    /// A client certificate, by the name under which the client has it
    /// ([`Client::with_certificate`](crate::client::Client::with_certificate)).
    Certificate(String),
}

/// What the server must make of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is none: 401.
    Absent,
    /// A key that is not accepted: 403.
    BadKey,
    /// A token that is not accepted: 401.
    BadToken,
    /// It is good for this.
    Good(Rights),
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What the report calls it, such as `revoked key`.
    pub name: String,
    /// What it presents.
    pub credential: Credential,
    /// What must become of it.
    pub standing: Standing,
}

/// A pipeline, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// A run of it that has ended well; of a pipeline that is not there, a run that is not there.
    pub run: String,
    /// A schedule of it, as the run.
    pub schedule: String,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Who asks.
    pub callers: Vec<Caller>,
    /// For what. The first is there and has no ACL.
    pub targets: Vec<Target>,
    /// Every ACL of the server.
    pub acls: Vec<Acl>,
    /// Where the measurements are; none: nowhere.
    pub metrics: Option<String>,
}

impl Caller {
    /// Somebody with a good key.
    pub fn with_key(name: &str, key: &str, rights: Rights) -> Self {
        let credential = Credential::Key(key.to_owned());
        Self { name: name.to_owned(), credential, standing: Standing::Good(rights) }
    }

    /// Somebody with a good token.
    pub fn with_token(name: &str, token: &str, rights: Rights) -> Self {
        let credential = Credential::Token(token.to_owned());
        Self { name: name.to_owned(), credential, standing: Standing::Good(rights) }
    }

    /// Somebody with a key that is not accepted.
    pub fn with_bad_key(name: &str, key: &str) -> Self {
        let credential = Credential::Key(key.to_owned());
        Self { name: name.to_owned(), credential, standing: Standing::BadKey }
    }

    /// Somebody with a token that is not accepted.
    pub fn with_bad_token(name: &str, token: &str) -> Self {
        let credential = Credential::Token(token.to_owned());
        Self { name: name.to_owned(), credential, standing: Standing::BadToken }
    }

    /// Somebody with a certificate that is a credential.
    pub fn with_certificate(name: &str, certificate: &str, rights: Rights) -> Self {
        let credential = Credential::Certificate(certificate.to_owned());
        Self { name: name.to_owned(), credential, standing: Standing::Good(rights) }
    }

    /// Somebody with a certificate that is none: as good as nothing.
    pub fn with_idle_certificate(name: &str, certificate: &str) -> Self {
        let credential = Credential::Certificate(certificate.to_owned());
        Self { name: name.to_owned(), credential, standing: Standing::Absent }
    }

    /// Somebody without credential.
    pub fn nobody() -> Self {
        Self { name: "no credential".to_owned(), credential: Credential::None, standing: Standing::Absent }
    }

    /// Whether what it presents must be refused as no good credential.
    pub fn is_bad(&self) -> bool {
        matches!(self.standing, Standing::BadKey | Standing::BadToken)
    }
}

/// Shows no credential.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::None => "None",
            Credential::Key(_) => "Key",
            Credential::Token(_) => "Token",
            Credential::Certificate(_) => "Certificate",
        })
    }
}
