//! Authors of pipelines who may register some, and starters of theirs.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Client, Server};

use crate::support::builder;

async fn put(client: &Client, id: &str, task: Value) -> u16 {
    client
        .put(&format!("/pipelines/{id}"), &json!({ "inputs": { "v": { "default": "" } }, "tasks": [task] }))
        .await
        .status
}

/// Registers a task as the author and runs it; gives why it failed.
async fn failure(server: &Server, task: Value, value: &str) -> String {
    let client = server.plain_client().key("author-key");
    let registered = put(&client, "open-h", task.clone()).await;
    if registered == 422 {
        return "refused as a definition".to_owned();
    }
    assert!([200, 201].contains(&registered), "{task}: {registered}");
    let body = json!({ "parameters": { "v": value }, "wait": true, "timeout": 30 });
    let run = client.post("/pipelines/open-h/execute", &body).await.expect(200).json();
    assert_eq!(run["status"], "failed", "{task}: {run}");
    run["error"]["message"].as_str().unwrap().to_owned()
}

fn http(url: &str) -> Value {
    json!({ "name": "h", "inputs": ["v"], "http": { "url": url, "headers": { "X-A": "{{ v }}" } } })
}

#[tokio::test]
async fn no_spelling_of_the_metadata_address_is_reached() {
    let server = builder().start().await;
    for url in [
        "http://169.254.169.254/latest/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.169.254.:80/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://168.63.129.16/",
        "http://user:password@169.254.169.254/",
        "http://0/",
    ] {
        let said = failure(&server, http(url), "").await;
        assert!(said.contains("metadata") || said.contains("definition"), "{url}: {said}");
    }
    for url in ["file:///etc/passwd", "gopher://127.0.0.1/", "HTTP://169.254.169.254/"] {
        assert_ne!(failure(&server, http(url), "").await, "", "{url}");
    }
}

#[tokio::test]
async fn a_value_stays_where_it_was_put() {
    let server = builder().start().await;
    let own = format!("http://127.0.0.1:{}", server.port());
    // A line break in a header, another host, another path.
    let said = failure(&server, http(&format!("{own}/health")), "a\r\nX-API-Key: admin-key").await;
    assert!(!said.contains("admin-key"), "{said}");
    let said =
        failure(&server, http("http://api.example.com{{ v }}"), &format!("@127.0.0.1:{}/", server.port()))
            .await;
    assert!(said.contains("host"), "{said}");
    let said = failure(&server, http(&format!("{own}/docs/errors/{{{{ v }}}}")), "../../health").await;
    assert!(said.contains("path"), "{said}");
}

#[tokio::test]
async fn an_author_keeps_to_his_pipelines() {
    let server = builder().start().await;
    let author = server.plain_client().key("author-key");
    let one = json!({ "name": "t", "expression": "1" });
    assert_eq!(put(&author, "secret", one.clone()).await, 403);
    assert_eq!(put(&author, "open", one.clone()).await, 409, "it is the server's own");
    assert_eq!(author.delete("/pipelines/open").await.status, 409);
    assert_eq!(put(&author, "open-c", json!({ "name": "t", "command": ["id"] })).await, 403);
    assert_eq!(put(&author, "open-p", json!({ "name": "t", "pipeline": "secret" })).await, 403);
    let other = json!({ "id": "secret", "tasks": [one] });
    assert_eq!(author.put("/pipelines/open-i", &other).await.status, 422);
    let schedule = json!({ "pipeline_id": "secret", "cron": "* * * * *" });
    assert_eq!(author.post("/schedules", &schedule).await.status, 403);
    for path in ["/security/config", "/security/audit", "/security/audit/verify"] {
        assert_eq!(author.get(path).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn an_expression_reaches_nothing_but_its_inputs() {
    let server = builder().start().await;
    for expression in [
        "''.__class__.__mro__",
        "''|attr('__class__')",
        "lipsum.__globals__",
        "cycler",
        "self",
        "config",
        "namespace(a=1)",
        "debug()",
        "range(10**12)|list",
        "'a'*10**12",
        "[1]*10**10",
        "(9**9)**9**9**9",
        "{% include '/etc/passwd' %}",
    ] {
        let said =
            failure(&server, json!({ "name": "t", "inputs": ["v"], "expression": expression }), "").await;
        assert_ne!(said, "", "{expression}");
    }
    assert_eq!(server.plain_client().get("/health").await.status, 200);
}
