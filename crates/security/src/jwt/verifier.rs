//! Checking a token.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::claims::{self, Claims, Header, Parts};
use super::error::JwtError;
use super::jwks::{KeySource, PATIENCE};
use super::key::{JwtAlgorithm, JwtKeyError, VerifyingKey};
use super::trust::Trust;
use crate::permission::PermissionSet;
use crate::principal::{Principal, PrincipalKind, Proof, TokenProof};
use crate::whitelist::Whitelist;

/// The clock leeway when none is configured.
pub const DEFAULT_LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// The greatest leeway that may be configured. More would turn expiry into a suggestion.
pub const MAX_LEEWAY: SignedDuration = SignedDuration::from_mins(10);

/// The most signatures checked for one token. Only one without `kid` can ask for more than a few.
const MAX_TRIES: usize = 32;

/// Checks tokens.
#[derive(Debug, Clone)]
pub struct JwtVerifier {
    trusts: Vec<Trust>,
    leeway: SignedDuration,
    /// The issuers that have keys of their own.
    named: Vec<String>,
    /// Whether subjects of several issuers must be told apart.
    several_issuers: bool,
}

/// A token whose signature and claims have been read once.
struct Opened {
    header: Header,
    claims: Claims,
}

impl JwtVerifier {
    /// Checks by these, with the default leeway. An issuer that one of them names is bound to it: one that accepts any
    /// issuer does not accept that one.
    ///
    /// # Errors
    /// There is nothing to check with, or two of them name the same issuer.
    pub fn new(trusts: Vec<Trust>) -> Result<Self, JwtKeyError> {
        if trusts.iter().all(Trust::is_empty) {
            return Err(JwtKeyError::NoKey);
        }
        let mut named: Vec<String> = trusts.iter().flat_map(Trust::issuers).cloned().collect();
        named.sort_unstable();
        if let Some(pair) = named.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(JwtKeyError::SameIssuer(pair[0].clone()));
        }
        let several_issuers = trusts.len() > 1 || trusts.iter().any(|trust| trust.issuers().len() != 1);
        Ok(JwtVerifier { trusts, leeway: DEFAULT_LEEWAY, named, several_issuers })
    }

    /// How far clocks may be apart; held to between zero and [`MAX_LEEWAY`].
    #[must_use]
    pub fn with_leeway(mut self, leeway: SignedDuration) -> Self {
        self.leeway = leeway.clamp(SignedDuration::ZERO, MAX_LEEWAY);
        self
    }

    /// Whose token this is, by the keys that are there now.
    ///
    /// # Errors
    /// [`JwtError`] says for the audit record what is wrong; to the client every one of them is `invalid_token`.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Principal>, JwtError> {
        let parts = claims::split(token)?;
        let header = claims::read_header(parts.header)?;
        let algorithm: JwtAlgorithm = header.alg.parse().map_err(|_| JwtError::Algorithm)?;
        let signature = claims::decode_part(parts.signature)?;
        let candidates = self.candidates(algorithm, header.kid.as_deref())?;

        let mut refused = JwtError::Signature;
        let mut opened: Option<Opened> = None;
        for (trust, key) in candidates.iter().take(MAX_TRIES) {
            if !key.verifies(parts.signed.as_bytes(), &signature) {
                continue;
            }
            let token = match opened.take() {
                Some(token) => token,
                None => open(&parts, header.clone())?,
            };
            match self.check(trust, &token, now) {
                Ok(()) => return self.principal(trust, key, token.claims),
                // Another issuer may publish the same key.
                Err(error) => refused = error,
            }
            opened = Some(token);
        }
        Err(refused)
    }

    /// [`JwtVerifier::verify`], once more after the issuers have been asked for keys that are not known yet, where they
    /// may be asked.
    ///
    /// # Errors
    /// See [`JwtVerifier::verify`].
    pub async fn verify_or_fetch(&self, token: &str, now: Timestamp) -> Result<Arc<Principal>, JwtError> {
        match self.verify(token, now) {
            // A wrong signature too: the key tried may be another one of that name, or one without a name.
            Err(JwtError::UnknownKid | JwtError::Signature) if self.look_for_key(token).await => {
                self.verify(token, now)
            }
            verified => verified,
        }
    }

    /// Whether a principal admitted earlier by a token would still be: the key that verified it is still trusted, for
    /// the same issuer, audience and type.
    pub(crate) fn still_trusts(&self, token: &TokenProof) -> bool {
        self.trusts.iter().any(|trust| trust.mark() == token.trust && trust.has_key(token.key))
    }

    /// Whose tokens are accepted.
    pub fn trusts(&self) -> &[Trust] {
        &self.trusts
    }

    /// Whether a token of this algorithm could pass, now or once its issuer publishes a key.
    pub fn accepts(&self, algorithm: JwtAlgorithm) -> bool {
        self.trusts.iter().any(|trust| trust.accepts(algorithm))
    }

    /// The keys that the configuration itself holds, for redacted views of it.
    pub fn keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.trusts.iter().flat_map(Trust::keys)
    }

    /// The places keys are fetched from.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &KeySource> {
        self.trusts.iter().filter_map(Trust::source)
    }

    /// Goes on with the keys that `earlier` has fetched, where they come from the same places.
    pub(crate) fn take_over_sources(&mut self, earlier: &JwtVerifier) {
        for source in self.trusts.iter_mut().filter_map(Trust::source_mut) {
            match earlier.sources().find(|held| held.is_like(source)) {
                Some(same) => *source = same.clone(),
                None => earlier.sources().for_each(|other| source.inherit(other)),
            }
        }
    }

    fn candidates(
        &self,
        algorithm: JwtAlgorithm,
        kid: Option<&str>,
    ) -> Result<Vec<(&Trust, VerifyingKey)>, JwtError> {
        if !self.accepts(algorithm) {
            return Err(JwtError::Algorithm);
        }
        let of_trust = |trust| {
            let keys = Trust::candidates(trust, algorithm, kid).into_iter();
            keys.map(move |key| (trust, key))
        };
        let found: Vec<_> = self.trusts.iter().flat_map(of_trust).collect();
        if found.is_empty() { Err(JwtError::UnknownKid) } else { Ok(found) }
    }

    fn check(&self, trust: &Trust, token: &Opened, now: Timestamp) -> Result<(), JwtError> {
        token.claims.check_issuer(trust.issuers(), &self.named)?;
        token.header.check_type(trust.required_type())?;
        token.claims.check_required(trust.required_type())?;
        token.claims.check_times(now, self.leeway)?;
        token.claims.check_audience(trust.audiences())
    }

    fn principal(
        &self,
        trust: &Trust,
        key: &VerifyingKey,
        claims: Claims,
    ) -> Result<Arc<Principal>, JwtError> {
        let end = claims.exp.checked_add(self.leeway).map_err(|_| JwtError::Time("exp"))?;
        Ok(Arc::new(Principal {
            id: claims.sub,
            kind: PrincipalKind::Jwt,
            issuer: if self.several_issuers { claims.iss.clone() } else { None },
            roles: claims.roles,
            whitelist: Whitelist::Unrestricted,
            permissions: PermissionSet::EMPTY,
            expires_at: Some(end),
            proof: Proof::Token(Arc::new(TokenProof {
                trust: trust.mark(),
                key: key.fingerprint(),
                issuer: claims.iss,
                jti: claims.jti,
                issued_at: claims.iat,
                bound_to: claims.bound_to,
            })),
        }))
    }

    /// Asks the issuers whose key it could be; whether anything may have come of it.
    async fn look_for_key(&self, token: &str) -> bool {
        let header = claims::split(token).and_then(|parts| claims::read_header(parts.header));
        let Ok(Header { alg, kid, .. }) = header else { return false };
        let Ok(algorithm) = alg.parse::<JwtAlgorithm>() else { return false };
        let mut looked = false;
        let kid = kid.as_deref();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // All are asked before any is waited for: one that is silent holds up no other.
        let sources = self.sources().filter(|source| source.accepts(algorithm) && !source.has(kid));
        for asked in sources.filter_map(|source| source.look_for(kid)).collect::<Vec<_>>() {
            looked |= asked.answered(kid, deadline).await;
        }
        looked
    }
}

fn open(parts: &Parts<'_>, header: Header) -> Result<Opened, JwtError> {
    Ok(Opened { header, claims: claims::read_claims(parts.claims)? })
}
