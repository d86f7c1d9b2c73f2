//! `webhooks`: who a server tells of events over HTTP.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use crate::args::{
    DeliveryStatus, RemoteListArgs, WebhookDeliveriesArgs, WebhookReplayArgs, WebhookTestArgs,
    WebhooksCommand,
};
use crate::commands;
use crate::output::{FAILED, Failure, cell, json as print_json, line, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: WebhooksCommand) -> Result<ExitCode, Failure> {
    commands::runtime()?.block_on(async {
        match command {
            WebhooksCommand::List(args) => list(args).await,
            WebhooksCommand::Test(args) => test(args).await,
            WebhooksCommand::Deliveries(args) => deliveries(args).await,
            WebhooksCommand::Replay(args) => replay(args).await,
        }
    })
}

async fn list(args: RemoteListArgs) -> Result<ExitCode, Failure> {
    let listed = Remote::new(&args.remote)?.call(Method::GET, &["webhooks"], None).await?;
    if args.json {
        print_json(&listed);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = listed["webhooks"].as_array().into_iter().flatten().map(|webhook| {
        ["name", "status", "url", "waiting", "dead", "delivered", "failed", "last_error"]
            .map(|name| shown(&webhook[name]))
    });
    table(["NAME", "STATUS", "URL", "WAITING", "DEAD", "DELIVERED", "FAILED", "LAST ERROR"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn test(args: WebhookTestArgs) -> Result<ExitCode, Failure> {
    let path = ["webhooks", &args.name, "test"];
    let tested = Remote::new(&args.remote)?.call(Method::POST, &path, None).await?;
    let millis = cell(&tested["duration_ms"]);
    match tested["delivered"].as_bool() {
        Some(true) => {
            line(format!("taken with {} after {millis} ms", cell(&tested["status"])));
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            note(format!("not taken: {} (after {millis} ms)", cell(&tested["error"])));
            Ok(ExitCode::from(FAILED))
        }
    }
}

async fn deliveries(args: WebhookDeliveriesArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let deliveries = listed(&remote, &args.name, args.status, most).await?;
    if args.json {
        print_json(&json!({ "deliveries": deliveries }));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = deliveries.iter().map(|delivery| {
        ["id", "event", "pipeline_id", "run_id", "attempts", "next_at", "error"]
            .map(|name| shown(&delivery[name]))
    });
    table(["DELIVERY", "EVENT", "PIPELINE", "RUN", "TRIES", "NEXT", "ERROR"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn replay(args: WebhookReplayArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let ids = match args.delivery {
        Some(id) => vec![id],
        None => {
            let dead = listed(&remote, &args.name, DeliveryStatus::Dead, usize::MAX).await?;
            dead.iter().map(|delivery| cell(&delivery["id"])).collect()
        }
    };
    for id in &ids {
        let path = ["webhooks", &args.name, "deliveries", id, "replay"];
        remote.call(Method::POST, &path, None).await?;
    }
    note(format!("{} of webhook {} tried again", ids.len(), args.name));
    Ok(ExitCode::SUCCESS)
}

async fn listed(
    remote: &Remote,
    name: &str,
    status: DeliveryStatus,
    most: usize,
) -> Result<Vec<Value>, Failure> {
    let query = [("status", status.as_str())];
    remote.first_entries(&["webhooks", name, "deliveries"], &query, "deliveries", most).await
}

fn shown(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { cell(value) }
}
