//! `webhooks` against a running server, and `check` of what pipelines name.

use serde_json::json;
use taskiq_flow_testkit::{Cli, Reaction, Receiver, until};

use crate::PROGRAM;
use crate::runs::{LIMIT, User, server};

#[tokio::test]
async fn webhooks_are_listed_tested_and_their_deliveries_shown() {
    let receiver = Receiver::start().await;
    let webhook = json!([{
        "name": "ops", "url": receiver.url(), "secret": "a secret of the webhook", "events": ["PipelineErrorEvent"],
        "pipelines": ["*"], "allow_internal": true,
    }]);
    let server = server().env("TASKIQ_FLOW_WEBHOOKS", webhook.to_string()).start().await;
    let boss = User::new(&server, "root");
    let listed = boss.out(&["webhooks", "list"]).await;
    assert!(listed.contains("NAME") && listed.contains("ops   idle"), "{listed}");
    let tested = boss.out(&["webhooks", "test", "ops"]).await;
    assert!(tested.starts_with("taken with 204 after "), "{tested}");
    receiver.react(Reaction::status(404));
    let tested = boss.run(&["webhooks", "test", "ops"]).await;
    assert_eq!(tested.code, Some(1));
    assert!(tested.stderr.contains("not taken: the receiver answered 404 Not Found"), "{}", tested.stderr);

    let run = boss.out(&["trigger", "broken"]).await;
    let waits = async || {
        let listed = boss.json(&["webhooks", "deliveries", "ops", "--status", "waiting"]).await;
        let delivery = listed["deliveries"][0].clone();
        (delivery["attempts"].as_u64() > Some(0)).then_some(delivery)
    };
    let delivery = until(LIMIT, waits).await.unwrap();
    assert_eq!(
        (delivery["run_id"].as_str(), delivery["event"].as_str()),
        (Some(&*run), Some("PipelineErrorEvent"))
    );
    assert!(!boss.out(&["webhooks", "deliveries", "ops"]).await.contains(&run), "it is not dead");
    let replayed = boss.run(&["webhooks", "replay", "ops", delivery["id"].as_str().unwrap()]).await;
    assert_eq!(replayed.code, Some(1), "it waits: {}", replayed.output());
    let all = boss.run(&["webhooks", "replay", "ops", "--all"]).await;
    assert_eq!(all.code, Some(0));
    assert!(all.stderr.contains("0 of webhook ops tried again"), "{}", all.stderr);
    for arguments in [&["webhooks", "replay", "ops"][..], &["webhooks", "list"]] {
        let refused = User::new(&server, "reader").run(arguments).await;
        assert_ne!(refused.code, Some(0), "{arguments:?}");
    }
}

#[tokio::test]
async fn check_finds_a_name_that_is_no_webhook() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let config = file(
        "taskiq-flow.toml",
        "[[webhooks]]\nname = \"ops\"\nurl = \"https://hooks.example.com/\"\nsecret = \"0123456789abcdef\"\n\
         events = [\"*\"]\npipelines = []\n",
    );
    let good = file("good.yaml", "id: good\non_event: [ops]\ntasks: [{ name: a, expression: \"1\" }]\n");
    let bad = file("bad.yaml", "id: bad\non_event: [opps]\ntasks: [{ name: a, expression: \"1\" }]\n");
    let cli = Cli::new(PROGRAM);
    let exit = cli.run(["check", &good, &bad]).await;
    assert_eq!(exit.code, Some(0), "without a configuration nothing is known of them: {}", exit.output());
    let exit = cli.run(["check", &good, &bad, &config]).await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(
        exit.stderr.contains("on_event names `opps`, which is no webhook; did you mean `ops`?"),
        "{}",
        exit.stderr
    );
    assert!(exit.stderr.contains("1 of 3 files"), "{}", exit.stderr);
}
