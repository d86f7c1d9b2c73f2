//! What a caller says about an event, in a form that is cheap to hand over.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::event::{AuditEvent, Outcome};

/// Somebody a record can name. What names a caller anyway (a principal) implements it, so that an entry shares it
/// instead of copying it for each record.
pub trait AuditSubject: fmt::Debug + Send + Sync {
    /// Its names, as records write them.
    fn names(&self) -> SubjectNames<'_>;
}

/// The names of an [`AuditSubject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectNames<'a> {
    /// Of a key its `id`, of a token its `sub`. Never the credential.
    pub id: Cow<'a, str>,
    /// `api_key`, `jwt` or `anonymous`.
    pub kind: &'a str,
    /// Who issued the token, where tokens of several issuers are accepted.
    pub issuer: Option<&'a str>,
    /// Its roles.
    pub roles: &'a [String],
}

/// A request that records can name. What holds a request's facts anyway implements it, so that its records share them.
pub trait AuditRequest: fmt::Debug + Send + Sync {
    /// What records say of it.
    fn facts(&self) -> RequestNames<'_>;
}

/// What records say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestNames<'a> {
    /// The request's identifier, as in the answer.
    pub id: &'a str,
    /// HTTP method.
    pub method: &'a str,
    /// Path, without the query.
    pub path: &'a str,
    /// Address of the client, if known.
    pub ip: Option<IpAddr>,
    /// The endpoint's name: the `action` of records that say no other.
    pub endpoint: Option<&'static str>,
}

/// A request described by three texts.
#[derive(Debug)]
struct Described {
    id: String,
    method: String,
    path: String,
}

/// What a caller says about an event; the log adds number, time and hashes.
///
/// Names and identifiers are cut to 256 characters, `path`, `action` and `detail` to 1024, roles to 16 of 64
/// characters; what was cut ends in `…`. The log does not look for secrets: never put a credential or a
/// parameter value in.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// What happened.
    pub event: AuditEvent,
    /// How it ended.
    pub outcome: Outcome,
    /// Who did it, if known.
    pub principal: Option<Arc<dyn AuditSubject>>,
    /// The request it happened in, if any.
    pub request: Option<Arc<dyn AuditRequest>>,
    /// What was asked; absent: the endpoint of the request.
    pub action: Option<Cow<'static, str>>,
    /// The pipeline concerned.
    pub pipeline_id: Option<String>,
    /// The run concerned.
    pub run_id: Option<String>,
    /// Address of the client; absent: that of the request.
    pub ip: Option<IpAddr>,
    /// HTTP status or WebSocket close code of the answer.
    pub status: Option<u16>,
    /// Anything else, for people.
    pub detail: Option<Cow<'static, str>>,
}

impl AuditEntry {
    /// An entry that says nothing else yet.
    pub fn new(event: AuditEvent, outcome: Outcome) -> Self {
        Self {
            event,
            outcome,
            principal: None,
            request: None,
            action: None,
            pipeline_id: None,
            run_id: None,
            ip: None,
            status: None,
            detail: None,
        }
    }

    /// Says who.
    #[must_use]
    pub fn principal(mut self, principal: impl AuditSubject + 'static) -> Self {
        self.principal = Some(Arc::new(principal));
        self
    }

    /// Says what was asked.
    #[must_use]
    pub fn action(mut self, action: impl Into<Cow<'static, str>>) -> Self {
        self.action = Some(action.into());
        self
    }

    /// Says on which pipeline.
    #[must_use]
    pub fn pipeline_id(mut self, id: impl Into<String>) -> Self {
        self.pipeline_id = Some(id.into());
        self
    }

    /// Says on which run.
    #[must_use]
    pub fn run_id(mut self, id: impl Into<String>) -> Self {
        self.run_id = Some(id.into());
        self
    }

    /// Says from where.
    #[must_use]
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// Says in which request: its identifier, method and path (without the query).
    #[must_use]
    pub fn request(
        mut self,
        id: impl Into<String>,
        method: impl Into<String>,
        path: impl Into<String>,
    ) -> Self {
        let described = Described { id: id.into(), method: method.into(), path: path.into() };
        self.request = Some(Arc::new(described));
        self
    }

    /// Says how it was answered.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Says more.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What the request says.
    pub(crate) fn facts(&self) -> Option<RequestNames<'_>> {
        self.request.as_deref().map(AuditRequest::facts)
    }

    /// From where it came, as far as is known.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.ip.or_else(|| self.facts()?.ip)
    }

    /// About how many bytes it holds on to.
    pub(crate) fn weight(&self) -> usize {
        let request = self.facts().map_or(0, |facts| facts.id.len() + facts.method.len() + facts.path.len());
        let own = [&self.pipeline_id, &self.run_id].into_iter().flatten().map(String::len).sum::<usize>();
        let texts = [&self.action, &self.detail].into_iter().flatten().map(|text| match text {
            Cow::Borrowed(_) => 0,
            Cow::Owned(text) => text.len(),
        });
        size_of::<Self>() + request + own + texts.sum::<usize>()
    }
}

impl AuditRequest for Described {
    fn facts(&self) -> RequestNames<'_> {
        let Self { id, method, path } = self;
        RequestNames { id, method, path, ip: None, endpoint: None }
    }
}
