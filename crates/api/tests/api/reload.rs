//! `/security/reload` where there is nothing to read again, and where there is.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use taskiq_flow_api::problem::FieldProblem;
use taskiq_flow_api::{FreshSettings, SettingsSource};
use taskiq_flow_security::Permission;
use taskiq_flow_security::policy::Acl;

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

/// Gives the access list that there was when it began to read; the first time it takes as long as it is told to.
#[derive(Debug)]
struct Slow {
    list: Mutex<Option<Acl>>,
    begun: mpsc::SyncSender<()>,
    go_on: Mutex<Option<mpsc::Receiver<()>>>,
}

impl SettingsSource for Slow {
    fn read(&self) -> Result<FreshSettings, Vec<FieldProblem>> {
        let list = self.list.lock().clone();
        let go_on = self.go_on.lock().take();
        if let Some(go_on) = go_on {
            self.begun.send(()).unwrap();
            go_on.recv().unwrap();
        }
        let mut options = security();
        options.pipeline_acls = list.map(|list| ("diamond".to_owned(), list)).into_iter().collect();
        Ok(FreshSettings { settings: options.build().unwrap(), pending: Vec::new() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_was_read_first_is_not_put_in_force_last() {
    let ((begun, has_begun), (go_on, wait)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    let source = Arc::new(Slow { list: Mutex::default(), begun, go_on: Mutex::new(Some(wait)) });
    let given: Arc<dyn SettingsSource> = source.clone();
    let server = server_with(|setup| setup.api.settings_source = Some(given)).await;
    let reload = || {
        let state = server.state.clone();
        tokio::spawn(async move { state.reload(None).await.unwrap() })
    };
    let earlier = reload();
    has_begun.recv().unwrap();
    // The file is changed, and read again. A later one that can overtake has the time for it.
    *source.list.lock() = Some(Acl::new([(Permission::Read, vec!["keeper".to_owned()])]));
    let mut later = reload();
    let overtook = tokio::time::timeout(Duration::from_millis(300), &mut later).await;
    go_on.send(()).unwrap();
    earlier.await.unwrap();
    if overtook.is_err() {
        later.await.unwrap();
    }
    let answer = server.call(http::Method::GET, "/pipelines/diamond").key("reader-key").send().await;
    assert_eq!(answer.status, 403, "{}", answer.text());
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
