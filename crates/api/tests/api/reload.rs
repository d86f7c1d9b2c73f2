//! `/security/reload` where there is nothing to read again, and where there is.

use std::sync::Arc;

use serde_json::json;
use taskiq_flow_api::problem::FieldProblem;
use taskiq_flow_api::{FreshSettings, SettingsSource};

use crate::support::{security, server, server_with};

/// Gives settings without ACLs, once; then mistakes.
#[derive(Debug, Default)]
struct Once(std::sync::atomic::AtomicBool);

impl SettingsSource for Once {
    fn read(&self) -> Result<FreshSettings, Vec<FieldProblem>> {
        if self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return Err(vec![FieldProblem::new("port", "must be a number")]);
        }
        let mut options = security();
        options.pipeline_acls.clear();
        Ok(FreshSettings { settings: options.build().unwrap(), pending: vec!["port".to_owned()] })
    }
}

#[tokio::test]
async fn a_server_of_a_program_has_nothing_to_read_again() {
    let server = server().await;
    let answer = server.post("/security/reload", json!({})).await;
    assert_eq!(answer.problem()["status"], 409);
}

#[tokio::test]
async fn settings_are_put_in_force_or_the_mistakes_are_told() {
    let server = server_with(|setup| setup.api.settings_source = Some(Arc::new(Once::default()))).await;
    let reader =
        async || server.call(http::Method::GET, "/pipelines/secret").key("reader-key").send().await.status;
    assert_eq!(reader().await, 403);
    let answer = server.post("/security/reload", json!({})).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"changed": ["pipeline_acls"], "pending": ["port"]}))
    );
    assert_eq!(reader().await, 200);
    let answer = server.post("/security/reload", json!({})).await;
    assert_eq!(answer.fields(), ["port"]);
    assert_eq!(reader().await, 200);
}
