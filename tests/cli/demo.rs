//! `demo`: what `make demo` starts.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::{Cli, Client, free_port, until};

use crate::PROGRAM;

#[tokio::test]
async fn the_demo_prints_a_key_and_an_address_that_work() {
    let cli = Cli::new(PROGRAM);
    let port = free_port();
    let demo = cli.start(["demo", "--port", &port.to_string()]);
    let anybody = Client::new(format!("http://127.0.0.1:{port}"));
    let up = until(Duration::from_secs(10), async || anybody.try_get("/health").await).await;
    assert!(up.is_some(), "{}{}", demo.stdout(), demo.stderr());
    let printed = until(Duration::from_secs(5), async || {
        let text = format!("{}{}", demo.stdout(), demo.stderr());
        text.contains("Stop with").then_some(text)
    });
    let printed = printed.await.unwrap();
    assert!(printed.contains(&format!("http://127.0.0.1:{port}/ui/")), "{printed}");
    let key = printed.split_whitespace().find(|word| word.starts_with("tqf_")).expect("a key").to_owned();
    // The three answers of the guide's curl lines, and a real run.
    assert_eq!(anybody.get("/pipelines").await.status, 401);
    assert_eq!(anybody.clone().key("invalid-key").get("/pipelines").await.status, 403);
    assert_eq!(anybody.clone().key("viewer-key").get("/pipelines").await.status, 200);
    let admin = anybody.clone().key(&key);
    let text = cli.file("text.txt", "to be or not to be\n");
    let body = json!({ "parameters": { "path": text }, "wait": true });
    let done = admin.post("/pipelines/word-stats/execute", &body).await.expect(200).json();
    assert_eq!(done["result"]["report"]["words"], 6, "{done}");
    // The line that is printed, wherever the demo was started.
    let line = &printed[printed.find("curl -s").expect("a line to try")..printed.find("Stop with").unwrap()];
    let output = tokio::process::Command::new("sh").args(["-c", line]).output().await.unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["result"]["report"]["words"], 13, "{line}: {shown}");
    assert_eq!(anybody.get("/ui/").await.status, 200);
    let exit = demo.stop(Duration::from_secs(5)).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let rest = exit.output().replacen(&key, "", 2);
    assert!(!rest.contains(&key), "the key is in the log: {rest}");
    let left: Vec<_> =
        std::fs::read_dir(cli.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["text.txt"], "the demo leaves nothing where it is started");
}
