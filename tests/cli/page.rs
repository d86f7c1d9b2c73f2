//! The page at /ui/, in a real browser.

use serde_json::json;
use taskiq_flow_testkit::{Chromium, Server};

use crate::PROGRAM;

#[tokio::test]
async fn the_page_shows_pipelines_and_runs_live_in_a_browser() {
    let server = Server::builder(PROGRAM)
        .env("TASKIQ_FLOW_REQUIRE_HTTPS", "false")
        .env("TASKIQ_FLOW_API_KEYS", r#"{"k":{"role":"r","permissions":["read","execute"]}}"#)
        .pipeline(
            "id: shown\ndescription: <img src=x class=injected>\ninputs:\n  x: { type: integer }\ntasks:\n  \
             - { name: \"<b class=injected>double\", expression: x * 2, inputs: [x], output: y }\n",
        )
        .start()
        .await;
    let mut page = Chromium::open(&format!("{}/ui/", server.url())).await;
    page.expect("document.querySelector('main').hidden").await;
    let log_in = |key: &str| {
        format!(
            "document.getElementById('key').value = '{key}'; document.querySelector('#login button').click(); 1"
        )
    };
    page.evaluate(&log_in("wrong")).await;
    page.expect("document.getElementById('message').innerText.includes('Not connected')").await;
    page.evaluate(&log_in("k")).await;
    page.expect("document.getElementById('pipelines').innerText.includes('shown')").await;
    page.evaluate("document.querySelector('#pipelines button').click(); 1").await;
    page.expect("document.getElementById('pipeline-name').innerText === 'shown'").await;
    page.expect("document.getElementById('graph').naturalWidth > 0").await;
    // Texts are text, whatever is in them.
    page.expect("document.getElementById('pipeline-description').innerText.includes('<img src=x')").await;
    assert_eq!(page.evaluate("document.querySelectorAll('.injected').length").await, 0);
    // A run that somebody else starts appears by itself.
    let body = json!({ "parameters": { "x": 21 }, "wait": true });
    server.plain_client().key("k").post("/pipelines/shown/execute", &body).await.expect(200);
    page.expect("document.getElementById('runs').innerText.includes('completed')").await;
    let picture = server.dir().join("page.png");
    page.screenshot(&picture).await;
    let bytes = std::fs::read(&picture).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{} bytes", bytes.len());
    if let Some(kept) = std::env::var_os("KEEP_PICTURES") {
        std::fs::copy(&picture, std::path::Path::new(&kept).join("page.png")).unwrap();
    }
}
