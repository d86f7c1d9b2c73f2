//! Items that one attempt carries out together, over HTTP.

use serde_json::{Value, json};

use crate::support::*;

/// Each item says in a file that it was carried out; the third of the list stays for ever the first time, the fifth
/// fails.
fn pipeline(dir: &std::path::Path) -> String {
    let (said, stays) = (dir.join("said"), dir.join("stays"));
    let body = format!(
        "read -r line; echo \"$line\" >> {said}; case \"$line\" in *three*) test -e {stays} || {{ touch {stays}; sleep 60; }};; \
         *five*) exit 3;; esac; echo 1",
        said = said.display(),
        stays = stays.display(),
    );
    let task = json!({
        "name": "rows",
        "map": {"over": "list", "as": "x", "chunk": 4, "on_item_error": "collect", "command": ["sh", "-c", body]},
    });
    json!({"id": "chunked", "inputs": {"list": {"type": "array"}}, "tasks": [task]}).to_string()
}

#[tokio::test]
async fn a_chunk_outlives_a_kill_and_each_item_is_shown_by_itself() {
    let builder = server();
    let dir = builder.dir().to_owned();
    let mut server = builder.pipeline(&pipeline(&dir)).start().await;
    let before = client(&server);
    let list = json!(["one", "two", "three", "four", "five", "six"]);
    let run_id = start(&before, "chunked", json!({ "list": list })).await;
    let stays = dir.join("stays");
    taskiq_flow_testkit::until(LIMIT, async || stays.exists().then_some(()))
        .await
        .expect("the third is under way");
    view_when(&before, &run_id, "its second chunk has ended", |view| {
        view["steps"][0]["item_counts"]["completed"] == 1
    })
    .await;
    server.kill9().await;
    server.restart().await;
    let client = client(&server);
    let view = ended(&client, &run_id).await;
    assert_eq!(view["status"], "completed", "{view:#}");
    assert_eq!(view["result"]["rows"], json!([1, 1, 1, 1, null, 1]));
    let path = format!("/runs/{run_id}/steps/rows/items?status=failed");
    let page = client.get(&path).await.expect(200).json();
    let failed = &page["items"][0];
    assert_eq!(
        (&failed["index"], &failed["code"], &failed["attempt"]),
        (&json!(4), &json!("exit:3"), &json!(1))
    );
    assert_eq!(page["counts"], json!({"completed": 5, "failed": 1}));
    let said = std::fs::read_to_string(dir.join("said")).unwrap();
    let times = |word: &str| said.lines().filter(|line| line.contains(word)).count();
    let counts = ["one", "two", "three", "four", "five", "six"].map(times);
    assert_eq!(counts, [2, 2, 2, 1, 1, 1], "what was reported is not done again, the rest of its chunk is");
    let starts = client.get(&format!("/runs/{run_id}/events")).await.expect(200).json();
    let events = starts["events"].as_array().unwrap();
    let chunk = |event: &&Value| event["type"] == "StepStartEvent" && !event["chunk"].is_null();
    assert_eq!(events.iter().filter(chunk).count(), 4 + 2 + 4, "with whom each item was carried out");
}
