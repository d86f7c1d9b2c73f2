//! Why a token is refused.

/// What is wrong with a token. For audit records only: no variant carries anything the token says, and the client
/// learns nothing but `invalid_token`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Longer than [`super::MAX_TOKEN_BYTES`].
    #[error("token is too long")]
    TooLong,
    /// Not three base64url parts joined by dots.
    #[error("token is not in compact form")]
    Form,
    /// The header is no JSON object with a text `alg`, or says something twice.
    #[error("token header is malformed")]
    Header,
    /// The header asks for what is not understood (`crit`, `enc`, `zip`, `b64`).
    #[error("token header demands an unsupported extension")]
    Extension,
    /// A token made for something else.
    #[error("token is of another type")]
    Type,
    /// `alg` is unknown, or no key is configured for it.
    #[error("token algorithm is not accepted")]
    Algorithm,
    /// No configured key has the token's `kid`.
    #[error("token key id is unknown")]
    UnknownKid,
    /// No configured key made the signature.
    #[error("token signature is wrong")]
    Signature,
    /// The payload is no JSON object, or says something twice.
    #[error("token claims are malformed")]
    Claims,
    /// A required claim is absent.
    #[error("token has no `{0}`")]
    Missing(&'static str),
    /// A claim has the wrong type or an unusable value.
    #[error("token claim `{0}` is malformed")]
    Claim(&'static str),
    /// A time that is no sane time.
    #[error("token claim `{0}` is no sane time")]
    Time(&'static str),
    /// Past `exp`.
    #[error("token is expired")]
    Expired,
    /// Before `nbf`, or `iat`.
    #[error("token is not yet valid")]
    NotYetValid,
    /// `iss` is not a configured issuer.
    #[error("token is of another issuer")]
    Issuer,
    /// `aud` is not a configured audience.
    #[error("token is for another audience")]
    Audience,
    /// It is bound to its sender (`cnf`) by something else than a client certificate, which nobody here can check.
    #[error("token is bound to its sender in a way that is not supported")]
    Confirmation,
    /// It is bound to a client certificate (RFC 8705), and the connection has none, another, or one that has lapsed.
    #[error("token is bound to a client certificate that was not shown")]
    Unbound,
    /// Refused by one of [`super::Revocations`].
    #[error("token is revoked")]
    Revoked,
}
