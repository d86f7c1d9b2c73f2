//! `schedules` against a running server.

use serde_json::json;

use crate::runs::{User, server};

const DAILY: &str = "id: daily\nschedule:\n  - { id: s, cron: \"0 2 * * *\", timezone: Europe/Paris, from: 2026-01-01T00:00:00Z }\n\
    tasks:\n  - { name: a, expression: 1 }\n";

#[tokio::test]
async fn schedules_are_shown_paused_triggered_and_backfilled() {
    let server = server().pipeline(DAILY).start().await;
    let user = User::new(&server, "root");
    let listed = user.out(&["schedules", "list", "--pipeline", "daily"]).await;
    let row = listed.lines().nth(1).unwrap();
    assert!(row.starts_with("daily.s ") && row.contains("0 2 * * * Europe/Paris"), "{listed}");
    assert_eq!(user.json(&["schedules", "show", "daily.s"]).await["catch_up"], "one");
    let shown = user.out(&["schedules", "show", "daily.s"]).await;
    assert!(
        shown.contains("overlap     allow") && shown.contains("from        2026-01-01T00:00:00.000Z"),
        "{shown}"
    );
    user.out(&["schedules", "pause", "daily.s"]).await;
    assert!(user.out(&["schedules", "list"]).await.contains("paused"));
    user.out(&["schedules", "resume", "daily.s"]).await;
    let run = user.out(&["schedules", "trigger", "daily.s"]).await;
    assert_eq!(user.run(&["runs", "watch", &run]).await.code, Some(0));

    let span = ["--from", "2026-03-28T00:00:00Z", "--to", "2026-03-30T23:00:00Z"];
    let backfill = |more: &[&'static str]| [&["schedules", "backfill", "daily.s"][..], &span, more].concat();
    let planned = user.json(&backfill(&["--dry-run"])).await;
    let times: Vec<_> =
        planned["times"].as_array().unwrap().iter().map(|time| time["fire_at"].as_str().unwrap()).collect();
    let expected = ["2026-03-28T01:00:00.000Z", "2026-03-29T01:00:00.000Z", "2026-03-30T00:00:00.000Z"];
    assert_eq!((times, &planned["started"]), (expected.to_vec(), &json!(0)), "{planned}");
    assert_eq!(
        user.json(&["runs", "list"]).await["runs"].as_array().unwrap().len(),
        1,
        "nothing was started"
    );
    assert_eq!(user.json(&backfill(&["--max", "2"])).await["next_from"], expected[2]);
    assert_eq!(user.json(&backfill(&[])).await["started"], 1, "two of the three have theirs");
    let told = user.out(&backfill(&[])).await;
    assert_eq!(told.matches(" had ").count(), 3, "{told}");
    assert_eq!(user.json(&["runs", "list"]).await["runs"].as_array().unwrap().len(), 4);

    let history = user.json(&["schedules", "history", "daily.s"]).await;
    let history = history["firings"].as_array().unwrap();
    assert_eq!(history.len(), 4);
    assert_eq!((&history[0]["fire_at"], &history[0]["backfill"]), (&json!(expected[2]), &json!(true)));
    assert_eq!(history[3]["run_id"], run);
    let table = user.out(&["schedules", "history", "daily.s", "--limit", "2"]).await;
    assert_eq!((table.lines().count(), table.matches("backfill").count()), (3, 2), "{table}");
    // Who may only read may look, and no more.
    let reader = User::new(&server, "reader");
    assert_eq!(reader.run(&["schedules", "history", "daily.s"]).await.code, Some(0));
    assert_eq!(reader.run(&backfill(&["--dry-run"])).await.code, Some(1));
}
