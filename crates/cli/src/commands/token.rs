//! `token`: tokens for trying things out, and for services that share the secret or have a key of their own.

use std::path::Path;
use std::process::ExitCode;

use taskiq_flow::config::{SecretString, TaskiqFlowConfig};
use taskiq_flow::core::time::parse_duration;
use taskiq_flow::security::jwt::{MintClaims, MintKey};

use crate::args::{TokenCommand, TokenMintArgs};
use crate::commands;
use crate::output::{Failure, line};

pub(crate) fn run(command: TokenCommand) -> Result<ExitCode, Failure> {
    let TokenCommand::Mint(args) = command;
    let config = commands::configuration(&commands::sources(args.config.config.as_deref()))?.config;
    let key = match &args.key {
        Some(file) => private_key(file, &args)?,
        None => shared_secret(&config)?,
    };
    let ttl = parse_duration(&args.ttl).map_err(|error| Failure::wrong(format!("--ttl: {error}")))?;
    let mut claims = MintClaims::new(args.sub, args.roles, ttl);
    claims.issuer = args.iss.or_else(|| config.jwt_issuer.as_slice().first().cloned());
    claims.audience = args.aud.or_else(|| config.jwt_audience.as_slice().first().cloned());
    claims.token_id = args.jti;
    claims.token_type = config.jwt_required_type;
    if let Some(time) = args.nbf {
        let parsed = time.parse().map_err(|_| {
            Failure::wrong(format!("--nbf: expected a time such as 2030-01-31T00:00:00Z, found {time:?}"))
        });
        claims.not_before = Some(parsed?);
    }
    line(key.mint(&claims).map_err(Failure::wrong)?);
    Ok(ExitCode::SUCCESS)
}

fn private_key(file: &Path, args: &TokenMintArgs) -> Result<MintKey, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::wrong(format!("--key: {shown} cannot be read: {error}")))?;
    let algorithm = match &args.alg {
        Some(name) => {
            Some(name.parse().map_err(|error| Failure::wrong(format!("--alg: {name:?}: {error}")))?)
        }
        None => None,
    };
    MintKey::private(&SecretString::from(text), algorithm, args.kid.clone())
        .map_err(|error| Failure::wrong(format!("--key: {shown}: {error}")))
}

fn shared_secret(config: &TaskiqFlowConfig) -> Result<MintKey, Failure> {
    let Some(secret) = &config.jwt_secret else {
        return Err(Failure::wrong(
            "no `jwt_secret` is configured: set TASKIQ_FLOW_JWT_SECRET, or `jwt_secret` in the configuration file; or \
             name a private key with --key",
        ));
    };
    MintKey::hs256(secret).map_err(Failure::wrong)
}
