//! `token`: tokens for trying things out, and for services that share the secret.

use std::process::ExitCode;

use taskiq_flow::core::time::parse_duration;
use taskiq_flow::security::jwt::{MintClaims, mint};

use crate::args::{TokenCommand, TokenMintArgs};
use crate::commands;
use crate::output::{Failure, line};

pub(crate) fn run(command: TokenCommand) -> Result<ExitCode, Failure> {
    let TokenCommand::Mint(TokenMintArgs { config, sub, roles, ttl }) = command;
    let loaded = commands::configuration(&commands::sources(config.config.as_deref()))?;
    let config = loaded.config;
    let Some(secret) = &config.jwt_secret else {
        return Err(Failure::wrong(
            "no `jwt_secret` is configured: set TASKIQ_FLOW_JWT_SECRET, or `jwt_secret` in the configuration file",
        ));
    };
    let ttl = parse_duration(&ttl).map_err(|error| Failure::wrong(format!("--ttl: {error}")))?;
    let mut claims = MintClaims::new(sub, roles, ttl);
    claims.issuer = config.jwt_issuer.as_slice().first().cloned();
    claims.audience = config.jwt_audience.as_slice().first().cloned();
    line(mint(secret, &claims).map_err(Failure::wrong)?);
    Ok(ExitCode::SUCCESS)
}
