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
use crate::remote::{Answer, Remote};

/// The answer about a delivery that was taken, dropped or replayed by another meanwhile.
const GONE: u16 = 404;

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
    let Some(id) = args.delivery else {
        let dead = listed(&remote, &args.name, DeliveryStatus::Dead, usize::MAX).await?;
        let ids: Vec<String> = dead.iter().map(|delivery| cell(&delivery["id"])).collect();
        let mut done = Replayed::default();
        let outcome = replay_all(&remote, &args.name, &ids, &mut done).await;
        note(done.told(&args.name, ids.len()));
        return outcome.map(|()| ExitCode::SUCCESS);
    };
    one_more_try(&remote, &args.name, &id).await?.accepted()?;
    note(format!("1 of webhook {} tried again", args.name));
    Ok(ExitCode::SUCCESS)
}

/// What came of many deliveries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Replayed {
    again: usize,
    gone: usize,
}

impl Replayed {
    fn told(&self, name: &str, all: usize) -> String {
        let Self { again, gone } = self;
        let left = all - again - gone;
        let mut told = format!("{again} of webhook {name} tried again");
        for (count, what) in [(*gone, "gone meanwhile"), (left, "left as they were")] {
            if count > 0 {
                told.push_str(&format!(", {count} {what}"));
            }
        }
        told
    }
}

/// Has all of them tried again, as fast as the server lets it, but for those that have gone since they were listed.
async fn replay_all(remote: &Remote, name: &str, ids: &[String], done: &mut Replayed) -> Result<(), Failure> {
    let mut told = false;
    for id in ids {
        let answer = loop {
            let answer = one_more_try(remote, name, id).await?;
            let Some(wait) = answer.limited() else { break answer };
            if !std::mem::replace(&mut told, true) {
                note("the server limits how often it is asked; this goes on as it allows");
            }
            tokio::time::sleep(wait).await;
        };
        if answer.status == GONE {
            done.gone += 1;
        } else {
            answer.accepted()?;
            done.again += 1;
        }
    }
    Ok(())
}

async fn one_more_try(remote: &Remote, name: &str, id: &str) -> Result<Answer, Failure> {
    remote.send(Method::POST, &["webhooks", name, "deliveries", id, "replay"], &[], None).await
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::args::{RemoteArgs, TlsArgs};

    /// A server that gives these answers, and the paths that it was asked for.
    async fn answering(answers: Vec<&'static str>) -> (Remote, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                asked.push(String::from_utf8(request).unwrap().split(' ').nth(1).unwrap().to_owned());
                let answer =
                    format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        let args = RemoteArgs { url, allow_plain_http: false, tls: TlsArgs::default() };
        (Remote::with_key(&args, "a key").unwrap(), asked)
    }

    #[tokio::test]
    async fn many_are_replayed_at_the_pace_of_the_server_and_past_those_that_have_gone() {
        let limited = "429 Too Many Requests\r\nretry-after: 1";
        let (remote, asked) = answering(vec![
            "202 Accepted",
            limited,
            "202 Accepted",
            "404 Not Found",
            "202 Accepted",
            "403 Forbidden",
        ])
        .await;
        let ids = ["a", "b", "c", "d", "e", "f"].map(str::to_owned);
        let mut done = Replayed::default();
        assert!(replay_all(&remote, "ops", &ids, &mut done).await.is_err(), "what cannot be mended ends it");
        assert_eq!(done, Replayed { again: 3, gone: 1 });
        let path = |id: &str| format!("/webhooks/ops/deliveries/{id}/replay");
        assert_eq!(asked.await.unwrap(), ["a", "b", "b", "c", "d", "e"].map(path));
        let told = done.told("ops", ids.len());
        assert_eq!(told, "3 of webhook ops tried again, 1 gone meanwhile, 2 left as they were");
    }
}
