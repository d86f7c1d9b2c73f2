//! `POST /security/reload`: the configuration, read again, all of it or nothing.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::{Server, until};

use crate::support::PROGRAM;

const KEYS: &str = r#"
[api_keys]
admin-key = { id = "root", role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"] }
"#;

fn write(server: &Server, text: &str) {
    std::fs::write(server.dir().join("taskiq-flow.test.toml"), text).unwrap();
}

#[tokio::test]
async fn what_changed_is_in_force_at_once_and_what_waits_is_named() {
    let visitor = "visitor-key = { id = \"visitor\", role = \"v\", permissions = [\"read\"] }\n";
    let server = Server::builder(PROGRAM).config_toml(&format!("{KEYS}{visitor}")).start().await;
    let admin = server.client().key("admin-key");
    let visitor = server.client().key("visitor-key");
    visitor.get("/me").await.expect(200);
    let made = json!({"id": "made", "role": "v", "pipelines": ["*"], "permissions": ["read"]});
    let made = admin.post("/security/keys", &made).await.expect(201).json();
    let made = server.client().key(made["key"].as_str().unwrap());

    write(&server, &format!("retention_days = 7\nrequire_https = false\n{KEYS}"));
    let done = admin.post("/security/reload", &json!({})).await.expect(200).json();
    let mut changed: Vec<&str> =
        done["changed"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
    changed.sort_unstable();
    assert_eq!(changed, ["api_keys", "require_https"], "{done}");
    assert_eq!(done["pending"], json!(["retention_days"]));
    assert_eq!(visitor.get("/me").await.status, 403);
    assert_eq!(made.get("/me").await.status, 200, "a key that was made over the API stays");
    server.plain_client().key("admin-key").get("/me").await.expect(200);

    // Nothing new: nothing changed, and what waited waits still.
    let again = admin.post("/security/reload", &json!({})).await.expect(200).json();
    assert_eq!(again, json!({"changed": [], "pending": ["retention_days"]}));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_changes_nothing_and_is_told_without_secrets() {
    let server = Server::builder(PROGRAM).config_toml(KEYS).start().await;
    let admin = server.client().key("admin-key");
    for (text, field) in [
        (format!("rate_limit_default = \"often\"\n{KEYS}"), "rate_limit_default"),
        (format!("reqire_https = true\n{KEYS}"), "reqire_https"),
        (format!("jwt_secret = \"hunter2-hunter2\"\nrequire_strong_jwt_secret = true\n{KEYS}"), "jwt_secret"),
        ("[api_keys\nnew-secret-key = 1".to_owned(), "(file)"),
        // All but one thing in it could be done.
        (format!("require_https = false\nport = \"eighty\"\n{KEYS}"), "port"),
    ] {
        write(&server, &text);
        let refused = admin.post("/security/reload", &json!({})).await.expect(422);
        let problem = refused.json();
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        for secret in ["hunter2", "admin-key", "new-secret-key"] {
            assert!(!refused.text().contains(secret), "{secret} in {problem}");
        }
        server.plain_client().key("admin-key").get("/me").await.expect(403);
        admin.get("/me").await.expect(200);
    }
    let refusals = until(Duration::from_secs(5), async || {
        let text = server.audit();
        let refused = |line: &&str| {
            line.contains("security.config_change")
                && line.contains("\"failure\"")
                && line.contains("\"root\"")
        };
        (text.lines().filter(refused).count() >= 5).then_some(text)
    });
    let audit = refusals.await.expect("refused reloads are recorded");
    assert!(!audit.contains("hunter2") && !audit.contains("new-secret-key"));
    // SIGHUP takes the same way. The log names the place, and the fix where there is one.
    server.hangup();
    let logged = until(Duration::from_secs(5), async || server.stderr().contains("`port`").then_some(()));
    logged.await.expect("the mistake is logged");
    assert!(server.stderr().contains("taskiq-flow.test.toml:2:8"), "{}", server.stderr());
    write(&server, &format!("reqire_https = true\n{KEYS}"));
    server.hangup();
    let help = "(did you mean `require_https`?)";
    let logged = until(Duration::from_secs(5), async || server.stderr().contains(help).then_some(()));
    logged.await.expect("the fix is logged");
    admin.get("/me").await.expect(200);
}
