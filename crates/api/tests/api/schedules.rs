//! Schedules.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, server};

async fn patch(server: &Server, id: &str, body: Value) -> Answer {
    server.call(Method::PATCH, &format!("/schedules/{id}")).key("admin-key").json(&body).send().await
}

#[tokio::test]
async fn a_schedule_is_made_changed_and_removed() {
    let server = server().await;
    let new = json!({"id": "nightly", "pipeline_id": "diamond", "cron": "0 2 * * *", "timezone": "Europe/Paris", "parameters": {"number": 3}});
    let made = server.post("/schedules", new.clone()).await;
    assert_eq!((made.status, made.header("location")), (201, "/schedules/nightly"));
    let shown = made.json();
    for field in ["id", "pipeline_id", "cron", "timezone", "parameters"] {
        assert_eq!(shown[field], new[field], "{field}");
    }
    assert_eq!((&shown["enabled"], &shown["last_fire_at"]), (&json!(true), &Value::Null));
    assert!(shown["next_fire_at"].is_string() && shown.get("interval").is_none(), "{shown}");
    assert_eq!(server.post("/schedules", new).await.problem()["status"], 409);
    assert_eq!(server.get("/schedules/nightly").await.json(), shown);
    let changed = patch(&server, "nightly", json!({"interval": "1h30m"})).await.json();
    assert_eq!((&changed["interval"], changed.get("cron")), (&json!("1h30m"), None));
    assert_eq!(changed["parameters"], json!({"number": 3}), "what is left out stays");
    let paused = server.post("/schedules/nightly/pause", json!({})).await.json();
    assert_eq!((&paused["enabled"], &paused["next_fire_at"]), (&json!(false), &Value::Null));
    let resumed = server.post("/schedules/nightly/resume", json!({})).await.json();
    assert!(resumed["enabled"] == true && resumed["next_fire_at"].is_string(), "{resumed}");
    let started = server.post("/schedules/nightly/trigger", json!({})).await;
    assert_eq!(started.status, 202);
    let run = server.get(started.header("location")).await.json();
    assert_eq!(run["pipeline_id"], "diamond");
    assert_eq!(server.get("/runs").await.json()["runs"][0]["trigger"]["kind"], "schedule");
    let removed = server.call(Method::DELETE, "/schedules/nightly").key("admin-key").send().await;
    assert_eq!(removed.status, 204);
    assert_eq!(server.get("/schedules/nightly").await.status, 404);
}

#[tokio::test]
async fn the_rules_of_a_schedule_are_shown_changed_and_taken_away() {
    let server = server().await;
    let new = json!({"id": "often", "pipeline_id": "diamond", "interval": "1h", "catch_up": "all",
        "overlap": "cancel_previous", "jitter": "1m30s", "from": "2030-01-01T00:00:00.000Z",
        "until": "2031-01-01T00:00:00.000Z", "parameters": {"number": 3}});
    let made = server.post("/schedules", new.clone()).await.json();
    for (field, value) in new.as_object().unwrap() {
        assert_eq!(&made[field], value, "{field}");
    }
    assert_eq!(made["next_fire_at"], new["from"]);
    let changed = patch(&server, "often", json!({"jitter": null, "catch_up": "skip", "until": null})).await;
    let changed = changed.json();
    assert_eq!((&changed["jitter"], &changed["until"]), (&Value::Null, &Value::Null));
    assert_eq!((&changed["catch_up"], &changed["overlap"]), (&json!("skip"), &json!("cancel_previous")));
    assert_eq!(changed["from"], new["from"], "what is left out stays");
    let plain =
        json!({"id": "plain", "pipeline_id": "diamond", "interval": "1h", "parameters": {"number": 3}});
    let plain = server.post("/schedules", plain).await.json();
    assert_eq!((&plain["catch_up"], &plain["overlap"]), (&json!("one"), &json!("allow")));
}

#[tokio::test]
async fn times_that_have_passed_are_given_their_runs_once_and_are_in_the_history() {
    let server = server().await;
    let new =
        json!({"id": "daily", "pipeline_id": "diamond", "cron": "0 3 * * *", "parameters": {"number": 3}});
    server.post("/schedules", new).await;
    let ask = |dry_run: bool| json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-05T03:00:00Z", "dry_run": dry_run, "max": 4});
    let plan = server.post("/schedules/daily/backfill", ask(true)).await;
    assert_eq!(plan.status, 200);
    let plan = plan.json();
    assert_eq!((&plan["started"], &plan["stopped"]), (&json!(0), &Value::Null));
    assert_eq!(plan["next_from"], "2026-01-05T03:00:00.000Z");
    let outcomes = |answer: &Value| -> Vec<String> {
        let times = answer["times"].as_array().unwrap().iter();
        times.map(|time| time["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(outcomes(&plan), ["planned"; 4]);
    assert_eq!(server.get("/schedules/daily/firings").await.json()["firings"], json!([]));
    let made = server.post("/schedules/daily/backfill", ask(false)).await.json();
    assert_eq!((outcomes(&made), &made["started"]), (vec!["started".to_owned(); 4], &json!(4)));
    let again = server.post("/schedules/daily/backfill", ask(false)).await.json();
    assert_eq!((outcomes(&again), &again["started"]), (vec!["had".to_owned(); 4], &json!(0)));
    assert_eq!(again["times"][1]["run_id"], made["times"][1]["run_id"]);
    let run = made["times"][1]["run_id"].as_str().unwrap();
    let trigger = server.get("/runs").await.json()["runs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["run_id"] == run)
        .unwrap()["trigger"]
        .clone();
    assert_eq!(
        (&trigger["kind"], &trigger["fire_at"]),
        (&json!("schedule"), &json!("2026-01-02T03:00:00.000Z"))
    );
    let page = server.get("/schedules/daily/firings?limit=3").await.json();
    let firings = page["firings"].as_array().unwrap();
    assert_eq!((firings.len(), &firings[0]["fire_at"]), (3, &json!("2026-01-04T03:00:00.000Z")));
    assert!(firings.iter().all(|firing| firing["outcome"] == "started" && firing["backfill"] == true));
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = server.get(&format!("/schedules/daily/firings?limit=3&cursor={cursor}")).await.json();
    assert_eq!((rest["firings"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    for (wrong, field) in [
        (json!({"from": "x", "to": "2026-01-05T03:00:00Z"}), "from"),
        (json!({"from": "2026-01-05T03:00:00Z", "to": "2026-01-01T03:00:00Z"}), "to"),
        (json!({"from": "2026-01-01T03:00:00Z", "to": "2026-01-05T03:00:00Z", "max": 0}), "max"),
    ] {
        let refused = server.post("/schedules/daily/backfill", wrong).await;
        assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (422, &json!(field)));
    }
}

#[tokio::test]
async fn a_bad_schedule_is_refused_field_by_field() {
    let server = server().await;
    let with = |fields: Value| {
        let mut body = json!({"pipeline_id": "diamond"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    for (fields, wrong) in [
        (json!({}), "cron"),
        (json!({"cron": "* * *"}), "cron"),
        (json!({"cron": "0 0 * * *", "interval": "5m"}), "cron"),
        (json!({"interval": "5 minutes"}), "interval"),
        (json!({"interval": "10ms"}), "interval"),
        (json!({"at": "tomorrow"}), "at"),
        (json!({"cron": "0 0 * * *", "timezone": "Mars/Base"}), "timezone"),
        (json!({"interval": "5m", "parameters": {"number": "x"}}), "number"),
        (json!({"interval": "5m", "id": "a/b"}), "id"),
        (json!({"interval": "5m", "catch_up": "none"}), "catch_up"),
        (json!({"interval": "5m", "overlap": "forbid"}), "overlap"),
        (json!({"interval": "5m", "overlap": "queue", "catch_up": "skip"}), "overlap"),
        (json!({"interval": "5m", "jitter": "some"}), "jitter"),
        (json!({"interval": "5m", "from": "monday"}), "from"),
        (json!({"at": "2030-01-01T00:00:00Z", "until": "2031-01-01T00:00:00Z"}), "until"),
        (json!({"interval": "5m", "enabled": "yes"}), "enabled"),
    ] {
        let answer = server.post("/schedules", with(fields.clone())).await;
        assert_eq!(answer.fields(), [wrong], "{fields}");
    }
    assert_eq!(server.post("/schedules", json!({"interval": "5m"})).await.fields(), ["pipeline_id"]);
    assert_eq!(server.post("/schedules", with(json!({"intervall": "5m"}))).await.status, 400);
    assert_eq!(
        server.post("/schedules", json!({"pipeline_id": "missing", "interval": "5m"})).await.status,
        404
    );
}

#[tokio::test]
async fn schedules_follow_the_rights_on_their_pipelines() {
    let server = server().await;
    for (id, pipeline) in [("a", "diamond"), ("b", "failing"), ("c", "gate")] {
        let body = json!({"id": id, "pipeline_id": pipeline, "interval": "1h"});
        assert_eq!(server.post("/schedules", body).await.status, 201);
    }
    let ids = |answer: &Answer| -> Vec<String> {
        let list = answer.json();
        list["schedules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let list = async |path: &str, key: &str| server.call(Method::GET, path).key(key).send().await;
    assert_eq!(ids(&list("/schedules", "admin-key").await), ["a", "b", "c"]);
    assert_eq!(ids(&list("/schedules", "viewer-key").await), ["a", "c"]);
    assert_eq!(ids(&list("/schedules?pipeline_id=gate", "viewer-key").await), ["c"]);
    assert_eq!(list("/schedules?pipeline_id=failing", "viewer-key").await.status, 403);
    let page = list("/schedules?limit=2", "admin-key").await;
    assert_eq!(page.json()["next_cursor"], "b");
    assert_eq!(ids(&list("/schedules?limit=2&cursor=b", "admin-key").await), ["c"]);
    let body = json!({"pipeline_id": "failing", "interval": "1h"});
    let foreign = server.call(Method::POST, "/schedules").key("runner-key").json(&body).send().await;
    assert_eq!(foreign.status, 403);
    let own = json!({"pipeline_id": "diamond", "interval": "1h"});
    assert_eq!(server.call(Method::POST, "/schedules").key("runner-key").json(&own).send().await.status, 201);
    let reading = server.call(Method::POST, "/schedules/a/trigger").key("viewer-key").send().await;
    assert_eq!(reading.status, 403);
}
