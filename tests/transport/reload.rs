//! Certificates that change while the server runs.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use taskiq_flow_testkit::{Pair, Server, until};

use crate::support::{another, answers_with, fresh, secured, service};

/// What the contract gives a change to be noticed, and SIGHUP.
const FILE_CHANGE: Duration = Duration::from_secs(10);
const HANGUP: Duration = Duration::from_secs(2);

fn copy(from: &Pair, to: &Pair) {
    std::fs::copy(&from.certificate, &to.certificate).unwrap();
    std::fs::copy(&from.key, &to.key).unwrap();
}

/// Changes of the certificate that were recorded, oldest first, as outcomes.
fn recorded(server: &Server) -> Vec<String> {
    let records = server.audit();
    let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_tls = records.filter(|r| r["event"] == "security.config_change" && r["action"] == "tls");
    of_tls.map(|r| r["outcome"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_changed_file_is_served_within_ten_seconds_and_open_connections_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, pair) = secured(directory.path());
    let server = builder.start().await;
    let old_pem = pair.pem();
    let open = server.tls_client().key("admin-key");
    open.get("/me").await.expect(200);
    copy(&another(directory.path(), "new"), &pair);
    assert!(answers_with(&server, &pair, FILE_CHANGE).await.is_some(), "{}", server.stderr());
    assert_eq!(
        fresh(&server, &old_pem).try_get("/health").await.map(|reply| reply.status),
        None,
        "the old one is gone"
    );
    // Over the connection that was made with the old certificate: a new one would not be trusted.
    open.get("/me").await.expect(200);
    assert_eq!(recorded(&server).last().unwrap(), "success");
    // And the server sleeps: nothing is read again and again.
    let metrics = open.get("/metrics").await.expect(200).text();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("taskiq_flow_tls_certificate_expiry_timestamp_seconds "));
    let expiry: f64 = line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap();
    let days = (expiry
        - std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64())
        / 86_400.0;
    assert!((2.0..3.1).contains(&days), "{days}");
    assert!(metrics.contains("taskiq_flow_tls_reloads_total{outcome=\"success\"} 1"), "{metrics}");
    // Three days are soon.
    assert!(server.stderr().contains("expires soon"), "{}", server.stderr());
}

#[tokio::test]
async fn a_hangup_reads_the_files_within_two_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, pair) = secured(directory.path());
    let server = builder.start().await;
    copy(&another(directory.path(), "new"), &pair);
    server.hangup();
    assert!(answers_with(&server, &pair, HANGUP).await.is_some(), "{}", server.stderr());
}

#[tokio::test]
async fn a_hangup_follows_the_configuration_to_other_files() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| another(directory.path(), name));
    let config = |pair: &Pair| format!("tls_cert = {:?}\ntls_key = {:?}\n", pair.certificate, pair.key);
    let server = service().config_toml(&config(&first)).tls(&first);
    let server = server.without_env("TASKIQ_FLOW_TLS_CERT").without_env("TASKIQ_FLOW_TLS_KEY").start().await;
    std::fs::write(server.dir().join("taskiq-flow.test.toml"), config(&second)).unwrap();
    server.hangup();
    assert!(answers_with(&server, &second, HANGUP).await.is_some(), "{}", server.stderr());
    // The new files are watched, too.
    copy(&another(directory.path(), "third"), &second);
    assert!(answers_with(&server, &second, FILE_CHANGE).await.is_some(), "{}", server.stderr());
}

#[tokio::test]
async fn a_bad_pair_changes_nothing_and_is_said_loudly() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, pair) = secured(directory.path());
    let server = builder.start().await;
    let good = another(directory.path(), "good");
    copy(&pair, &good);
    // The certificate of one pair, the key of another.
    std::fs::copy(another(directory.path(), "other").certificate, &pair.certificate).unwrap();
    let said = until(FILE_CHANGE, async || server.stderr().contains("NOT changed").then_some(()));
    assert!(said.await.is_some(), "{}", server.stderr());
    assert!(answers_with(&server, &good, HANGUP).await.is_some(), "the old pair goes on");
    std::fs::write(&pair.key, "no key").unwrap();
    server.hangup();
    let said = until(HANGUP, async || server.stderr().contains("has no private key").then_some(()));
    assert!(said.await.is_some(), "{}", server.stderr());
    assert!(answers_with(&server, &good, HANGUP).await.is_some(), "the old pair goes on");
    assert!(recorded(&server).iter().all(|outcome| outcome == "failure") && recorded(&server).len() >= 2);
    assert!(!server.stderr().contains("no key\n"), "what is in a key file is never shown");
    // A sound pair ends it.
    copy(&another(directory.path(), "mended"), &pair);
    assert!(answers_with(&server, &pair, FILE_CHANGE).await.is_some(), "{}", server.stderr());
    assert_eq!(recorded(&server).last().unwrap(), "success");
}

#[tokio::test]
async fn links_that_are_led_elsewhere_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    // As Kubernetes mounts a secret: a link to a folder is replaced by renaming another link over it.
    let [one, two] = ["..one", "..two"].map(|name| another(root, name));
    let lead = |to: &str| {
        symlink(to, root.join("..new")).unwrap();
        std::fs::rename(root.join("..new"), root.join("..data")).unwrap();
    };
    lead("..one");
    for name in ["pair.crt", "pair.key"] {
        symlink(Path::new("..data").join(name), root.join(name)).unwrap();
    }
    let mounted = Pair { certificate: root.join("pair.crt"), key: root.join("pair.key") };
    let server = service().tls(&mounted).start().await;
    assert!(answers_with(&server, &one, HANGUP).await.is_some());
    lead("..two");
    assert!(answers_with(&server, &two, FILE_CHANGE).await.is_some(), "{}", server.stderr());
    // The folder that the link leads to now is watched: as certbot, a file is renamed over the old one.
    let three = another(root, "three");
    for name in ["pair.key", "pair.crt"] {
        let new = root.join("..two").join(format!("{name}.new"));
        std::fs::copy(root.join("three").join(name), &new).unwrap();
        std::fs::rename(new, root.join("..two").join(name)).unwrap();
    }
    assert!(answers_with(&server, &three, FILE_CHANGE).await.is_some(), "{}", server.stderr());
    lead("..one");
    assert!(answers_with(&server, &one, FILE_CHANGE).await.is_some(), "{}", server.stderr());
}
