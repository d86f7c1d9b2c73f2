//! `key`: API keys.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use taskiq_flow::core::time::Timestamp;
use taskiq_flow::security::api_key::{self, KeyDigest};

use crate::args::{KeyCommand, KeyNewArgs, PermissionArg};
use crate::output::{Failure, json as print_json, line, note};

pub(crate) fn run(command: KeyCommand) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::New(args) => new(args),
        KeyCommand::Hash => hash(),
    }
}

fn new(args: KeyNewArgs) -> Result<ExitCode, Failure> {
    let key = api_key::generate().map_err(Failure::failed)?;
    let digest = KeyDigest::of(key.expose_secret());
    let mut entry = Map::new();
    entry.insert("id".to_owned(), json!(args.id.unwrap_or_else(|| digest.default_id())));
    entry.insert("role".to_owned(), json!(args.role));
    let pipelines = if args.pipelines.is_empty() { vec!["*".to_owned()] } else { args.pipelines };
    entry.insert("pipelines".to_owned(), json!(pipelines));
    entry.insert(
        "permissions".to_owned(),
        args.permissions.iter().map(|permission| json!(name(*permission))).collect(),
    );
    if let Some(text) = args.expires_at {
        let wrong = |_| {
            Failure::wrong(format!(
                "--expires-at: `{text}` is no time; write one such as 2027-01-31T00:00:00Z"
            ))
        };
        let time: Timestamp = text.parse().map_err(wrong)?;
        entry.insert("expires_at".to_owned(), json!(time));
    }
    if args.json {
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

/// The key comes on standard input: an argument would stand in the list of processes and in the shell's history.
fn hash() -> Result<ExitCode, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        note("Type or paste the key, then Enter:");
    }
    let mut text = String::new();
    stdin.lock().read_line(&mut text).map_err(Failure::failed)?;
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return Err(Failure::wrong(
            "standard input holds no key; use it as in: printf %s \"$KEY\" | taskiq-flow key hash",
        ));
    }
    line(KeyDigest::of(key).to_config());
    Ok(ExitCode::SUCCESS)
}

fn name(permission: PermissionArg) -> &'static str {
    match permission {
        PermissionArg::Read => "read",
        PermissionArg::Execute => "execute",
        PermissionArg::Admin => "admin",
    }
}
