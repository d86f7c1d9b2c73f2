//! `token`: tokens for trying things out, and for services that share the secret or have a key of their own; and the
//! rules by which a running server refuses tokens before their end.

use std::path::Path;
use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Map, Value, json};
use taskiq_flow::config::{SecretString, TaskiqFlowConfig};
use taskiq_flow::security::jwt::{MintClaims, MintError, MintKey};

use crate::args::{RemoteListArgs, TokenCommand, TokenMintArgs, TokenRevokeArgs, TokenUnrevokeArgs};
use crate::commands;
use crate::output::{Failure, cell, json as print_json, line, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Mint(args) => mint(args),
        TokenCommand::Revocations(args) => commands::runtime()?.block_on(revocations(args)),
        TokenCommand::Revoke(args) => commands::runtime()?.block_on(revoke(args)),
        TokenCommand::Unrevoke(args) => commands::runtime()?.block_on(unrevoke(args)),
    }
}

async fn revocations(args: RemoteListArgs) -> Result<ExitCode, Failure> {
    let answer = Remote::new(&args.remote)?.call(Method::GET, &["security", "revocations"], None).await?;
    if args.json {
        print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let fields = ["id", "jti", "sub", "issuer", "not_before", "expires_at", "created_by"];
    let rows = answer["revocations"].as_array().into_iter().flatten();
    table(
        ["ID", "JTI", "SUB", "ISSUER", "NOT BEFORE", "EXPIRES", "BY"],
        rows.map(|rule| fields.map(|field| cell(&rule[field]))),
    );
    Ok(ExitCode::SUCCESS)
}

async fn revoke(args: TokenRevokeArgs) -> Result<ExitCode, Failure> {
    let mut body = Map::new();
    let not_before = args.not_before.map(|text| commands::time("--not-before", &text)).transpose()?;
    let expires_at = args.expires_at.map(|text| commands::time("--expires-at", &text)).transpose()?;
    let texts = [("jti", args.jti), ("sub", args.sub), ("issuer", args.issuer)];
    body.extend(texts.into_iter().filter_map(|(field, text)| Some((field.to_owned(), json!(text?)))));
    let times = [("not_before", not_before), ("expires_at", expires_at)];
    body.extend(times.into_iter().filter_map(|(field, time)| Some((field.to_owned(), json!(time?)))));
    let remote = Remote::new(&args.remote)?;
    let rule = remote.call(Method::POST, &["security", "revocations"], Some(&Value::Object(body))).await?;
    if args.json {
        print_json(&rule);
        return Ok(ExitCode::SUCCESS);
    }
    line(cell(&rule["id"]));
    note(match &rule["jti"] {
        Value::Null => format!(
            "tokens of {} that were issued before {} are refused",
            cell(&rule["sub"]),
            cell(&rule["not_before"])
        ),
        jti => format!("the token {} is refused", cell(jti)),
    });
    Ok(ExitCode::SUCCESS)
}

async fn unrevoke(args: TokenUnrevokeArgs) -> Result<ExitCode, Failure> {
    let path = ["security", "revocations", &args.id];
    Remote::new(&args.remote)?.call(Method::DELETE, &path, None).await?;
    note(format!("the rule {} is taken back: tokens that it alone refused are accepted again", args.id));
    Ok(ExitCode::SUCCESS)
}

fn mint(args: TokenMintArgs) -> Result<ExitCode, Failure> {
    let config = commands::configuration(&commands::sources(args.config.config.as_deref()))?.config;
    let key = match &args.key {
        Some(file) => private_key(file, &args)?,
        None => shared_secret(&config)?,
    };
    let ttl = commands::duration("--ttl", &args.ttl)?;
    let mut claims = MintClaims::new(args.sub, args.roles, ttl);
    claims.issuer = args.iss.or_else(|| config.jwt_issuer.as_slice().first().cloned());
    // What one of `jwt_issuers` accepts is for it to say, as when its tokens are checked.
    let listed = config.jwt_issuers.into_iter().find(|entry| Some(&entry.issuer) == claims.issuer.as_ref());
    let (audiences, required_type) = match listed {
        Some(entry) => (entry.audiences, entry.required_type.or(config.jwt_required_type)),
        None => (config.jwt_audience.as_slice().to_vec(), config.jwt_required_type),
    };
    claims.audience = args.aud.or_else(|| audiences.into_iter().next());
    claims.token_id = args.jti;
    claims.token_type = required_type;
    if let Some(time) = args.nbf {
        let parsed = time.parse().map_err(|_| {
            Failure::wrong(format!("--nbf: expected a time such as 2030-01-31T00:00:00Z, found {time:?}"))
        });
        claims.not_before = Some(parsed?);
    }
    let token = key.mint(&claims).map_err(|error| match error {
        MintError::Ttl => Failure::wrong(format!("--ttl: {error}")),
        error => Failure::wrong(error),
    });
    line(token?);
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
