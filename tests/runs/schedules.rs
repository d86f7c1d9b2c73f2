//! Times of schedules, whatever happens to the server.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use taskiq_flow::core::time::Timestamp;
use taskiq_flow_testkit::{Client, until};

use crate::support::*;

/// Each second is made up for, so that none may be missing; the run goes on over the next kill.
const SECONDLY: &str = "id: p\nschedule:\n  - { id: s, cron: \"* * * * * *\", catch_up: all }\n\
    tasks:\n  - { name: a, expression: 1 }\n  - { name: b, wait: { duration: 200ms } }\n";

/// How often the server is killed.
const KILLS: u32 = 12;

async fn all(client: &Client, path: &str, field: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = client.get(&format!("{path}limit=500{cursor}")).await.expect(200).json();
        found.append(page[field].as_array_mut().unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn every_second_has_one_run_however_often_the_server_is_killed() {
    let mut server = server().pipeline(SECONDLY).start().await;
    let client = || client(&server);
    let first = until(LIMIT, async || {
        client().get("/schedules/p.s").await.json()["last_fire_at"].as_str().map(str::to_owned)
    });
    let first = first.await.expect("it fires");
    for kill in 0..KILLS {
        // Just after a second has begun, each time a little later: while it fires.
        let passed = Timestamp::now().as_millis() % 1000;
        let wait = 1000 - u64::try_from(passed).unwrap() + u64::from(kill) * 4;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        server.kill9().await;
        server.restart().await;
    }
    let client = crate::support::client(&server);
    let now = client.get("/schedules/p.s").await.json()["next_fire_at"].as_str().unwrap().to_owned();
    let caught_up = until(LIMIT, async || {
        let schedule = client.get("/schedules/p.s").await.json();
        (schedule["last_fire_at"].as_str()? > now.as_str()).then_some(())
    });
    caught_up.await.expect("it catches up");
    client.post("/schedules/p.s/pause", &Value::Null).await.expect(200);
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for run in all(&client, "/runs?", "runs").await {
        *runs.entry(run["trigger"]["fire_at"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = runs.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let seconds: Vec<i64> = runs.keys().map(|time| time.parse::<Timestamp>().unwrap().as_millis()).collect();
    assert!(runs.contains_key(&first) && seconds.len() > KILLS as usize, "{runs:?}");
    assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] == 1000), "{runs:?}");
    let firings = all(&client, "/schedules/p.s/firings?", "firings").await;
    assert_eq!(firings.len(), runs.len());
    assert!(firings.iter().all(|firing| firing["outcome"] == "started" && firing["run_id"].is_string()));
    let ended = until(LIMIT, async || {
        let runs = all(&client, "/runs?", "runs").await;
        runs.iter().all(|run| run["status"] == "completed").then_some(())
    });
    ended.await.expect("every run ends");
}
