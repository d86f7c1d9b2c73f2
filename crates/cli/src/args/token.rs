//! What `token` can be asked for.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArgs, RemoteArgs, RemoteListArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, signed with the configured `jwt_secret` (HS256) or with a private key
    Mint(TokenMintArgs),
    /// List the rules by which a server refuses tokens before their end
    Revocations(RemoteListArgs),
    /// Refuse tokens on a server from now on: one by its id, or all of a subject; prints the id of the rule
    Revoke(TokenRevokeArgs),
    /// Take such a rule back: tokens that it alone refused are accepted again
    Unrevoke(TokenUnrevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenMintArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Whom the token names
    #[arg(long)]
    pub(crate) sub: String,
    /// Roles of the bearer
    #[arg(long, num_args = 1.., value_delimiter = ',', required = true)]
    pub(crate) roles: Vec<String>,
    /// How long it is valid, such as 15m or 8h
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    pub(crate) ttl: String,
    /// Who issues it [default: the first `jwt_issuer` of the configuration, if any]
    #[arg(long)]
    pub(crate) iss: Option<String>,
    /// What it is for [default: the first audience that the configuration accepts of its issuer, if any]
    #[arg(long)]
    pub(crate) aud: Option<String>,
    /// An id by which it can be revoked
    #[arg(long)]
    pub(crate) jti: Option<String>,
    /// From when on it is valid (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) nbf: Option<String>,
    /// Private key to sign with (PEM, PKCS #8) [default: the configured `jwt_secret`]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Algorithm of the key [default: RS256 for an RSA key, else the only one possible]
    #[arg(long, requires = "key")]
    pub(crate) alg: Option<String>,
    /// Name of the key, as the server knows it
    #[arg(long, requires = "key")]
    pub(crate) kid: Option<String>,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false, args = ["jti", "sub"])]
pub(crate) struct TokenRevokeArgs {
    /// Which: the one token of this id (`jti`)
    #[arg(long)]
    pub(crate) jti: Option<String>,
    /// Which: all tokens of this subject that were issued before --not-before
    #[arg(long)]
    pub(crate) sub: Option<String>,
    /// With --sub: when tokens must have been issued to be accepted (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "jti")]
    pub(crate) not_before: Option<String>,
    /// Only tokens of this issuer [default: of any]
    #[arg(long)]
    pub(crate) issuer: Option<String>,
    /// When the last of these tokens ends by itself (RFC 3339), and the rule may be forgotten [default: never]
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenUnrevokeArgs {
    /// The rule, as `token revoke` and `token revocations` name it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}
