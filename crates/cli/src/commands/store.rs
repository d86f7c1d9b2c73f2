//! `store`: the file that runs are kept in.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use taskiq_flow::config::StoreTarget;
use taskiq_flow::core::time::Timestamp;
use taskiq_flow::store::{BackupError, Retention, SqliteFile, SqliteOptions, SqliteStore, Store, StoreError};

use crate::args::{
    RemoteArgs, StoreArgs, StoreBackupArgs, StoreCheckArgs, StoreCommand, StoreCompactArgs, StorePruneArgs,
};
use crate::commands;
use crate::output::{FAILED, Failure, cell, json as print_json, line, note, table};
use crate::remote::Remote;

/// How long a server may take to copy its store.
const BACKUP: Duration = Duration::from_secs(6 * 3600);

pub(crate) fn run(command: StoreCommand) -> Result<ExitCode, Failure> {
    match command {
        StoreCommand::Backup(args) => backup(args),
        StoreCommand::Check(args) => check(&args),
        StoreCommand::Compact(args) => compact(&args),
        StoreCommand::Prune(args) => prune(&args),
    }
}

fn backup(args: StoreBackupArgs) -> Result<ExitCode, Failure> {
    let made = match &args.url {
        Some(url) => {
            let remote =
                RemoteArgs { url: url.clone(), allow_plain_http: args.allow_plain_http, tls: args.tls };
            backup_of_server(&remote, &args.dest, args.replace)?
        }
        None => {
            args.tls.for_no_server()?;
            let bytes = file(&args.store)?.backup(&args.dest, args.replace).map_err(|error| match error {
                BackupError::Store(error) => Failure::failed(error),
                BackupError::Exists { .. } => Failure::wrong(format!("{error} (--replace)")),
                error => Failure::wrong(error),
            })?;
            json!({ "name": args.dest, "bytes": bytes })
        }
    };
    if args.json {
        print_json(&made);
    } else {
        note(format!("the store is copied to {}, {} bytes", cell(&made["name"]), cell(&made["bytes"])));
    }
    Ok(ExitCode::SUCCESS)
}

fn backup_of_server(args: &RemoteArgs, dest: &std::path::Path, replace: bool) -> Result<Value, Failure> {
    let Some(name) = dest.to_str() else {
        return Err(Failure::wrong(
            "DEST: with --url it is a name in the server's `backup_dir`, in plain letters",
        ));
    };
    let remote = Remote::new(args)?;
    let body = json!({ "name": name, "replace": replace });
    let request = remote.request(Method::POST, &["store", "backup"], &[]).json(&body).timeout(BACKUP);
    commands::runtime()?.block_on(async { remote.answer(request).await?.accepted() })
}

fn check(args: &StoreCheckArgs) -> Result<ExitCode, Failure> {
    let checked = file(&args.store)?.check().map_err(Failure::failed)?;
    let sound = checked.problems.is_empty();
    if args.json {
        let mut shown = serde_json::to_value(&checked).map_err(Failure::failed)?;
        shown["sound"] = json!(sound);
        shown["rows"] = checked.rows.into_iter().map(|(table, rows)| (table, json!(rows))).collect::<Value>();
        print_json(&shown);
    } else {
        line(format!("file    {}", cell(&json!(checked.path))));
        line(format!(
            "schema  {}{}",
            checked.schema,
            match checked.schema < checked.newest_schema {
                true => format!(", which a server of this version brings to {}", checked.newest_schema),
                false => String::new(),
            }
        ));
        line(format!("bytes   {}, of them {} free", checked.bytes, checked.free_bytes));
        line("");
        table(
            ["TABLE", "ROWS"],
            checked.rows.iter().map(|(name, rows)| [cell(&json!(name)), rows.to_string()]),
        );
        for problem in &checked.problems {
            note(format!("error: {}", cell(&json!(problem))));
        }
        note(if sound { "it is well" } else { "it is damaged: restore it from a backup" });
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn compact(args: &StoreCompactArgs) -> Result<ExitCode, Failure> {
    let compacted = file(&args.store)?.compact().map_err(Failure::failed)?;
    if args.json {
        print_json(&serde_json::to_value(compacted).map_err(Failure::failed)?);
    } else {
        note(format!("the file has {} bytes now; it had {}", compacted.after, compacted.before));
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(args: &StorePruneArgs) -> Result<ExitCode, Failure> {
    let age = args.older_than.as_deref().map(|text| commands::duration("--older-than", text)).transpose()?;
    let retention = Retention { ended_before: age.map(|age| Timestamp::now().minus(age)), keep: args.keep };
    // Whatever is wrong with the file is found before anything is changed.
    let file = file(&args.store)?;
    let runs = match args.dry_run {
        true => file.count_to_go(&retention).map_err(Failure::failed)?,
        false => {
            let options = SqliteOptions::new(file.path());
            drop(file);
            commands::runtime()?.block_on(remove(options, retention))?
        }
    };
    if args.json {
        print_json(&json!({ "runs": runs, "dry_run": args.dry_run }));
    } else {
        let told = if args.dry_run { "would be removed" } else { "removed" };
        note(format!("{runs} runs {told}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(options: SqliteOptions, retention: Retention) -> Result<u64, Failure> {
    let store = SqliteStore::open(options).map_err(refused)?;
    let pruned = store.prune(retention, usize::MAX).await;
    store.close().await;
    Ok(pruned.map_err(Failure::failed)? as u64)
}

/// The file that is meant, taken for this process.
fn file(args: &StoreArgs) -> Result<SqliteFile, Failure> {
    SqliteFile::open(path(args)?).map_err(refused)
}

fn refused(error: StoreError) -> Failure {
    match error {
        StoreError::Locked { .. } => Failure::wrong(format!(
            "{error}; a server copies its own store: `taskiq-flow store backup NAME --url URL`"
        )),
        StoreError::Corrupt { .. } => Failure::failed(error),
        error => Failure::wrong(error),
    }
}

fn path(args: &StoreArgs) -> Result<PathBuf, Failure> {
    let mut sources = commands::sources(args.config.config.as_deref());
    if let Some(url) = &args.store {
        sources = sources.set("store_url", url.clone(), "--store".to_owned());
    }
    let loaded = commands::configuration(&sources)?;
    match loaded.config.store_target().map_err(|error| commands::config_failure(&error))? {
        StoreTarget::Sqlite { path } => Ok(path),
        _ => Err(Failure::wrong(
            "store_url: no file of this machine, such as `memory:`; name one with --store sqlite:PATH",
        )),
    }
}
