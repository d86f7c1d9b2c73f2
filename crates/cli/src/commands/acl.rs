//! `acl`: the access lists of a running server.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Map, Value};

use crate::args::{AclCommand, AclSetArgs};
use crate::commands;
use crate::output::{Failure, cell, json as print_json, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: AclCommand) -> Result<ExitCode, Failure> {
    commands::runtime()?.block_on(async {
        match command {
            AclCommand::List(args) => list(&Remote::new(&args.remote)?, args.json).await,
            AclCommand::Get(args) => {
                let path = ["security", "acls", &args.pipeline];
                print_json(&Remote::new(&args.remote)?.call(Method::GET, &path, None).await?);
                Ok(ExitCode::SUCCESS)
            }
            AclCommand::Set(args) => set(args).await,
            AclCommand::Remove(args) => {
                let query = [("to", "configuration")];
                let query = if args.to_configuration { &query[..] } else { &[] };
                let path = ["security", "acls", &args.pipeline];
                Remote::new(&args.remote)?.send(Method::DELETE, &path, query, None).await?.accepted()?;
                let pipeline = &args.pipeline;
                note(match args.to_configuration {
                    true => format!("the access list of {pipeline} is removed; the configuration decides again"),
                    false => format!(
                        "the access list of {pipeline} is removed: whoever's key or role permits an action may do it there; \
                         `taskiq-flow acl set {pipeline}` with no roles closes it to all but admins"
                    ),
                });
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

async fn list(remote: &Remote, as_json: bool) -> Result<ExitCode, Failure> {
    let answer = remote.call(Method::GET, &["security", "acls"], None).await?;
    if as_json {
        print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = answer["acls"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let roles = |permission: &str| match &row["acl"][permission] {
            // Not listed at all, and listed for nobody, are the same to all but admins.
            Value::Null => "-".to_owned(),
            listed => cell(listed),
        };
        [cell(&row["pipeline_id"]), roles("read"), roles("execute"), roles("admin"), cell(&row["source"])]
    });
    table(["PIPELINE", "READ", "EXECUTE", "ADMIN", "SOURCE"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn set(args: AclSetArgs) -> Result<ExitCode, Failure> {
    let mut lists = Map::new();
    for (permission, roles) in [("read", args.read), ("execute", args.execute), ("admin", args.admin)] {
        if let Some(roles) = roles {
            lists.insert(permission.to_owned(), roles.into());
        }
    }
    let path = ["security", "acls", &args.pipeline];
    let body = Value::Object(lists);
    let answer = Remote::new(&args.remote)?.call(Method::PUT, &path, Some(&body)).await?;
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        note(format!("warning: {}", cell(warning)));
    }
    print_json(&answer);
    Ok(ExitCode::SUCCESS)
}
