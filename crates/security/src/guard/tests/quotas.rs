use super::*;

fn quotas(quotas: Value) -> Stage {
    stage(|options| {
        options.rate_limit_enabled = false;
        options.pipeline_quotas = serde_json::from_value(quotas).unwrap();
    })
}

#[tokio::test]
async fn executions_are_counted_for_all_and_for_each_principal() {
    let stage =
        quotas(json!({"etl_*": {"executions": "4/hour", "per_principal": "3/hour", "concurrent_runs": 2}}));
    let viewer = stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    let admin = stage.admit(&Call::new().key("admin-key")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(stage.guard.spend_quota(&viewer, "etl_a").await.unwrap(), Some(2));
    }
    let refusal = stage.guard.spend_quota(&viewer, "etl_a").await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.status().as_u16()), (RefusalKind::QuotaExceeded, 429));
    assert_eq!(refusal.violated_policies(), ["etl_a.per_principal"]);
    assert_eq!(header(&refusal, "retry-after").unwrap(), "1200");
    assert_eq!(header(&refusal, "ratelimit-policy").unwrap(), r#""etl_a.per_principal";q=3;w=3600"#);
    // What was refused was not taken from the other bucket.
    assert!(stage.guard.spend_quota(&admin, "etl_a").await.is_ok());
    let refusal = stage.guard.spend_quota(&admin, "etl_a").await.unwrap_err();
    assert_eq!(refusal.violated_policies(), ["etl_a.executions"]);
    assert!(stage.guard.spend_firing("etl_a").await.unwrap_err().contains("4/hour"));
    // Each pipeline that the pattern matches is counted by itself, and others are not.
    assert_eq!(stage.guard.spend_firing("etl_b").await.unwrap(), Some(2));
    assert!(stage.guard.has_quota("etl_b") && !stage.guard.has_quota("other"));
    assert_eq!(stage.guard.spend_quota(&viewer, "other").await.unwrap(), None);
    stage.pass_seconds(1200);
    assert!(stage.guard.spend_quota(&viewer, "etl_a").await.is_ok());
}

#[tokio::test]
async fn a_refusal_tells_the_limit_of_the_endpoint_too_and_is_recorded() {
    let stage = stage(|options| {
        options.pipeline_quotas = serde_json::from_value(json!({"etl": {"concurrent_runs": 1}})).unwrap();
    });
    let call = Call { endpoint: endpoint::EXECUTE_PIPELINE, ..Call::new().key("admin-key") };
    let caller = stage.admit(&call).await.unwrap();
    assert_eq!(stage.guard.spend_quota(&caller, "etl").await.unwrap(), Some(1));
    let refusal = stage.guard.too_many_runs(&caller, "etl", 1);
    assert_eq!(
        header(&refusal, "ratelimit-policy").unwrap(),
        r#""execute_pipeline";q=10;w=60, "etl.concurrent_runs";q=1;qu="concurrent-requests""#
    );
    assert!(header(&refusal, "ratelimit").unwrap().ends_with(r#", "etl.concurrent_runs";r=0"#));
    let mut answer = HeaderMap::new();
    refusal.write_headers(&mut answer);
    caller.write_headers(&mut answer);
    assert!(answer["ratelimit"].to_str().unwrap().contains("concurrent_runs"), "the refusal says more");
    stage.guard.note_skipped_firing("etl", "nightly", "its quota is used up");
    let records: Vec<Value> =
        stage.records().iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    let [.., refused, skipped] = records.as_slice() else { panic!("{records:?}") };
    for (record, action, detail) in [
        (refused, "execute_pipeline", "quota etl.concurrent_runs (1) exceeded"),
        (skipped, "schedule", "schedule nightly: its quota is used up"),
    ] {
        assert_eq!(record["event"], "rate_limit.exceeded");
        assert_eq!(record["outcome"], "throttled");
        assert_eq!((&record["pipeline_id"], &record["action"]), (&json!("etl"), &json!(action)));
        assert_eq!(record["detail"], detail);
    }
}

#[tokio::test]
async fn without_security_there_are_no_quotas_and_the_settings_show_them() {
    let quotas = json!({"etl": {"executions": "1/hour"}});
    let open = stage(|options| {
        options.security_enabled = false;
        options.pipeline_quotas = serde_json::from_value(quotas.clone()).unwrap();
    });
    assert!(!open.guard.has_quota("etl"));
    for _ in 0..3 {
        assert_eq!(open.guard.spend_firing("etl").await.unwrap(), None);
    }
    assert_eq!(open.guard.settings().redacted()["pipeline_quotas"], quotas);
}
