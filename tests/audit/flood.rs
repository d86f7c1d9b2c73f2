//! Denials under a flood: what is recorded one by one and what is counted add up.

use taskiq_flow_testkit::until;

use crate::support::*;

fn suppressed(record: &serde_json::Value) -> Option<u64> {
    let rest = record["detail"].as_str()?.strip_prefix("suppressed ")?;
    rest.split(' ').next()?.parse().ok()
}

#[tokio::test]
async fn a_flood_of_denials_is_counted_and_adds_up() {
    let server = server().env("TASKIQ_FLOW_AUDIT_FLOOD_LIMIT", "10/second").start().await;
    let (guesser, reader, admin) = (server.client().key("guess"), server.client().key("r"), admin(&server));
    for n in 0..200 {
        assert_eq!(guesser.get("/pipelines").await.status, 403);
        if n % 4 == 0 {
            assert_eq!(reader.post("/pipelines/p/execute", &serde_json::json!({})).await.status, 403);
            assert_eq!(admin.get("/pipelines").await.status, 200);
        }
    }
    // Nothing more comes: the count is said all the same.
    let said = until(LIMIT, async || {
        let all = records(&server.audit());
        let (failures, denials) = (of(&all, "authentication.failure"), of(&all, "authorization.denied"));
        let total = |records: &[&serde_json::Value]| {
            records.iter().map(|record| suppressed(record).unwrap_or(1)).sum::<u64>()
        };
        (total(&failures) == 200 && total(&denials) == 50).then(|| all.clone())
    })
    .await;
    let all = said.unwrap_or_else(|| panic!("{}", server.audit()));
    let summaries: Vec<_> =
        of(&all, "authentication.failure").into_iter().filter(|r| suppressed(r).is_some()).collect();
    assert!(!summaries.is_empty() && of(&all, "authentication.failure").len() < 200);
    for summary in summaries {
        assert_eq!(
            (&summary["ip"], &summary["outcome"]),
            (&"127.0.0.1".into(), &"failure".into()),
            "{summary}"
        );
        assert_eq!(
            (&summary["action"], &summary["path"]),
            (&"list_pipelines".into(), &serde_json::Value::Null)
        );
    }
    // What was allowed is recorded one by one.
    assert_eq!(of(&all, "pipeline.read").len(), 50);
    let metrics = admin.get("/metrics").await.text();
    assert!(
        metrics.contains("taskiq_flow_audit_suppressed_total{event=\"authentication.failure\"}"),
        "{metrics}"
    );
}
