//! `key`: API keys, for the configuration file and on a running server.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use taskiq_flow::core::time::Timestamp;
use taskiq_flow::security::administration::MAX_OVERLAP_SECONDS;
use taskiq_flow::security::api_key::{self, KeyDigest, check_shape};
use taskiq_flow::security::networks::Networks;

use crate::args::{KeyCommand, KeyCreateArgs, KeyNewArgs, KeyRotateArgs, KeySpec, PermissionArg};
use crate::commands;
use crate::output::{FAILED, Failure, cell, json as print_json, line, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: KeyCommand) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::New(args) => new(args),
        KeyCommand::Hash => hash(),
        KeyCommand::Check => check(),
        KeyCommand::List(args) => commands::runtime()?.block_on(list(&Remote::new(&args.remote)?, args.json)),
        KeyCommand::Create(args) => commands::runtime()?.block_on(create(args)),
        KeyCommand::Rotate(args) => commands::runtime()?.block_on(rotate(args)),
        KeyCommand::Revoke(args) => {
            let remote = Remote::new(&args.remote)?;
            let path = ["security", "keys", &args.id];
            commands::runtime()?.block_on(remote.call(Method::DELETE, &path, None))?;
            note(format!("the key {} is revoked", args.id));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn new(args: KeyNewArgs) -> Result<ExitCode, Failure> {
    let KeyNewArgs { spec, json } = args;
    let id = spec.id.clone().map_or_else(api_key::new_id, Ok).map_err(Failure::failed)?;
    let key = api_key::generate(&id).map_err(Failure::failed)?;
    let digest = KeyDigest::of(key.expose_secret());
    let mut entry = Map::from_iter([("id".to_owned(), json!(id))]);
    entry.extend(fields(spec)?);
    if json {
        print_json(&json!({ "key": key.expose_secret(), "api_keys": { digest.to_config(): entry } }));
        return Ok(ExitCode::SUCCESS);
    }
    line(key.expose_secret());
    note("This key is shown once. For the configuration file (it holds only the key's digest):\n");
    note(format!("[api_keys.\"{}\"]", digest.to_config()));
    for (field, value) in &entry {
        note(format!("{field} = {value}"));
    }
    note("\nor for the environment, as one more entry of TASKIQ_FLOW_API_KEYS:\n");
    note(Value::Object(Map::from_iter([(digest.to_config(), Value::Object(entry))])));
    Ok(ExitCode::SUCCESS)
}

fn hash() -> Result<ExitCode, Failure> {
    line(KeyDigest::of(&key_of_stdin("hash")?).to_config());
    Ok(ExitCode::SUCCESS)
}

fn check() -> Result<ExitCode, Failure> {
    match check_shape(&key_of_stdin("check")?) {
        Ok(id) => {
            line(format!(
                "a key of the right shape, for the id `{id}`; whether a server accepts it, only that one knows"
            ));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            note(format!("this is no such key: {error}"));
            Ok(ExitCode::from(FAILED))
        }
    }
}

async fn list(remote: &Remote, as_json: bool) -> Result<ExitCode, Failure> {
    let keys = remote.entries(&["security", "keys"], "keys").await?;
    if as_json {
        print_json(&json!({ "keys": keys }));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = keys.iter().map(|key| {
        ["id", "roles", "permissions", "pipelines", "expires_at", "last_used_at", "source"]
            .map(|field| cell(&key[field]))
    });
    table(["ID", "ROLES", "PERMISSIONS", "PIPELINES", "EXPIRES", "LAST USED", "SOURCE"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn create(args: KeyCreateArgs) -> Result<ExitCode, Failure> {
    let KeyCreateArgs { spec, remote, json } = args;
    let remote = Remote::new(&remote)?;
    let id = spec.id.clone();
    let mut body = fields(spec)?;
    body.extend(id.map(|id| ("id".to_owned(), json!(id))));
    let made = remote.call(Method::POST, &["security", "keys"], Some(&Value::Object(body))).await?;
    show_once(&made, json)
}

async fn rotate(args: KeyRotateArgs) -> Result<ExitCode, Failure> {
    let overlap = commands::duration("--overlap", &args.overlap)?.as_secs();
    if overlap > MAX_OVERLAP_SECONDS {
        let days = MAX_OVERLAP_SECONDS / 86_400;
        return Err(Failure::wrong(format!(
            "--overlap: `{}` is too long; write at most {days}d",
            args.overlap
        )));
    }
    let path = ["security", "keys", &args.id, "rotate"];
    let body = json!({ "overlap_seconds": overlap });
    let made = Remote::new(&args.remote)?.call(Method::POST, &path, Some(&body)).await?;
    if let Some(until) = made["previous_valid_until"].as_str() {
        note(format!("The key before it is accepted until {}.", cell(&json!(until))));
    }
    show_once(&made, args.json)
}

/// A key that a server made.
fn show_once(made: &Value, as_json: bool) -> Result<ExitCode, Failure> {
    if as_json {
        print_json(made);
    } else {
        line(cell(&made["key"]));
        note(format!("This key, of the id {}, is shown once.", cell(&made["id"])));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a key is to be, with the names that the configuration and the API have for it, but for its id.
fn fields(spec: KeySpec) -> Result<Map<String, Value>, Failure> {
    let pipelines = if spec.pipelines.is_empty() { vec!["*".to_owned()] } else { spec.pipelines };
    let permissions: Value = spec.permissions.iter().map(|permission| json!(name(*permission))).collect();
    let mut fields = Map::from_iter([
        ("role".to_owned(), json!(spec.role)),
        ("pipelines".to_owned(), json!(pipelines)),
        ("permissions".to_owned(), permissions),
    ]);
    if let Some(text) = spec.expires_at {
        let time = commands::time("--expires-at", &text)?;
        if time <= Timestamp::now() {
            return Err(Failure::wrong("--expires-at: that time has passed; write a later one"));
        }
        fields.insert("expires_at".to_owned(), json!(time));
    }
    if !spec.allowed_ips.is_empty() {
        let networks = Networks::parse(&spec.allowed_ips)
            .map_err(|error| Failure::wrong(format!("--allowed-ips: {error}")))?;
        fields.insert("allowed_ips".to_owned(), json!(networks));
    }
    Ok(fields)
}

/// The key comes on standard input: an argument would stand in the list of processes and in the shell's history.
fn key_of_stdin(command: &str) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        note("Type or paste the key, then Enter:");
    }
    let mut text = String::new();
    stdin.lock().read_line(&mut text).map_err(Failure::failed)?;
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return Err(Failure::wrong(format!(
            "standard input holds no key; use it as in: printf %s \"$KEY\" | taskiq-flow key {command}"
        )));
    }
    Ok(key.to_owned())
}

fn name(permission: PermissionArg) -> &'static str {
    match permission {
        PermissionArg::Read => "read",
        PermissionArg::Execute => "execute",
        PermissionArg::Admin => "admin",
    }
}
