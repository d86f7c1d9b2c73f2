//! The checks before a handler, and their order.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use jiff::Timestamp;

use super::credential::{self, Presented};
use super::{Access, Admission, CredentialState, Guard, Request, RequestFacts};
use crate::api_key::UnknownKey;
use crate::audit::{AuditEvent, Outcome};
use crate::https::ClientInfo;
use crate::principal::Principal;
use crate::rate_limit::{Decision, Limit, ip_key, rate_limit_headers};
use crate::refusal::{Refusal, RefusalKind};
use crate::settings::{AuthProvider, HandshakeAuth, RateLimitKey, Settings};

/// A request on its way through the checks.
struct Passage<'a> {
    settings: &'a Settings,
    request: Arc<Request>,
    limit: &'a Limit,
    /// How its client's address is counted.
    address: String,
    /// Whether it asks for [`Access::Probe`].
    probe: bool,
    /// The tightest decision so far.
    decision: Option<Decision>,
}

/// Why a credential was refused.
struct BadCredential {
    refusal: Refusal,
    /// Whose it was, when it once was good.
    principal: Option<Arc<Principal>>,
}

impl Guard {
    /// Decides whether a request may go on. What it decides is recorded.
    ///
    /// # Errors
    /// The refusal to answer with; its headers carry the state of the rate limit too.
    pub async fn admit(
        &self,
        endpoint: &'static str,
        access: Access,
        facts: RequestFacts<'_>,
    ) -> Result<Admission, Refusal> {
        let settings = self.settings();
        // The header that asks for an upgrade is the client's own; elsewhere it must not stand in for HTTPS.
        let upgrade = facts.websocket_upgrade && access == Access::WebSocket;
        let client = facts
            .client
            .filter(|_| !upgrade)
            .unwrap_or_else(|| settings.client_info(facts.peer, facts.native_tls, facts.headers, upgrade));
        let request = Arc::new(Request {
            endpoint,
            method: facts.method.clone(),
            path: facts.path.to_owned(),
            id: facts.request_id.to_owned(),
            ip: client.ip,
            certificate: facts.certificate.cloned(),
        });
        if !settings.enabled {
            return Ok(Admission {
                principal: Principal::open(),
                credential: CredentialState::Accepted,
                client,
                request,
                rate_headers: Arc::default(),
            });
        }
        let mut passage = Passage {
            settings: &settings,
            limit: settings.limits.of(endpoint),
            address: ip_key(request.ip),
            request,
            probe: access == Access::Probe,
            decision: None,
        };
        let outcome = self.pass(&mut passage, access, &facts, &client).await;
        let rate_headers = passage.headers();
        match outcome {
            Ok((principal, credential)) => {
                Ok(Admission { principal, credential, client, request: passage.request, rate_headers })
            }
            Err(refusal) => {
                metrics::counter!("taskiq_flow_refusals_total", "kind" => refusal.kind().code()).increment(1);
                Err(refusal.with_headers(&rate_headers))
            }
        }
    }

    async fn pass(
        &self,
        passage: &mut Passage<'_>,
        access: Access,
        facts: &RequestFacts<'_>,
        client: &ClientInfo,
    ) -> Result<(Arc<Principal>, CredentialState), Refusal> {
        let settings = passage.settings;
        if settings.require_https && !client.secure && access != Access::Probe {
            let refusal = Refusal::new(RefusalKind::HttpsRequired, "plain HTTP, https required");
            return Err(self.refuse(
                passage,
                AuditEvent::AuthorizationDenied,
                Outcome::Denied,
                None,
                refusal,
            ));
        }
        let by_ip = settings.limits.key != RateLimitKey::Principal || access != Access::Authenticated;
        if by_ip {
            let bucket = passage.bucket_of_address();
            self.spend(passage, bucket, None).await?;
        }
        match access {
            Access::Public | Access::Probe => {
                return Ok((Principal::anonymous(), CredentialState::NotNeeded));
            }
            Access::Authenticated => {}
            Access::WebSocket => self.check_origin(passage, facts, client)?,
        }

        let presented = credential::presented(facts.headers, settings)
            .map_err(|refusal| self.refuse_credential(passage, refusal, "headers", None))?;
        let Some(presented) = presented else {
            return match self.by_certificate(passage, access, facts, client)? {
                Ok(principal) => {
                    self.spend_principal(passage, &principal).await?;
                    Ok((principal, CredentialState::Accepted))
                }
                Err(reason) => self.without_credential(passage, access, reason).await,
            };
        };
        let principal = self.authenticate(passage, presented).await?;
        self.spend_principal(passage, &principal).await?;
        Ok((principal, CredentialState::Accepted))
    }

    /// Checks the credential of a WebSocket `connect` message: a key or a token, told apart by shape. On success the
    /// socket goes on as the returned admission.
    ///
    /// # Errors
    /// The refusal; the socket gets its code in an `error` message and is closed.
    pub async fn authenticate_message(&self, socket: &Admission, text: &str) -> Result<Admission, Refusal> {
        let settings = self.settings();
        if !settings.enabled {
            return Ok(socket.with_principal(Principal::open()));
        }
        let limit = settings.limits.of(socket.request.endpoint);
        let mut passage = Passage {
            settings: &settings,
            limit,
            address: ip_key(socket.request.ip),
            request: socket.request.clone(),
            probe: false,
            decision: None,
        };
        let Some(presented) = credential::in_message(text, &settings) else {
            let refusal = passage.missing_credential("empty credential in connect message");
            return Err(self.refuse_credential(&passage, refusal, "connect message", None));
        };
        let principal = self.authenticate(&passage, presented).await?;
        self.spend_principal(&mut passage, &principal).await?;
        Ok(socket.with_principal(principal))
    }

    /// Whose certificate the request came with, or why it is nobody's: then the request is one without credential.
    ///
    /// Browsers show a certificate to every page that asks for something here, as they do with cookies: what a foreign
    /// page had them ask is refused.
    fn by_certificate(
        &self,
        passage: &Passage<'_>,
        access: Access,
        facts: &RequestFacts<'_>,
        client: &ClientInfo,
    ) -> Result<Result<Arc<Principal>, Cow<'static, str>>, Refusal> {
        let settings = passage.settings;
        let Some(certificate) = facts.certificate.filter(|_| settings.provider == AuthProvider::ApiKey)
        else {
            return Ok(Err("no credential".into()));
        };
        if credential::has_header(facts.headers) {
            // Whose it is decides, and here it is nobody's: a program with a certificate may be passing it on.
            return Ok(Err("no credential but a certificate, beside a header that is none here".into()));
        }
        let principal = match settings.certificates.find(certificate, client.ip, Timestamp::now()) {
            Ok(principal) => principal,
            Err(reason) => return Ok(Err(format!("no credential but a certificate: {reason}").into())),
        };
        if access != Access::WebSocket {
            self.check_origin(passage, facts, client)?;
        }
        if facts.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
            && facts.headers.get(ORIGIN).is_none()
        {
            let refusal = Refusal::new(RefusalKind::ForeignOrigin, "a foreign page, by Sec-Fetch-Site");
            let (event, outcome) = (AuditEvent::AuthorizationDenied, Outcome::Denied);
            return Err(self.refuse(passage, event, outcome, Some(&principal), refusal));
        }
        self.record_authentication(&passage.request, &principal, "certificate")?;
        Ok(Ok(principal))
    }

    /// What a request without credential may still be; `reason` says why it has none.
    async fn without_credential(
        &self,
        passage: &mut Passage<'_>,
        access: Access,
        reason: Cow<'static, str>,
    ) -> Result<(Arc<Principal>, CredentialState), Refusal> {
        let settings = passage.settings;
        if access == Access::WebSocket && settings.handshake_auth == HandshakeAuth::Optional {
            let state = if settings.websocket_require_auth {
                CredentialState::Awaited
            } else {
                CredentialState::Anonymous
            };
            return Ok((Principal::anonymous(), state));
        }
        if settings.limits.key == RateLimitKey::Principal && access == Access::Authenticated {
            // Nobody to count by: by address then, or these requests would have no limit.
            let bucket = passage.bucket_of_address();
            self.spend(passage, bucket, None).await?;
        }
        let refusal = passage.missing_credential(reason);
        Err(self.refuse_credential(passage, refusal, "none", None))
    }

    /// Whose credential this is. Invalid ones are counted by address; too many, and none is looked at any more.
    async fn authenticate(
        &self,
        passage: &Passage<'_>,
        presented: Presented<'_>,
    ) -> Result<Arc<Principal>, Refusal> {
        let bucket = ["auth_failure|ip|", &passage.address].concat();
        let limit = passage.settings.limits.auth_failure.as_ref();
        if let Some(limit) = limit {
            let decision = self.inner.limiter.peek(&bucket, limit).await;
            if !decision.allowed {
                return Err(self.refuse_guesser(passage, &decision));
            }
        }
        match self.verify(passage.settings, presented, &passage.request).await {
            Ok(principal) => {
                self.record_authentication(&passage.request, &principal, presented.method())?;
                Ok(principal)
            }
            Err(bad) => {
                self.note_invalid_credential(presented.method());
                if let Some(limit) = limit {
                    // Others at the same moment may have spent the rest: so many are told that they are wrong, no more.
                    let decision = self.inner.limiter.check(&bucket, limit).await;
                    if !decision.allowed {
                        return Err(self.refuse_guesser(passage, &decision));
                    }
                }
                Err(self.refuse_credential(passage, bad.refusal, presented.method(), bad.principal))
            }
        }
    }

    /// Whose credential this is, by the settings in force now.
    async fn verify(
        &self,
        settings: &Settings,
        presented: Presented<'_>,
        request: &Request,
    ) -> Result<Arc<Principal>, BadCredential> {
        let now = Timestamp::now();
        match presented {
            Presented::ApiKey(key) if settings.provider == AuthProvider::ApiKey => {
                settings.keys.find(key, request.ip, now).map_err(|unknown| BadCredential {
                    refusal: Refusal::new(RefusalKind::InvalidKey, unknown.to_string()),
                    principal: match unknown {
                        UnknownKey::Expired(principal) | UnknownKey::Elsewhere(principal) => Some(principal),
                        UnknownKey::Unknown | UnknownKey::Mistyped => None,
                    },
                })
            }
            Presented::ApiKey(_) | Presented::UnreadableKey => Err(BadCredential {
                refusal: Refusal::new(RefusalKind::InvalidKey, "unreadable key"),
                principal: None,
            }),
            Presented::Token(token) => {
                let Some(tokens) = settings.tokens.as_ref() else {
                    return Err(bad_token("tokens are not accepted".to_owned(), None));
                };
                // On the heap: every other request would carry the room for fetching keys along.
                let verified = Box::pin(tokens.verify_or_fetch(token, now)).await;
                let principal = verified.map_err(|error| bad_token(error.to_string(), None))?;
                match self.check_bearer(&principal, request.certificate.as_ref(), now) {
                    Ok(()) => Ok(principal),
                    Err(error) => Err(bad_token(error.to_string(), Some(principal))),
                }
            }
            Presented::UnreadableToken => Err(bad_token("unreadable token".to_owned(), None)),
        }
    }

    fn refuse_guesser(&self, passage: &Passage<'_>, decision: &Decision) -> Refusal {
        let refusal = Refusal::rate_limited(decision, "too many invalid credentials from this address");
        self.refuse(passage, AuditEvent::RateLimitExceeded, Outcome::Throttled, None, refusal)
    }

    async fn spend_principal(
        &self,
        passage: &mut Passage<'_>,
        principal: &Arc<Principal>,
    ) -> Result<(), Refusal> {
        if passage.settings.limits.key == RateLimitKey::Ip {
            return Ok(());
        }
        let bucket = [passage.request.endpoint, "|principal|", &principal.unique_name()].concat();
        self.spend(passage, bucket, Some(principal)).await
    }

    async fn spend(
        &self,
        passage: &mut Passage<'_>,
        bucket: String,
        principal: Option<&Arc<Principal>>,
    ) -> Result<(), Refusal> {
        if !passage.settings.limits.enabled {
            return Ok(());
        }
        let endpoint = passage.request.endpoint;
        // A probe that failed because the shared storage is away would have every replica restarted for it.
        let decision = match passage.probe {
            true => self.inner.limiter.check_here(&bucket, passage.limit),
            false => self.inner.limiter.check(&bucket, passage.limit).await,
        };
        passage.decision = Some(passage.decision.map_or(decision, |earlier| earlier.tighter(decision)));
        if decision.allowed {
            return Ok(());
        }
        let by = if principal.is_some() { "by principal" } else { "by address" };
        let refusal = Refusal::rate_limited(
            &decision,
            format!("limit of {endpoint} ({}) exceeded {by}", passage.limit),
        );
        Err(self.refuse(passage, AuditEvent::RateLimitExceeded, Outcome::Throttled, principal, refusal))
    }

    /// A web page may open a socket only when it is ours or on the list: browsers send credentials of the server's
    /// own origin along, and do not apply the same-origin rule to sockets themselves. Who sends no `Origin` is no page.
    fn check_origin(
        &self,
        passage: &Passage<'_>,
        facts: &RequestFacts<'_>,
        client: &ClientInfo,
    ) -> Result<(), Refusal> {
        let mut origins = facts.headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        let host = facts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let allowed = origins.next().is_none()
            && origin
                .to_str()
                .is_ok_and(|origin| passage.settings.origins.allows(origin, host, client.secure));
        if allowed {
            return Ok(());
        }
        let refusal = Refusal::new(RefusalKind::ForeignOrigin, "foreign origin");
        Err(self.refuse(passage, AuditEvent::WebsocketDenied, Outcome::Denied, None, refusal))
    }

    fn refuse_credential(
        &self,
        passage: &Passage<'_>,
        refusal: Refusal,
        method: &str,
        principal: Option<Arc<Principal>>,
    ) -> Refusal {
        let reason = format!("{method}: {}", refusal.reason()).into();
        self.refuse_as(
            passage,
            AuditEvent::AuthenticationFailure,
            Outcome::Failure,
            principal.as_ref(),
            refusal,
            reason,
        )
    }

    fn refuse(
        &self,
        passage: &Passage<'_>,
        event: AuditEvent,
        outcome: Outcome,
        principal: Option<&Arc<Principal>>,
        refusal: Refusal,
    ) -> Refusal {
        let reason = refusal.reason().to_owned().into();
        self.refuse_as(passage, event, outcome, principal, refusal, reason)
    }

    /// Records the refusal. When it must be recorded and cannot be, the answer says that instead.
    fn refuse_as(
        &self,
        passage: &Passage<'_>,
        event: AuditEvent,
        outcome: Outcome,
        principal: Option<&Arc<Principal>>,
        refusal: Refusal,
        reason: Cow<'static, str>,
    ) -> Refusal {
        match self.record_refusal(&passage.request, principal, event, outcome, &refusal, reason) {
            Ok(()) => refusal,
            Err(unavailable) => unavailable,
        }
    }
}

impl Passage<'_> {
    fn bucket_of_address(&self) -> String {
        [self.request.endpoint, "|ip|", &self.address].concat()
    }

    fn missing_credential(&self, reason: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::unauthorized(RefusalKind::MissingCredential, reason, credential::challenge(self.settings))
    }

    fn headers(&self) -> Arc<[(HeaderName, HeaderValue)]> {
        match &self.decision {
            Some(decision) => Arc::new(rate_limit_headers(self.request.endpoint, self.limit, decision)),
            None => Arc::default(),
        }
    }
}

fn bad_token(reason: String, principal: Option<Arc<Principal>>) -> BadCredential {
    let challenge = credential::INVALID_TOKEN_CHALLENGE;
    BadCredential { refusal: Refusal::unauthorized(RefusalKind::InvalidToken, reason, challenge), principal }
}
