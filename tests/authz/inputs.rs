//! What a body may not have is refused, whoever sends it.

use http::Version;
use serde_json::{Value, json};

use crate::support::matrix;

/// Bodies that are the caller's own: a definition, a signal's value.
const FREE: [&str; 3] = ["POST /pipelines/{id}", "PUT /pipelines/{id}", "POST /runs/{id}/signals/{name}"];

#[tokio::test]
async fn no_body_takes_a_field_that_is_not_described() {
    let matrix = matrix(Version::HTTP_11).await;
    let admin = matrix.plain().key("admin-key");
    let document = admin.get("/openapi.json").await.expect(200).json();
    let mine = &matrix.world.targets[0];
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let route = format!("{} {path}", method.to_uppercase());
            if operation["requestBody"].is_null() || FREE.contains(&route.as_str()) {
                continue;
            }
            let id = if path.starts_with("/runs") { &mine.run } else { &mine.pipeline.id };
            let path = path.replace("{id}", id).replace("{pipeline_id}", id);
            let body: Value = json!({"no_such_field": true});
            let method = method.to_uppercase().parse().unwrap();
            let answer = admin.send(method, &path, Some(&body)).await;
            // A permission of an ACL is a name, not a field: 422.
            let wanted: &[u16] = if route.contains("/security/acls/") { &[400, 422] } else { &[400] };
            assert!(wanted.contains(&answer.status), "{route}: {} {}", answer.status, answer.text());
            assert!(answer.text().contains("no_such_field"), "{route}: {}", answer.text());
            asked += 1;
        }
    }
    assert!(asked >= 5, "{asked} routes with a body");
}
