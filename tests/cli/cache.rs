//! `cache` against a running server.

use serde_json::json;

use crate::runs::{User, server};

const KEPT: &str = "id: kept\ntasks:\n  - name: a\n    command: [sh, \"-c\", \"echo made >&2; echo 5\"]\n    \
    cache: { ttl: 1h }\n  - { name: b, expression: a + 1, inputs: [a] }\n";

#[tokio::test]
async fn kept_values_are_shown_taken_and_forgotten() {
    let server = server().pipeline(KEPT).start().await;
    let user = User::new(&server, "root");
    let shown = async |run: &str| user.json(&["runs", "show", run]).await["steps"][0]["status"].clone();
    let first = user.out(&["trigger", "kept"]).await;
    assert_eq!(user.run(&["runs", "watch", &first]).await.code, Some(0));
    let table = user.out(&["cache", "show", "kept"]).await;
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((table.lines().count(), row), (2, vec!["a", "1", "1"]), "{table}");
    let second = user.out(&["trigger", "kept"]).await;
    assert_eq!(user.out(&["runs", "watch", &second]).await, user.out(&["runs", "watch", &first]).await);
    assert_eq!((shown(&first).await, shown(&second).await), (json!("completed"), json!("cached")));
    let metrics = server.client().key("root").get("/metrics").await.text();
    for outcome in ["hit", "miss"] {
        let labels = ["pipeline_id=\"kept\"".to_owned(), format!("outcome=\"{outcome}\"")];
        let counted = metrics.lines().any(|line| {
            line.starts_with("taskiq_flow_cache_lookups_total{")
                && labels.iter().all(|label| line.contains(label))
                && line.ends_with(" 1")
        });
        assert!(counted, "{outcome}: {metrics}");
    }

    let reader = User::new(&server, "reader");
    assert_eq!(reader.json(&["cache", "show", "kept"]).await["tasks"][0]["entries"], 1);
    assert_eq!(reader.run(&["cache", "clear", "kept"]).await.code, Some(1), "who may only read");
    let none = user.run(&["cache", "clear", "kept", "--task", "b"]).await;
    assert!(none.output().contains("0 kept values of `kept` are gone"), "{}", none.output());
    let cleared = user.run(&["cache", "clear", "kept"]).await;
    assert!(cleared.output().contains("1 kept values of `kept` are gone"), "{}", cleared.output());
    let third = user.out(&["trigger", "kept"]).await;
    assert_eq!(user.run(&["runs", "watch", &third]).await.code, Some(0));
    assert_eq!(shown(&third).await, "completed");
    assert_eq!(user.run(&["cache", "show", "nothing"]).await.code, Some(1));
}
